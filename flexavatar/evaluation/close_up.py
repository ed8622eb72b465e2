"""The face from near: how much of it shows through its front Gaussians."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from flexavatar.camera import Camera
from flexavatar.gaussians import Gaussians
from flexavatar.render import render
from flexavatar.render.mesh import rasterize_mesh
from flexavatar.rig import Rig
from flexavatar.rig.regions import atlas_regions


@dataclass(frozen=True)
class CloseUpParams:
    """Where a close-up is taken from, and what counts as the front of a face."""

    yaw: float = 15.0  # degrees
    size: int = 700  # pixels
    view_height: float = 0.24  # metres
    center: tuple[float, float, float] = (0.0, -0.01, -0.05)  # metres, canonical head frame
    depth: float = 0.008  # metres behind the rig's surface, up to which Gaussians belong to the front
    around: float = 0.002  # metres beside a point, within which the deepest surface is the one that counts

    def camera(self) -> Camera:
        """The camera that sees it."""
        return Camera.orbit(self.yaw, 0, self.size, self.view_height, self.center)


def front_alpha(
    gaussians: Gaussians, vertices: Tensor, params: CloseUpParams = CloseUpParams()
) -> tuple[Tensor, Tensor]:
    """Opacity [S, S] in 0..1 of the front of a neutral face in a close-up, and the pixels [S, S] bool of the face.

    The front is what lies before the rig's surface, posed as `vertices` [V, 3], or at most `params.depth` behind it:
    also hair and beards, and however many Gaussians a texel has. The face is the skin of forehead, cheeks, nose, lips
    and chin, without eyes and ears.
    """
    rig, camera = Rig.load(), params.camera()
    pixels, depth = camera.project(vertices)
    screen = np.concatenate([pixels.numpy(), depth.numpy()[:, None]], 1)
    triangle, barycentric, nearest = rasterize_mesh(screen, rig.triangles.numpy(), params.size, params.size)
    corners = rig.triangles.numpy()[triangle]
    regions = atlas_regions(rig)
    uv = (rig.atlas.uv.numpy()[corners] * barycentric[..., None]).sum(-2)
    column, row = np.moveaxis((uv * len(regions.face)).astype(int).clip(0, len(regions.face) - 1), -1, 0)
    face = (triangle >= 0) & regions.face[row, column]
    # Next to the outline of the nose, a cheek that the nose half hides must count as the cheek's front.
    window = round(params.around * params.size / params.view_height) * 2 + 1
    behind = cv2.dilate(np.where(np.isfinite(nearest), nearest, 0), np.ones((window, window), np.uint8)) + params.depth

    places, depths = camera.project(gaussians.means)
    inside = ((places >= 0) & (places < params.size)).all(-1)
    x, y = places.long().clamp(0, params.size - 1).unbind(-1)
    front = ~inside | (depths <= torch.from_numpy(behind)[y, x])
    with torch.inference_mode():
        alpha = render(gaussians.select(front), camera).alpha[0]
    return alpha, torch.from_numpy(face)
