"""Files that earlier versions wrote still open and look as they did then.

`files_of_main` holds an avatar of the rig, one of flex-s with residuals, a bundle and a shared avatar, made of
examples/astronaut.png by the version before the package got its present layout. Their values are rounded and the
bundle has every tenth splat only, so that they are small; the pictures beside them were drawn by that version.
"""

from __future__ import annotations

import lzma
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flexavatar import Avatar, Expression
from flexavatar.baking import read_bundle
from flexavatar.sharing import FolderStorage, SharedStore

FILES = Path(__file__).parent / "files_of_main"


def assert_looks_as_before(picture: np.ndarray, name: str) -> None:
    """Equal but for rounding, which differs between processors."""
    before = np.asarray(Image.open(FILES / f"{name}.png").convert("RGB"), np.float64)
    assert np.abs(picture - before).mean() < 0.2


@pytest.mark.parametrize(("name", "model"), [("rig", "rig"), ("refined", "flex-s2")])
def test_avatars_open_and_are_drawn(name: str, model: str, tmp_path: Path) -> None:
    path = tmp_path / "avatar.flexavatar"
    path.write_bytes(lzma.decompress((FILES / f"{name}.flexavatar.xz").read_bytes()))
    avatar = Avatar.load(path)
    assert avatar.metadata["model"] == model
    assert_looks_as_before(avatar.render(Expression.of("smile"), yaw=25, size=128, device="cpu"), name)
    avatar.save(tmp_path / "again.flexavatar")
    assert (tmp_path / "again.flexavatar").read_bytes() == path.read_bytes()


def test_a_bundle_opens_and_is_drawn() -> None:
    baked = read_bundle(FILES / "rig.flexbundle")
    assert len(baked.neutral) == 6084
    assert_looks_as_before(baked.render(Expression.of("smile"), yaw=25, size=128, device="cpu"), "bundle")


def test_a_shared_avatar_is_found() -> None:
    (folder,) = (FILES / "shared").iterdir()
    store = SharedStore(FolderStorage(FILES / "shared"))
    avatar = store.get(folder.name)
    assert (avatar.name, avatar.visibility, avatar.downloads) == ("Astronaut", "link", True)
    assert store.path(folder.name, "card.jpg").read_bytes().startswith(b"\xff\xd8")
