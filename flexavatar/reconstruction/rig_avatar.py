"""From tracked views of one person to the rig avatar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from flexavatar.avatar import Avatar
from flexavatar.expression import neutral_of
from flexavatar.reconstruction.frames import base_cost, head_angles, sharpness
from flexavatar.reconstruction.silhouette import hair_displacement_of
from flexavatar.rig import Rig
from flexavatar.texture import rig_texture
from flexavatar.texture.unwrap import Unwrapped, unwrap
from flexavatar.tracking import TrackedFace


def create_rig_avatar(
    views: Sequence[TrackedFace],
    base: int = 0,
    texture_views: int = 24,
    settings: Mapping[str, Any] | None = None,
    displace_hair: bool = True,
) -> tuple[Avatar, Unwrapped]:
    """The rig avatar of views that share one shape, without a thumbnail, and `views[base]` as it was unwrapped.

    `base` is the view whose light the avatar has. The texture is merged from the `texture_views` that see most, the
    neutral blendshapes are the median over the views. With `displace_hair` the hair stands off the rig as far as the
    silhouettes tell; a network that displaces hair itself expects the bare rig.
    """
    rig = Rig.load()
    seen = [views[i] for i in spread_views(views, base, texture_views)]
    height = hair_displacement_of(seen) if displace_hair else None
    photos = [unwrap(view, rig, height) for view in seen]
    texture = rig_texture(photos, seen, rig, height)
    avatar = Avatar(
        shape=views[base].shape.float(),
        neutral_blendshapes=torch.stack([neutral_of(view.blendshapes) for view in views]).median(0).values,
        colors=texture.colors,
        opacities=texture.opacities,
        metadata={"model": "rig", "settings": dict(settings or {})},
        hair_displacement=height,
    )
    return avatar, photos[0]


def best_base(views: Sequence[TrackedFace]) -> int:
    """The view to start from: frontal, sharp, neutral, with open eyes."""
    yaw, pitch = head_angles(torch.stack([view.head_rotation for view in views]))
    costs = [
        base_cost(view.scores.numpy(), yaw[i], pitch[i], sharpness(view.image, view.landmarks))
        for i, view in enumerate(views)
    ]
    return int(np.argmin(costs))


def spread_views(views: Sequence[TrackedFace], base: int, count: int) -> list[int]:
    """`base`, then the views in the order of how far each turns the head away from those before it; `count` at most."""
    directions = torch.stack([view.head_rotation[:, 2] for view in views])
    chosen = [base]
    distance = (directions - directions[base]).norm(dim=1)
    while len(chosen) < min(count, len(views)):
        distance[chosen] = -1
        chosen.append(int(distance.argmax()))
        distance = torch.minimum(distance, (directions - directions[chosen[-1]]).norm(dim=1))
    return chosen
