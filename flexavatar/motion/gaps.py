"""Bridging the frames in which the driver's face was lost."""

from __future__ import annotations

import torch
from torch import Tensor

from flexavatar.motion.motion import Motion
from flexavatar.motion.neutral import estimate_neutral
from flexavatar.rotations import slerp

SHORT = 0.5  # seconds: a hand before the face; what was before continues into what comes after
EASE = 0.4  # seconds, from the last expression to neutral, and from neutral to the next one


def bridged(blendshapes: Tensor, head_rotation: Tensor, seen: Tensor, fps: float) -> Motion:
    """A motion without gaps of blendshapes [N, 52] and rotations [N, 3, 3], valid where `seen` [N] is true.

    Short gaps are interpolated. Over longer ones, and before the first and after the last frame with a face, the head
    eases to the driver's neutral and back. At least one frame must be seen.
    """
    shapes, turns = blendshapes.clone(), head_rotation.clone()
    index = seen.nonzero()[:, 0]
    rest = estimate_neutral(Motion(shapes[index], turns[index], fps))

    def blend(frames: Tensor, source: int, target_shapes: Tensor, target_turn: Tensor, share: Tensor) -> None:
        share = share * share * (3 - 2 * share)
        shapes[frames] = torch.lerp(shapes[source], target_shapes, share[:, None])
        turns[frames] = slerp(turns[source], target_turn, share)

    for start, end in runs(~seen):
        frames = torch.arange(start, end)
        if start > 0 and end < len(seen) and (end - start) / fps <= SHORT:
            blend(frames, start - 1, shapes[end], turns[end], (frames - start + 1) / (end - start + 1))
            continue
        middle = len(seen) if end == len(seen) else 0 if start == 0 else (start + end) // 2
        leaving, coming = frames[frames < middle], frames[frames >= middle]
        if len(leaving):
            share = ((leaving - start + 1) / fps / EASE).clamp_max(1)
            blend(leaving, start - 1, rest.blendshapes, rest.head_rotation, share)
        if len(coming):
            share = ((end - coming) / fps / EASE).clamp_max(1)
            blend(coming, end, rest.blendshapes, rest.head_rotation, share)
    return Motion(shapes, turns, fps)


def runs(mask: Tensor) -> list[tuple[int, int]]:
    """(start, end) of every run of true values of mask [N]; end excluded."""
    edge = torch.zeros(1)
    changes = torch.cat([edge, mask.float(), edge]).diff()
    return list(zip((changes == 1).nonzero()[:, 0].tolist(), (changes == -1).nonzero()[:, 0].tolist(), strict=True))
