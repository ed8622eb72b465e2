"""Gaussians as `.spz`, Niantic's compressed format: about a tenth of the size of a `.ply`.

Versions 2 and 3 are one gzip stream, a header of 16 bytes and the values of all Gaussians attribute by attribute; 3
keeps quaternions finer. Version 4 has a plain header of 32 bytes and each attribute as a zstd stream of its own.
"""

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
from flexavatar.io.encoding import MAX_GAUSSIANS, SpzVersion, activated, prepare, raw_values

_HEADER = struct.Struct("<IIIBBBB")  # magic, version, count, SH degree, fractional bits, flags, reserved or streams
_HEADER_4 = struct.Struct("<IIIBBBBI12x")  # the same, with the number of streams and where their sizes stand
_SIZES = struct.Struct("<QQ")  # of a stream, compressed and not
_MAGIC = 0x5053474E  # "NGSP"
_SH_BYTES = (0, 9, 24, 45, 72)  # per Gaussian, for degrees 0 to 4
_COLOR_SCALE = 0.15
_MAX_EXTENSIONS = 1 << 20  # bytes of vendors' additions behind the Gaussians
_FINEST_BITS = 16  # 15 micrometres; a head fills only a little of the range of +-128 m


def write_spz(path: str | Path, gaussians: Gaussians, version: SpzVersion = 3) -> None:
    """Write one set of Gaussians as SPZ: 3 is known to most readers, 2 to older ones, 4 to the newest only.

    24-bit fixed-point positions, 8-bit log-scales (from 45 micrometres), colours and opacities, 32-bit quaternions, or
    24-bit in version 2. The canonical head frame is the format's own (see `io.encoding`). Raises CannotWrite.
    """
    plain = prepare(gaussians)
    log_scales, _, sh_dc = raw_values(plain)
    bits = fractional_bits(plain.means)
    positions = np.rint(plain.means.numpy().astype(np.float64) * (1 << bits)).clip(-(1 << 23), (1 << 23) - 1)
    words = positions.astype("<i4").reshape(-1, 1).view(np.uint8)[:, :3]
    streams = [
        words.tobytes(),
        _bytes(plain.opacities.numpy() * 255.0),
        _bytes((sh_dc.numpy() * _COLOR_SCALE + 0.5) * 255.0),
        _bytes((log_scales.numpy() + 10.0) * 16.0),
        _xyz_bytes(plain.quats.numpy()) if version == 2 else _smallest_three_words(plain.quats.numpy()).tobytes(),
    ]
    with atomic_path(path) as temporary:
        if version < 4:
            header = _HEADER.pack(_MAGIC, version, len(plain), 0, bits, 0, 0)
            temporary.write_bytes(gzip.compress(header + b"".join(streams), 9, mtime=0))
            return
        import zstandard

        packed = [zstandard.ZstdCompressor(level=12).compress(stream) for stream in streams]
        sizes = [_SIZES.pack(len(small), len(stream)) for small, stream in zip(packed, streams, strict=True)]
        header = _HEADER_4.pack(_MAGIC, version, len(plain), 0, bits, 0, len(streams), _HEADER_4.size)
        temporary.write_bytes(b"".join([header, *sizes, *packed]))


def fractional_bits(means: torch.Tensor) -> int:
    """How many bits of the 24 lie behind the binary point, so that `means` [G, 3] (metres) fit."""
    extent = float(means.abs().max())
    return max(1, min(_FINEST_BITS, 22 - math.ceil(math.log2(max(extent, 1e-6)))))


def read_spz(path: str | Path) -> Gaussians:
    """Read Gaussians from an SPZ file of version 2 to 4; harmonics above degree 0 are left out. Raises BadSplatFile."""
    try:
        with Path(path).open("rb") as plain:
            streamed = plain.read(4) == _MAGIC.to_bytes(4, "little")
        version, count, bits, body = _read_streams(path) if streamed else _read_gzip(path)
    except OSError as error:
        raise BadSplatFile(f"Cannot read {path}: {error.strerror or error}. Check the path.") from error
    quat_bytes = 3 if version == 2 else 4

    sections = np.split(np.frombuffer(body, np.uint8), np.cumsum(count * np.array([9, 1, 3, 3, quat_bytes])))
    positions, alphas, colors, scales, rotations, _ = sections

    words = np.zeros((count * 3, 4), np.uint8)
    words[:, 1:] = positions.reshape(-1, 3)  # in the upper bytes, so that the shift back extends the sign
    means = (words.view("<i4") >> 8).reshape(count, 3) / float(1 << bits)
    alpha = np.clip(alphas / 255.0, 1e-6, 1 - 1e-6)
    quats = _smallest_three(rotations.view("<u4")) if version > 2 else _first_three(rotations.reshape(count, 3))
    values = (
        means,
        scales.reshape(count, 3) / 16.0 - 10.0,
        quats,
        np.log(alpha / (1 - alpha)),
        (colors.reshape(count, 3) / 255.0 - 0.5) / _COLOR_SCALE,
    )
    return activated(*(torch.from_numpy(np.asarray(value, np.float32)) for value in values))


def _read_gzip(path: str | Path) -> tuple[int, int, int, bytes]:
    """Version, count, fractional bits and the bytes of all attributes of a file of version 2 or 3."""
    try:
        with gzip.open(path) as file:
            header = file.read(_HEADER.size)
            if len(header) < _HEADER.size:
                raise BadSplatFile(f"{path} is cut off within its header. Export it again.")
            magic, version, count, sh_degree, bits, _, _ = _HEADER.unpack(header)
            if magic != _MAGIC:
                raise BadSplatFile(f"{path} is no .spz file. Choose a file of Gaussian splats.")
            _check(path, version, (2, 3), count, sh_degree, bits)
            size = count * (9 + 1 + 3 + 3 + version + 1 + _SH_BYTES[sh_degree])  # quaternions: 3 bytes, 4 in version 3
            body = file.read(size)
            file.read(_MAX_EXTENSIONS)  # the checksum is compared at the end of the file
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise BadSplatFile(f"{path} is damaged or no .spz file. Export it again.") from error
    if len(body) < size:
        raise BadSplatFile(f"{path} is cut off: {len(body)} of {size} bytes are there. Export it again.")
    return version, count, bits, body


def _read_streams(path: str | Path) -> tuple[int, int, int, bytes]:
    """The same of version 4."""
    import zstandard

    content = Path(path).read_bytes()
    if len(content) < _HEADER_4.size:
        raise BadSplatFile(f"{path} is cut off within its header. Export it again.")
    _, version, count, sh_degree, bits, _, number, start = _HEADER_4.unpack_from(content)
    _check(path, version, (4,), count, sh_degree, bits)
    attributes = [count * each for each in (9, 1, 3, 3, 4, _SH_BYTES[sh_degree])]
    at, streams = start + number * _SIZES.size, []
    try:
        for index in range(min(number, len(attributes))):
            packed, size = _SIZES.unpack_from(content, start + index * _SIZES.size)
            stream = content[at : at + packed]
            # Before as much memory is taken as the stream says that it needs.
            if size != attributes[index] or zstandard.frame_content_size(stream) not in (-1, size):
                raise BadSplatFile(f"{path} is damaged: its header makes no sense. Export it again.")
            streams.append(zstandard.ZstdDecompressor().decompress(stream, max_output_size=size))
            at += packed
    except (zstandard.ZstdError, struct.error) as error:
        raise BadSplatFile(f"{path} is damaged or cut off. Export it again.") from error
    if [len(stream) for stream in streams[:5]] != attributes[:5]:
        raise BadSplatFile(f"{path} is cut off. Export it again.")
    return version, count, bits, b"".join(streams)


def _check(path: str | Path, version: int, known: tuple[int, ...], count: int, sh_degree: int, bits: int) -> None:
    if version not in known:
        raise BadSplatFile(f"{path} is an .spz file of version {version}; only 2 to 4 can be read. Convert it to 3.")
    if sh_degree >= len(_SH_BYTES) or bits > 24 or not 0 < count <= MAX_GAUSSIANS:
        raise BadSplatFile(f"{path} is damaged: its header makes no sense. Export it again.")


def _bytes(values: np.ndarray) -> bytes:
    return np.rint(values).clip(0, 255).astype(np.uint8).tobytes()


def _xyz_bytes(quats: np.ndarray) -> bytes:
    """Unit quaternions [G, 4] wxyz of version 2: x, y, z in 8 bits each, of the two signs that with positive w."""
    return _bytes(np.where(quats[:, :1] < 0, -quats, quats)[:, 1:] * 127.5 + 127.5)


def _smallest_three_words(quats: np.ndarray) -> np.ndarray:
    """Unit quaternions [G, 4] wxyz of version 3; the inverse of `_smallest_three`."""
    xyzw = np.roll(quats.astype(np.float64), -1, -1)
    largest = np.abs(xyzw).argmax(-1)
    xyzw *= np.where(np.take_along_axis(xyzw, largest[:, None], -1) < 0, -1.0, 1.0)
    words = largest.astype(np.uint32)
    for axis in range(4):  # the last one lies in the lowest bits
        stored = np.rint(np.abs(xyzw[:, axis]) / math.sqrt(0.5) * 511).clip(0, 511).astype(np.uint32)
        word = (words << np.uint32(10)) | (xyzw[:, axis] < 0).astype(np.uint32) << np.uint32(9) | stored
        words = np.where(largest == axis, words, word)
    return words.astype("<u4")


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
