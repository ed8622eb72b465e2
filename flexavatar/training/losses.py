"""What a training step minimises, for every record of the batch on its own.

Labels supervise the Gaussians in the atlas (each texel knows where it should be), pictures supervise what is seen of
them (Eq. 17-21). A record's terms never depend on the others of its batch, so that any split over processes gives the
same mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from flexavatar.gaussians import Gaussians
from flexavatar.metrics import PerceptualTerm, ssim_map
from flexavatar.render import render
from flexavatar.rig.anchors import AnchorFrames
from flexavatar.rig.maps import covering
from flexavatar.training.config import LossWeights
from flexavatar.training.records import INVALID, RAISED, Labels, TrainingBatch

CENTIMETRE = 0.01  # metres


@dataclass(frozen=True)
class Drawn:
    """Target views as the network shows them."""

    rgb: Tensor  # [B, V, 3, H, W] over the backgrounds
    alpha: Tensor  # [B, V, 1, H, W]


def draw_views(gaussians: Gaussians, batch: TrainingBatch, backgrounds: Tensor) -> Drawn:
    """Gaussians [B, G] from the cameras of the batch, over backgrounds [B, 3]."""
    sets = Gaussians(**{name: value[:, None] for name, value in vars(gaussians).items()})
    drawn = render(sets, batch.camera, backgrounds[:, None])
    return Drawn(drawn.rgb, drawn.alpha)


def label_losses(
    gaussians: Gaussians, anchors: AnchorFrames, copied: Tensor, labels: Labels, grid: Tensor, weights: LossWeights
) -> dict[str, Tensor]:
    """Terms [B] of Gaussians [B, G] that lie on `anchors`; 0 for records without labels.

    copied [B, G, 3]: the first of `EncodedHead.copied`. grid [256, 256] bool: the texels of the G Gaussians.
    """
    shown = (labels.flags != INVALID).float()
    labelled = (shown.sum(-1) > 0).float()
    raised = (labels.flags == RAISED).float()
    # What shows nothing stays on the rig: a texel without supervision would run away.
    target = torch.where(shown[..., None] > 0, labels.positions, anchors.means)
    away = _length(gaussians.means - target) / CENTIMETRE
    terms = {}
    if weights.position:
        terms["position"] = _mean(away, 0.1 + 0.9 * shown)
    if weights.color:
        terms["color"] = _mean((gaussians.colors - labels.colors).abs().mean(-1), shown)
    if weights.copied:
        terms["copied"] = _mean((copied - labels.colors).abs().mean(-1), shown)
    if weights.presence:
        terms["presence"] = (gaussians.opacities - 0.985 * shown).abs().mean(-1)
    if weights.spread:
        wide = covering(labels.positions, grid, labels.flags != INVALID)
        wanted = torch.where(raised[..., None] > 0, wide, anchors.scales)
        terms["spread"] = (gaussians.scales.log() - wanted.log()).abs().mean((-1, -2))
    return {name: term * labelled for name, term in terms.items()}


def picture_losses(
    drawn: Drawn, batch: TrainingBatch, backgrounds: Tensor, weights: LossWeights, terms: Sequence[PerceptualTerm]
) -> dict[str, Tensor]:
    """Terms [B] of the target views over backgrounds [B, 3]; perceptual ones are means over the batch."""
    alpha, trust = batch.pictures[:, :, 3:], batch.weights
    target = batch.pictures[:, :, :3] + (1 - alpha) * backgrounds[:, None, :, None, None]
    losses = {}
    if weights.pixels:
        losses["pixels"] = _mean((drawn.rgb - target).abs().mean(2, keepdim=True), trust)
    if weights.alpha:
        losses["alpha"] = _mean((drawn.alpha - alpha).abs(), trust)
    if weights.ssim:
        similarity = ssim_map(drawn.rgb.flatten(0, 1), target.flatten(0, 1)).mean(1, keepdim=True)
        losses["ssim"] = _mean((1 - similarity).unflatten(0, target.shape[:2]), trust)
    if weights.perceptual:
        # Where a view says nothing both pictures show the background.
        shown = [trust * picture + (1 - trust) * backgrounds[:, None, :, None, None] for picture in (drawn.rgb, target)]
        rendered, wanted = (picture.flatten(0, 1) for picture in shown)
        deep = [term(rendered, wanted) for term in terms]
        losses["perceptual"] = torch.stack(deep).sum().expand(len(trust)) if deep else trust.new_zeros(len(trust))
    return losses


def drift(gaussians: Gaussians, anchors: AnchorFrames, labels: Labels) -> Tensor:
    """Centimetres [B] off the rig, of records without labels."""
    unlabelled = (labels.flags != INVALID).sum(-1) == 0
    return unlabelled * _length(gaussians.means - anchors.means).mean(-1) / CENTIMETRE


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    """Weighted means [B]; 0 where nothing has weight."""
    return (values * weights).flatten(1).sum(1) / weights.expand_as(values).flatten(1).sum(1).clamp_min(1e-6)


def _length(vectors: Tensor) -> Tensor:
    """Euclidean length over the last axis, with a gradient at 0."""
    return (vectors.square().sum(-1) + 1e-10).sqrt()
