"""The driving clips that come with the package, authored as ARKit curves (`scripts/author_clips.py`)."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files
from pathlib import Path

from flexavatar.expression import Expression
from flexavatar.motion.live_link import read_live_link
from flexavatar.motion.motion import Motion

CLIP_NAMES = ("talk", "laugh", "surprise", "look_around", "wink")
CLIP_FPS = 30.0


def load_clip(name: str) -> Motion:
    """A built-in clip by its name. Raises ValueError for a name that is none of CLIP_NAMES."""
    if name not in CLIP_NAMES:
        raise ValueError(f"There is no clip {name!r}. Choose one of {', '.join(CLIP_NAMES)}.")
    return replace(read_live_link(clip_path(name), CLIP_FPS), neutral=Expression.neutral())


def clip_path(name: str) -> Path:
    """The clip's CSV file; `examples/clips` of the repository is a link to its folder."""
    return Path(str(files("flexavatar") / "assets" / "clips" / f"{name}.csv"))
