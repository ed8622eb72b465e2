"""Motion: the expressions and head rotations of a clip, at a steady frame rate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from flexavatar.expression import ARKIT_BLENDSHAPES, Expression
from flexavatar.rotations import slerp


@dataclass(frozen=True)
class Motion:
    """N frames of a driver: frame i belongs to second i / fps.

    Gaze is in the eyeLook blendshapes. `warnings` says, in sentences for the user, what was made up or left out
    when the motion was recorded; `neutral` is the driver's resting face and pose where they are known for sure, as
    for authored clips. Raises ValueError for values that are no motion.
    """

    blendshapes: Tensor  # [N, 52] 0..1, in the order of ARKIT_BLENDSHAPES
    head_rotation: Tensor  # [N, 3, 3] as Expression.head_rotation
    fps: float
    warnings: tuple[str, ...] = ()
    neutral: Expression | None = None

    def __post_init__(self) -> None:
        count = len(self.blendshapes)
        if self.blendshapes.shape != (count, len(ARKIT_BLENDSHAPES)) or not count:
            raise ValueError(f"Blendshapes are [N, 52] with N > 0, not {list(self.blendshapes.shape)}.")
        if self.head_rotation.shape != (count, 3, 3):
            raise ValueError(f"Head rotations are [{count}, 3, 3] here, not {list(self.head_rotation.shape)}.")
        if not self.blendshapes.isfinite().all() or self.blendshapes.amin() < 0 or self.blendshapes.amax() > 1:
            raise ValueError("Blendshapes must be numbers from 0 to 1.")
        off = (self.head_rotation @ self.head_rotation.mT - torch.eye(3)).abs().amax()
        if not off < 1e-3 or torch.det(self.head_rotation).amin() < 0:
            raise ValueError("Head rotations must be rotation matrices.")
        if not 0 < self.fps < 1000:
            raise ValueError(f"A frame rate of {self.fps} per second is not possible.")

    def __len__(self) -> int:
        return len(self.blendshapes)

    @property
    def seconds(self) -> float:
        """Length in seconds, at its frame rate."""
        return len(self) / self.fps

    def __getitem__(self, frames: slice) -> Motion:
        """Some of the frames, at the same frame rate; a step other than 1 makes the motion faster."""
        return replace(self, blendshapes=self.blendshapes[frames], head_rotation=self.head_rotation[frames])

    def between(self, start: float, end: float) -> Motion:
        """The part from second `start` to second `end`."""
        return self[round(start * self.fps) : round(end * self.fps)]

    def resampled(self, fps: float) -> Motion:
        """The same motion at another frame rate, interpolated (rotations by slerp)."""
        if fps == self.fps:
            return self
        count = max(round(self.seconds * fps), 1)
        positions = (torch.arange(count, dtype=torch.float64) * (self.fps / fps)).clamp_max(len(self) - 1)
        resampled = sampled(self.blendshapes, self.head_rotation, positions, fps)
        return replace(resampled, warnings=self.warnings, neutral=self.neutral)

    def expressions(self) -> Iterator[Expression]:
        """The expression of one frame after the other."""
        for blendshapes, rotation in zip(self.blendshapes, self.head_rotation, strict=True):
            yield Expression(blendshapes, rotation)


def sampled(blendshapes: Tensor, head_rotation: Tensor, positions: Tensor, fps: float) -> Motion:
    """The motion at fractional frame numbers `positions` [M] of blendshapes [N, 52] and rotations [N, 3, 3]."""
    before = positions.floor().long().clamp(0, len(blendshapes) - 1)
    after = (before + 1).clamp_max(len(blendshapes) - 1)
    share = (positions - before).to(blendshapes.dtype)
    return Motion(
        torch.lerp(blendshapes[before], blendshapes[after], share[:, None]),
        slerp(head_rotation[before], head_rotation[after], share),
        fps,
    )
