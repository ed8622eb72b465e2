"""From tracked photos to the colours and opacities of the rig avatar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from flexavatar.rig import Rig
from flexavatar.rig.regions import Regions, atlas_regions, under_hair
from flexavatar.texture.complete import complete, ground, hair_strands, hidden_ears, person_colors
from flexavatar.texture.inner import paint_eyes, paint_mouth, visible_inner
from flexavatar.texture.merge import merge
from flexavatar.texture.unwrap import Unwrapped
from flexavatar.tracking import TrackedFace

OPACITY = 0.985


@dataclass(frozen=True)
class RigTexture:
    """Colours and opacities of the rig's Gaussians."""

    colors: Tensor  # [G, 3] RGB 0..1
    opacities: Tensor  # [G] 0..1


def rig_texture(
    photos: Sequence[Unwrapped], views: Sequence[TrackedFace], rig: Rig, hair_displacement: Tensor | None = None
) -> RigTexture:
    """Merge, complete and paint what `unwrap` read from views of one person; see the modules of this package.

    The first view sets exposure and white balance; it lends its pixels where too little of the hair was unwrapped.
    `hair_displacement` [V] is how far hair raises the rig's vertices, metres.
    """
    photo, tracked = merge(photos, views, rig), views[0]
    regions = atlas_regions(rig)
    if hair_displacement is not None:
        regions = under_hair(regions, rig, hair_displacement)
    image = tracked.image.astype(np.float32) / 255
    colors = person_colors(photo, regions, image, tracked.matte, _stands_off(rig, regions, hair_displacement))
    hidden = regions.named("mouth", "sockets") | hidden_ears(photo.color, photo.weight, colors, regions)
    weight = np.where(hidden, 0, photo.weight)
    target = ground(colors, regions)
    filled = complete(photo.color, weight, target, regions)
    unseen = (1 - np.maximum(weight, weight[:, ::-1])) * regions.scalp
    filled += (unseen * colors["hair_contrast"] * hair_strands(regions))[..., None]
    filled = paint_mouth(filled.clip(0, 1), rig, colors["skin"])
    filled = paint_eyes(filled, rig, photo)
    valid = rig.atlas.valid.numpy()
    return RigTexture(
        colors=torch.from_numpy(filled[valid].astype(np.float32)),
        opacities=torch.from_numpy(OPACITY * (regions.edge * visible_inner(regions, rig))[valid]),
    )


def _stands_off(rig: Rig, regions: Regions, hair_displacement: Tensor | None, stubble: float = 0.01) -> bool:
    """Whether what covers the scalp is higher than `stubble`, metres, and so hair, whatever its colour."""
    if hair_displacement is None:
        return False
    scalp = torch.from_numpy(regions.scalp)[rig.atlas.valid] > 0.8
    return float(rig.anchors.interpolate(hair_displacement[:, None])[scalp].mean()) > stubble
