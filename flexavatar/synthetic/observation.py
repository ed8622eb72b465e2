"""A synthetic head as the tracker would report it, without running the tracker."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from flexavatar.camera import FIELD_OF_VIEW, Camera, intrinsics
from flexavatar.expression import Expression
from flexavatar.rig.rig import head_motion
from flexavatar.rotations import rotation_exp
from flexavatar.settings import BLACK
from flexavatar.synthetic.head import SyntheticHead
from flexavatar.tracking import TrackedFace
from flexavatar.tracking.crop import CROP_SIZE, head_crop
from flexavatar.tracking.fit import FRONTAL

FAINTEST = 0.02  # of a matte, from which a pixel has a colour of its own


def photo_camera(
    head: SyntheticHead, expression: Expression, yaw: float = 0.0, pitch: float = 0.0, size: int = CROP_SIZE
) -> Camera:
    """The camera [4, 4] of the canonical head frame that shows the head as the tracker crops photos.

    It faces the torso from `yaw` and `pitch` degrees (as `Camera.orbit`), so with (0, 0) the head's rotation in
    the picture is its rotation on the neck, as the tracker assumes.
    """
    rotation = expression.head_rotation.cpu()
    camera = Camera.orbit(yaw, pitch, size, field_of_view=FIELD_OF_VIEW).with_head_motion(head_motion(rotation))
    matrix = camera.world_to_camera.clone()
    points = head.assets.rig.landmarks(head.vertices(expression)).cpu()
    focal = float(intrinsics(FIELD_OF_VIEW, size, size)[0, 0])
    for _ in range(4):  # the crop depends on the perspective, which depends on the crop
        pixels, depth = Camera(matrix, camera.intrinsics, size, size).project(points)
        relief = (depth - depth.mean()) * focal / depth.mean()
        crop = head_crop(torch.cat([pixels, relief[:, None]], -1).numpy().astype(np.float64))
        z = float(matrix[2, 3])
        matrix[0, 3] -= (crop.left + crop.size / 2 - size / 2) / focal * z
        matrix[1, 3] -= (crop.top + crop.size / 2 - size / 2) / focal * z
        matrix[:3, 3] *= crop.size / size
    return Camera(matrix, camera.intrinsics, size, size)


def tracked_face(
    head: SyntheticHead,
    expression: Expression | None = None,
    camera: Camera | None = None,
    background: tuple[float, float, float] = (1.0, 1.0, 1.0),
    jitter: float = 0.0,
    generator: torch.Generator | None = None,
) -> TrackedFace:
    """What `FaceTracker.track_image` would report of a picture of the head, on the CPU.

    `camera` is one square camera of the canonical head frame (default: `photo_camera`). With `jitter` 0 shape,
    blendshapes, pose and matte are the truth, including the person's rest; 1 is about the tracker's own error.
    `generator` is only needed with jitter.
    """
    expression = expression or Expression.neutral()
    camera = camera or photo_camera(head, expression)
    picture = head.render(camera, expression, BLACK)
    # As of a photo's matte: the background shines through nowhere.
    behind = torch.tensor(background, device=picture.rgb.device)[:, None, None]
    image = torch.where(picture.alpha > FAINTEST, picture.own_colors(FAINTEST), behind)
    shape, blendshapes = head.shape.cpu(), head.blendshapes(expression.to(head.shape.device)).cpu()
    landmarks = camera.project(head.assets.rig.landmarks(head.vertices(expression)).cpu())[0]
    if jitter > 0:
        noise = lambda *size: jitter * torch.randn(*size, generator=generator)  # noqa: E731
        shape = shape + 0.25 * noise(len(shape))
        moving = (blendshapes > 0.02) * 0.06 + 0.015
        blendshapes = (blendshapes + moving * noise(len(blendshapes))).clamp(0, 1)
        landmarks = landmarks + 0.0015 * camera.height * noise(*landmarks.shape)
        camera = _nudged(camera, math.radians(0.8) * noise(3), 0.001 * noise(3))
    return TrackedFace(
        image=(image.clamp(0, 1) * 255 + 0.5).to(torch.uint8).permute(1, 2, 0).cpu().numpy(),
        matte=picture.alpha[0].clamp(0, 1).cpu().numpy(),
        crop=(0.0, 0.0, float(camera.width)),
        landmarks=landmarks.numpy(),
        scores=blendshapes.clone(),
        shape=shape,
        blendshapes=blendshapes,
        head_rotation=torch.tensor(FRONTAL) @ camera.world_to_camera[:3, :3],
        camera=camera,
        error=0.0,
    )


def _nudged(camera: Camera, rotation: Tensor, translation: Tensor) -> Camera:
    """The camera turned by a small rotation vector [3] (radians) about the head's origin and moved by metres [3]."""
    matrix = camera.world_to_camera.clone()
    matrix[:3, :3] = matrix[:3, :3] @ rotation_exp(rotation)
    matrix[:3, 3] += translation
    return Camera(matrix, camera.intrinsics, camera.width, camera.height)
