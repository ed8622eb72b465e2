"""Fitting an avatar code to the observations at hand, the decoder frozen (paper section 3.5, Eq. 22-24)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from flexavatar.camera import HEAD_CENTER, Camera
from flexavatar.expression import Expression
from flexavatar.fitting.losses import PerceptualTerm, PhotometricWeights, l1, photometric_loss
from flexavatar.fitting.observation import FitObservation
from flexavatar.gaussians import Gaussians, quaternion_product
from flexavatar.model.flex_s import EncodedHead, FlexS
from flexavatar.render import render
from flexavatar.rig.anchors import quaternions

EDGE = 100  # part of the picture that the edge of a person is wide
MOST_STARTS = 32  # observations: of a long video not every frame's Gaussians can be kept
FAR = 0.02  # metres: as great a change of a Gaussian as another colour or opacity
SHOWN = 0.1  # pixels of a picture that a Gaussian has to make up to count as seen
SHRINKAGE = 4.0  # of corrections to colours, beside gradients of about 1


class DecodeCode(Protocol):
    """A frozen decoder with the multi-view bias sink."""

    def __call__(self, code: Tensor, expressions: Tensor, /) -> Gaussians:
        """An avatar code and expression codes [B, Z] -> Gaussians [B, G]."""
        ...


@dataclass(frozen=True)
class FitSettings:
    """How to fit. The learning rates of offsets are 0 where these are not fitted."""

    steps: int = 100
    learning_rate: float = 1e-2  # of the code, at the start of the cosine
    expression_rate: float = 0.0  # of an offset to each observation's expression code
    camera_rate: float = 0.0  # radians, and tenths of metres, of a rigid correction to each observation's camera
    color_rate: float = 0.0  # 0..1, of a correction to the colour of each Gaussian
    views_per_step: int = 1
    weights: PhotometricWeights = field(default_factory=PhotometricWeights)
    prior_weight: float = 0.0  # of the changes of Gaussians that no observation shows; above 0 outlines stay, too
    matte_weight: float = 0.5  # of the L1 distance between the rendered opacity and the matte
    patience: int = 30  # steps without progress after which to stop
    least_gain: float = 0.003  # share of the loss that counts as progress
    seed: int = 0


@dataclass(frozen=True)
class FitResult:
    """The best code that was met, and how the fit went."""

    code: Tensor  # as the start
    expression_offsets: Tensor  # [N, Z], added to the expression codes of the N observations
    motions: Tensor  # [N, 6] rotation vector (radians) and translation (metres) of the head about its centre
    corrections: Tensor  # [1, G, 3] to the decoded colours; [1, 1, 3] zeros where these are not fitted
    losses: tuple[float, ...]  # of each step, before it was taken
    best_step: int
    stopped: Literal["finished", "flat", "cancelled"]


def fit(
    decode: DecodeCode,
    code: Tensor,
    observations: Sequence[FitObservation],
    settings: FitSettings = FitSettings(),
    perceptual: Sequence[PerceptualTerm] = (),
    progress: Callable[[int, float], object] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> FitResult:
    """Minimise the photometric loss over the code, and over what else has a learning rate.

    All observations share an image size. `progress(step, loss)` is called after every step; when `cancelled()` says
    so, the best code so far is returned. With the same seed and machine the result is the same.

    Raises ValueError without observations or steps.
    """
    if not observations:
        raise ValueError("There is nothing to fit to: pass at least one observation.")
    if settings.steps < 1:
        raise ValueError(f"A fit needs at least one step, not {settings.steps}.")
    observations = [observation.to(code.device) for observation in observations]
    count = len(observations)
    code = code.detach().clone()
    offsets = torch.zeros(count, len(observations[0].expression), device=code.device)
    motions = torch.zeros(count, 6, device=code.device)
    corrections = torch.zeros(1, 1, 3, device=code.device)
    learned = [(code, settings.learning_rate), (offsets, settings.expression_rate), (motions, settings.camera_rate)]
    groups = [{"params": [tensor.requires_grad_()], "lr": rate} for tensor, rate in learned if rate > 0]
    if settings.color_rate > 0:
        with torch.no_grad():
            corrections = torch.zeros_like(decode(code, observations[0].expression[None]).colors)
        # Adam's steps are of one size however small a gradient is: what the views hardly show would turn colourful.
        # So gradients are brought to about 1 where there are any, and `eps` stops those far below.
        corrections.requires_grad_().register_hook(_Scaled())
        groups.append({"params": [corrections], "lr": settings.color_rate, "eps": 1.0, "weight_decay": SHRINKAGE})
    optimiser = torch.optim.Adam(groups)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.steps)
    batches = _batches(count, min(settings.views_per_step, count), settings.seed)
    # One step of many views says little about the code, so steps are averaged over two rounds of all views.
    in_a_round = math.ceil(count / min(settings.views_per_step, count))
    window = min(2 * in_a_round, max(settings.steps // 2, 1))

    starts = _starts(decode, code, observations if settings.prior_weight > 0 else ())
    losses: list[float] = []
    learnable = (code, offsets, motions, corrections)
    best = _snapshot(learnable, math.inf, 0)
    progressed, stopped = (0, math.inf), "finished"
    for step in range(settings.steps):
        chosen = next(batches)
        # Before a single colour a head would turn into it where it should be transparent.
        background = torch.full((3,), float((step + step // in_a_round) % 2), device=code.device)
        loss = _loss(decode, *learnable, observations, chosen, background, settings, perceptual, starts)
        losses.append(loss.item())
        if len(losses) >= window:
            recent = sum(losses[-window:]) / window
            if recent < best.loss:
                best = _snapshot(learnable, recent, step)
            if recent < progressed[1] * (1 - settings.least_gain):
                progressed = (step, recent)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if progress is not None:
            progress(step + 1, losses[-1])
        if cancelled is not None and cancelled():
            stopped = "cancelled"
            break
        if step - progressed[0] >= max(settings.patience, window):
            stopped = "flat"
            break
    if best.loss == math.inf:  # stopped before there was anything to compare
        best = _snapshot(learnable, losses[-1], len(losses) - 1)
    return FitResult(*best.learned, tuple(losses), best.step, stopped)


def fit_head(
    model: FlexS,
    head: EncodedHead,
    observations: Sequence[FitObservation],
    settings: FitSettings = FitSettings(),
    perceptual: Sequence[PerceptualTerm] = (),
    progress: Callable[[int, float], object] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> tuple[EncodedHead, FitResult]:
    """`fit` for one person (a batch of 1) of flex-s; the model's parameters must not ask for gradients."""

    def decode(code: Tensor, expressions: Tensor) -> Gaussians:
        expression = Expression.from_code(expressions)
        # An offset must not leave what a face can do.
        expression = replace(expression, blendshapes=expression.blendshapes.clamp(0, 1))
        return model.decode(head.repeated(code, len(expressions)), expression)

    result = fit(decode, head.code, observations, settings, perceptual, progress, cancelled)
    return replace(head, code=result.code, corrections=head.corrections + result.corrections), result


class _Scaled:
    """Gradients divided by the root mean square, over the Gaussians that have one, of the first."""

    def __init__(self) -> None:
        self.scale: Tensor | None = None

    def __call__(self, gradient: Tensor) -> Tensor:
        if self.scale is None:
            seen = gradient.abs().sum(-1) > 0
            self.scale = gradient[seen].square().mean().sqrt() if seen.any() else gradient.new_tensor(1.0)
        return gradient / self.scale


@dataclass(frozen=True)
class _Best:
    """What was learned at the lowest loss so far."""

    learned: tuple[Tensor, Tensor, Tensor, Tensor]  # code, offsets, motions, corrections
    loss: float
    step: int


def _snapshot(learned: Sequence[Tensor], loss: float, step: int) -> _Best:
    code, offsets, motions, corrections = (tensor.detach().clone() for tensor in learned)
    return _Best((code, offsets, motions, corrections), loss, step)


def _batches(count: int, size: int, seed: int):
    """Endless batches of indices; every observation comes once a round."""
    generator = torch.Generator().manual_seed(seed)
    queue: list[int] = []
    while True:
        while len(queue) < size:
            queue += torch.randperm(count, generator=generator).tolist()
        batch, queue = queue[:size], queue[size:]
        yield batch


def _loss(
    decode: DecodeCode,
    code: Tensor,
    offsets: Tensor,
    motions: Tensor,
    corrections: Tensor,
    observations: Sequence[FitObservation],
    chosen: Sequence[int],
    background: Tensor,
    settings: FitSettings,
    perceptual: Sequence[PerceptualTerm],
    starts: _Starts,
) -> Tensor:
    views = [observations[index] for index in chosen]
    expressions = torch.stack([view.expression for view in views]) + offsets[chosen]
    decoded = decode(code, expressions)
    gaussians = moved(decoded, motions[chosen])
    gaussians = replace(gaussians, colors=(gaussians.colors + corrections).clamp(0, 1))
    picture = render(gaussians, Camera.stack([view.camera for view in views]), background)
    image, matte, weight = (
        torch.stack([getattr(view, name) for view in views]) for name in ("image", "matte", "weight")
    )
    target = image * matte + background[:, None, None] * (1 - matte)
    # Elsewhere the target is the rendering itself: what reaches beyond the person has to become transparent there,
    # not to take the background's colour.
    compared = weight * _inside(matte)
    shown = picture.rgb * compared + target * (1 - compared)
    loss = photometric_loss(shown, target, settings.weights, perceptual)
    unknown = starts.alphas(chosen, picture.alpha)
    loss = loss + settings.matte_weight * l1(picture.alpha, matte * weight + unknown * (1 - weight))
    return loss + settings.prior_weight * starts.left_by(decoded, chosen)


@dataclass(frozen=True)
class _Starts:
    """What was decoded before fitting, for the expressions of some of the observations."""

    gaussians: dict[int, Gaussians]  # [G], by the observation's index
    drawn: dict[int, Tensor]  # [1, H, W] their opacity in the observation's picture
    unseen: Tensor  # [G] 1 for Gaussians that none of them shows, 0 for those that one shows well

    def alphas(self, chosen: Sequence[int], others: Tensor) -> Tensor:
        """Opacities [B, 1, H, W] of the chosen observations at the start; `others` for those that are not known."""
        return torch.stack([self.drawn.get(index, others[i]) for i, index in enumerate(chosen)])

    def left_by(self, now: Gaussians, chosen: Sequence[int]) -> Tensor:
        """How far Gaussians [B, G] of the chosen observations that nobody sees have come from where they were."""
        total = self.unseen.new_zeros(())
        for i, index in enumerate(chosen):
            if index in self.gaussians:
                before, after = self.gaussians[index], now[i]
                change = (after.means - before.means).abs().sum(-1) / FAR
                change = change + (after.colors - before.colors).abs().mean(-1)
                change = change + (after.opacities - before.opacities).abs()
                change = change + (after.scales / before.scales).log().abs().mean(-1)
                total = total + (change * self.unseen).mean() / 4
        return total / len(chosen)


def _starts(decode: DecodeCode, code: Tensor, observations: Sequence[FitObservation]) -> _Starts:
    """Decoded for up to MOST_STARTS of the observations, evenly spread; without any, nothing is held."""
    count = len(observations)
    decoded: dict[int, Gaussians] = {}
    drawn: dict[int, Tensor] = {}
    shown = torch.zeros((), device=code.device)
    for index in torch.linspace(0, count - 1, min(count, MOST_STARTS)).round().int().tolist():
        view = observations[index]
        with torch.no_grad():
            gaussians = decode(code, view.expression[None])
        decoded[index] = gaussians[0]
        # The derivative of a picture by a colour is how much of the picture has that colour.
        colors = gaussians.colors.clone().requires_grad_()
        picture = render(replace(gaussians, colors=colors), Camera.stack([view.camera]))
        drawn[index] = picture.alpha[0].detach()
        (amount,) = torch.autograd.grad((picture.rgb * view.weight).sum(), colors)
        shown = shown + amount[0, :, 0]
    return _Starts(decoded, drawn, (1 - shown / SHOWN).clamp(0, 1))


def _inside(mattes: Tensor) -> Tensor:
    """Pixels [N, 1, H, W] of the person that are not at their edge, where colours are uncertain."""
    reach = mattes.shape[-1] // EDGE
    return -F.max_pool2d(-mattes, 2 * reach + 1, 1, reach) > 0.9


def moved(gaussians: Gaussians, motions: Tensor) -> Gaussians:
    """Gaussians [B, G] turned and shifted about the head's centre by motions [B, 6] (radians, metres)."""
    if not motions.requires_grad and not motions.any():
        return gaussians
    x, y, z = motions[:, :3].unbind(-1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    rotation = torch.linalg.matrix_exp(skew)
    center = motions.new_tensor(HEAD_CENTER)
    return replace(
        gaussians,
        means=(gaussians.means - center) @ rotation.mT + center + motions[:, None, 3:],
        quats=quaternion_product(quaternions(rotation)[:, None], gaussians.quats),
    )
