"""Moving nested dataclasses of tensors to a device."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor


def moved(value: Any, device: torch.device | str) -> Any:
    """A tensor on a device, or a copy of a dataclass with all its tensors there; anything else as it is."""
    if isinstance(value, Tensor):
        # What is first asked for while drawing, and kept, must be of use to a fit as well.
        with torch.inference_mode(False):
            return value.to(device)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: moved(getattr(value, f.name), device) for f in fields(value)})
    return value
