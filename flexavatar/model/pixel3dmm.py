"""FLAME tracking for FLEX-1: folders written by Pixel3DMM, and the interface for other trackers."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from flexavatar.errors import FlexAvatarError
from flexavatar.model.flex1_inputs import CropBox, FlameCode, cam2head, cam2world_opencv, head_pose

_CROP_FILE = "crop_ymin_ymax_xmin_xmax.npy"


class BadTracking(FlexAvatarError):
    """The folder is no complete Pixel3DMM result."""


class TrackerMissing(FlexAvatarError):
    """Nothing on this machine can make FLAME codes."""


class ExpressionSource(Protocol):
    """Anything that regresses FLAME codes from images, such as SHeaP."""

    def expression(self, image: np.ndarray) -> FlameCode:
        """image uint8 [H, W, 3] -> the code of its face."""
        ...


@dataclass(frozen=True)
class Pixel3dmmFrame:
    """One tracked frame."""

    name: str
    crop: CropBox
    focal: float  # in box widths
    principal: tuple[float, float]  # -1..1 over the box
    code: FlameCode
    cam2head: Tensor  # [4, 4] OpenCV camera to head frame, metres


def require_source(source: ExpressionSource | None) -> ExpressionSource:
    """`source`, or an error that says what to install."""
    if source is None:
        raise TrackerMissing(
            "flex-1 needs FLAME codes. Track the input with Pixel3DMM (github.com/tobias-kirschstein/easy-pixel3dmm) "
            "and pass its result folder, or install SHeaP (github.com/tobias-kirschstein/sheap-3.9) and pass it as an "
            "ExpressionSource. The flex-s preset needs neither."
        )
    return source


def read_pixel3dmm(tracking: Path, crop_file: Path | None = None) -> list[Pixel3dmmFrame]:
    """Reads `tracking`/checkpoint/*.frame in order; the crop box lies in `tracking` unless `crop_file` is given.

    Raises BadTracking.
    """
    paths = sorted((tracking / "checkpoint").glob("*.frame"))
    if not paths:
        raise BadTracking(f"{tracking} holds no checkpoint/*.frame; pass the folder that Pixel3DMM's tracking wrote.")
    try:
        top, bottom, left, right = (int(v) for v in np.load(crop_file or tracking / _CROP_FILE, allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise BadTracking(f"{crop_file or tracking / _CROP_FILE} cannot be read; run Pixel3DMM's cropping.") from error
    return [_frame(path, CropBox(top, bottom, left, right)) for path in paths]


def frame_from_values(name: str, crop: CropBox, values: Mapping[str, Any]) -> Pixel3dmmFrame:
    """A frame from Pixel3DMM's dictionary: flame (exp, eyes, eyelids, neck, jaw, R, t), camera, joint_transforms."""

    def tensor(value: Any, *shape: int) -> Tensor:
        return torch.as_tensor(value).float().reshape(shape)

    flame, camera = values["flame"], values["camera"]
    code = FlameCode(
        tensor(flame["exp"], 100),
        tensor(flame["eyes"], 12),
        tensor(flame["eyelids"], 2),
        tensor(flame["neck"], 6),
        tensor(flame["jaw"], 6),
        tensor(flame["R"], 6),
        tensor(flame["t"], 3),
    )
    world = cam2world_opencv(tensor(camera["R_base_0"], 3, 3), tensor(camera["t_base_0"], 3))
    neck = torch.as_tensor(values["joint_transforms"])[0, 1].float()
    x, y = tensor(camera["pp"], 2).tolist()
    pose = cam2head(world, head_pose(code.rotation, code.translation, neck))
    return Pixel3dmmFrame(name, crop, tensor(camera["fl"], 1).item(), (x, y), code, pose)


def _frame(path: Path, crop: CropBox) -> Pixel3dmmFrame:
    reconstruct: Any = np.zeros(0).__reduce__()[0]
    # Older numpy wrote the same function under its former module name.
    allowed: list[Any] = [reconstruct, (reconstruct, "numpy.core.multiarray._reconstruct"), np.ndarray, np.dtype]
    allowed += [type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "u1", "?")]
    try:
        with torch.serialization.safe_globals(allowed):
            values = torch.load(path, map_location="cpu", weights_only=True)
        return frame_from_values(path.stem, crop, values)
    except (
        OSError,
        EOFError,
        KeyError,
        IndexError,
        TypeError,
        ValueError,
        RuntimeError,
        pickle.UnpicklingError,
    ) as error:
        raise BadTracking(f"{path} is no Pixel3DMM frame or is damaged; run the tracking again.") from error
