"""Earrings on the mean head: studs, hoops and drops."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.random import Generator

from flexavatar.synthetic.fabrics import cloth_color
from flexavatar.synthetic.hair import Ground
from flexavatar.synthetic.sheets import Sheet, ball, off_skin, plain, tube

HELD_OUT_EARRINGS = ("drop_long",)
LOBE = (0.069, -0.0455, -0.080)  # metres, mean head: where ears are pierced, about
METALS = ((0.78, 0.62, 0.33), (0.72, 0.72, 0.74), (0.70, 0.48, 0.38))

Kind = Callable[[Generator, np.ndarray], list[Sheet]]


@lru_cache(maxsize=1)
def _lobe() -> np.ndarray:
    """The place [3] of the left lobe's outside."""
    ground = Ground.load()
    outside = ground.normals[:, 0] > 0.4
    return ground.places[outside][np.linalg.norm(ground.places[outside] - LOBE, axis=1).argmin()]


def earrings(kind: str, r: Generator) -> list[Sheet]:
    """A pair, seldom a single one, of EARRINGS."""
    metal = np.array(METALS[r.integers(3)]) * r.uniform(0.8, 1.15)
    made = EARRINGS[kind](r, metal)
    sides = [1, -1] if r.random() < 0.9 else [1 if r.random() < 0.5 else -1]
    return [
        Sheet(
            sheet.points * [side, 1, 1] if side > 0 else (sheet.points * [side, 1, 1])[::-1],
            sheet.paint,
            spacing=sheet.spacing,
        )
        for side in sides
        for sheet in made
    ]


def _stud(r: Generator, metal: np.ndarray) -> list[Sheet]:
    size = r.uniform(0.0016, 0.0042)
    color = metal if r.random() < 0.5 else np.array([0.92, 0.90, 0.87]) if r.random() < 0.6 else cloth_color(r)
    return [Sheet(ball(_lobe() + [0.5 * size, 0, 0.2 * size], size), plain(color), spacing=max(0.00045, size / 5))]


def _hoop(r: Generator, metal: np.ndarray, low: float, high: float) -> list[Sheet]:
    radius, thick = r.uniform(low, high), r.uniform(0.0007, 0.0018)
    turn = np.linspace(0, 2 * math.pi, 60)
    yaw = r.uniform(0.0, 0.5)
    ring = np.stack(
        [radius * np.sin(turn) * math.sin(yaw), radius * (np.cos(turn) - 1), radius * np.sin(turn) * math.cos(yaw)], -1
    )
    line = _lobe() + [0.0006, 0.002, 0] + ring
    return [Sheet(tube(_swung(line, thick), thick, 11), plain(metal), spacing=max(0.00035, 0.45 * thick))]


def _swung(line: np.ndarray, thick: float) -> np.ndarray:
    """A line [N, 3] that hangs from the lobe, swung out until it touches neither jaw nor neck."""
    depth = _lobe()[1] + 0.002 - line[:, 1]
    share = (depth / 0.01).clip(0, 1)
    for _ in range(6):
        lack = ((thick + 0.0008 - off_skin(line)) * (depth > 0.008)).max()
        if lack <= 0:
            break
        line = line + [0.5 * lack + 0.0005, 0, 0] * share[:, None]
    return line


def _drop(r: Generator, metal: np.ndarray, low: float, high: float) -> list[Sheet]:
    length, size = r.uniform(low, high), r.uniform(0.002, 0.006)
    t = np.linspace(0, 1, 24)
    chain = _swung(_lobe() + [0.001, 0.0, 0.001] - np.array([0, 1, 0]) * (length * t)[:, None], size)
    color = metal if r.random() < 0.4 else cloth_color(r)
    sheets = [Sheet(tube(chain, 0.0005, 7), plain(metal), spacing=0.0004)]
    drawn = r.uniform(1.0, 2.2)
    bead = ball(np.zeros(3), size) * [1, drawn, 1] + chain[-1] - [0, size, 0]
    sheets.append(Sheet(bead, plain(color), spacing=0.0007))
    if r.random() < 0.4:
        sheets.append(Sheet(ball(chain[8], 0.5 * size), plain(color), spacing=0.0007))
    return sheets


EARRINGS: dict[str, Kind] = {
    "stud": _stud,
    "hoop_small": lambda r, metal: _hoop(r, metal, 0.005, 0.009),
    "hoop_large": lambda r, metal: _hoop(r, metal, 0.014, 0.028),
    "drop_short": lambda r, metal: _drop(r, metal, 0.010, 0.02),
    "drop_long": lambda r, metal: _drop(r, metal, 0.025, 0.045),
}
