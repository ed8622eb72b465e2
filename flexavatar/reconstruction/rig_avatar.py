"""From tracked views of one person to the rig avatar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from flexavatar.avatar import THUMBNAIL_SIZE, Avatar
from flexavatar.expression import resting_face
from flexavatar.reconstruction.frames import base_cost, head_angles, sharpness
from flexavatar.reconstruction.silhouette import volume_of
from flexavatar.rig import Rig
from flexavatar.texture import texture_from_photo, texture_from_views
from flexavatar.tracking import TrackedFace


def create_rig_avatar(tracked: TrackedFace, settings: Mapping[str, Any] | None = None, volume: bool = True) -> Avatar:
    """The rig avatar of a tracked photo.

    With `volume` the hair stands off the rig as far as the silhouette tells; a network that has volume of its own
    expects the bare rig.
    """
    height = volume_of([tracked]) if volume else None
    texture = texture_from_photo(tracked, Rig.load(), height)
    avatar = Avatar(
        shape=tracked.shape.float(),
        rest=resting_face(tracked.blendshapes),
        colors=texture.colors,
        opacities=texture.opacities,
        thumbnail=np.zeros((THUMBNAIL_SIZE, THUMBNAIL_SIZE, 3), np.uint8),
        metadata={"model": "rig", "settings": dict(settings or {})},
        volume=height,
    )
    return replace(avatar, thumbnail=avatar.render(size=THUMBNAIL_SIZE, device="cpu"))


def create_capture_avatar(
    views: Sequence[TrackedFace],
    base: int = 0,
    texture_views: int = 24,
    settings: Mapping[str, Any] | None = None,
    volume: bool = True,
) -> Avatar:
    """The rig avatar of views that share one shape (`FaceTracker.track_looks`).

    `base` is the view whose light the avatar has. The texture is merged from the `texture_views` that see most, the
    resting face is the median over the views. `volume` as of `create_rig_avatar`.
    """
    chosen = spread_views(views, base, texture_views)
    seen = [views[i] for i in chosen]
    height = volume_of(seen) if volume else None
    texture = texture_from_views(seen, Rig.load(), height)
    avatar = Avatar(
        shape=views[base].shape.float(),
        rest=torch.stack([resting_face(view.blendshapes) for view in views]).median(0).values,
        colors=texture.colors,
        opacities=texture.opacities,
        thumbnail=np.zeros((THUMBNAIL_SIZE, THUMBNAIL_SIZE, 3), np.uint8),
        metadata={"model": "rig", "settings": dict(settings or {})},
        volume=height,
    )
    return replace(avatar, thumbnail=avatar.render(size=THUMBNAIL_SIZE, device="cpu"))


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
