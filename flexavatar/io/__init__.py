"""Files in and out: pictures, videos and Gaussian splats."""

from __future__ import annotations

from pathlib import Path

from flexavatar.errors import BadSplatFile, CannotWrite
from flexavatar.gaussians import Gaussians
from flexavatar.io.encoding import SplatOptions
from flexavatar.io.images import write_image
from flexavatar.io.ply import read_ply, write_ply
from flexavatar.io.splat import read_splat, write_splat
from flexavatar.io.spz import read_spz, write_spz
from flexavatar.io.videos import write_video

__all__ = [
    "SPLAT_SUFFIXES",
    "SplatOptions",
    "read_splats",
    "write_image",
    "write_splats",
    "write_video",
]

_READERS = {".ply": read_ply, ".splat": read_splat, ".spz": read_spz}
SPLAT_SUFFIXES: tuple[str, ...] = tuple(_READERS)


def write_splats(path: str | Path, gaussians: Gaussians, options: SplatOptions | None = None) -> None:
    """Write one set of Gaussians in the format of the suffix, each in its customary frame (see `io.encoding`).

    `options` are for readers that need .spz or .ply otherwise. Raises CannotWrite.
    """
    options = options or SplatOptions()
    suffix = Path(path).suffix.lower()
    if suffix == ".ply":
        write_ply(path, gaussians, options.ply_sh)
    elif suffix == ".splat":
        write_splat(path, gaussians)
    elif suffix == ".spz":
        write_spz(path, gaussians, options.spz_version)
    else:
        raise CannotWrite(
            f"Cannot write {path}: Gaussians are written as {', '.join(SPLAT_SUFFIXES)}. Change the suffix."
        )


def read_splats(path: str | Path) -> Gaussians:
    """Read Gaussians [G] in the canonical head frame, float32, from any of these formats. Raises BadSplatFile."""
    suffix = Path(path).suffix.lower()
    if suffix not in _READERS:
        raise BadSplatFile(f"Cannot read {path}: Gaussians are read from {', '.join(_READERS)} files.")
    return _READERS[suffix](path)
