"""How fast the renderers are on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from flexavatar.camera import Camera
from flexavatar.gaussians import Gaussians
from flexavatar.render import Renderer, available_backends, render

_WARM_UP_RUNS = 2


@dataclass(frozen=True)
class BenchmarkRow:
    """Time of one pass over one image."""

    backend: Renderer
    size: int  # pixels, image side
    gaussians: int
    measured: Literal["forward", "backward"]  # forward without gradients; backward from rgb, alpha and depth
    median: float  # milliseconds
    fastest: float
    slowest: float


def head_like_gaussians(count: int, device: str = "cpu", seed: int = 0) -> Gaussians:
    """A shell of head size with translucent splats of 1.5 mm: about the load of a real avatar."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    directions = torch.nn.functional.normalize(normal(count, 3), dim=-1)
    return Gaussians(
        means=0.12 * directions * (1 + 0.02 * normal(count, 1)),
        quats=torch.nn.functional.normalize(normal(count, 4), dim=-1),
        scales=1.5e-3 * torch.exp(0.25 * normal(count, 3)),
        opacities=0.5 + 0.45 * torch.rand(count, generator=generator),
        colors=(0.5 + 0.5 * directions).clamp(0, 1),
    ).to(device)


def benchmark_renderers(
    backends: Sequence[Renderer] | None = None,
    sizes: Sequence[int] = (256, 512),
    gaussians: int = 50_000,
    repeats: int = 5,
) -> list[BenchmarkRow]:
    """Time `backends` (by default all that work here but the reference), each pass `repeats` times."""
    if backends is None:
        backends = [backend for backend in available_backends() if backend != "reference"]
    rows = []
    for backend in backends:
        device = "cuda" if backend == "gsplat" else "cpu"
        subject = head_like_gaussians(gaussians, device)
        for size in sizes:
            camera = Camera.orbit(yaw=30, size=size, view_height=0.3, center=(0.0, 0.0, 0.0)).to(device)
            for measured, times in _time_passes(subject, camera, backend, repeats).items():
                rows.append(
                    BenchmarkRow(backend, size, gaussians, measured, statistics.median(times), min(times), max(times))
                )
    return rows


def _time_passes(
    subject: Gaussians, camera: Camera, backend: Renderer, repeats: int
) -> dict[Literal["forward", "backward"], list[float]]:
    leaves = Gaussians(**{name: value.clone().requires_grad_() for name, value in vars(subject).items()})
    inputs = list(vars(leaves).values())
    forward, backward = [], []
    for run in range(repeats + _WARM_UP_RUNS):
        with torch.no_grad():
            forward_time = _milliseconds(lambda: render(subject, camera, backend=backend))
        picture = render(leaves, camera, backend=backend)
        images = [picture.rgb, picture.alpha, picture.depth]
        weights = [torch.ones_like(image) for image in images]
        backward_time = _milliseconds(lambda: torch.autograd.grad(images, inputs, weights))  # noqa: B023
        if run >= _WARM_UP_RUNS:
            forward.append(forward_time)
            backward.append(backward_time)
    return {"forward": forward, "backward": backward}


def _milliseconds(work: Callable[[], object]) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return 1e3 * (time.perf_counter() - start)
