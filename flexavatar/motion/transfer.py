"""From a driver's motion to an avatar's: expression transfer, head motion, blinks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from flexavatar.expression import BLINKS, above_neutral
from flexavatar.motion.motion import Motion
from flexavatar.motion.neutral import FACE, estimate_neutral, recentred_gaze
from flexavatar.motion.repair import runs, smoothed
from flexavatar.rotations import scaled

Transfer = Literal["relative", "absolute"]


@dataclass(frozen=True)
class BlinkParams:
    """Which movements of a lid are blinks, and so are completed."""

    least: float = 0.25  # weight of a lid that comes down and up again within `seconds`
    closed_least: float = 0.6  # of one that stays down: narrow eyes of a laugh are not closed
    seconds: float = 0.4


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


def completed_blinks(lid: Tensor, fps: float, params: BlinkParams = BlinkParams()) -> Tensor:
    """Weights of one lid [N] in which every closing reaches 1; half-open lids between closings stay as they are."""
    result, low = lid.clone(), params.least / 2
    for start, end in runs(lid > low):
        part = lid[start:end]
        peak = float(part.max())
        closed = int((part > 0.75 * peak).sum()) / fps
        if peak < (params.least if closed <= params.seconds else params.closed_least):
            continue
        # Grows with the closing, so that nothing jumps where the run starts and ends.
        depth = ((part - low) / (peak - low)).clamp(0, 1)
        result[start:end] = (part * (1 + (1 / peak - 1) * depth)).clamp(0, 1)
    return result
