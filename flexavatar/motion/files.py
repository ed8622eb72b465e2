"""Motion files and drivers by their names, and the clips that come with the package (`scripts/author_clips.py`)."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files
from pathlib import Path

from flexavatar.errors import BadMotionFile, CannotWrite
from flexavatar.expression import Expression
from flexavatar.files import kind_of
from flexavatar.motion.live_link import read_live_link, write_live_link
from flexavatar.motion.mediapipe_json import read_mediapipe, write_mediapipe
from flexavatar.motion.motion import Motion
from flexavatar.motion.table import text_of

MOTION_SUFFIXES = (".csv", ".json")
_TEXT_SUFFIXES = (".tsv", ".txt")  # as spreadsheets and browsers may name them
CLIP_NAMES = ("talk", "laugh", "surprise", "look_around", "wink")
CLIP_FPS = 30.0


def read_motion(path: str | Path, fps: float | None = None) -> Motion:
    """Read a Live Link Face .csv or a MediaPipe .json; `fps` as in their readers. Raises BadMotionFile."""
    suffix = Path(path).suffix.lower()
    if suffix not in (*MOTION_SUFFIXES, *_TEXT_SUFFIXES):
        raise BadMotionFile(f"Cannot read {path}: motion is read from {' and '.join(MOTION_SUFFIXES)} files.")
    is_json = text_of(path).lstrip()[:1] in ("{", "[") if suffix in _TEXT_SUFFIXES else suffix == ".json"
    return read_mediapipe(path, fps) if is_json else read_live_link(path, fps)


def write_motion(path: str | Path, motion: Motion) -> None:
    """Write a Live Link Face .csv or a MediaPipe .json, atomically. Raises CannotWrite."""
    suffix = Path(path).suffix.lower()
    if suffix == ".csv":
        write_live_link(path, motion)
    elif suffix == ".json":
        write_mediapipe(path, motion)
    else:
        raise CannotWrite(
            f"Cannot write {path}: motion is written as {' or '.join(MOTION_SUFFIXES)}. Change the suffix."
        )


def read_driver(driver: str | Path) -> Motion:
    """The motion of a clip's name or of a motion file. Raises BadMotionFile."""
    return load_clip(str(driver)) if str(driver) in CLIP_NAMES else read_motion(driver)


def is_video(driver: str | Path) -> bool:
    """Whether a driver is a video, which has to be tracked, rather than a clip's name or a motion file.

    Files say so by their content, by their suffix where that says nothing.
    """
    if str(driver) in CLIP_NAMES:
        return False
    return kind_of(driver) is not None or Path(driver).suffix.lower() not in (*MOTION_SUFFIXES, *_TEXT_SUFFIXES)


def load_clip(name: str) -> Motion:
    """A built-in clip by its name. Raises ValueError for a name that is none of CLIP_NAMES."""
    if name not in CLIP_NAMES:
        raise ValueError(f"There is no clip {name!r}. Choose one of {', '.join(CLIP_NAMES)}.")
    return replace(read_live_link(clip_path(name), CLIP_FPS), neutral=Expression.neutral())


def clip_path(name: str) -> Path:
    """The clip's CSV file; `examples/clips` of the repository is a link to its folder."""
    return Path(str(files("flexavatar") / "assets" / "clips" / f"{name}.csv"))
