"""Refining an avatar to its photos at their own resolution: residuals of single Gaussians, the network left alone.

Fitting the avatar code alone (`reconstruction.fit`, paper section 3.5) shows a person as well as the decoder can say.
Pores, lashes and strands of hair it cannot, so these are fitted to the Gaussians themselves: first a smooth deformation
of hair and clothes, then each Gaussian as freely as the photos show it. Gaussians never shrink below what covers the
surface.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from flexavatar.avatar import Avatar
from flexavatar.avatar.residuals import PER_GAUSSIAN, Residuals, between, changed
from flexavatar.expression import Expression, above_neutral
from flexavatar.gaussians import Gaussians
from flexavatar.progress import Progress
from flexavatar.reconstruction.alignment import Alignment
from flexavatar.reconstruction.creases import CreaseParams, creases_of
from flexavatar.reconstruction.deformation import DeformationParams, deform
from flexavatar.reconstruction.fit import batches, cosine
from flexavatar.reconstruction.freedom import (
    Freedom,
    FreedomParams,
    compared_pixels,
    freedom,
    hair_shares,
    loose_shares,
    unfolded_shares,
)
from flexavatar.reconstruction.hidden import HiddenParams, closed_lids, toned
from flexavatar.reconstruction.observation import FitObservation, observe_close_up, observe_face
from flexavatar.render import render
from flexavatar.rig.parts import parts
from flexavatar.rig.subdivision import subdivision
from flexavatar.settings import BLACK, to_device
from flexavatar.tracking import TrackedFace

COARSE, FINE = 256, 512  # pixels of the head's crop
RIM_MARGIN = -0.03  # of its height, below the rig's rim: so far clothes may be drawn to meet the photo's
# One step in three looks at the whole at half the size: else a head would be sharp close up and grainy from afar.
LEVELS = (FINE, COARSE, FINE)
LEVELS_CLOSE = (FINE, None, COARSE, None)  # None: the close-up of the face


@dataclass(frozen=True)
class RefineParams:
    """Steps, and learning rates at the first of them."""

    deform_steps: int = 30
    steps: int = 60
    offset_rate: float = 5e-2  # of the limit
    size_rate: float = 1e-2  # of the logarithm
    opacity_rate: float = 0.4  # of the logit
    color_rate: float = 4e-2  # 0..1
    matte_weight: float = 2.0
    min_alpha: float = 0.1  # of the rendering, from which a pixel's own colour is compared
    edges: float = 0.5  # weight of the differences between neighbouring pixels, beside 1 of the pixels themselves
    skin_limit: float = 0.002  # metres that a Gaussian of skin may move
    loose_limit: float = 0.008  # of ears and neck
    hair_limit: float = 0.014
    growth: float = 0.35  # logarithm of what it may grow by; it never shrinks
    smoothness: float = 0.1  # weight of differences of colour between neighbours; without it they alternate
    # Of the differences of offsets, in millimetres, of skin and hair: uneven skin ends in a comb at outlines.
    skin_evenness: float = 0.3
    hair_evenness: float = 0.02
    pull: tuple[float, float, float] = (0.002, 0.002, 0.0003)  # to no offset, colour, opacity
    sharpest: float = 8.0  # power of a view's freedom: how much the best view of a Gaussian outweighs the others
    others: float = 0.2  # freedom of other views beside that of the base, which they leave what it shows well
    freedom: FreedomParams = field(default_factory=FreedomParams)
    deformation: DeformationParams = field(default_factory=DeformationParams)
    hidden: HiddenParams = field(default_factory=HiddenParams)
    creases: CreaseParams = field(default_factory=CreaseParams)


@dataclass(frozen=True)
class _Seen:
    """One photo at every size it is compared at."""

    levels: tuple[FitObservation, ...]  # COARSE, FINE and, where there is one, the close-up
    expression: Expression  # without a batch

    def at(self, size: int | None) -> FitObservation:
        return self.levels[{COARSE: 0, FINE: 1, None: -1}[size]]

    def to(self, device: torch.device) -> _Seen:
        return _Seen(tuple(level.to(device) for level in self.levels), self.expression.to(device))

    def around(self, head: Gaussians) -> _Seen:
        """Without what neither the person nor the head covers: there is nothing to compare."""
        return replace(self, levels=tuple(level.around(render(head, level.camera).alpha) for level in self.levels))


def refine(
    avatar: Avatar,
    faces: Sequence[TrackedFace],
    base: int = 0,
    params: RefineParams = RefineParams(),
    progress: Progress | None = None,
) -> Residuals:
    """The residuals with which the avatar looks as in its photos; the light is that of `faces[base]`.

    Computed on the avatar's device, and returned on the CPU. The avatar's own residuals, if any, are left out of
    account. When `progress` stops the work, the rest of the steps is skipped.
    Raises ValueError without a photo.
    """
    if not faces:
        raise ValueError("There is nothing to refine an avatar with: pass at least one photo.")
    plain = replace(avatar, residuals=None)
    photos = [_see(face, avatar.neutral_blendshapes.cpu()).to(avatar.device) for face in faces]
    with torch.no_grad():
        neutral = plain.gaussians()
    hair = hair_shares(plain, neutral, params.freedom)
    step_done = _counter(params.deform_steps + params.steps, progress or Progress())
    with torch.no_grad():
        heads = [plain.gaussians(photo.expression) for photo in photos]
        photos = [photo.around(head) for photo, head in zip(photos, heads, strict=True)]
    first = [photo.at(COARSE) for photo in photos]
    alignment = Alignment(heads, first, base)
    loose = loose_shares(hair)
    rotations = [photo.expression.head_rotation for photo in photos]
    move = deform(heads, rotations, first, loose, alignment, params.deform_steps, params.deformation, step_done)
    with torch.no_grad():
        divided = subdivision(avatar.device)
        still = divided.apply(neutral)
        hanging = between(still, divided.apply(move(neutral, torch.eye(3, device=avatar.device))))
        starts = [changed(divided.apply(head), hanging) for head in heads]
    fine = _fit(plain, photos, starts, hair[divided.parent], loose[divided.parent], alignment, base, params, step_done)
    with torch.no_grad():
        made = changed(changed(still, hanging), fine.residuals)
        # What follows filters maps of the atlas with OpenCV.
        whole, still, made = to_device(between(still, made), "cpu"), still.to("cpu"), made.to("cpu")
        of_views, shape, neutral = fine.freedom.cpu(), avatar.shape.cpu(), avatar.neutral_blendshapes.cpu()
        seen = of_views.amax(0)
        hidden = toned(still.colors, made.colors, seen, hair.cpu(), params.hidden)
        colors = torch.lerp(hidden, whole.colors, seen[:, None])
        painted = (still.colors + colors).clamp(0, 1)
        lids = closed_lids(painted, seen, params.hidden)
        worn_by = photos[base].expression.blendshapes.cpu()
        creases, worn = creases_of(shape, neutral, worn_by, painted, of_views[base], params.creases)
        return replace(whole, colors=colors, lids=lids, creases=creases, worn=worn)


def unrefined_residuals(avatar: Avatar) -> Residuals:
    """Residuals that change nothing but lids, which take their skin from around the eyes; the face is divided.

    On the CPU, wherever the avatar decodes.
    """
    with torch.no_grad():
        colors = subdivision().apply(avatar.unrefined().to("cpu")).colors
        nothing = Residuals.none(len(colors))
        return replace(nothing, lids=closed_lids(colors, torch.zeros_like(colors[:, 0])))


@dataclass(frozen=True)
class _Fine:
    residuals: Residuals  # [S]
    freedom: Tensor  # [V, S] of colours in each view


def _fit(
    avatar: Avatar,
    photos: Sequence[_Seen],
    starts: Sequence[Gaussians],
    hair: Tensor,
    loose: Tensor,
    alignment: Alignment,
    base: int,
    params: RefineParams,
    step_done: Callable[[], bool],
) -> _Fine:
    free = [
        freedom(
            start, hair, loose, unfolded_shares(avatar, photo.expression.blendshapes), photo.at(FINE), params.freedom
        )
        for photo, start in zip(photos, starts, strict=True)
    ]
    colors, places = (torch.stack([getattr(one, name) for one in free]) for name in ("colors", "places"))
    drawn = torch.stack([one.drawn for one in free]).any(0)
    learned = _Learned(Freedom(colors.amax(0), places.amax(0), drawn), hair, loose, params)
    index = learned.index
    starts = [start.select(index) for start in starts]
    of_base = torch.arange(len(colors), device=avatar.device) == base
    votes = colors * torch.where(of_base, 1.0, params.others)[:, None]
    gates = [((vote / votes.amax(0).clamp_min(1e-6)) ** params.sharpest)[index] for vote in votes]
    compared = [{level: compared_pixels(photo.at(level)) for level in LEVELS_CLOSE} for photo in photos]
    optimiser = torch.optim.Adam(learned.groups() + alignment.groups(), betas=(0.9, 0.99), eps=1e-8)
    schedule = cosine(optimiser, params.steps)
    order = batches(len(photos), 1)
    for step in range(params.steps):
        (number,) = next(order)
        photo = photos[number]
        levels = LEVELS_CLOSE if len(photo.levels) > 2 else LEVELS
        level = levels[(step // len(photos)) % len(levels)]
        view = photo.at(level)
        by = learned.residuals(gates[number] if len(photos) > 1 else None)
        picture = render(alignment.aligned(changed(starts[number], by), number), view.camera, BLACK)
        # Of composites, Gaussians at dark outlines turn white to make up for an opacity that is wrong.
        wrong = (picture.own_colors(params.min_alpha) - alignment.toned(view.image, number)) * compared[number][level]
        loss = wrong.abs().mean() + params.matte_weight * ((picture.alpha - view.matte) * view.weight).abs().mean()
        loss = loss + params.edges * (wrong.diff(dim=1).abs().mean() + wrong.diff(dim=2).abs().mean())
        optimiser.zero_grad()
        (loss + learned.penalty(by) + alignment.pull()).backward()
        optimiser.step()
        schedule.step()
        if not step_done():
            break
    return _Fine(learned.whole(), colors)


class _Learned:
    """The residuals of those of S Gaussians that some view draws."""

    def __init__(self, free: Freedom, hair: Tensor, loose: Tensor, params: RefineParams) -> None:
        device = hair.device
        divided = subdivision(device)
        self.index = free.drawn.nonzero()[:, 0]
        self._count, self._params = len(free.drawn), params
        self._colors, self._places = free.colors[self.index, None], free.places[self.index, None]
        # Skin is never seen through.
        solid = (parts(device).face[divided.parent] * (1 - hair))[self.index]
        self._fading = self._places[:, 0] * (1 - solid)
        limit = _mixed(_mixed(params.skin_limit, params.loose_limit, loose), params.hair_limit, hair)
        self._limit = limit[self.index, None]
        place = torch.full((self._count,), -1, device=device)
        place[self.index] = torch.arange(len(self.index), device=device)
        pairs = place[divided.pairs]
        self._pairs = pairs[(pairs >= 0).all(1)]
        self._evenness = _mixed(params.skin_evenness, params.hair_evenness, hair[self.index][self._pairs].amin(1))
        zeros = [torch.zeros(len(self.index), n, device=device) for n in (3, 3, 1, 3)]
        self._raw = [values.squeeze(1).requires_grad_() for values in zeros]

    def groups(self) -> list[dict]:
        p = self._params
        rates = (p.offset_rate, p.size_rate, p.opacity_rate, p.color_rate)
        return [{"params": [raw], "lr": rate} for raw, rate in zip(self._raw, rates, strict=True)]

    def residuals(self, gate: Tensor | None = None) -> Residuals:
        """Those of the index; with a gate [N] in 0..1 only that share of the gradients reaches each of them."""
        raw = self._raw
        if gate is not None:
            raw = [_gated(values, gate if values.ndim == 1 else gate[:, None]) for values in raw]
        offsets, sizes, opacities, colors = raw
        return Residuals(
            self._limit * torch.tanh(offsets) * self._places,
            (sizes * self._places).clamp(0, self._params.growth),
            opacities * self._fading,
            colors * self._colors,
            colors[:0],
        )

    def penalty(self, by: Residuals) -> Tensor:
        p = self._params
        a, b = self._pairs.unbind(-1)
        rough = (by.colors[a] - by.colors[b]).square().mean()
        uneven = (((by.offsets[a] - by.offsets[b]) * 1000).square().mean(1) * self._evenness).mean()
        pulls = (self._raw[0], by.colors, by.opacities)
        pull = sum((w * values.square().mean() for w, values in zip(p.pull, pulls, strict=True)), torch.zeros(()))
        return p.smoothness * rough + uneven + pull

    def whole(self) -> Residuals:
        """All S of them."""
        with torch.no_grad():
            own = self.residuals()
            place = lambda values: values.new_zeros(self._count, *values.shape[1:]).index_copy_(0, self.index, values)  # noqa: E731
            return replace(own, **{name: place(getattr(own, name)) for name in PER_GAUSSIAN})


def _mixed(a: Tensor | float, b: float, share: Tensor) -> Tensor:
    return a * (1 - share) + b * share


def _gated(values: Tensor, gate: Tensor) -> Tensor:
    still = values.detach()
    return still + (values - still) * gate


def _see(face: TrackedFace, neutral: Tensor) -> _Seen:
    levels = [observe_face(face, neutral, size, RIM_MARGIN) for size in (COARSE, FINE)]
    close = observe_close_up(face, neutral)
    expression = Expression(above_neutral(face.blendshapes, neutral), face.head_rotation)
    return _Seen((*levels, *([] if close is None else [close])), expression)


def _counter(total: int, progress: Progress) -> Callable[[], bool]:
    """Counts steps; says after each whether to go on."""
    done = 0

    def step_done() -> bool:
        nonlocal done
        done += 1
        return progress("fitting", done / total)

    return step_done
