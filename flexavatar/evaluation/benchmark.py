"""How fast the networks and renderers are on this machine: medians with their spread."""

from __future__ import annotations

import logging
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from typing import Literal

import torch

from flexavatar.camera import Camera
from flexavatar.expression import ARKIT_BLENDSHAPES, Expression
from flexavatar.gaussians import Gaussians
from flexavatar.model.config import FLEX_1
from flexavatar.model.flex1 import Flex1
from flexavatar.model.flex_s import FLEX_S, SHELL_CHANNELS, FlexS, FlexSObservation
from flexavatar.model.template import TemplateAnchors
from flexavatar.reconstruction.fit import FitSettings, fit
from flexavatar.reconstruction.observation import FitObservation
from flexavatar.render import Renderer, available_backends, render

log = logging.getLogger(__name__)
Preset = Literal["flex-s", "flex-1"]
WARM_UP_RUNS = 2
FIT_SIZE, RENDER_SIZE = 256, 512  # pixels


@dataclass(frozen=True)
class Timing:
    """Seconds that one piece of work took."""

    what: str
    median: float
    fastest: float
    slowest: float


def time_work(what: str, work: Callable[[], object], repeats: int = 5) -> Timing:
    """Time `work` after warming it up; on CUDA, until the GPU has finished."""
    times = []
    for run in range(WARM_UP_RUNS + repeats):
        _synchronise()
        start = time.perf_counter()
        work()
        _synchronise()
        if run >= WARM_UP_RUNS:
            times.append(time.perf_counter() - start)
    return Timing(what, statistics.median(times), min(times), max(times))


def benchmark_models(
    presets: Sequence[Preset] = ("flex-s", "flex-1"),
    device: Literal["cpu", "cuda"] = "cpu",
    repeats: int = 5,
    compiled: bool = False,
) -> Iterator[Timing]:
    """Encoding, decoding, decoding with rendering at 512 px, and one fitting step at 256 px, of each preset.

    Weights and inputs are random: they do not change the time. FLEX-1 is timed without its DINOv2 features. On CUDA
    encoding and decoding run in bfloat16. `compiled` decodes through torch.compile (with CUDA graphs on CUDA).
    """
    for preset in presets:
        torch.manual_seed(0)
        subject = _flex_s(device) if preset == "flex-s" else _flex_1(device)
        decode = subject.decode
        if compiled:
            decode = torch.compile(decode, mode="reduce-overhead")
        low = torch.autocast("cuda", torch.bfloat16) if device == "cuda" else nullcontext()
        camera = Camera.orbit(20, 0, RENDER_SIZE).to(device)

        def show(decode=decode, subject=subject, camera=camera) -> None:
            render(decode(subject.code, subject.expression), camera)

        with torch.inference_mode(), low:
            yield time_work(f"{preset} encode", subject.encode, repeats)
            yield time_work(f"{preset} decode", lambda: decode(subject.code, subject.expression), repeats)  # noqa: B023
            yield time_work(f"{preset} decode + render {RENDER_SIZE} px", show, repeats)
        observation = FitObservation(
            image=torch.rand(3, FIT_SIZE, FIT_SIZE),
            matte=torch.ones(1, FIT_SIZE, FIT_SIZE),
            weight=torch.ones(1, FIT_SIZE, FIT_SIZE),
            camera=Camera.orbit(10, 0, FIT_SIZE),
            expression=subject.expression[0].cpu(),
        )

        def step(subject=subject, observation=observation) -> None:
            fit(subject.decode, subject.code, [observation], FitSettings(steps=1))

        yield time_work(f"{preset} fitting step {FIT_SIZE} px", step, repeats)


def benchmark_renderers(
    backends: Sequence[Renderer] | None = None,
    sizes: Sequence[int] = (256, 512),
    gaussians: int = 50_000,
    repeats: int = 5,
) -> Iterator[Timing]:
    """One image forward, and backward from rgb, alpha and depth; by default with every renderer but the reference."""
    if backends is None:
        backends = [backend for backend in available_backends() if backend != "reference"]
    for backend in backends:
        device = "cuda" if backend == "gsplat" else "cpu"
        subject = head_like_gaussians(gaussians, device)
        leaves = Gaussians(**{name: value.clone().requires_grad_() for name, value in vars(subject).items()})
        for size in sizes:
            camera = Camera.orbit(yaw=30, size=size, view_height=0.3, center=(0.0, 0.0, 0.0)).to(device)

            def forward(subject=subject, camera=camera, backend: Renderer = backend) -> None:
                with torch.no_grad():
                    render(subject, camera, backend=backend)

            picture = render(leaves, camera, backend=backend)
            images = [picture.rgb, picture.alpha, picture.depth]
            weights = [torch.ones_like(image) for image in images]

            def backward(images=images, weights=weights, leaves=leaves) -> None:
                torch.autograd.grad(images, list(vars(leaves).values()), weights, retain_graph=True)

            name = f"{backend} renderer {size} px, {gaussians} Gaussians"
            yield time_work(f"{name}: forward", forward, repeats)
            yield time_work(f"{name}: backward", backward, repeats)


def peak_memory() -> float:
    """The most memory that this process has held so far, GB; on CUDA, the most of the GPU's."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e9 if sys.platform == "darwin" else peak * 1024 / 1e9


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


@dataclass(frozen=True)
class _Subject:
    """A network with something to encode, an avatar code, and one expression."""

    encode: Callable[[], object]
    decode: Callable[[torch.Tensor, torch.Tensor], Gaussians]
    code: torch.Tensor
    expression: torch.Tensor  # [1, Z]


def _flex_s(device: str) -> _Subject:
    model = FlexS().to(device).freeze()
    anchors, size = len(model.rig.anchors), FLEX_S.image_size
    camera = Camera.orbit(0, 0, size)
    observation = FlexSObservation(
        images=torch.rand(1, 3, size, size, device=device),
        camera=Camera(camera.world_to_camera[None], camera.intrinsics[None], size, size).to(device),
        shells=torch.rand(1, SHELL_CHANNELS, 256, 256, device=device),
        shape=torch.zeros(1, len(model.rig.shape_basis), device=device),
        neutral_blendshapes=torch.zeros(1, len(ARKIT_BLENDSHAPES), device=device),
        colors=torch.rand(1, anchors, 3, device=device),
        opacities=torch.full((1, anchors), 0.98, device=device),
    )
    with torch.inference_mode():
        head = model.encode(observation)
    head = replace(head, **{f.name: getattr(head, f.name).clone() for f in fields(head)})
    expression = Expression.of("smile").code()[None].to(device)

    def decode(code: torch.Tensor, expressions: torch.Tensor) -> Gaussians:
        return model.decode(head.repeated(code, len(expressions)), Expression.from_code(expressions))

    return _Subject(lambda: model.encode(observation), decode, head.code.clone(), expression)


def _flex_1(device: str) -> _Subject:
    side = FLEX_1.gaussian_grid
    directions = torch.nn.functional.normalize(torch.randn(side * side, 3), dim=-1)
    anchors = TemplateAnchors(0.12 * directions[: FLEX_1.n_tokens], 0.12 * directions, 2 * torch.rand(side**2, 2) - 1)
    model = Flex1(FLEX_1, anchors).to(device).freeze()
    images = torch.rand(1, 1, 3, 512, 512, device=device)
    world = torch.eye(4, device=device).expand(1, 1, 4, 4)
    lens = torch.eye(3, device=device).expand(1, 1, 3, 3)
    features = torch.rand(1, 1, FLEX_1.encoder.feature_dim, 16, 16, device=device)
    code = torch.randn(FLEX_1.n_tokens, 1, FLEX_1.width, device=device)
    expression = torch.randn(1, FLEX_1.decoder.expression_dim, device=device)

    def decode(code: torch.Tensor, expressions: torch.Tensor) -> Gaussians:
        return model.decode(code, expressions[None])[0]

    return _Subject(lambda: model.encode(images, world, lens, features), decode, code, expression)


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
