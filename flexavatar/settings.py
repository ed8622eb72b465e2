"""What callers choose everywhere, device, quality, photo and face, and moving values to the chosen device."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from flexavatar.errors import RendererUnavailable

Device = Literal["auto", "cpu", "cuda"]
Quality = Literal["instant", "fast", "balanced", "best"]
QUALITIES: tuple[Quality, ...] = ("instant", "fast", "balanced", "best")
Photo = str | Path | bytes | np.ndarray | Image.Image  # whatever `io.images.read_image` takes
FaceChoice = int | Literal["largest"] | None  # of several faces: number 0 is the largest; None: there must be one
Color = tuple[float, float, float]  # RGB 0..1
WHITE: Color = (1.0, 1.0, 1.0)
BLACK: Color = (0.0, 0.0, 0.0)


def torch_device(device: Device) -> torch.device:
    """The device to compute on; "auto" takes CUDA where there is one.

    Raises RendererUnavailable where "cuda" is asked for and there is none.
    """
    if device == "auto":
        device = "cuda" if cuda_available() else "cpu"
    elif device == "cuda" and not cuda_available():
        raise RendererUnavailable("This machine has no CUDA GPU that torch can use. Use device 'cpu' or 'auto'.")
    return torch.device(device)


def resolve_device(device: Device) -> Literal["cpu", "cuda"]:
    """ "cpu" or "cuda". Raises RendererUnavailable where "cuda" is asked for and there is none."""
    return "cuda" if torch_device(device).type == "cuda" else "cpu"


def cuda_available() -> bool:
    """Whether torch sees a CUDA GPU."""
    return torch.cuda.is_available()


def to_device(value: Any, device: torch.device | str) -> Any:
    """A tensor on a device, or a copy of a dataclass with all its tensors there; anything else as it is."""
    if isinstance(value, Tensor):
        # What is first asked for while drawing, and kept, must be of use to a fit as well.
        with torch.inference_mode(False):
            return value.to(device)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: to_device(getattr(value, f.name), device) for f in fields(value)})
    return value
