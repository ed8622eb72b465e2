"""The `.flexbundle` file that the browser viewer loads; docs/bundle.md describes it."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from flexavatar import __version__
from flexavatar.baking.baked import GROUPS, MINIMUM_SCALE, BakedAvatar, SparseDeltas
from flexavatar.baking.error import BakeReport
from flexavatar.camera import FIELD_OF_VIEW, HEAD_CENTER, VIEW_HEIGHT
from flexavatar.errors import BadBundle
from flexavatar.expression import ARKIT_BLENDSHAPES
from flexavatar.files import atomic_path, content_of
from flexavatar.gaussians import Gaussians
from flexavatar.io.encoding import unit

MAGIC = b"FLXB"
VERSION = 1
LICENCE = (
    "Made with FlexAvatar (Apache-2.0; head model from MakeHuman, CC0). Use the likeness of a person only with consent."
)
STEPS = {"means": 1e-5, "rotations": 1e-3, "scales": 2e-6, "colors": 1e-3, "opacities": 1e-3}  # of the deltas
BASE_STEPS = {"means": 1e-5, "scales": 5e-7}  # metres
_BASE = {"means": 3, "quats": 4, "scales": 3, "opacities": 1, "colors": 3, "torso_weights": 1}  # components
_TYPES = {name: np.dtype(name).newbyteorder("<") for name in ("uint8", "int8", "uint16", "int16", "uint32", "float32")}


@dataclass(frozen=True)
class BundleLimits:
    """What a bundle may hold; more is no head but a damaged or hostile file."""

    size: int = 256 * 1024**2  # bytes, unpacked
    splats: int = 1_000_000
    deltas: int = 20_000_000  # per group
    correctives: int = 1000


LIMITS = BundleLimits()


def write_bundle(path: str | Path, baked: BakedAvatar) -> None:
    """Write a bundle; the same avatar gives the same bytes. Raises CannotWrite."""
    content = bundle_bytes(baked)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def bundle_bytes(baked: BakedAvatar) -> bytes:
    """The content of a bundle."""
    chunk = _Chunk()
    picture = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(baked.thumbnail)).save(picture, format="PNG")
    thumbnail = {"type": "image/png", "offset": chunk.append(picture.getvalue()), "length": picture.tell()}
    neutral = baked.neutral
    chunk.put_steps("means", neutral.means, BASE_STEPS["means"], "uint16")
    chunk.put_steps("quats", _one_sign(unit(neutral.quats)), 1 / 32767, "int16")
    chunk.put_steps("scales", neutral.scales, BASE_STEPS["scales"], "uint16")
    chunk.put_steps("opacities", neutral.opacities[:, None].clamp(0, 1), 1 / 255, "uint8")
    chunk.put_steps("colors", neutral.colors.clamp(0, 1), 1 / 255, "uint8")
    # In 255 steps the neck would break into rings when the head turns: the shoulders are far from its joint.
    chunk.put_steps("torso_weights", baked.torso_weights[:, None], 1 / 65535, "uint16")
    for group, deltas in baked.deltas.items():
        chunk.put(f"deltas/{group}/counts", deltas.counts.numpy(), "uint32", "plain")
        index = "uint16" if len(neutral) <= 65536 else "uint32"
        chunk.put(f"deltas/{group}/splats", deltas.splats.numpy()[None], index, "differences")
        chunk.put_steps(f"deltas/{group}/values", deltas.values, STEPS[group], "int16")
    header: dict[str, Any] = {
        "format": "flexbundle",
        "generator": f"flexavatar {__version__}",
        "splats": len(neutral),
        "blendshapes": list(ARKIT_BLENDSHAPES),
        "correctives": [list(factors) for factors in baked.correctives],
        "minimum_scale": MINIMUM_SCALE,
        "neck_joint": [round(v, 7) for v in baked.neck_joint.tolist()],
        "frame": {"units": "metres", "x": "subject's left", "y": "up", "z": "out of the face", "quaternions": "wxyz"},
        "camera": {
            "field_of_view": FIELD_OF_VIEW,
            "view_height": VIEW_HEIGHT,
            "center": list(HEAD_CENTER),
            "background": [1.0, 1.0, 1.0],
        },
        "licence": LICENCE,
        "metadata": dict(baked.metadata),
        "report": asdict(baked.report) if baked.report else None,
        "thumbnail": thumbnail,
        "binary_bytes": len(chunk.data),
        "arrays": chunk.arrays,
    }
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
    text += b" " * (-len(text) % 4)
    plain = MAGIC + struct.pack("<II", VERSION, len(text)) + text + bytes(chunk.data)
    return gzip.compress(plain, 6, mtime=0)  # 9 takes six times as long for 2 % less


def read_bundle(path: str | Path) -> BakedAvatar:
    """Read a bundle. Raises BadBundle, with a message of its own for each thing that can be wrong."""
    path = Path(path)
    content = content_of(path, BadBundle)
    header, data = _opened(path, content)
    try:
        return _baked(header, data)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, OSError, SyntaxError) as error:
        raise BadBundle(f"{path} is damaged ({error}). Download or bake it again.") from error


class _Chunk:
    """The binary chunk while it is written."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.arrays: dict[str, dict[str, Any]] = {}

    def append(self, content: bytes) -> int:
        """Add bytes at the next multiple of 4 and return where they begin."""
        offset = len(self.data)
        self.data += content + b"\0" * (-len(content) % 4)
        return offset

    def put(self, name: str, values: np.ndarray, dtype: str, coding: str, **quantisation: list[float]) -> None:
        limits = np.iinfo(dtype)
        if values.size and (values.min() < limits.min or values.max() > limits.max):
            raise ValueError(f"The values of {name!r} do not fit into {dtype}.")
        stored = np.ascontiguousarray(values).astype(_TYPES[dtype])
        if coding == "differences":
            stored[..., 1:] = stored[..., 1:] - stored[..., :-1]  # wraps, as its reader's sums do
        entry = {"dtype": dtype, "shape": list(values.shape), "coding": coding, "offset": self.append(stored.tobytes())}
        self.arrays[name] = entry | quantisation

    def put_steps(self, name: str, values: Tensor, step: float, dtype: str) -> None:
        """Values [N, C] as multiples of `step`, planar; unsigned types count from the least value of each component."""
        planar = values.detach().double().T.contiguous().numpy()
        bias = np.zeros(len(planar))
        if dtype == "uint16" and planar.size:
            bias = planar.min(1)
            # A head spans less than 65535 steps; should anything span more, its steps grow.
            step = max(step, float(np.ptp(planar, axis=1).max()) / 65535)
        elif dtype == "int16" and planar.size:
            step = max(step, float(np.abs(planar).max()) / 32767)
        levels = np.round((planar - bias[:, None]) / step).astype(np.int64)
        self.put(name, levels, dtype, "differences", scale=[step] * len(planar), bias=bias.tolist())


def _one_sign(quats: Tensor) -> Tensor:
    """The quaternions with a positive largest component, so that neighbours look alike."""
    largest = quats.gather(-1, quats.abs().argmax(-1, keepdim=True))
    return torch.where(largest < 0, -quats, quats)


def _opened(path: Path, content: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and binary chunk of a whole bundle of a known version."""
    foreign = f"{path} is not a FlexAvatar bundle. Choose a .flexbundle file."
    cut_off = f"{path} is cut off; a part of it is missing. Download or bake it again."
    if not content:
        raise BadBundle(f"{path} is empty. Download or bake it again.")
    unpacker = zlib.decompressobj(wbits=31)
    try:
        plain = unpacker.decompress(content, LIMITS.size)
    except zlib.error as error:
        raise BadBundle(foreign if content[:2] != b"\x1f\x8b" else f"{path} is damaged. Bake it again.") from error
    if unpacker.unconsumed_tail:
        raise BadBundle(
            f"{path} unpacks to more than {LIMITS.size // 1024**2} MB, which no bundle does. Bake it again."
        )
    if plain[:4] != MAGIC[: len(plain)]:
        raise BadBundle(foreign)
    if not unpacker.eof or len(plain) < 12:
        raise BadBundle(cut_off)
    version, length = struct.unpack_from("<II", plain, 4)
    if version > VERSION:
        raise BadBundle(
            f"{path} was written by a newer FlexAvatar (bundle version {version}; this one reads up to {VERSION}). "
            "Update FlexAvatar."
        )
    damaged = f"{path} is damaged. Download or bake it again."
    if version < 1 or length > len(plain) - 12:
        raise BadBundle(damaged)
    try:
        header = json.loads(plain[12 : 12 + length])
        whole = header["format"] == "flexbundle" and header["binary_bytes"] == len(plain) - 12 - length
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadBundle(damaged) from error
    if not whole:
        raise BadBundle(damaged)
    return header, plain[12 + length :]


def _baked(header: dict[str, Any], data: bytes) -> BakedAvatar:
    count, blendshapes = header["splats"], header["blendshapes"]
    correctives = tuple(tuple(factors) for factors in header["correctives"])
    if not (isinstance(count, int) and 1 <= count <= LIMITS.splats):
        raise ValueError(f"{count!r} splats")
    if tuple(blendshapes) != ARKIT_BLENDSHAPES or len(correctives) > LIMITS.correctives:
        raise ValueError("its blendshapes are not ARKit's 52")
    if not all(factors and set(factors) <= set(ARKIT_BLENDSHAPES) for factors in correctives):
        raise ValueError("a corrective names unknown blendshapes")
    arrays: Mapping[str, Mapping[str, Any]] = header["arrays"]
    base = {name: _values(arrays, data, name, size, count) for name, size in _BASE.items()}
    targets = len(ARKIT_BLENDSHAPES) + len(correctives)
    deltas = {
        group: _deltas(arrays, data, group, targets, count) for group in GROUPS if f"deltas/{group}/counts" in arrays
    }
    picture = header["thumbnail"]
    with Image.open(io.BytesIO(_bytes(data, picture["offset"], picture["length"])), formats=["PNG"]) as image:
        thumbnail = np.array(image.convert("RGB"))
    joint = torch.tensor(header["neck_joint"], dtype=torch.float32)
    if joint.shape != (3,) or not joint.isfinite().all():
        raise ValueError("the neck joint is no point")
    return BakedAvatar(
        neutral=Gaussians(
            base["means"],
            unit(base["quats"]),
            base["scales"],
            base["opacities"][:, 0],
            base["colors"],
        ),
        torso_weights=base["torso_weights"][:, 0],
        neck_joint=joint,
        deltas=deltas,
        correctives=correctives,
        thumbnail=thumbnail,
        metadata=dict(header["metadata"]),
        report=_report(header["report"]),
    )


def _report(values: dict[str, Any] | None) -> BakeReport | None:
    if values is None:
        return None
    candidates = tuple((str(name), float(decibels)) for name, decibels in values["candidates"])
    known: dict[str, Any] = values | {"candidates": candidates}
    return BakeReport(**known)


def _deltas(arrays: Mapping[str, Mapping[str, Any]], data: bytes, group: str, targets: int, count: int) -> SparseDeltas:
    counts = _integers(arrays[f"deltas/{group}/counts"], data, (targets,)).astype(np.int64)
    entries = int(counts.sum())
    if entries > min(LIMITS.deltas, targets * count):
        raise ValueError(f"{entries} deltas of {group}")
    splats = _integers(arrays[f"deltas/{group}/splats"], data, (1, entries))[0].astype(np.int64)
    if entries and splats.max() >= count:
        raise ValueError(f"deltas of {group} for splats that are not there")
    values = _values(arrays, data, f"deltas/{group}/values", GROUPS[group], entries)
    return SparseDeltas(torch.from_numpy(counts), torch.from_numpy(splats), values)


def _values(arrays: Mapping[str, Mapping[str, Any]], data: bytes, name: str, size: int, count: int) -> Tensor:
    """The values [count, size] of a planar array."""
    entry = arrays[name]
    planar = _integers(entry, data, (size, count)).astype(np.float64)
    scale, bias = np.array(entry["scale"], np.float64), np.array(entry["bias"], np.float64)
    if scale.shape != (size,) or bias.shape != (size,) or not np.isfinite([scale, bias]).all():
        raise ValueError(f"the steps of {name!r} do not fit")
    return torch.from_numpy((planar * scale[:, None] + bias[:, None]).T.astype(np.float32).copy())


def _integers(entry: Mapping[str, Any], data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """The stored numbers of an array, differences undone."""
    if tuple(entry["shape"]) != shape:
        raise ValueError(f"an array has shape {entry['shape']} instead of {list(shape)}")
    dtype = _TYPES[entry["dtype"]]
    length = int(np.prod(shape)) * dtype.itemsize
    stored = np.frombuffer(_bytes(data, entry["offset"], length), dtype).reshape(shape)
    if entry["coding"] == "differences":
        return np.cumsum(stored, axis=-1, dtype=dtype)
    if entry["coding"] != "plain":
        raise ValueError(f"unknown coding {entry['coding']!r}")
    return stored


def _bytes(data: bytes, offset: int, length: int) -> bytes:
    if not (isinstance(offset, int) and isinstance(length, int) and 0 <= offset <= offset + length <= len(data)):
        raise ValueError("an array lies outside the file")
    return data[offset : offset + length]
