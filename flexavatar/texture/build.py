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
from flexavatar.texture.unwrap import Unwrapped, unwrap
from flexavatar.tracking import TrackedFace

OPACITY = 0.985
NO_STUBBLE = 0.010  # metres over the scalp from which what stands off it is hair, whatever its colour


@dataclass(frozen=True)
class RigTexture:
    colors: Tensor  # [G, 3] RGB 0..1
    opacities: Tensor  # [G] 0..1


def texture_from_photo(tracked: TrackedFace, rig: Rig, volume: Tensor | None = None) -> RigTexture:
    """Unwrap, complete and paint; see the modules of this package for each step.

    `volume` [V] is how far hair raises the rig's vertices, metres.
    """
    return _texture(unwrap(tracked, rig, volume), tracked, rig, volume)


def texture_from_views(views: Sequence[TrackedFace], rig: Rig, volume: Tensor | None = None) -> RigTexture:
    """As `texture_from_photo`, of several views of one person; the first sets exposure and white balance."""
    return _texture(merge([unwrap(view, rig, volume) for view in views], views, rig), views[0], rig, volume)


def _texture(photo: Unwrapped, tracked: TrackedFace, rig: Rig, volume: Tensor | None = None) -> RigTexture:
    """The texture of an unwrapped photo; `tracked` lends its pixels where too little of the hair was unwrapped."""
    regions = atlas_regions(rig) if volume is None else under_hair(atlas_regions(rig), rig, volume)
    image = tracked.image.astype(np.float32) / 255
    colors = person_colors(photo, regions, image, tracked.matte, _stands_off(rig, regions, volume))
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


def _stands_off(rig: Rig, regions: Regions, volume: Tensor | None) -> bool:
    if volume is None:
        return False
    scalp = torch.from_numpy(regions.scalp)[rig.atlas.valid] > 0.8
    return float(rig.anchors.interpolate(volume[:, None])[scalp].mean()) > NO_STUBBLE
