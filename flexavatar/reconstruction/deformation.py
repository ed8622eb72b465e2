"""What hangs together moves together: a smooth deformation of hair and clothes until their outlines are the photos'."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from flexavatar.avatar.residuals import faded
from flexavatar.gaussians import Gaussians
from flexavatar.reconstruction.alignment import Alignment
from flexavatar.reconstruction.fit import batches, cosine
from flexavatar.reconstruction.freedom import compared_pixels
from flexavatar.reconstruction.observation import FitObservation
from flexavatar.render import render
from flexavatar.rig import Rig
from flexavatar.rig.anchors import ATLAS_SIZE
from flexavatar.rig.maps import covering


@dataclass(frozen=True)
class DeformationParams:
    """How far and how smoothly hair and clothes may move; rates are those of the first step."""

    cell: int = 4  # texels between the knots of the deformation
    place_rate: float = 2.5e-3  # metres
    opacity_rate: float = 0.02  # of the logit
    color_rate: float = 0.03  # 0..1
    size_rate: float = 0.03  # of the logarithm
    color_weight: float = 1.6
    matte_weight: float = 2.0
    smoothness: tuple[float, float, float, float] = (0.03, 0.003, 0.03, 0.003)  # places in cm, opacity, colour, size
    # Of places in cm and opacities to where they were. Less draws the sides of a head out into tufts, of which the
    # photo's own view says nothing.
    pull: tuple[float, float] = (0.03, 0.002)
    sizes: tuple[float, float] = (-0.3, 0.7)  # limits of the logarithm
    cover: float = 3.0  # times its size: how far a Gaussian may grow to close what the deformation opens


def deform(
    heads: Sequence[Gaussians],
    rotations: Sequence[Tensor],
    views: Sequence[FitObservation],
    loose: Tensor,
    alignment: Alignment,
    steps: int,
    params: DeformationParams = DeformationParams(),
    step_done: Callable[[], bool] = lambda: True,
) -> Callable[[Gaussians, Tensor], Gaussians]:
    """Fit a smooth deformation of texels [G], as far as they are `loose` [G] 0..1, to the views.

    `heads` are the Gaussians [G] in the expression and head rotation (`rotations` [3, 3]) of each view. `step_done` is
    called after each step and returns whether to go on. Returns a function that applies the deformation to Gaussians
    [G] with a head rotation [3, 3].
    """
    rig = Rig.load(device=loose.device)
    field = _Field(rig.atlas.valid, loose, params)
    torso = rig.anchors.interpolate(rig.torso_weights[:, None])
    groups = [{"params": [knots], "lr": rate} for knots, rate in field.learned()] + alignment.groups()
    optimiser = torch.optim.Adam(groups, betas=(0.8, 0.95), eps=1e-12)
    schedule = cosine(optimiser, steps)
    order = batches(len(views), 1)
    compared = [compared_pixels(view) for view in views]
    for step in range(steps):
        (index,) = next(order)
        view = views[index]
        changed = field.apply(heads[index], rotations[index], torso)
        background = torch.full((3,), float((step + step // len(views)) % 2), device=loose.device)
        picture = render(alignment.aligned(changed, index), view.camera, background)
        target = alignment.toned(view.image, index) * view.matte + background[:, None, None] * (1 - view.matte)
        loss = params.color_weight * ((picture.rgb - target) * compared[index]).abs().mean()
        loss = loss + params.matte_weight * ((picture.alpha - view.matte) * view.weight).abs().mean()
        optimiser.zero_grad()
        (loss + field.roughness() + alignment.pull()).backward()
        optimiser.step()
        schedule.step()
        if not step_done():
            break

    def deformed(gaussians: Gaussians, rotation: Tensor) -> Gaussians:
        with torch.no_grad():
            made = field.apply(gaussians, rotation, torso)
            wide = torch.minimum(covering(made.means[None], rig.atlas.valid)[0], params.cover * gaussians.scales)
            return replace(made, scales=torch.maximum(made.scales, wide * loose[:, None]))

    return deformed


class _Field:
    """Changes at knots over the atlas, bilinear between them."""

    def __init__(self, valid: Tensor, loose: Tensor, params: DeformationParams) -> None:
        count = ATLAS_SIZE // params.cell
        row, column = valid.nonzero().unbind(-1)
        self.params, self.loose = params, loose[:, None]
        self.uvs = (torch.stack([column, row], -1) + 0.5) / ATLAS_SIZE * 2 - 1
        self.places, self.opacities, self.colors, self.sizes = (
            torch.zeros(channels, count, count, device=loose.device, requires_grad=True) for channels in (3, 1, 3, 1)
        )

    def learned(self) -> list[tuple[Tensor, float]]:
        p = self.params
        rates = (p.place_rate, p.opacity_rate, p.color_rate, p.size_rate)
        return list(zip((self.places, self.opacities, self.colors, self.sizes), rates, strict=True))

    def _at(self, knots: Tensor) -> Tensor:
        """Values [G, C] at the texels."""
        found = F.grid_sample(knots[None], self.uvs[None, None], padding_mode="border", align_corners=False)
        return found[0, :, 0].mT

    def apply(self, gaussians: Gaussians, rotation: Tensor, torso: Tensor) -> Gaussians:
        offset = self._at(self.places) * self.loose
        # What hangs on the torso turns with it.
        offset = torch.lerp(offset, offset @ rotation, torso)
        return Gaussians(
            means=gaussians.means + offset,
            quats=gaussians.quats,
            scales=gaussians.scales * ((self._at(self.sizes) * self.loose).clamp(*self.params.sizes)).exp(),
            opacities=faded(gaussians.opacities, (self._at(self.opacities) * self.loose)[:, 0]),
            colors=(gaussians.colors + self._at(self.colors)).clamp(0, 1),
        )

    def roughness(self) -> Tensor:
        p = self.params
        values = (self.places / 0.01, self.opacities, self.colors, self.sizes)
        steps = [v.diff(dim=1).square().mean() + v.diff(dim=2).square().mean() for v in values]
        total = sum((weight * rough for weight, rough in zip(p.smoothness, steps, strict=True)), torch.zeros(()))
        return total + p.pull[0] * (self.places / 0.01).square().mean() + p.pull[1] * self.opacities.square().mean()
