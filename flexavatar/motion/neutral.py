"""The driver's neutral face and pose, estimated over a clip."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flexavatar.expression import ARKIT_BLENDSHAPES, BLENDSHAPE_INDEX, BLINKS, MAX_NEUTRAL, NEUTRAL_SHAPES, Expression
from flexavatar.motion.motion import Motion
from flexavatar.rotations import mean_rotation

# Opposite directions of one eye: what matters is their difference.
GAZE_PAIRS = [
    (BLENDSHAPE_INDEX[f"eyeLook{a}{side}"], BLENDSHAPE_INDEX[f"eyeLook{b}{side}"])
    for side in ("Left", "Right")
    for a, b in (("In", "Out"), ("Up", "Down"))
]
GAZE = [index for pair in GAZE_PAIRS for index in pair]
FACE = [index for index in range(len(ARKIT_BLENDSHAPES)) if index not in GAZE]
# The most that a face at rest has: about what our tracker reads off 19 of 20 neutral synthetic faces, and more of the
# shapes that anatomy is taken for (brows, thin lips) and of the lids, which screens and lamps lower. Whatever somebody
# holds beyond that through a whole clip, as a smile, is meant.
MAX_AT_REST = torch.full((len(ARKIT_BLENDSHAPES),), 0.2)
MAX_AT_REST[[BLENDSHAPE_INDEX[name] for name in NEUTRAL_SHAPES]] = MAX_NEUTRAL
MAX_AT_REST[BLINKS] = 0.5


@dataclass(frozen=True)
class NeutralParams:
    """Which frames of a clip show the face at rest."""

    low: float = 0.2  # quantile: a face at rest is a face that does little, so most of the motion lies above it
    opening: float = 0.5  # seconds: many clips begin before the expression does, and soon show it all the time
    calm: float = 0.5  # share of the frames that counts as calm
    opened: float = 0.7  # share of the frames in which the eyes count as open


def estimate_neutral(motion: Motion, params: NeutralParams = NeutralParams()) -> Expression:
    """The driver's resting face [52] and mean head pose [3, 3].

    Of every blendshape a low quantile over the calm frames with open eyes, or what it is in the opening of the clip if
    that is less, and never above MAX_AT_REST. Gaze is the median direction, as people rest their eyes on what they
    look at.
    """
    shapes = motion.blendshapes
    eyes = shapes[:, BLINKS].mean(1)
    change = torch.zeros(len(motion))
    if len(motion) > 1:
        steps = shapes.diff(dim=0).abs().sum(1)
        change = (torch.cat([steps[:1], steps]) + torch.cat([steps, steps[-1:]])) / 2
    opened = eyes <= eyes.quantile(params.opened)
    rest = shapes[opened & (change <= change[opened].quantile(params.calm))]
    neutral = torch.minimum(rest.quantile(params.low, dim=0), MAX_AT_REST)
    start = round(params.opening * motion.fps)
    first = shapes[:start][opened[:start]]
    if len(first):
        neutral = torch.minimum(neutral, first.median(dim=0).values)
    for one, other in GAZE_PAIRS:
        direction = (rest[:, one] - rest[:, other]).median()
        neutral[one], neutral[other] = direction.clamp_min(0), (-direction).clamp_min(0)
    return Expression(neutral, mean_rotation(motion.head_rotation))


def recentred_gaze(blendshapes: Tensor, neutral: Tensor) -> Tensor:
    """Blendshapes [N, 52] whose eyeLook pairs are measured from the gaze of `neutral` [52]; the rest unchanged."""
    result = blendshapes.clone()
    for first, second in GAZE_PAIRS:
        direction = blendshapes[:, first] - blendshapes[:, second] - (neutral[first] - neutral[second])
        result[:, first], result[:, second] = direction.clamp(0, 1), (-direction).clamp(0, 1)
    return result
