"""Pictures of a shared avatar: beside its link, and in the viewer's place until that has drawn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from flexavatar.camera import Camera
from flexavatar.expression import Expression
from flexavatar.files import atomic_path

if TYPE_CHECKING:
    from flexavatar.avatar import Avatar
    from flexavatar.settings import Device

CARD_SIZE = (1200, 630)  # what Open Graph asks for
# (yaw in degrees, expression, background) of heads side by side; tiles of their own, since shoulders are cut off.
_HEADS = (
    (-38.0, "neutral", (0.86, 0.84, 0.97)),
    (0.0, "smile", (0.95, 0.95, 0.97)),
    (38.0, "neutral", (0.82, 0.90, 0.97)),
)


def preview_card(avatar: Avatar, device: Device = "auto") -> Image.Image:
    """Three views of the head side by side, RGB, CARD_SIZE."""
    width, height = CARD_SIZE
    size = (width // len(_HEADS), height)
    views = [
        avatar.render(
            Expression.of(expression),
            camera=Camera.orbit(yaw, 0, size, 0.38, (0.0, -0.02, -0.05)),
            background=background,
            device=device,
        )
        for yaw, expression, background in _HEADS
    ]
    return Image.fromarray(np.concatenate(views, axis=1))


def poster(avatar: Avatar, size: int = 640) -> Image.Image:
    """The viewer's first picture, RGBA, size x size: the neutral head by the default camera, transparent around it."""
    from flexavatar.avatar.drawing import draw
    from flexavatar.settings import BLACK

    pixels = draw(avatar, None, Camera.orbit(size=size), BLACK).pixels(transparent=True)
    return Image.fromarray(pixels, "RGBA")


def save_poster(avatar: Avatar, path: Path) -> None:
    """Write `poster` as WebP, about 30 kB. Raises CannotWrite."""
    with atomic_path(path) as temporary:
        poster(avatar).save(temporary, format="WEBP", quality=82)
