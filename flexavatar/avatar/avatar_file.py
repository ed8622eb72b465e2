"""The `.flexavatar` file: safetensors, with what the avatar is and a picture of it in the metadata.

Nothing in it is ever executed. Layout of the safetensors metadata (strings):
`format` "flexavatar"; `format_version`; `model` (which model made it); `settings` (JSON: all metadata of the avatar);
`thumbnail` (PNG, base64); `sha256` of all the rest of the file, which safetensors itself does not check.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from flexavatar.errors import BadAvatarFile
from flexavatar.files import atomic_path, content_of

FORMAT = "flexavatar"
FORMAT_VERSION = 1
_MAX_HEADER = 100_000_000  # bytes, the limit of safetensors


@dataclass(frozen=True)
class AvatarFile:
    """The content of a `.flexavatar` file."""

    tensors: dict[str, Tensor]
    metadata: dict[str, Any]  # what JSON can hold; has at least "model"
    thumbnail: np.ndarray  # uint8 [H, W, 3]


def write_avatar_file(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], thumbnail: np.ndarray
) -> None:
    """Write an avatar: tensors of any shape and type, JSON-able metadata, and a thumbnail, uint8 [H, W, 3].

    `metadata` must name its "model". Raises CannotWrite; TypeError for metadata that JSON cannot hold.
    """
    if not isinstance(metadata.get("model"), str):
        raise ValueError('The metadata of an avatar must name its model, as in {"model": "rig"}.')
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    settings = json.dumps(dict(metadata), ensure_ascii=False, sort_keys=True, allow_nan=False)
    picture = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(thumbnail)).save(picture, format="PNG")
    strings = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "model": metadata["model"],
        "settings": settings,
        "thumbnail": base64.b64encode(picture.getvalue()).decode("ascii"),
    }
    # The library orders the metadata at random; the same avatar should be the same file.
    raw_header, data = _split(save(plain))
    header = {"__metadata__": strings, **json.loads(raw_header)}
    strings["sha256"] = _digest(header, data)
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)  # the data begin at a multiple of 8
    with atomic_path(path) as temporary:
        temporary.write_bytes(struct.pack("<Q", len(encoded)) + encoded + data)


def read_avatar_file(path: str | Path) -> AvatarFile:
    """Read an avatar. Raises BadAvatarFile, with a message of its own for each thing that can be wrong."""
    path = Path(path)
    content = content_of(path, BadAvatarFile)

    metadata = _checked_metadata(path, content)
    damaged = f"{path} is damaged. Download or save it again."
    try:
        settings = json.loads(metadata["settings"])
        picture = base64.b64decode(metadata["thumbnail"], validate=True)
        with Image.open(io.BytesIO(picture), formats=["PNG"]) as image:
            thumbnail = np.array(image.convert("RGB"))
        return AvatarFile(load(content), settings, thumbnail)
    except (SafetensorError, KeyError, ValueError, SyntaxError, OSError, Image.DecompressionBombError) as error:
        raise BadAvatarFile(damaged) from error


def _checked_metadata(path: Path, content: bytes) -> dict[str, str]:
    """The metadata of what is a whole and undamaged avatar file of a known version."""
    foreign = f"{path} is not a FlexAvatar avatar. Choose a .flexavatar file."
    if not content:
        raise BadAvatarFile(f"{path} is empty. Download or save it again.")
    cut_off = f"{path} is cut off; a part of it is missing. Download or save it again."
    if len(content) < 8:
        raise BadAvatarFile(cut_off)
    (length,) = struct.unpack_from("<Q", content)
    # Every safetensors header is a JSON object; other files almost never have "{" as ninth byte after a small number.
    if length > _MAX_HEADER or content[8:9] not in (b"{", b""):
        raise BadAvatarFile(foreign)
    if len(content) < 8 + length:
        raise BadAvatarFile(cut_off)
    raw_header, data = _split(content)
    try:
        header = json.loads(raw_header)
        entries = [entry for name, entry in header.items() if name != "__metadata__"]
        end = max((int(entry["data_offsets"][1]) for entry in entries), default=0)
        metadata = {str(name): str(value) for name, value in header.get("__metadata__", {}).items()}
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise BadAvatarFile(f"{path} is damaged. Download or save it again.") from error
    if metadata.get("format") != FORMAT:
        raise BadAvatarFile(foreign)
    version = metadata.get("format_version", "")
    if not version.isdecimal():
        raise BadAvatarFile(f"{path} is damaged. Download or save it again.")
    if int(version) > FORMAT_VERSION:
        raise BadAvatarFile(
            f"{path} was written by a newer FlexAvatar (format {version}; this one reads up to {FORMAT_VERSION}). "
            "Update FlexAvatar."
        )
    if len(data) < end:
        raise BadAvatarFile(cut_off)
    if metadata.get("sha256") != _digest(header, data):
        raise BadAvatarFile(f"{path} is damaged. Download or save it again.")
    return metadata


def _split(content: bytes) -> tuple[bytes, bytes]:
    """The JSON header and the tensor data of safetensors `content`."""
    (length,) = struct.unpack_from("<Q", content)
    return content[8 : 8 + length], content[8 + length :]


def _digest(header: dict[str, Any], data: bytes) -> str:
    """SHA-256 of a safetensors header, less the digest in it, and of the data."""
    strings = {name: value for name, value in header["__metadata__"].items() if name != "sha256"}
    digest = hashlib.sha256(json.dumps(header | {"__metadata__": strings}, sort_keys=True).encode())
    digest.update(data)
    return digest.hexdigest()
