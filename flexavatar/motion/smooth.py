"""Smoothing of finished clips without lag.

Tracking jitters by a few hundredths; blinks and words move by many tenths within the same few frames. So still
passages are averaged over a symmetric window, which delays nothing, and moving ones are left as they are.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from flexavatar.motion.motion import Motion
from flexavatar.rotations import mean_rotation, rotation_exp, rotation_log

WINDOW = 0.07  # seconds, standard deviation of the average over still passages
NOISE = 0.06  # change of a blendshape within the window that counts as jitter
ROTATION_NOISE = 0.025  # radians


def smoothed(motion: Motion) -> Motion:
    """The motion without tracking jitter; peaks keep their height and their time."""
    blendshapes = steady(motion.blendshapes, motion.fps, NOISE)
    middle = mean_rotation(motion.head_rotation)
    turns = steady(rotation_log(middle.mT @ motion.head_rotation), motion.fps, ROTATION_NOISE)
    return replace(motion, blendshapes=blendshapes.clamp(0, 1), head_rotation=middle @ rotation_exp(turns))


def steady(values: Tensor, fps: float, noise: float) -> Tensor:
    """Values [N, C] at `fps`: averaged in time where they change by less than about `noise`, else unchanged."""
    sigma = WINDOW * fps
    reach = max(round(2.5 * sigma), 1)
    average = gaussian_filter(values, sigma, reach)
    # Judged on lightly averaged values, so that jitter itself does not pass for motion.
    calm = gaussian_filter(values, max(sigma / 2, 0.5), reach)
    around = _padded(calm, reach)
    size = 2 * reach + 1
    change = (F.max_pool1d(around, size, stride=1) + F.max_pool1d(-around, size, stride=1)).squeeze(1).T
    still = torch.exp(-((change / noise) ** 2))
    return values + still * (average - values)


def gaussian_filter(values: Tensor, sigma: float, reach: int) -> Tensor:
    """Values [N, C] averaged over 2 reach + 1 frames with a Gaussian of `sigma` frames."""
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=values.dtype) / sigma) ** 2)
    return F.conv1d(_padded(values, reach), (kernel / kernel.sum())[None, None]).squeeze(1).T


def _padded(values: Tensor, reach: int) -> Tensor:
    """[C, 1, N + 2 reach]: the first and last frame repeat beyond the ends."""
    return F.pad(values.T[:, None], (reach, reach), mode="replicate")
