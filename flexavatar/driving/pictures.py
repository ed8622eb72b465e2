"""The pictures of a driven avatar, one after the other; long motions play on a baked one where that shows the same."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

from flexavatar.avatar.drawing import draw, fixed_to_torso
from flexavatar.baking import bake
from flexavatar.camera import Camera
from flexavatar.expression import Expression
from flexavatar.metrics import decibels
from flexavatar.settings import BLACK, WHITE, Color, torch_device

if TYPE_CHECKING:
    from flexavatar.avatar import Avatar
    from flexavatar.avatar.drawing import Decoder
    from flexavatar.motion.motion import Motion
    from flexavatar.settings import Device

log = logging.getLogger(__name__)
# Frames from which baking pays: it costs some 170 decodes, and the rig's take little longer than drawing.
BAKED_FROM = {"network": 400, "rig": 1000}
MIN_PSNR = 40.0  # dB of whole pictures, on the worst of the frames that are compared
_COMPARED = 6  # frames, decoded both ways


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


def playable(avatar: Avatar, motion: Motion, device: Device) -> Decoder:
    """The decoder that draws `motion` soonest: the avatar on `device`, or a quick bake of it if the motion is long.

    A baked avatar adds up what blendshapes do one by one, which is nearly right for the rig, and for a network as far
    as it is linear. So frames of this motion in which most is going on are drawn both ways, and bakes that fall below
    MIN_PSNR are not used.
    """
    avatar = avatar.to(torch_device(device))
    if len(motion) < BAKED_FROM["rig" if avatar.network is None else "network"]:
        return avatar
    baked = bake(avatar, "quick", device)
    busiest = motion.blendshapes.sum(1).argsort(descending=True)[: len(motion) // 4]
    compared = busiest[torch.linspace(0, len(busiest) - 1, _COMPARED).long()].sort().values.tolist()
    worst = min(_psnr(avatar, baked, motion[i : i + 1], device) for i in compared)
    log.info("baked for driving: at least %.1f dB in %d frames", worst, _COMPARED)
    return baked if worst >= MIN_PSNR else avatar


def _psnr(avatar: Decoder, baked: Decoder, frame: Motion, device: Device) -> float:
    drawn = [next(pictures(each, frame.expressions(), 256, 0, WHITE, device)) / 255 for each in (avatar, baked)]
    return decibels(float(np.square(drawn[0] - drawn[1]).mean()))
