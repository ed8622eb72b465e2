"""Which renderer runs, and why."""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import shutil
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from flexavatar.errors import RendererUnavailable
from flexavatar.render.threads import thread_count

logger = logging.getLogger(__name__)

Renderer = Literal["gsplat", "cpu", "reference"]
Backend = Literal["auto", "gsplat", "cpu", "reference"]

_probe_lock = threading.Lock()
_reported: set[str] = set()


@dataclass(frozen=True)
class RendererStatus:
    """The renderer that "auto" uses at best on this machine."""

    backend: Renderer
    device: str  # "cuda" or "cpu": where Gaussians should lie for it
    reason: str  # one sentence for people


def renderer_status() -> RendererStatus:
    """The renderer of this machine, and why it is this one. The first call may compile gsplat (minutes, CUDA only)."""
    problem = gsplat_problem()
    if problem is None:
        return RendererStatus("gsplat", "cuda", f"gsplat on {torch.cuda.get_device_name()}.")
    return RendererStatus("cpu", "cpu", f"CPU renderer with {thread_count()} thread(s), because {problem}.")


def available_backends() -> tuple[Renderer, ...]:
    """Renderers that work on this machine, fastest first."""
    return ("gsplat", "cpu", "reference") if gsplat_problem() is None else ("cpu", "reference")


def choose_backend(backend: Backend, device: torch.device, count: int) -> Renderer:
    """The renderer for `count` Gaussians on `device`. Raises RendererUnavailable."""
    if backend not in ("auto", "gsplat", "cpu", "reference"):
        raise ValueError(f"No renderer {backend!r}; choose auto, gsplat, cpu or reference.")
    if backend == "gsplat":
        problem = gsplat_problem()
        if problem is not None:
            raise RendererUnavailable(
                f"The gsplat renderer cannot run: {problem}. Use backend='auto' or 'cpu' to draw on the CPU."
            )
    elif backend == "auto":
        backend = "cpu"
        if device.type != "cpu":
            problem = gsplat_problem() if device.type == "cuda" else f"gsplat does not run on {device.type}"
            if problem is None:
                backend = "gsplat"
            else:
                _report(f"Drawing on the CPU, because {problem}.")
    # gsplat's kernels take no empty sets, and there is nothing to draw.
    return "cpu" if backend == "gsplat" and count == 0 else backend


def _report(message: str) -> None:
    if message not in _reported:
        _reported.add(message)
        logger.warning(message)


def gsplat_problem() -> str | None:
    """Why gsplat cannot run here, or None if it can. Tried once per process."""
    with _probe_lock:
        return _probe_gsplat(os.getpid())


@functools.cache
def _probe_gsplat(process: int) -> str | None:
    # By process, because a GPU may be lent to forked workers only.
    if not torch.cuda.is_available():
        return "PyTorch sees no CUDA GPU"
    spec = importlib.util.find_spec("gsplat")
    if spec is None or spec.origin is None:
        return "gsplat is not installed (pip install gsplat)"
    prebuilt = any(Path(spec.origin).parent.glob("csrc*.so"))
    if not prebuilt and _nvcc() is None:
        return (
            "gsplat compiles its CUDA code at first use and found no nvcc: "
            "install the CUDA toolkit, or one of gsplat's prebuilt wheels for this PyTorch and CUDA version"
        )
    if not prebuilt:
        logger.info("Loading gsplat's CUDA kernels; the first time on a machine this compiles for minutes.")
    try:
        from flexavatar.render.cuda import try_out

        try_out()
    except (ImportError, AttributeError, OSError, RuntimeError, subprocess.SubprocessError) as error:
        logger.debug("gsplat failed its trial.", exc_info=True)
        return f"gsplat failed its trial ({type(error).__name__}: {str(error).strip().splitlines()[0:1]})"
    return None


def _nvcc() -> str | None:
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH") or "/usr/local/cuda"
    return shutil.which("nvcc") or shutil.which("nvcc", path=os.path.join(home, "bin"))
