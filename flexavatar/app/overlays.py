"""Pictures of what was detected in a photo: the crop, the matte and the landmarks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

if TYPE_CHECKING:
    from flexavatar.tracking import TrackedFace


def detection_pictures(tracked: TrackedFace, size: int = 512) -> list[tuple[np.ndarray, str]]:
    """(uint8 [size, size, 3], caption) of the head crop, the cut out head and the landmarks on it."""
    image = _resized(tracked.image, size)
    matte = _resized((tracked.matte * 255).round().astype(np.uint8), size)[..., None] / 255
    cut_out = (image * matte + _checkerboard(size) * (1 - matte)).round().astype(np.uint8)
    return [(image, "Head crop"), (cut_out, "Cut out"), (_landmarks(image, tracked, size), "478 landmarks")]


def face_crops(image: np.ndarray, boxes: list[tuple[float, float, float, float]]) -> list[np.ndarray]:
    """A square picture around each box (left, top, right, bottom) of a photo uint8 [H, W, 3]."""
    crops = []
    for left, top, right, bottom in boxes:
        side = 1.5 * max(right - left, bottom - top)
        x, y = (left + right - side) / 2, (top + bottom - side) / 2
        picture = Image.fromarray(image).crop((round(x), round(y), round(x + side), round(y + side)))
        crops.append(np.asarray(picture.resize((192, 192), Image.Resampling.LANCZOS)))
    return crops


def _landmarks(image: np.ndarray, tracked: TrackedFace, size: int) -> np.ndarray:
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    radius = size / 400
    for x, y in np.asarray(tracked.landmarks) * (size / tracked.image.shape[0]):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(0, 200, 255))
    return np.asarray(picture)


def _resized(image: np.ndarray, size: int) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.LANCZOS))


def _checkerboard(size: int) -> np.ndarray:
    """Uint8 [size, size, 1] with squares in two light greys, as picture editors show transparency."""
    rows, columns = np.indices((size, size)) // 16
    return np.where((rows + columns) % 2, 235, 205)[..., None]
