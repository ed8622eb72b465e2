"""Several photos of one head differ in light and are tracked a little apart: gains and small motions of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from flexavatar.fitting.fit import moved
from flexavatar.gaussians import Gaussians
from flexavatar.tracking import TrackedFace

MOTION_RATE, TONE_RATE = 5e-4, 5e-3  # radians and metres; logarithm of gains
MOTION_PULL, TONE_PULL = 1.0, 0.02
DARKEST = 0.02  # of colours whose ratio is asked for


class Alignment:
    """Gains and motions of V views, learned; those of the view `base` stay as they are: it has the avatar's light."""

    def __init__(self, faces: Sequence[TrackedFace], base: int) -> None:
        count = len(faces)
        self._base, self._count = base, count
        self._motions = torch.zeros(count, 6, requires_grad=count > 1)
        tones = torch.stack([_tone(face) for face in faces])
        self._start = tones[base] - tones
        self._tones = self._start.clone().requires_grad_(count > 1)

    def groups(self) -> list[dict[str, Any]]:
        """For an optimiser; none where there is one view."""
        if self._count == 1:
            return []
        return [{"params": [self._motions], "lr": MOTION_RATE}, {"params": [self._tones], "lr": TONE_RATE}]

    def moved(self, gaussians: Gaussians, index: int) -> Gaussians:
        """Gaussians [G] as the view `index` has them."""
        if index == self._base:
            return gaussians
        return moved(gaussians._map(lambda t: t[None]), self._motions[index][None])[0]

    def toned(self, image: Tensor, index: int) -> Tensor:
        """The photo [3, H, W] in the light of the base."""
        if index == self._base:
            return image
        return (image * self._tones[index].exp()[:, None, None]).clamp(0, 1)

    def pull(self) -> Tensor:
        return MOTION_PULL * self._motions.square().mean() + TONE_PULL * (self._tones - self._start).square().mean()


def _tone(face: TrackedFace) -> Tensor:
    """Median logarithm [3] of the colours of a face."""
    outline = cv2.convexHull(face.landmarks.astype(np.int32))
    inside = cv2.fillConvexPoly(np.zeros(face.matte.shape, np.uint8), outline, 1) > 0
    colors = torch.from_numpy(face.image[inside] / 255).float()
    return colors.clamp_min(DARKEST).log().median(0).values
