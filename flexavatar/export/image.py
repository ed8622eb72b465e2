"""Writing pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from flexavatar.errors import CannotWrite
from flexavatar.export.atomic import atomic_path

_FORMATS = {
    ".png": ("PNG", {}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".webp": ("WEBP", {"quality": 95}),
}


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Write `image`, uint8 [H, W, 3] (or [H, W, 4] with alpha), in the format of the suffix. Raises CannotWrite."""
    suffix = Path(path).suffix.lower()
    if suffix not in _FORMATS:
        raise CannotWrite(f"Cannot write {path}: pictures are written as {', '.join(_FORMATS)}. Change the suffix.")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (3, 4):
        raise ValueError(f"An image is uint8 [H, W, 3] or [H, W, 4], not {image.dtype} {list(image.shape)}.")
    name, options = _FORMATS[suffix]
    picture = Image.fromarray(np.ascontiguousarray(image))
    if name == "JPEG":
        picture = picture.convert("RGB")
    with atomic_path(path) as temporary:
        picture.save(temporary, format=name, **options)
