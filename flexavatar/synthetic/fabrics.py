"""What clothes and hats are made of: colours and simple patterns, in metres on the cloth."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.random import Generator

from flexavatar.synthetic.sheets import Samples

Pattern = Literal["plain", "heather", "stripes", "bands", "checks", "dots", "flowers"]


@dataclass(frozen=True)
class FabricParams:
    """How often cloth has what."""

    dark: float = 0.35  # share of cloth that is black, navy or grey
    light: float = 0.2  # share that is white or cream
    patterned: float = 0.3  # share with a pattern
    grain: float = 0.035  # spread of brightness from splat to splat


PARAMS = FabricParams()


@dataclass(frozen=True)
class Fabric:
    """A cloth; colours are RGB 0..1 before light."""

    base: np.ndarray  # [3]
    second: np.ndarray  # [3]
    pattern: Pattern
    period: float  # metres
    seed: int

    def paint(self, s: Samples) -> np.ndarray:
        """RGB [S, 3] of places on it."""
        color = np.repeat(self.base[None], len(s.u), 0)
        a, b = s.a / self.period, s.b / self.period
        if self.pattern == "stripes":
            color[b % 1 < 0.5] = self.second
        elif self.pattern == "bands":
            color[b % 4 < 0.8] = self.second
        elif self.pattern == "checks":
            share = 0.5 * ((a % 1 < 0.5).astype(float) + (b % 1 < 0.5))
            color += share[:, None] * (self.second - color)
        elif self.pattern == "dots":
            color[np.hypot(a % 1 - 0.5, (b + 0.5 * (np.floor(a) % 2)) % 1 - 0.5) < 0.22] = self.second
        elif self.pattern == "flowers":
            p, q = a % 1 - 0.5, (b + 0.5 * (np.floor(a) % 2)) % 1 - 0.5
            angle, far = np.arctan2(q, p), np.hypot(p, q)
            color[far < 0.22 + 0.1 * np.cos(5 * angle + np.floor(a) + 2 * np.floor(b))] = self.second
            color[far < 0.07] = 0.5 * (self.base + 0.9)
        grain = np.random.default_rng(self.seed).normal(size=len(s.u))
        spread = PARAMS.grain * (3.0 if self.pattern == "heather" else 1.0)
        return color * np.exp(spread * grain)[:, None]

    def shaded(self, share: Callable[[Samples], np.ndarray]) -> Callable[[Samples], np.ndarray]:
        """Its paint times a brightness [S]."""
        return lambda s: self.paint(s) * share(s)[:, None]


def cloth_color(r: Generator) -> np.ndarray:
    """RGB [3] as people wear it: much black, navy, grey and white, the rest muted or vivid."""
    kind = r.random()
    if kind < PARAMS.dark:
        color = r.uniform(0.02, 0.2) * np.array([[1, 1, 1], [0.55, 0.7, 1.5], [1.2, 1.0, 0.8]][r.integers(3)])
    elif kind < PARAMS.dark + PARAMS.light:
        color = r.uniform(0.65, 0.93) * np.array([[1, 1, 1], [1, 0.95, 0.84]][r.integers(2)])
    else:
        hue, vivid = r.uniform(0, 2 * math.pi), r.uniform(0.15, 0.85)
        wheel = 0.5 + 0.5 * np.cos(hue + np.array([0, -2.09, 2.09]))
        color = r.uniform(0.15, 0.8) * (1 - vivid + vivid * wheel)
    return np.clip(color, 0.02, 0.95)


def draw_fabric(r: Generator, patterned: float | None = None) -> Fabric:
    """A cloth; `patterned` is the chance of a pattern."""
    base = cloth_color(r)
    kinds: list[Pattern] = ["heather", "stripes", "bands", "checks", "dots", "flowers"]
    with_pattern = r.random() < (PARAMS.patterned if patterned is None else patterned)
    pattern: Pattern = kinds[r.integers(len(kinds))] if with_pattern else "plain"
    contrast = cloth_color(r)
    second = contrast if r.random() < 0.6 else (base * r.choice([0.55, 1.6])).clip(0.02, 0.95)
    return Fabric(base, second, pattern, float(r.uniform(0.012, 0.035)), int(r.integers(2**31)))


def folds(r: Generator, wide: float, deep: float, drawn: float = 3.0) -> Callable[[Samples], np.ndarray]:
    """Smooth wrinkles as metres [S] off the cloth: `wide` metres apart, `deep` metres, `drawn` out downwards.

    They are waves in space, so that a surface that closes has no seam.
    """
    way = r.normal(size=(5, 3)) * [1.0, 1 / drawn, 1.0]
    way *= 2 * math.pi / wide * np.exp(0.3 * r.normal(size=(5, 1))) / np.linalg.norm(way, axis=1, keepdims=True)
    phase = r.uniform(0, 2 * math.pi, 5)
    bend = 2 * math.pi / (3.5 * wide) * r.normal(size=(5, 3))

    def height(s: Samples) -> np.ndarray:
        waves = np.sin(s.points @ way.T + phase + 1.4 * np.sin(s.points @ bend.T))
        return deep * waves.sum(1) / 2.5

    return height


def creased(fabric: Fabric, height: Callable[[Samples], np.ndarray], deep: float) -> Callable[[Samples], np.ndarray]:
    """The paint of a cloth with folds: what lies deep is darker."""
    return fabric.shaded(lambda s: 0.88 + 0.16 * (height(s) / max(deep, 1e-6)).clip(-1, 1))


def knit(fabric: Fabric, ribs: float, deep: float):
    """Paint and bump of ribbed knit, `ribs` a whole turn (u from 0 to 1) and `deep` metres."""
    wave = lambda s: np.cos(2 * math.pi * ribs * s.u)  # noqa: E731
    paint = fabric.shaded(lambda s: 0.80 + 0.2 * wave(s) + 0.05 * np.cos(2 * math.pi * s.b / 0.0045))
    return paint, lambda s: deep * wave(s)
