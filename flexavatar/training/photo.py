"""What cameras and files do to pictures."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

GAIN, TINT, GAMMA = 0.3, 0.06, 0.2  # spread of the logarithms of a camera's tone
SHOULDER = 0.8  # brightness from which highlights roll off
BLUR, NOISE, QUALITY = (0.3, 1.2), (0.0, 0.02), (45, 98)  # pixels; of 0..1; JPEG
FLAW_SHARE = 0.5  # share of photos with each flaw


@dataclass(frozen=True)
class Tone:
    """The tone curve of a camera: x -> gain * x ** gamma, rolling off at white."""

    gain: Tensor  # [3] RGB
    gamma: float

    @staticmethod
    def sample(generator: torch.Generator, strength: float = 1.0) -> Tone:
        """A random tone; `strength` 0 is none."""
        normal = strength * torch.randn(5, generator=generator)
        gain = torch.exp(GAIN * normal[0].clamp(-1.5, 1.2) + TINT * normal[1:4])
        return Tone(gain, float(torch.exp(GAMMA * normal[4])))

    def __call__(self, colors: Tensor) -> Tensor:
        """RGB [..., 3] in 0..1 -> the same."""
        bright = self.gain * colors.clamp(1e-4, 1) ** self.gamma
        over = 1 - SHOULDER
        rolled = SHOULDER + over * (1 - torch.exp(-(bright - SHOULDER).clamp_min(0) / over))
        return torch.where(bright > SHOULDER, rolled, bright)


def flawed(picture: np.ndarray, generator: torch.Generator) -> np.ndarray:
    """A photo [S, S, 3] in 0..1 as a file of a camera, uint8."""

    def drawn(limits: tuple[float, float]) -> float | None:
        share, value = torch.rand(2, generator=generator).tolist()
        return limits[0] + (limits[1] - limits[0]) * value if share < FLAW_SHARE else None

    blur, noise, quality = drawn(BLUR), drawn(NOISE), drawn(QUALITY)
    if blur is not None:
        picture = cv2.GaussianBlur(picture, (0, 0), blur)
    if noise is not None:
        picture = picture + noise * torch.randn(picture.shape, generator=generator).numpy()
    pixels = (picture.clip(0, 1) * 255 + 0.5).astype(np.uint8)
    if quality is not None:
        stored = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(quality)])[1]
        pixels = np.asarray(cv2.imdecode(stored, cv2.IMREAD_COLOR))[..., ::-1]
    return np.ascontiguousarray(pixels)
