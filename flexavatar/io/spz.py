"""Gaussians as `.spz`, Niantic's compressed format: about a tenth of the size of a `.ply`."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import torch

from flexavatar.errors import BadSplatFile
from flexavatar.files import atomic_path
from flexavatar.gaussians import Gaussians
from flexavatar.io.encoding import MAX_GAUSSIANS, activated, prepare, raw_values

_HEADER = struct.Struct("<IIIBBBB")  # magic, version, count, SH degree, fractional bits, flags, reserved
_MAGIC = 0x5053474E  # "NGSP"
_SH_BYTES = (0, 9, 24, 45, 72)  # per Gaussian, for degrees 0 to 4
_COLOR_SCALE = 0.15
_MAX_EXTENSIONS = 1 << 20  # bytes of vendors' additions behind the Gaussians
_FINEST_BITS = 16  # 15 micrometres; a head fills only a little of the range of +-128 m


def write_spz(path: str | Path, gaussians: Gaussians) -> None:
    """Write one set of Gaussians as SPZ version 3, which every reader of the format knows.

    24-bit fixed-point positions, 8-bit log-scales (from 45 micrometres), colours and opacities, 32-bit quaternions.
    The canonical head frame is the format's own (see `io.encoding`). Raises CannotWrite.
    """
    import gsply  # imports numba

    plain = prepare(gaussians)
    log_scales, logits, sh_dc = raw_values(plain)
    data = gsply.GSData.from_arrays(
        means=plain.means.numpy(),
        scales=log_scales.numpy(),
        quats=plain.quats.numpy(),
        opacities=logits.numpy(),
        sh0=sh_dc.numpy(),
        shN=None,
        format="ply",
    )
    with atomic_path(path) as temporary:
        gsply.write_spz(temporary, data, version=3, fractional_bits=fractional_bits(plain.means))


def fractional_bits(means: torch.Tensor) -> int:
    """How many bits of the 24 lie behind the binary point, so that `means` [G, 3] (metres) fit."""
    extent = float(means.abs().max())
    return max(1, min(_FINEST_BITS, 22 - math.ceil(math.log2(max(extent, 1e-6)))))


def read_spz(path: str | Path) -> Gaussians:
    """Read Gaussians from an SPZ file of version 2 or 3; harmonics above degree 0 are left out. Raises BadSplatFile.

    Decoded here and not by gsply, whose reader compiles a parallel numba kernel at first use: seconds of delay, and
    where numba has only its workqueue threads, a crash if a renderer runs at the same time.
    """
    try:
        with gzip.open(path) as file:
            version, count, sh_degree, bits = _parse_header(path, file.read(_HEADER.size))
            quat_bytes = 4 if version == 3 else 3
            size = count * (9 + 1 + 3 + 3 + quat_bytes + _SH_BYTES[sh_degree])
            body = file.read(size)
            file.read(_MAX_EXTENSIONS)  # the checksum is compared at the end of the file
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise BadSplatFile(f"{path} is damaged or no .spz file of version 2 or 3. Export it again.") from error
    except OSError as error:
        raise BadSplatFile(f"Cannot read {path}: {error.strerror or error}. Check the path.") from error
    if len(body) < size:
        raise BadSplatFile(f"{path} is cut off: {len(body)} of {size} bytes are there. Export it again.")

    sections = np.split(np.frombuffer(body, np.uint8), np.cumsum(count * np.array([9, 1, 3, 3, quat_bytes])))
    positions, alphas, colors, scales, rotations, _ = sections

    words = np.zeros((count * 3, 4), np.uint8)
    words[:, 1:] = positions.reshape(-1, 3)  # in the upper bytes, so that the shift back extends the sign
    means = (words.view("<i4") >> 8).reshape(count, 3) / float(1 << bits)
    alpha = np.clip(alphas / 255.0, 1e-6, 1 - 1e-6)
    quats = _smallest_three(rotations.view("<u4")) if version == 3 else _first_three(rotations.reshape(count, 3))
    values = (
        means,
        scales.reshape(count, 3) / 16.0 - 10.0,
        quats,
        np.log(alpha / (1 - alpha)),
        (colors.reshape(count, 3) / 255.0 - 0.5) / _COLOR_SCALE,
    )
    return activated(*(torch.from_numpy(np.asarray(value, np.float32)) for value in values))


def _parse_header(path: str | Path, header: bytes) -> tuple[int, int, int, int]:
    """Version, count, SH degree and fractional bits."""
    if len(header) < _HEADER.size:
        raise BadSplatFile(f"{path} is cut off within its header. Export it again.")
    magic, version, count, sh_degree, bits, _, _ = _HEADER.unpack(header)
    if magic != _MAGIC:
        raise BadSplatFile(f"{path} is no .spz file. Choose a file of Gaussian splats.")
    if version not in (2, 3):
        raise BadSplatFile(f"{path} is an .spz file of version {version}; only 2 and 3 can be read. Convert it to 3.")
    if sh_degree >= len(_SH_BYTES) or bits > 24 or not 0 < count <= MAX_GAUSSIANS:
        raise BadSplatFile(f"{path} is damaged: its header makes no sense. Export it again.")
    return version, count, sh_degree, bits


def _smallest_three(words: np.ndarray) -> np.ndarray:
    """Quaternions [G, 4] wxyz from version 3: the largest component's index and the others in sign and 9 bits."""
    rest = words.astype(np.uint32)
    largest = (rest >> 30).astype(np.int64)
    xyzw = np.zeros((len(rest), 4))
    for axis in (3, 2, 1, 0):  # the last one lies in the lowest bits
        stored = largest != axis
        value = (rest & 511) / 511.0 * math.sqrt(0.5) * np.where(rest & 512, -1.0, 1.0)
        xyzw[stored, axis] = value[stored]
        rest = np.where(stored, rest >> 10, rest)
    missing = np.sqrt(np.clip(1 - (xyzw**2).sum(-1), 0, None))
    np.put_along_axis(xyzw, largest[:, None], missing[:, None], -1)
    return np.roll(xyzw, 1, -1)


def _first_three(xyz: np.ndarray) -> np.ndarray:
    """Quaternions [G, 4] wxyz from version 2: x, y, z in 8 bits each, w positive."""
    values = xyz / 127.5 - 1.0
    w = np.sqrt(np.clip(1 - (values**2).sum(-1, keepdims=True), 0, None))
    return np.concatenate([w, values], -1)
