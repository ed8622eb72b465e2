"""From a driver's motion to an avatar's: expression transfer, head motion, blinks."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from torch import Tensor

from flexavatar.expression import BLINKS, above_neutral
from flexavatar.motion.motion import Motion
from flexavatar.motion.neutral import FACE, estimate_neutral, recentred_gaze
from flexavatar.motion.repair import runs, smoothed
from flexavatar.rotations import scaled

Transfer = Literal["relative", "absolute"]

BLINK_LEAST = 0.25  # a lid that comes this far down and up again within BLINK_SECONDS was meant to close
CLOSED_LEAST = 0.6  # for longer: narrow eyes of a laugh are not closed
BLINK_SECONDS = 0.4


def transferred(
    motion: Motion, neutral: Tensor, transfer: Transfer = "relative", head_motion: float = 1.0, smooth: bool = True
) -> Motion:
    """The motion to give to an avatar whose own neutral blendshapes are `neutral` [52].

    "relative": what the driver does beyond their own neutral face, on top of the avatar's resting face; head
    rotations are relative to the driver's mean pose. The neutral face is `motion.neutral`, or estimated: of an
    expression that is held all through the clip, the part that no resting face has stays. "absolute": the driver's
    blendshapes as they are, so that with the avatar's resting face mixed in they come out unchanged wherever they
    exceed it; head rotations as they are.
    Head rotations are scaled by `head_motion`, 0 keeps the head still. Blinks are completed either way.
    """
    if smooth:
        motion = smoothed(motion)
    shapes, rotation = motion.blendshapes, motion.head_rotation
    if transfer == "relative":
        driver = motion.neutral or estimate_neutral(motion)
        shapes = recentred_gaze(shapes, driver.blendshapes)
        shapes[:, FACE] = above_neutral(shapes[:, FACE], driver.blendshapes[FACE])
        rotation = driver.head_rotation.mT @ rotation
    else:
        shapes = above_neutral(shapes, neutral)
    for lid in BLINKS:
        shapes[:, lid] = completed_blinks(shapes[:, lid], motion.fps)
    return replace(motion, blendshapes=shapes, head_rotation=scaled(rotation, head_motion))


def completed_blinks(lid: Tensor, fps: float) -> Tensor:
    """Weights of one lid [N] in which every closing reaches 1; half-open lids between closings stay as they are."""
    result = lid.clone()
    for start, end in runs(lid > BLINK_LEAST / 2):
        part = lid[start:end]
        peak = float(part.max())
        closed = int((part > 0.75 * peak).sum()) / fps
        if peak < (BLINK_LEAST if closed <= BLINK_SECONDS else CLOSED_LEAST):
            continue
        # Grows with the closing, so that nothing jumps where the run starts and ends.
        depth = ((part - BLINK_LEAST / 2) / (peak - BLINK_LEAST / 2)).clamp(0, 1)
        result[start:end] = (part * (1 + (1 / peak - 1) * depth)).clamp(0, 1)
    return result
