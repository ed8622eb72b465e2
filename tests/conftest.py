"""Fixtures that several test files share."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

# Before Gradio is imported: processes that share its folder of uploads clear away each other's files.
_uploads = tempfile.TemporaryDirectory(prefix="flexavatar-tests-")
os.environ["GRADIO_TEMP_DIR"] = _uploads.name

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from flexavatar.app.studio import Studio
from flexavatar.avatar import Avatar
from flexavatar.baking import BakedAvatar, bake, write_bundle
from flexavatar.baking.baked import SparseDeltas
from flexavatar.pipeline import FlexAvatarPipeline
from flexavatar.synthetic import HeadAssets
from flexavatar.tracking import matte

ROOT = Path(__file__).parents[1]
DOUBTFUL = matte.doubtful
EXAMPLE = ROOT / "examples" / "astronaut.png"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first: at the end of a run with two processes neither is left alone with one."""
    long = ("viewer", "driving", "test_devices", "reconstruction", "app", "training")
    items.sort(key=lambda item: not item.path.relative_to(ROOT / "tests").parts[0].startswith(long))


@pytest.fixture(autouse=True, scope="session")
def first_opinion() -> Iterator[None]:
    """Mattes by one network. Of half a second each, a second opinion would take a tenth of all tests' time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matte, "doubtful", lambda confidence, *_: np.zeros(confidence.shape, bool))
        yield


@pytest.fixture
def second_opinion(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mattes as users get them."""
    monkeypatch.setattr(matte, "doubtful", DOUBTFUL)


@pytest.fixture(scope="session")
def pipeline() -> Iterator[FlexAvatarPipeline]:
    with FlexAvatarPipeline.from_pretrained("rig", device="cpu") as made:
        yield made


@pytest.fixture(scope="session")
def avatar_file(pipeline: FlexAvatarPipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A .flexavatar file of the example photo."""
    path = tmp_path_factory.mktemp("avatar") / "astronaut.flexavatar"
    pipeline.create(EXAMPLE).save(path)
    return path


@pytest.fixture(scope="session")
def baked_example(avatar_file: Path) -> BakedAvatar:
    """The same avatar, quickly baked."""
    return bake(Avatar.load(avatar_file), "quick")


@pytest.fixture(scope="session")
def bundle_file(baked_example: BakedAvatar, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "astronaut.flexbundle"
    write_bundle(path, baked_example)
    return path


@pytest.fixture(scope="session")
def light_bundle_file(baked_example: BakedAvatar, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tenth of the splats, which software draws quickly."""
    path = tmp_path_factory.mktemp("bundle") / "light.flexbundle"
    write_bundle(path, thinned(baked_example, 10))
    return path


@pytest.fixture(scope="session")
def assets(tmp_path_factory: pytest.TempPathFactory) -> HeadAssets:
    """What synthetic heads are made of, without portraits, for tests that need FLEXAVATAR_DATA: read once."""
    return HeadAssets.load(cache=tmp_path_factory.mktemp("cache"), limit=0)


def thinned(baked: BakedAvatar, every: int) -> BakedAvatar:
    kept = torch.arange(0, len(baked.neutral), every)
    place = torch.full((len(baked.neutral),), -1)
    place[kept] = torch.arange(len(kept))
    deltas = {}
    for group, sparse in baked.deltas.items():
        left = place[sparse.splats] >= 0
        targets = torch.arange(len(sparse.counts)).repeat_interleave(sparse.counts)[left]
        counts = targets.bincount(minlength=len(sparse.counts))
        deltas[group] = SparseDeltas(counts, place[sparse.splats[left]], sparse.values[left])
    return replace(baked, neutral=baked.neutral.select(kept), torso_weights=baked.torso_weights[kept], deltas=deltas)


@pytest.fixture(scope="module")
def studio(pipeline: FlexAvatarPipeline) -> Studio:
    return Studio(pipeline)


@pytest.fixture(scope="module")
def key(studio: Studio, avatar_file: Path) -> str:
    return studio.open(avatar_file)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Two small files, as of a shared avatar."""
    contents = {"avatar.flexbundle": b"bundle" * 100, "card.jpg": b"card"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return {name: tmp_path / name for name in contents}


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Photos that are hard or impossible to use, by name."""
    folder = tmp_path_factory.mktemp("photos")
    astronaut = Image.open(EXAMPLE).convert("RGB")

    landscape = np.linspace([120, 170, 230], [60, 110, 40], 400).astype(np.uint8)
    Image.fromarray(np.repeat(landscape[:, None], 500, axis=1)).save(folder / "no_face.jpg")

    both = np.concatenate([np.asarray(astronaut), np.asarray(astronaut)[:, ::-1]], axis=1)
    Image.fromarray(both).save(folder / "two_faces.jpg", quality=95)

    drawing = Image.new("RGB", (400, 400), "white")
    pen = ImageDraw.Draw(drawing)
    pen.ellipse((90, 60, 310, 340), fill="#ffd9b3", outline="black", width=5)
    for x in (160, 240):
        pen.ellipse((x - 18, 150, x + 18, 186), fill="white", outline="black", width=4)
        pen.ellipse((x - 6, 162, x + 6, 174), fill="black")
    pen.arc((150, 210, 250, 290), 20, 160, fill="black", width=6)
    drawing.save(folder / "drawing.png")

    astronaut.resize((10, 10)).save(folder / "tiny.png")
    (folder / "empty.jpg").write_bytes(b"")
    astronaut.save(folder / "whole.jpg")
    content = (folder / "whole.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(content[: len(content) // 3])
    (folder / "text.jpg").write_text("This is a letter, and no picture.\n" * 20)
    Image.new("1", (20_000, 10_000)).save(folder / "bomb.png")
    astronaut.save(folder / "animated.gif", save_all=True, append_images=[Image.new("RGB", (512, 512), "black")])
    return {path.stem: path for path in folder.iterdir()}
