"""How freely a photo may change each Gaussian: as far as it shows it well."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from flexavatar.avatar import Avatar
from flexavatar.expression import Expression, with_neutral
from flexavatar.gaussians import Gaussians
from flexavatar.reconstruction.observation import FitObservation
from flexavatar.render import render
from flexavatar.rig import Rig
from flexavatar.rig.anchors import SPREAD, outward_normals
from flexavatar.rig.parts import MIN_AREA, parts
from flexavatar.rig.regions import smooth_step
from flexavatar.rig.subdivision import subdivision


@dataclass(frozen=True)
class FreedomParams:
    """Between the two values of a pair freedom goes from none to full."""

    skin: tuple[float, float] = (0.25, 0.6)  # share of its own area that a picture shows of a Gaussian: grazing streaks
    hair: tuple[float, float] = (0.005, 0.05)
    # The same, background counted: outlines of ears and neck may move, those of hair and clothes far more.
    skin_edge: tuple[float, float] = (0.002, 0.03)
    hair_edge: tuple[float, float] = (0.0005, 0.01)
    unfolded: tuple[float, float] = (0.25, 0.6)  # share of its open area that the expression leaves to a texel
    person: float = 0.02  # of the matte, from which a pixel says something of outlines
    drawn: float = 1e-3  # pixels from which a Gaussian is part of the picture
    raised: tuple[float, float] = (0.001, 0.004)  # metres off the rig from which something is no skin
    # The same in the face, where skin, too, may lie beside the rig, and only what stands out is a beard or a fringe.
    raised_face: tuple[float, float] = (0.004, 0.009)


@dataclass(frozen=True)
class Freedom:
    """Of the S Gaussians of a head in one view, 0..1."""

    colors: Tensor  # [S]
    places: Tensor  # [S] offsets, sizes and opacities
    drawn: Tensor  # [S] bool: they leave something in the picture


def hair_shares(avatar: Avatar, neutral: Gaussians, params: FreedomParams = FreedomParams()) -> Tensor:
    """How far each texel [G] is hair or clothes, 0..1: what grows or hangs, or stands off the rig.

    neutral [G]: the avatar without an expression and without residuals.
    """
    rig, masks = Rig.load(device=avatar.device), parts(avatar.device)
    frames = rig.anchors.frames(rig.pose(avatar.shape, avatar.neutral_blendshapes))
    away = neutral.means - frames.means
    out = (away * outward_normals(frames.quats)).sum(-1)
    raised = torch.lerp(_between(away.norm(dim=-1), params.raised), _between(out, params.raised_face), masks.face)
    return torch.maximum(raised, torch.maximum(masks.scalp, masks.torso)) * masks.outside


def _between(values: Tensor, limits: tuple[float, float]) -> Tensor:
    return ((values - limits[0]) / (limits[1] - limits[0])).clamp(0, 1)


def loose_shares(hair: Tensor) -> Tensor:
    """How far outlines may move each texel [G]: hair and clothes, ears and neck, but not the face, which is tracked."""
    masks = parts(hair.device)
    return torch.maximum(hair, (1 - masks.core) * masks.outside)


def freedom(
    gaussians: Gaussians,
    hair: Tensor,
    loose: Tensor,
    unfolded: Tensor,
    view: FitObservation,
    params: FreedomParams = FreedomParams(),
) -> Freedom:
    """How freely one view may change Gaussians [S], by how well it shows them.

    hair, loose and unfolded [S] are `hair_shares` and `loose_shares` at the Gaussians, and `unfolded_shares`.
    """
    inside = compared_pixels(view)
    around = view.weight * (view.matte > params.person)
    of_colors, of_places, of_all = _amounts(gaussians, view, (inside, around, torch.ones_like(inside)))
    area = _face_on_area(gaussians, view)
    skin = smooth_step(of_colors / area, *params.skin) * smooth_step(unfolded, *params.unfolded)
    free = torch.lerp(skin, smooth_step(of_colors / area, *params.hair), hair)
    of_skin, of_hair = (smooth_step(of_places / area, *edge) for edge in (params.skin_edge, params.hair_edge))
    places = torch.maximum(torch.lerp(of_skin, of_hair, hair) * loose, free)
    return Freedom(free, places, of_all > params.drawn)


def unfolded_shares(avatar: Avatar, blendshapes: Tensor) -> Tensor:
    """Area [S] that a texel has with blendshapes [52], relative to what it has with eyes open, closed, or now."""
    rig = Rig.load(device=avatar.device)
    others = [Expression.of(name).blendshapes.to(avatar.device) for name in ("neutral", "blink")]
    faces = torch.stack([blendshapes, *others])
    areas = rig.anchors.areas(rig.pose(avatar.shape, with_neutral(faces, avatar.neutral_blendshapes)))
    return (areas[0] / areas.amax(0).clamp_min(MIN_AREA))[subdivision(avatar.device).parent]


def compared_pixels(view: FitObservation) -> Tensor:
    """Weight [1, H, W] of the pixels of a view, as far as they are the person's."""
    return view.weight * view.matte


def _amounts(gaussians: Gaussians, view: FitObservation, weights: tuple[Tensor, ...]) -> list[Tensor]:
    """Pixels [S] that each Gaussian makes up of the picture, with each of the weights [1, H, W] of its pixels."""
    # Three weights at once, since a colour has three channels: the derivative of a picture by a colour is how much of
    # the picture has that colour.
    colors = gaussians.colors.clone().requires_grad_()
    with torch.enable_grad():
        picture = render(replace(gaussians, colors=colors), view.camera)
        (amount,) = torch.autograd.grad((picture.rgb * torch.cat(weights)).sum(), colors)
    return list(amount.unbind(-1))


def _face_on_area(gaussians: Gaussians, view: FitObservation) -> Tensor:
    """Pixels [S] of a texel's place on the surface, if it looked straight into the camera."""
    depth = view.camera.project(gaussians.means)[1].clamp_min(1e-3)
    size = gaussians.scales.sort(-1, descending=True).values / SPREAD
    return size[:, 0] * size[:, 1] * (view.camera.intrinsics[0, 0] / depth).square()
