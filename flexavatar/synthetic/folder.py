"""Where the open assets lie, and what to say when they do not."""

from __future__ import annotations

import os
from pathlib import Path

from flexavatar.errors import FlexAvatarError

DATA_VARIABLE, CACHE_VARIABLE = "FLEXAVATAR_DATA", "FLEXAVATAR_CACHE"

_HOW_TO = (
    "It needs MakeHuman assets (CC0): the system assets of MakeHuman or MPFB and the hair packs, "
    "from https://static.makehumancommunity.org/assets/assetpacks.html, with the .mhclo, .obj and .png files put into "
    "makehuman/hair, makehuman/brows_lashes, makehuman/clothes and makehuman/skins; and optionally "
    "portraits/train, any folder of frontal portraits that you may use. See docs/data.md."
)


class DataMissing(FlexAvatarError):
    """The assets that synthetic heads are made of are not where they were looked for."""


def data_folder(folder: str | Path | None = None) -> Path:
    """The data folder: the argument, or the environment variable FLEXAVATAR_DATA. Raises DataMissing."""
    chosen = folder or os.environ.get(DATA_VARIABLE)
    if not chosen:
        raise DataMissing(f"No data folder is set. Pass one, or set {DATA_VARIABLE}. {_HOW_TO}")
    path = Path(chosen).expanduser()
    for name in ("hair", "brows_lashes", "skins", "clothes"):
        if not any((path / "makehuman" / name).glob("*.png")):
            raise DataMissing(f"There are no assets in {path / 'makehuman' / name}. {_HOW_TO}")
    return path


def cache_folder(folder: str | Path | None = None) -> Path:
    """Where unwrapped faces are kept: the argument, FLEXAVATAR_CACHE, or a folder of the user's cache."""
    chosen = folder or os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flexavatar"
