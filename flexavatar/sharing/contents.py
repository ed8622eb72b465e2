"""The files of a shared avatar."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from flexavatar.files import atomic_path
from flexavatar.progress import Progress, Tell
from flexavatar.sharing.card import preview_card, save_poster
from flexavatar.sharing.store import Receipt, SharedStore, ShareOptions

if TYPE_CHECKING:
    from flexavatar.avatar import Avatar
    from flexavatar.settings import Device

BUNDLE, CARD, THUMBNAIL, VIDEO = "avatar.flexbundle", "card.jpg", "thumbnail.jpg", "turntable.mp4"
POSTER = "poster.webp"
DOWNLOADS = ("avatar.flexavatar", "avatar.ply", "avatar.spz")  # besides the bundle, where the owner allows downloads


def share(
    store: SharedStore,
    avatar: Avatar,
    bundle: Path,
    options: ShareOptions,
    device: Device = "auto",
    progress: Progress | Tell | None = None,
) -> Receipt:
    """Share an avatar whose `.flexbundle` is at `bundle`. Raises what `SharedStore.put` raises.

    Takes a few seconds, for its pictures. What was uploaded to make the avatar is not shared.
    """
    from flexavatar.baking.bundle import LICENCE

    tell = Progress.of(progress).tell
    with tempfile.TemporaryDirectory(prefix="flexavatar-share-") as made:
        folder = Path(made)
        tell("drawing the preview", 0.1)
        _save_jpeg(preview_card(avatar, device), folder / CARD)
        _save_jpeg(Image.fromarray(avatar.thumbnail), folder / THUMBNAIL)
        save_poster(avatar, folder / POSTER)
        tell("filming the turntable", 0.3)
        avatar.turntable(folder / VIDEO, size=384, seconds=4.0, fps=15, device=device)
        if options.downloads:
            tell("writing the files", 0.7)
            for name in DOWNLOADS:
                avatar.export(folder / name)
        shutil.copyfile(bundle, folder / BUNDLE)
        tell("storing the avatar", 0.9)
        return store.put({path.name: path for path in sorted(folder.iterdir())}, LICENCE, options)


def _save_jpeg(picture: Image.Image, path: Path) -> None:
    with atomic_path(path) as temporary:
        picture.save(temporary, format="JPEG", quality=88, optimize=True)
