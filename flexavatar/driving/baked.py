"""Long motions play on a baked avatar, which does not decode every frame, where that shows the same."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import torch

from flexavatar.baking import bake
from flexavatar.driving.pictures import pictures
from flexavatar.metrics import decibels
from flexavatar.settings import WHITE, torch_device

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
_SIZE = 256  # pixels


def playable(avatar: Avatar, motion: Motion, device: Device) -> Decoder:
    """What draws a motion made for the avatar soonest: the avatar itself, on `device`, or for long ones, quickly baked.

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
    drawn = [next(pictures(each, frame.expressions(), _SIZE, 0, WHITE, device)) / 255 for each in (avatar, baked)]
    return decibels(float(np.square(drawn[0] - drawn[1]).mean()))
