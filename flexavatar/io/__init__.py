"""Files in and out: pictures, videos and Gaussian splats."""

from __future__ import annotations

from pathlib import Path

from flexavatar.errors import BadSplatFile, CannotWrite
from flexavatar.gaussians import Gaussians
from flexavatar.io.images import write_image
from flexavatar.io.ply import read_ply, write_ply
from flexavatar.io.splat import read_splat, write_splat
from flexavatar.io.spz import read_spz, write_spz
from flexavatar.io.videos import write_video

__all__ = [
    "SPLAT_SUFFIXES",
    "read_splats",
    "write_image",
    "write_splats",
    "write_video",
]

_FORMATS = {".ply": (write_ply, read_ply), ".splat": (write_splat, read_splat), ".spz": (write_spz, read_spz)}
SPLAT_SUFFIXES: tuple[str, ...] = tuple(_FORMATS)


def write_splats(path: str | Path, gaussians: Gaussians) -> None:
    """Write one set of Gaussians in the format of the suffix, each in its customary frame (see `io.encoding`).

    Raises CannotWrite.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _FORMATS:
        raise CannotWrite(f"Cannot write {path}: Gaussians are written as {', '.join(_FORMATS)}. Change the suffix.")
    _FORMATS[suffix][0](path, gaussians)


def read_splats(path: str | Path) -> Gaussians:
    """Read Gaussians [G] in the canonical head frame, float32, from any of these formats. Raises BadSplatFile."""
    suffix = Path(path).suffix.lower()
    if suffix not in _FORMATS:
        raise BadSplatFile(f"Cannot read {path}: Gaussians are read from {', '.join(_FORMATS)} files.")
    return _FORMATS[suffix][1](path)
