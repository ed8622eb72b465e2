"""What the photo says about each texel: colour and how far it can be trusted."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from flexavatar.render.mesh import rasterize_mesh
from flexavatar.rig import PART_NAMES, REGION_NAMES, Rig
from flexavatar.rig.anchors import outward_normals
from flexavatar.rig.hair_displacement import raised
from flexavatar.tracking import TrackedFace

# MediaPipe's landmark loops around what lips and lids leave open.
INNER_LIPS = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
RIGHT_EYE = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
LEFT_EYE = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)


@dataclass(frozen=True)
class UnwrapParams:
    """Which texels a photo is trusted to show."""

    depth_slack: float = 0.004  # metres: a texel counts as seen when it lies this close behind the nearest surface
    facing: tuple[float, float] = (0.18, 0.5)  # cosine between normal and view where trust starts and where it is full
    matte_margin: float = 0.014  # of the crop: how far trust keeps from the silhouette, against background bleeding


@dataclass(frozen=True)
class Unwrapped:
    """A photo as the atlas sees it."""

    color: np.ndarray  # [256, 256, 3] float32 0..1, read from the photo at every texel
    weight: np.ndarray  # [256, 256] float32 0..1, trust; 0 where hidden, averted or outside the person
    pixel: np.ndarray  # [256, 256, 2] where the texel falls in the crop


def unwrap(
    tracked: TrackedFace,
    rig: Rig,
    hair_displacement: torch.Tensor | None = None,
    params: UnwrapParams = UnwrapParams(),
) -> Unwrapped:
    """Sample the photo at every texel of the tracked, expression-posed rig, its hair raised by [V] metres."""
    vertices = raised(rig.pose(tracked.shape, tracked.blendshapes), hair_displacement)
    vertices = rig.turn_torso(vertices, tracked.head_rotation)
    valid = rig.atlas.valid.numpy()
    size = tracked.camera.height
    pixels, depth = tracked.camera.project(vertices)
    solid = rig.triangles[(rig.parts != PART_NAMES.index("lashes"))].numpy()
    screen = np.concatenate([pixels.numpy(), depth.numpy()[:, None]], 1)
    _, _, nearest = rasterize_mesh(screen, solid, tracked.camera.height, tracked.camera.width)

    frames = rig.anchors.frames(vertices)
    uv, z = (t.numpy() for t in tracked.camera.project(frames.means))
    facing = _facing(frames.quats, frames.means, tracked)
    # The farthest depth around the pixel: a texel next to its own silhouette must not hide itself.
    tolerant = cv2.dilate(np.where(np.isfinite(nearest), nearest, 0).astype(np.float32), np.ones((3, 3), np.uint8))
    column = uv[:, 0].astype(int).clip(0, tracked.camera.width - 1)
    row = uv[:, 1].astype(int).clip(0, size - 1)
    inside = (uv >= 0).all(1) & (uv[:, 0] < tracked.camera.width) & (uv[:, 1] < size)
    seen = inside & (z < tolerant[row, column] + params.depth_slack)

    margin = max(3, round(params.matte_margin * size)) | 1
    matte = cv2.erode(tracked.matte.astype(np.float32), np.ones((margin, margin), np.uint8))
    matte = cv2.GaussianBlur(matte, (0, 0), margin / 3)
    image = tracked.image.astype(np.float32) / 255
    pixel = np.full((*valid.shape, 2), -1.0, np.float32)
    pixel[valid] = uv
    start, full = params.facing
    weight = np.zeros(valid.shape, np.float32)
    weight[valid] = ((facing - start) / (full - start)).clip(0, 1) * seen
    weight *= ((sample(matte, pixel) - 0.6) / 0.4).clip(0, 1)
    # The fit is a millimetre off here and there: skin must not take the colour of teeth or eyes, nor eyes that of lids.
    region = rig.atlas.region.numpy()
    eyes = np.isin(region, [REGION_NAMES.index("eye_left"), REGION_NAMES.index("eye_right")])
    mouth_open = sample(_openings(tracked, INNER_LIPS), pixel)
    eyes_open = sample(_openings(tracked, RIGHT_EYE, LEFT_EYE), pixel)
    weight *= np.where(eyes, eyes_open, (1 - mouth_open) * (1 - eyes_open))
    return Unwrapped(sample(image, pixel), weight, pixel)


def _openings(tracked: TrackedFace, *loops: tuple[int, ...]) -> np.ndarray:
    """1 inside the landmark loops, 0 outside, with a soft edge; [S, S] float32."""
    mask = np.zeros(tracked.matte.shape, np.uint8)
    for loop in loops:
        cv2.fillPoly(mask, [np.round(tracked.landmarks[list(loop)] * 16).astype(np.int32)], 1, shift=4)
    return cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 1.0)


def sample(source: np.ndarray, pixel: np.ndarray) -> np.ndarray:
    """Bilinear values of an image [S, S(, 3)] at pixel coordinates [256, 256, 2] (centres at + 0.5)."""
    at = pixel - 0.5
    return cv2.remap(source, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _facing(quats: torch.Tensor, means: torch.Tensor, tracked: TrackedFace) -> np.ndarray:
    """Cosine [G] between the outward normal and the direction to the camera."""
    normal = outward_normals(quats)
    matrix = tracked.camera.world_to_camera
    eye = -matrix[:3, :3].T @ matrix[:3, 3]
    toward = torch.nn.functional.normalize(eye - means, dim=-1)
    return (normal * toward).sum(-1).numpy()
