"""What FLEX-1 is fed: the crop, its intrinsics, the head-centric camera and the 135-dim expression code."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from flexavatar.rotations import decode_rotation_6d, nearest_rotation

SIZE = 512  # pixels of the encoder's input


@dataclass(frozen=True)
class CropBox:
    """A square of source pixels; `bottom` and `right` are exclusive."""

    top: int
    bottom: int
    left: int
    right: int


@dataclass(frozen=True)
class FlameCode:
    """One frame of FLAME parameters, raw as the tracker wrote them (6D rotations are not orthonormal)."""

    expression: Tensor  # [..., 100]
    eyes: Tensor  # [..., 12] left, right 6D
    eyelids: Tensor  # [..., 2] left, right
    neck: Tensor  # [..., 6]
    jaw: Tensor  # [..., 6]
    rotation: Tensor  # [..., 6] head in the world
    translation: Tensor  # [..., 3] metres

    def vector(self) -> Tensor:
        """The network's code [..., 135]."""
        parts = (self.expression, self.eyes, self.eyelids, self.neck, self.jaw, self.rotation, self.translation)
        return torch.cat(parts, dim=-1)


def encode_rotation_6d(rotation: Tensor) -> Tensor:
    """Rotations [..., 3, 3] -> their first two rows [..., 6]."""
    return rotation[..., :2, :].flatten(-2)


def enlarge_crop(box: CropBox, image_height: int) -> tuple[CropBox, int]:
    """FLEX-1's window around a Pixel3DMM box, and how many pixels its top moved up.

    A tenth is added on every side; where the bottom runs out of the image the window moves up instead.
    """
    margin = int(0.1 * (box.bottom - box.top))
    extra = max(0, margin - (image_height - box.bottom))
    up = margin + extra
    return CropBox(box.top - up, box.bottom + margin - extra, box.left - margin, box.right + margin), up


def crop_image(image: np.ndarray, box: CropBox) -> np.ndarray:
    """uint8 [H, W, 3] -> uint8 [512, 512, 3]: the enlarged window, white where it leaves the image."""
    height, width = image.shape[:2]
    window, _ = enlarge_crop(box, height)
    crop = np.full((window.bottom - window.top, window.right - window.left, 3), 255, np.uint8)
    top, bottom = max(0, window.top), min(height, window.bottom)
    left, right = max(0, window.left), min(width, window.right)
    crop[top - window.top : bottom - window.top, left - window.left : right - window.left] = image[
        top:bottom, left:right
    ]
    return np.asarray(Image.fromarray(crop).resize((SIZE, SIZE), Image.Resampling.BILINEAR))


def intrinsics_of_crop(focal: float, principal: tuple[float, float], box: CropBox, image_height: int) -> Tensor:
    """Pixel3DMM's focal length and principal point -> K [3, 3] in pixels of the 512 crop.

    f = 512 fl, c = 256.5 pp + 256.5 on the box; then c moves with the margin and everything shrinks by 1.2.
    """
    _, up = enlarge_crop(box, image_height)
    # The released model moves x by exactly 51.2, not by the rounded margin.
    cx = 256.5 * principal[0] + 256.5 + 51.2
    cy = 256.5 * principal[1] + 256.5 + up / (box.bottom - box.top) * SIZE
    return torch.tensor([[SIZE * focal / 1.2, 0, cx / 1.2], [0, SIZE * focal / 1.2, cy / 1.2], [0, 0, 1]])


def normalise_intrinsics(intrinsics: Tensor) -> Tensor:
    """K [..., 3, 3] in pixels of the 512 crop -> divided by the image size, as the encoder wants it."""
    return intrinsics / intrinsics.new_tensor([[SIZE], [SIZE], [1.0]])


def cam2world_opencv(rotation: Tensor, translation: Tensor) -> Tensor:
    """OpenGL world-to-camera rotation [3, 3], translation [3] metres -> OpenCV camera-to-world [4, 4]."""
    world2cam = torch.eye(4, dtype=rotation.dtype)
    world2cam[:3, :3], world2cam[:3, 3] = rotation, translation
    return torch.linalg.inv(world2cam) * rotation.new_tensor([1.0, -1.0, -1.0, 1.0])


def head_pose(rotation: Tensor, translation: Tensor, neck_transform: Tensor) -> Tensor:
    """[R | t] J with its rotation projected to the nearest proper one: head to world [4, 4], metres.

    rotation [6], translation [3] metres, neck_transform J [4, 4] (FLAME's relative transform of the neck).
    """
    pose = torch.eye(4, dtype=rotation.dtype)
    pose[:3, :3], pose[:3, 3] = decode_rotation_6d(rotation), translation
    pose = pose @ neck_transform
    pose[:3, :3] = nearest_rotation(pose[:3, :3])
    return pose


def cam2head(cam2world: Tensor, head2world: Tensor) -> Tensor:
    """Camera and head poses [..., 4, 4] -> OpenCV camera to head frame [..., 4, 4], metres."""
    return torch.linalg.inv(head2world) @ cam2world


def composite_on_white(image: Tensor, matte: Tensor) -> Tensor:
    """image [..., 3, H, W] and matte [..., 1, H, W] in 0..1 -> a I + (1 - a)."""
    return image * matte + (1 - matte)
