"""Temporal smoothing that keeps still things still and fast things fast."""

from __future__ import annotations

import math

import numpy as np


class OneEuro:
    """The One-Euro filter (Casiez, Roussel, Vogel 2012) on arrays of any shape, one call per frame.

    A low-pass filter whose cutoff rises with speed: `cutoff` Hz at rest, plus `beta` Hz for every unit a
    second. Units are the values' own.
    """

    def __init__(self, fps: float, cutoff: float = 0.7, beta: float = 60.0, speed_cutoff: float = 1.5) -> None:
        if fps <= 0:
            raise ValueError("The frame rate must be positive.")
        self._step = 1 / fps
        self._cutoff, self._beta, self._speed_cutoff = cutoff, beta, speed_cutoff
        self._value: np.ndarray | None = None
        self._speed: np.ndarray | None = None

    def __call__(self, value: np.ndarray) -> np.ndarray:
        if self._value is None or self._speed is None:
            self._value, self._speed = value, np.zeros_like(value)
            return value
        speed = (value - self._value) / self._step
        self._speed = self._speed + self._share(self._speed_cutoff) * (speed - self._speed)
        # All points share the cutoff of their common motion: a face is one body, and single points flicker.
        pace = float(np.median(np.abs(self._speed)))
        local = np.abs(self._speed)
        share = self._share(self._cutoff + self._beta * np.maximum(local, pace))
        self._value = self._value + share * (value - self._value)
        return self._value

    def _share(self, cutoff):
        tau = 1 / (2 * math.pi * cutoff)
        return 1 / (1 + tau / self._step)
