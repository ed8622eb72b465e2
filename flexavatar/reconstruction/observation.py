"""What an avatar is fitted to: photos with their mattes, cameras and expressions."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from flexavatar.camera import Camera
from flexavatar.expression import Expression, above_neutral
from flexavatar.render.mesh import rasterize_mesh
from flexavatar.rig import Rig
from flexavatar.settings import to_device
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
        """The same observation on another device."""
        return to_device(self, device)

    def around(self, *shown: Tensor, margin: int = 8) -> FitObservation:
        """The part of the view where the person or what is `shown` [1, H, W] is, and `margin` pixels around it."""
        covered = torch.stack([self.matte, *shown]).amax((0, 1)) > 0.01
        rows, columns = covered.any(1).nonzero()[:, 0], covered.any(0).nonzero()[:, 0]
        if not len(rows):
            return self
        top, left = (max(int(found[0]) - margin, 0) for found in (rows, columns))
        bottom, right = (int(found[-1]) + 1 + margin for found in (rows, columns))
        part = np.s_[:, top:bottom, left:right]
        image = self.image[part]
        lens = self.camera.intrinsics.clone()
        lens[0, 2] -= left
        lens[1, 2] -= top
        camera = Camera(self.camera.world_to_camera, lens, image.shape[2], image.shape[1])
        return FitObservation(image, self.matte[part], self.weight[part], camera, self.expression)


def observe_face(
    tracked: TrackedFace, neutral: Tensor, size: int = 256, rim_margin: float = RIM_MARGIN
) -> FitObservation:
    """A tracked photo as flex-s is fitted to it, size x size pixels.

    neutral [52]: the neutral blendshapes of the avatar. What lies below the rig's bust has weight 0, since no avatar
    reaches there, and so has what lies beyond the photo's border, where shoulders go on unseen.
    """
    shape = (size, size)

    def resized(picture: np.ndarray) -> Tensor:
        values = torch.from_numpy(np.ascontiguousarray(picture)).float().reshape(*picture.shape[:2], -1)
        return F.interpolate(values.permute(2, 0, 1)[None], shape, mode="bilinear", antialias=True)[0]

    camera = tracked.camera.resized(size, size)
    expression = Expression(above_neutral(tracked.blendshapes, neutral), tracked.head_rotation)
    weight = above_the_rim(tracked, camera, rim_margin)
    if tracked.known is not None:
        weight = weight * (resized(tracked.known) > 0.99)
    return FitObservation(
        image=resized(tracked.image) / 255,
        matte=resized(tracked.matte),
        weight=weight,
        camera=camera,
        expression=expression.code(),
    )


def observe_close_up(tracked: TrackedFace, neutral: Tensor) -> FitObservation | None:
    """The close-up of a tracked face as `observe_face` gives the head; None where the photo has none."""
    close = tracked.close
    if close is None:
        return None
    camera, size = tracked.camera, len(close.image)
    # Both see the same head through the same point, so one picture is the other, scaled and shifted.
    scale = (close.camera.intrinsics[0, 0] / camera.intrinsics[0, 0]).item()
    shift = (close.camera.intrinsics[:2, 2] - scale * camera.intrinsics[:2, 2]).tolist()
    # OpenCV counts pixels from their centres.
    warp = np.array([[scale, 0, shift[0] + 0.5 * scale - 0.5], [0, scale, shift[1] + 0.5 * scale - 0.5]])
    matte = cv2.warpAffine(tracked.matte, warp, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    weight = torch.from_numpy(close.known)[None] * above_the_rim(tracked, close.camera)
    expression = Expression(above_neutral(tracked.blendshapes, neutral), tracked.head_rotation)
    return FitObservation(
        image=torch.from_numpy(close.image).permute(2, 0, 1).float() / 255,
        matte=torch.from_numpy(np.ascontiguousarray(matte))[None],
        weight=weight,
        camera=close.camera,
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


def above_the_rim(tracked: TrackedFace, camera: Camera, margin: float = RIM_MARGIN) -> Tensor:
    """1 above the lower edge of the rig in each column, 0 below it, [1, H, W]."""
    rows = np.arange(camera.height)[:, None]
    rim = np.where(rig_mask(tracked, camera) > 0, rows, -1).max(0)  # the lowest covered row of each column
    covered = np.flatnonzero(rim >= 0)
    if len(covered) == 0:
        return torch.ones(1, camera.height, camera.width)
    rim = np.interp(np.arange(camera.width), covered, rim[covered])
    # A bust that runs out of the picture has no rim in it.
    limit = np.where(rim >= camera.height - 1, camera.height, rim - margin * camera.height)
    return torch.from_numpy((rows < limit).astype(np.float32))[None]
