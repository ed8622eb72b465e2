"""Hugging Face ZeroGPU: borrow a GPU for the calls that gain from one."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from flexavatar.pipeline import Device


def on_gpu(seconds: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Run the function on a borrowed GPU, for at most `seconds`. A no-op wherever there is no ZeroGPU.

    ZeroGPU runs it in another process, so arguments and results must pickle and changes to globals are lost. That
    leaves out whatever tells its progress or can be stopped: capturing, driving and morphing stay on the CPU, where a
    frame takes some 20 ms.
    """
    try:
        import spaces
    except ImportError:  # only Spaces need it
        return lambda function: function
    return spaces.GPU(duration=seconds)


def device_outside(device: Device) -> Device:
    """Where to compute in functions that are not `on_gpu`: there, ZeroGPU shows torch a GPU that cannot be used."""
    return "cpu" if os.environ.get("SPACES_ZERO_GPU") else device
