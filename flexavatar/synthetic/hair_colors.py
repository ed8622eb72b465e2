"""Colours of people's hair, strand by strand and along the strands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

DYED, TIPPED, STREAKED, GREYING, PARTED = 0.05, 0.10, 0.18, 0.16, 0.015  # shares of heads
ANY_TINT = np.array([[0.55, 0.08, 0.10], [0.20, 0.25, 0.62], [0.75, 0.35, 0.55], [0.10, 0.45, 0.45], [0.42, 0.18, 0.55],
                     [0.80, 0.45, 0.15], [0.25, 0.55, 0.25], [0.85, 0.82, 0.78], [0.50, 0.05, 0.25]])  # fmt: skip


@dataclass(frozen=True)
class HairColor:
    """How one head's hair is coloured; colours are RGB 0..1 before light."""

    base: np.ndarray  # [3]
    spread: float  # of brightness from strand to strand
    lock_spread: float  # and from lock to lock
    roots: float  # brightness at the root
    root_length: float  # share of the strand
    tip: np.ndarray  # [3]
    tip_from: float  # share of the strand where the tips' colour begins; over 1: none
    streak: np.ndarray  # [3]
    streaked: float  # share of locks
    grey: np.ndarray  # [3]
    greyed: float  # share of strands
    other_half: np.ndarray | None  # [3] beyond the middle

    @property
    def at_root(self) -> np.ndarray:
        """[3], as the scalp shows it."""
        return (self.base * (1 - self.greyed) + self.grey * self.greyed) * min(self.roots, 1.0)

    @property
    def mean(self) -> np.ndarray:
        """[3] of all strands."""
        mixed = self.base * (1 - self.streaked) + self.streak * self.streaked
        return mixed * (1 - self.greyed) + self.grey * self.greyed

    def paint(self, r: Generator, strand: np.ndarray, lock: np.ndarray, along: np.ndarray, x: np.ndarray) -> np.ndarray:
        """RGB [N, 3] of N places: their strand, its lock, 0 root to 1 tip, and the root's x in metres."""
        strands, locks = strand.max() + 1, lock.max() + 1
        tone = (
            np.exp(self.spread * r.normal(size=strands))[strand] * np.exp(self.lock_spread * r.normal(size=locks))[lock]
        )
        color = np.repeat(self.base[None], len(strand), 0)
        if self.other_half is not None:
            color[x > 0] = self.other_half
        streaked = (r.random(locks) < self.streaked)[lock] & (r.random(strands) < 0.8)[strand]
        color[streaked] = self.streak
        start = self.tip_from + 0.1 * r.normal(size=strands)[strand]
        color += ((along - start) / 0.25).clip(0, 1)[:, None] * (self.tip - color)
        grey = ((r.random(strands) < self.greyed) * r.uniform(0.4, 1.0, strands))[strand, None]
        color += grey * (self.grey - color)
        rooted = self.roots + (1 - self.roots) * (along / self.root_length).clip(0, 1)
        warm = 1 + 0.05 * r.normal(size=(strands, 3))[strand]
        return (color * warm * (tone * rooted)[:, None]).clip(0.03, 1)


def draw_color(r: Generator, base: np.ndarray, natural: bool = False) -> HairColor:
    """A head's colours around a natural one [3]; `natural`: without dye."""
    brightness = float(base.mean())
    if r.random() < DYED and not natural:
        base = (ANY_TINT[r.integers(len(ANY_TINT))] * np.exp(0.2 * r.normal(size=3))).clip(0.02, 0.9)
    lighter = (base ** r.uniform(0.6, 0.85) * [1.0, 0.93, 0.82]).clip(0.02, 0.9)
    tipped = r.random() < TIPPED and not natural
    vivid = r.random() < 0.3
    return HairColor(
        base=base,
        spread=r.uniform(0.08, 0.2),
        lock_spread=r.uniform(0.04, 0.16),
        roots=r.uniform(0.6, 1.0),
        root_length=r.uniform(0.1, 0.5),
        tip=ANY_TINT[r.integers(len(ANY_TINT))]
        if tipped and vivid
        else lighter
        if tipped
        else base ** r.uniform(0.88, 1),
        tip_from=r.uniform(0.25, 0.7) if tipped else 0.8,
        streak=lighter,
        streaked=r.uniform(0.1, 0.5) if r.random() < STREAKED and not natural else 0.0,
        grey=np.full(3, r.uniform(0.55, 0.85)) * [1.0, 0.99, 0.96],
        greyed=r.uniform(0.05, 0.9) if r.random() < GREYING and brightness < 0.4 else 0.0,
        other_half=ANY_TINT[r.integers(len(ANY_TINT))] if r.random() < PARTED and not natural else None,
    )
