"""The head crop: a square around the whole head and bust, placed from the face landmarks alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

CROP_SIZE = 512  # pixels of a crop's side
# Landmark ids of MediaPipe's face mesh.
_FOREHEAD, _CHIN, _RIGHT_SIDE, _LEFT_SIDE = 10, 152, 234, 454


@dataclass(frozen=True)
class CropParams:
    """Where the squares are cut; lengths in face heights (forehead to chin, in 3D)."""

    side: float = 2.8  # covers the rig's bust and big hair
    backward: float = 0.5  # from the face to the centre, which lies inside the head
    upward: float = 0.12
    close_side: float = 1.35
    close_size: int = 768  # pixels of a close-up's side, at most
    close_gain: float = 1.25  # times as many pixels as the crop has there: less is not worth a second picture


@dataclass(frozen=True)
class HeadCrop:
    """A square of the source image, in whole source pixels; it may reach beyond the image."""

    left: int
    top: int
    size: int

    def to_crop(self, points: np.ndarray, resolution: int = CROP_SIZE) -> np.ndarray:
        """Points [..., 2] from source to crop pixels."""
        return (points - np.array([self.left, self.top])) * (resolution / self.size)

    def to_source(self, points: np.ndarray, resolution: int = CROP_SIZE) -> np.ndarray:
        """Points [..., 2] from crop to source pixels."""
        return points * (self.size / resolution) + np.array([self.left, self.top])


def face_height(landmarks: np.ndarray) -> float:
    """Distance from forehead to chin in 3D, pixels, of landmarks [478, 3]: unlike the box it ignores the pose."""
    return float(np.linalg.norm(landmarks[_FOREHEAD] - landmarks[_CHIN]))


def head_crop(landmarks: np.ndarray, params: CropParams = CropParams()) -> HeadCrop:
    """The crop for landmarks [478, 3] (source pixels; z in the same unit, towards the camera negative).

    The centre is taken inside the head, so that the back of a turned head is covered as well as its face.
    """
    up = landmarks[_FOREHEAD] - landmarks[_CHIN]
    height = face_height(landmarks)
    side = landmarks[_LEFT_SIDE] - landmarks[_RIGHT_SIDE]
    backward = np.cross(side, -up)  # image axes: x right, y down, z away from the camera
    backward = backward / max(float(np.linalg.norm(backward)), 1e-9)
    middle = (landmarks[_FOREHEAD] + landmarks[_CHIN]) / 2
    # The bust hangs down in the image, however the head is tilted; big hair stands up.
    center = middle + params.backward * height * backward + np.array([0, -params.upward * height, 0])
    size = max(2, math.ceil(params.side * height))
    return HeadCrop(round(center[0] - size / 2), round(center[1] - size / 2), size)


def close_crop(landmarks: np.ndarray, params: CropParams = CropParams()) -> HeadCrop:
    """The square around the face alone, for landmarks [478, 3] as of `head_crop`."""
    height = face_height(landmarks)
    center = landmarks[:, :2].mean(0)
    size = max(2, math.ceil(params.close_side * height))
    return HeadCrop(round(center[0] - size / 2), round(center[1] - size / 2), size)


def close_resolution(close: HeadCrop, crop: HeadCrop, params: CropParams = CropParams()) -> int | None:
    """Pixels of the side of a close-up, None where the crop [512 px] shows the face as well as the photo does."""
    in_crop = close.size * CROP_SIZE / crop.size
    resolution = min(close.size, params.close_size)
    return resolution if resolution > params.close_gain * in_crop else None


def steady_crop(previous: HeadCrop | None, landmarks: np.ndarray) -> HeadCrop:
    """The crop of a video frame: the previous one, unless the head has moved or grown by some percent."""
    wanted = head_crop(landmarks)
    if previous is None:
        return wanted
    shift = math.hypot(
        wanted.left + wanted.size / 2 - previous.left - previous.size / 2,
        wanted.top + wanted.size / 2 - previous.top - previous.size / 2,
    )
    still = shift < 0.06 * previous.size and 0.94 < wanted.size / previous.size < 1.06
    return previous if still else wanted


def cut(
    image: np.ndarray, crop: HeadCrop, resolution: int = CROP_SIZE, fill: int = 255
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of the crop, uint8 [S, S, C], `fill` outside the image; and where the image is, float32 [S, S]."""
    height, width = image.shape[:2]
    x0, y0 = max(crop.left, 0), max(crop.top, 0)
    x1, y1 = min(crop.left + crop.size, width), min(crop.top + crop.size, height)
    if x1 <= x0 or y1 <= y0:
        return np.full((resolution, resolution, image.shape[2]), fill, np.uint8), np.zeros(
            (resolution,) * 2, np.float32
        )
    margins = (y0 - crop.top, crop.top + crop.size - y1, x0 - crop.left, crop.left + crop.size - x1)
    inside = image[y0:y1, x0:x1]
    # Replicated while resampling, so that the fill does not bleed into the photo's last pixels.
    padded = cv2.copyMakeBorder(inside, *margins, borderType=cv2.BORDER_REPLICATE)
    known = cv2.copyMakeBorder(
        np.ones(inside.shape[:2], np.float32), *margins, borderType=cv2.BORDER_CONSTANT, value=(0.0,)
    )
    method = cv2.INTER_AREA if crop.size > resolution else cv2.INTER_CUBIC
    pixels = cv2.resize(padded, (resolution, resolution), interpolation=method)
    known = cv2.resize(known, (resolution, resolution), interpolation=cv2.INTER_AREA)
    known = (known > 0.5).astype(np.float32)
    pixels[known == 0] = fill
    return pixels, known
