"""The pictures of a driven avatar, one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import cv2
import numpy as np

from flexavatar.avatar.drawing import draw, fixed_to_torso
from flexavatar.camera import Camera
from flexavatar.expression import Expression
from flexavatar.settings import BLACK, Color, torch_device

if TYPE_CHECKING:
    from flexavatar.avatar.drawing import Decoder
    from flexavatar.settings import Device


def pictures(
    avatar: Decoder, expressions: Iterable[Expression], size: int, yaw: float, background: Color | None, device: Device
) -> Iterator[np.ndarray]:
    """A picture of an avatar, baked or not, for each expression: uint8 [size, size, 3], or 4 without a background.

    One at a time: the renderer gains nothing from batches, and memory stays small.
    """
    target = torch_device(device)
    camera = Camera.orbit(yaw, 0, size)
    for expression in expressions:
        picture = draw(avatar, expression, fixed_to_torso(camera, expression), background or BLACK, target)
        yield picture.pixels(transparent=background is None)


def beside(left: Iterable[np.ndarray], right: Iterable[np.ndarray], height: int) -> Iterator[np.ndarray]:
    """Frames of `left` uint8 [H, W, 3], scaled to `height`, beside those of `right` [height, W, 3 or 4].

    As many as `right` has; a `left` that ends earlier repeats its last frame.
    """
    source = iter(left)
    shown: np.ndarray | None = None
    for picture in right:
        frame = next(source, None)
        if frame is not None:
            width = max(round(frame.shape[1] * height / frame.shape[0]), 1)
            method = cv2.INTER_AREA if height < frame.shape[0] else cv2.INTER_CUBIC
            shown = cv2.resize(frame, (width, height), interpolation=method)
            if picture.shape[2] == 4:
                shown = np.dstack([shown, np.full(shown.shape[:2], 255, np.uint8)])
        assert shown is not None
        yield np.concatenate([shown, picture], axis=1)
