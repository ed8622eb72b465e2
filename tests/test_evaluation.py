"""The metrics mean what their table says, and self-reenactment prefers the right avatar."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from flexavatar.avatar import Avatar
from flexavatar.cli import main
from flexavatar.driving import load_clip
from flexavatar.evaluation.metrics import aed, akd, apd, csim, matte_iou, psnr, ssim
from flexavatar.expression import rotation_from_angles


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
