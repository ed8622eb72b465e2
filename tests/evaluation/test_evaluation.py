"""The metrics mean what their table says, and self-reenactment prefers the right avatar."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from flexavatar.avatar import Avatar
from flexavatar.cli import main
from flexavatar.evaluation import metrics
from flexavatar.evaluation.close_up import front_alpha
from flexavatar.evaluation.metrics import aed, akd, apd, csim, detail, matte_iou, perceptual, shows_through
from flexavatar.evaluation.portraits import evaluate_portraits
from flexavatar.gaussians import Gaussians
from flexavatar.io.images import read_image
from flexavatar.metrics import psnr, ssim
from flexavatar.motion import load_clip
from flexavatar.rig import Rig
from flexavatar.rotations import rotation_from_angles
from flexavatar.tracking import FaceTracker
from tests.conftest import EXAMPLE


def test_psnr_counts_only_the_mask() -> None:
    a = torch.zeros(3, 8, 8)
    b = a.clone()
    b[:, :4] = 0.1
    mask = torch.zeros(8, 8)
    mask[:4] = 1
    assert psnr(a, b, mask) == pytest.approx(20.0, abs=1e-4)
    assert psnr(a, b) == pytest.approx(23.01, abs=0.01)
    assert psnr(a, a) == pytest.approx(100.0)


def test_ssim_and_matte_overlap() -> None:
    torch.manual_seed(0)
    picture = torch.rand(3, 32, 32)
    assert ssim(picture, picture) == pytest.approx(1.0, abs=1e-5)
    assert ssim(picture, torch.rand(3, 32, 32)) < 0.3
    left, top = torch.zeros(4, 4), torch.zeros(4, 4)
    left[:, :2], top[:2] = 1, 1
    assert matte_iou(left, top) == pytest.approx(1 / 3)
    assert matte_iou(torch.zeros(4, 4), torch.zeros(4, 4)) == 1.0


def test_distances_of_landmarks_expressions_and_poses() -> None:
    points = np.stack([np.zeros(478), np.linspace(0, 200, 478)], -1)
    assert akd(points + [2.0, 0.0], points) == pytest.approx(1.0)
    assert aed(torch.zeros(52), torch.full((52,), 0.25)) == pytest.approx(0.25)
    assert apd(rotation_from_angles(yaw=10), rotation_from_angles(yaw=-20)) == pytest.approx(30, abs=1e-3)
    assert csim(torch.tensor([1.0, 0.0]), torch.tensor([0.6, 0.8])) == pytest.approx(0.6)


@pytest.fixture(scope="module")
def photo() -> torch.Tensor:
    """[3, 256, 256] of the example's face."""
    return torch.from_numpy(read_image(EXAMPLE)[:256, 100:356].copy()).permute(2, 0, 1) / 255


def blurred(picture: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(cv2.GaussianBlur(picture.permute(1, 2, 0).numpy(), (0, 0), 3)).permute(2, 0, 1)


def woven(picture: torch.Tensor) -> torch.Tensor:
    """A picture whose every fourth row and column is darker, as where one sees through between texels."""
    picture = picture.clone()
    picture[:, ::4] *= 0.6
    picture[:, :, ::4] *= 0.6
    return picture


def test_detail_is_that_of_the_photo(photo: torch.Tensor) -> None:
    everywhere = torch.ones(256, 256)
    generator = torch.Generator().manual_seed(0)
    noisy = blurred(photo) + 0.1 * torch.randn(photo.shape, generator=generator)
    own = detail(photo, photo, everywhere)
    assert own == pytest.approx({"detail": 1, "energy_1": 1, "energy_2": 1, "energy_4": 1})
    assert detail(0.5 * photo, photo, everywhere)["energy_2"] == pytest.approx(0.25, abs=1e-4)
    blur, weave = detail(blurred(photo), photo, everywhere), detail(woven(photo), photo, everywhere)
    assert blur["detail"] < 0.5 and blur["energy_1"] < 0.2 < blur["energy_4"] < 1
    assert weave["detail"] < 0.7 and weave["energy_1"] > 1.5
    assert detail(noisy, photo, everywhere)["detail"] < 0.4


def test_detail_counts_only_well_inside_the_mask(photo: torch.Tensor) -> None:
    mask = torch.zeros(256, 256)
    mask[40:220, 40:220] = 1
    other = torch.where(mask > 0, photo, 1 - photo)
    assert detail(other, photo, mask)["detail"] > 0.99
    assert np.isnan(detail(photo, photo, torch.zeros(256, 256))["detail"])
    assert np.isnan(detail(photo, torch.full_like(photo, 0.5), mask)["energy_1"])


def test_perceptual_distance(photo: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    mask = torch.zeros(256, 256)
    mask[64:192, 64:192] = 1
    if metrics._efficient_net() is not None:
        assert perceptual(photo, photo, mask) == pytest.approx(0, abs=1e-3)
        assert perceptual(torch.where(mask > 0, photo, 0), photo, mask) == pytest.approx(0, abs=1e-3)
        assert perceptual(woven(photo), photo, mask) > perceptual(photo * 0.98, photo, mask) + 5
        assert perceptual(blurred(photo), photo, mask) > 5
    monkeypatch.setattr(metrics, "_efficient_net", lambda: None)
    assert np.isnan(perceptual(photo, photo, mask))


def test_a_face_of_holes_shows_through_whatever_is_behind_it() -> None:
    rig = Rig.load()
    frames = rig.anchors.frames(rig.mean)
    count = len(frames.means)
    solid = Gaussians(frames.means, frames.quats, frames.scales, torch.ones(count), torch.full((count, 3), 0.5))
    holes = replace(solid, scales=0.4 * solid.scales)
    back = replace(solid, means=solid.means - torch.tensor([0.0, 0.0, 0.03]))

    def share(*layers: Gaussians) -> float:
        return shows_through(*front_alpha(Gaussians.cat(layers), rig.mean))

    assert share(solid) < 3
    assert share(holes) > 10
    assert share(holes, back) == pytest.approx(share(holes), abs=2), "what is behind the face is none of it"
    assert share(holes, solid) < share(solid), "more than one Gaussian a texel"
    beard = replace(solid, means=solid.means + torch.tensor([0.0, 0.0, 0.02]))
    assert share(holes, beard) < 2, "what is before the face covers it"


def test_self_reenactment_prefers_the_right_avatar(avatar_file: Path, tmp_path: Path) -> None:
    avatar = Avatar.load(avatar_file)
    clip, other = tmp_path / "talk.mp4", tmp_path / "other.flexavatar"
    avatar.animate(clip, list(load_clip("talk").expressions())[20:80:12], size=384, fps=5)
    replace(avatar, colors=1 - avatar.colors, shape=-avatar.shape).save(other)
    means, beside = [], []
    for name in (avatar_file, other):
        out = tmp_path / f"{name.stem}.json"
        options = ["--avatar", str(name), "--frames", "4", *beside, "-o", str(out)]
        assert main(["evaluate", "--video", str(clip), *options]) == 0
        means.append(json.loads(out.read_text())["means"]["talk.mp4"])
        assert out.with_suffix(".csv").read_text().count("\n") == 5
        with Image.open(out.with_suffix(".jpg")) as sheet:
            assert sheet.size == (4 * 256, 2 * 256)
        beside = ["--beside", str(out)]
    lines = (tmp_path / "other.md").read_text().splitlines()
    assert [line.split(" | ")[:2] for line in lines[2:]] == [
        ["| talk.mp4", "astronaut.flexavatar"],
        ["| talk.mp4", "other.flexavatar"],
    ]
    right, wrong = means
    assert right["psnr"] > 17 and right["akd"] < 2
    assert right["psnr"] > wrong["psnr"] + 5 and right["csim"] > wrong["csim"] + 0.1


def test_portraits_are_measured_at_two_sizes_and_from_near(avatar_file: Path) -> None:
    avatar = Avatar.load(avatar_file)
    with FaceTracker() as tracker:
        measured = evaluate_portraits(lambda photo: avatar, tracker, [EXAMPLE])
    rows = {row["view"]: row for row in measured.rows}
    fine, coarse = rows["input view, bust, 512 px"], rows["input view, bust"]
    assert fine["psnr"] == pytest.approx(coarse["psnr"], abs=1) and "detail" not in coarse
    assert 0.2 < fine["detail"] < 0.8 and fine["energy_1"] < fine["energy_4"] < 1.2
    assert rows["close-up"]["through"] < 3
    assert rows["0 degrees"]["csim"] > 0.5 and rows["cross-reenactment"]["faces"] == 1


def test_wrong_use_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--synthetic", "--avatar", "a.flexavatar"]) == 2
    assert "--avatar goes with --video" in capsys.readouterr().err
    (tmp_path / "other.json").write_text("[]")
    beside = ["--beside", str(tmp_path / "other.json")]
    assert main(["evaluate", "--synthetic", *beside]) == 2
    assert main(["evaluate", "--synthetic", *beside, "-o", str(tmp_path / "out.json")]) == 2
    assert "other.json is no file that" in capsys.readouterr().err
    text = tmp_path / "letter.mp4"
    text.write_text("no film")
    assert main(["evaluate", "--video", str(text)]) == 3
