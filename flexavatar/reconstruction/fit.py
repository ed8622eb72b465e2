"""Fitting an avatar code to the observations at hand, the decoder frozen (paper section 3.5, Eq. 22-24)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from flexavatar.camera import Camera
from flexavatar.gaussians import Gaussians
from flexavatar.metrics import PerceptualTerm, PhotometricWeights, l1, photometric_loss
from flexavatar.progress import Progress
from flexavatar.reconstruction.observation import FitObservation
from flexavatar.render import render


class DecodeCode(Protocol):
    """A frozen decoder with the multi-view bias sink."""

    def __call__(self, code: Tensor, expressions: Tensor, /) -> Gaussians:
        """An avatar code and expression codes [B, Z] -> Gaussians [B, G]."""
        ...


@dataclass(frozen=True)
class FitSettings:
    """Steps, learning rate, weights of the loss (Eq. 22-24) and the end of a fit."""

    steps: int = 100
    learning_rate: float = 1e-2  # of the code, at the start of the cosine
    views_per_step: int = 1
    weights: PhotometricWeights = field(default_factory=PhotometricWeights)
    matte_weight: float = 0.5  # of the L1 distance between the rendered opacity and the matte
    patience: int = 30  # steps without progress after which to stop
    least_gain: float = 0.003  # share of the loss that counts as progress
    edge: float = 0.01  # share of the picture that the edge of a person is wide
    seed: int = 0


@dataclass(frozen=True)
class FitResult:
    """The best code that was met, and how the fit went."""

    code: Tensor  # as the start
    losses: tuple[float, ...]  # of each step, before it was taken
    best_step: int
    stopped: Literal["finished", "flat", "cancelled"]


def fit(
    decode: DecodeCode,
    code: Tensor,
    observations: Sequence[FitObservation],
    settings: FitSettings = FitSettings(),
    perceptual: Sequence[PerceptualTerm] = (),
    progress: Progress | None = None,
) -> FitResult:
    """Minimise the photometric loss over the code.

    All observations share an image size. When `progress`, which hears of every step, stops the work, the best code so
    far is returned. With the same seed and machine the result is the same.

    Raises ValueError without observations or steps.
    """
    if not observations:
        raise ValueError("There is nothing to fit to: pass at least one observation.")
    if settings.steps < 1:
        raise ValueError(f"A fit needs at least one step, not {settings.steps}.")
    observations = [observation.to(code.device) for observation in observations]
    count = len(observations)
    code = code.detach().clone().requires_grad_()
    optimiser = torch.optim.Adam([code], settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.steps)
    order = batches(count, min(settings.views_per_step, count), settings.seed)
    # One step of many views says little about the code, so steps are averaged over two rounds of all views.
    in_a_round = math.ceil(count / min(settings.views_per_step, count))
    window = min(2 * in_a_round, max(settings.steps // 2, 1))

    losses: list[float] = []
    best = _Best(code.detach().clone(), math.inf, 0)
    progressed, stopped = (0, math.inf), "finished"
    for step in range(settings.steps):
        chosen = next(order)
        # Before a single colour a head would turn into it where it should be transparent.
        background = torch.full((3,), float((step + step // in_a_round) % 2), device=code.device)
        loss = _loss(decode, code, observations, chosen, background, settings, perceptual)
        losses.append(loss.item())
        if len(losses) >= window:
            recent = sum(losses[-window:]) / window
            if recent < best.loss:
                best = _Best(code.detach().clone(), recent, step)
            if recent < progressed[1] * (1 - settings.least_gain):
                progressed = (step, recent)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if progress is not None and not progress("fitting", (step + 1) / settings.steps):
            stopped = "cancelled"
            break
        if step - progressed[0] >= max(settings.patience, window):
            stopped = "flat"
            break
    if best.loss == math.inf:  # stopped before there was anything to compare
        best = _Best(code.detach().clone(), losses[-1], len(losses) - 1)
    return FitResult(best.code, tuple(losses), best.step, stopped)


@dataclass(frozen=True)
class _Best:
    """The code at the lowest loss so far."""

    code: Tensor
    loss: float
    step: int


def _loss(
    decode: DecodeCode,
    code: Tensor,
    observations: Sequence[FitObservation],
    chosen: Sequence[int],
    background: Tensor,
    settings: FitSettings,
    perceptual: Sequence[PerceptualTerm],
) -> Tensor:
    views = [observations[index] for index in chosen]
    gaussians = decode(code, torch.stack([view.expression for view in views]))
    picture = render(gaussians, Camera.stack([view.camera for view in views]), background)
    image, matte, weight = (
        torch.stack([getattr(view, name) for view in views]) for name in ("image", "matte", "weight")
    )
    target = image * matte + background[:, None, None] * (1 - matte)
    # Elsewhere the target is the rendering itself: what reaches beyond the person has to become transparent there,
    # not to take the background's colour.
    compared = weight * _inside(matte, settings.edge)
    shown = picture.rgb * compared + target * (1 - compared)
    loss = photometric_loss(shown, target, settings.weights, perceptual)
    return loss + settings.matte_weight * l1(picture.alpha * weight, matte * weight)


def _inside(mattes: Tensor, edge: float) -> Tensor:
    """Pixels [N, 1, H, W] of the person that are not at their edge, where colours are uncertain."""
    reach = int(mattes.shape[-1] * edge)
    return -F.max_pool2d(-mattes, 2 * reach + 1, 1, reach) > 0.9


def cosine(optimiser: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    """A schedule of learning rates that fall along half a cosine to a tenth within `steps` steps."""
    share = lambda step: 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * min(step / max(steps, 1), 1)))  # noqa: E731
    return torch.optim.lr_scheduler.LambdaLR(optimiser, share)


def batches(count: int, size: int, seed: int = 0) -> Iterator[list[int]]:
    """Endless batches of indices below `count`; each index comes once a round."""
    generator = torch.Generator().manual_seed(seed)
    queue: list[int] = []
    while True:
        while len(queue) < size:
            queue += torch.randperm(count, generator=generator).tolist()
        batch, queue = queue[:size], queue[size:]
        yield batch
