"""From a tracked photo to what flex-s reads."""

from __future__ import annotations

import torch

from flexavatar.avatar import Avatar
from flexavatar.camera import Camera
from flexavatar.model.flex_s import FLEX_S, FlexSObservation
from flexavatar.rig import Rig
from flexavatar.texture.shells import photo_shells
from flexavatar.tracking import TrackedFace


def observe(tracked: TrackedFace, avatar: Avatar) -> FlexSObservation:
    """What flex-s is given of one tracked photo and its rig avatar, as a batch of one."""
    alpha = torch.from_numpy(tracked.matte)
    image = torch.from_numpy(tracked.image).permute(2, 0, 1) / 255
    image = image * alpha + (1 - alpha)
    size = (FLEX_S.image_size, FLEX_S.image_size)
    camera = tracked.camera
    return FlexSObservation(
        images=torch.nn.functional.interpolate(image[None], size, mode="bilinear", antialias=True),
        camera=Camera(camera.world_to_camera[None], camera.intrinsics[None], camera.width, camera.height),
        shells=photo_shells(tracked, Rig.load())[None],
        shape=avatar.shape[None],
        rest=avatar.rest[None],
        colors=avatar.colors[None],
        opacities=avatar.opacities[None],
    )
