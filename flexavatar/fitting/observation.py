"""What an avatar is fitted to: photos with their mattes, cameras and expressions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from flexavatar.avatar import above_rest
from flexavatar.camera import Camera
from flexavatar.expression import Expression
from flexavatar.render.mesh import rasterize_mesh
from flexavatar.rig import Rig
from flexavatar.tracking import TrackedFace

RIM_MARGIN = 0.03  # of the image height: the rig's lower edge fades out over it


@dataclass(frozen=True)
class FitObservation:
    """One view of a person, at the size that it is fitted at."""

    image: Tensor  # [3, H, W] RGB 0..1
    matte: Tensor  # [1, H, W] 0..1, the person
    weight: Tensor  # [1, H, W] 0..1, where the avatar can be compared with the photo
    camera: Camera  # of an H x W image; the canonical head frame is its world
    expression: Tensor  # [Z] expression code of the model that is fitted

    def to(self, device: torch.device | str) -> FitObservation:
        return FitObservation(
            self.image.to(device),
            self.matte.to(device),
            self.weight.to(device),
            self.camera.to(device),
            self.expression.to(device),
        )


def observe_face(tracked: TrackedFace, rest: Tensor, size: int = 256) -> FitObservation:
    """A tracked photo as flex-s is fitted to it, size x size pixels.

    rest [52]: the resting face of the avatar. What lies below the rig's bust has weight 0, since no avatar reaches
    there, and so has what lies beyond the photo's border, where shoulders go on unseen.
    """
    shape = (size, size)

    def resized(picture: np.ndarray) -> Tensor:
        values = torch.from_numpy(np.ascontiguousarray(picture)).float().reshape(*picture.shape[:2], -1)
        return F.interpolate(values.permute(2, 0, 1)[None], shape, mode="bilinear", antialias=True)[0]

    camera = tracked.camera.resized(size, size)
    expression = Expression(above_rest(tracked.blendshapes, rest), tracked.head_rotation)
    weight = above_the_rim(tracked, camera)
    if tracked.known is not None:
        weight = weight * (resized(tracked.known) > 0.99)
    return FitObservation(
        image=resized(tracked.image) / 255,
        matte=resized(tracked.matte),
        weight=weight,
        camera=camera,
        expression=expression.code(),
    )


def rig_mask(tracked: TrackedFace, camera: Camera) -> np.ndarray:
    """1 where the bare rig covers a pixel, else 0, [H, W]."""
    rig = Rig.load()
    vertices = rig.pose(tracked.shape, tracked.blendshapes, tracked.head_rotation)
    pixels, depth = camera.project(vertices)
    screen = np.concatenate([pixels.numpy(), depth.numpy()[:, None]], 1)
    ids, _, _ = rasterize_mesh(screen, rig.triangles.numpy(), camera.height, camera.width)
    return (ids >= 0).astype(np.float32)


def above_the_rim(tracked: TrackedFace, camera: Camera) -> Tensor:
    """1 above the lower edge of the rig in each column, 0 below it, [1, H, W]."""
    rows = np.arange(camera.height)[:, None]
    rim = np.where(rig_mask(tracked, camera) > 0, rows, -1).max(0)  # the lowest covered row of each column
    covered = np.flatnonzero(rim >= 0)
    if len(covered) == 0:
        return torch.ones(1, camera.height, camera.width)
    rim = np.interp(np.arange(camera.width), covered, rim[covered])
    # A bust that runs out of the picture has no rim in it.
    limit = np.where(rim >= camera.height - 1, camera.height, rim - RIM_MARGIN * camera.height)
    return torch.from_numpy((rows < limit).astype(np.float32))[None]
