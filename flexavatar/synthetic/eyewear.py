"""Glasses before the eyes of the mean head: rims, bridge, temples to the ears, and lenses.

Metres of the canonical head frame: the eyes are at x +-0.031, y 0, their front at z 0.016.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.random import Generator

from flexavatar.synthetic.fabrics import cloth_color
from flexavatar.synthetic.sheets import Samples, Sheet, flipped, off_skin, plain, pushed_out, tube

HELD_OUT_GLASSES = ("cat_eye", "browline")
EAR = np.array([[0.0800, 0.0065, -0.076], [0.0785, -0.004, -0.094], [0.0735, -0.028, -0.104]])  # where temples lie


@dataclass(frozen=True)
class Frames:
    """The outline of one lens and what holds it; metres and shares."""

    wide: float  # half the width
    high: float  # half the height
    power: float  # 2 an ellipse, more is squarer
    thick: float  # radius of the rim
    top_wider: float = 0.0  # share that the upper edge is wider
    swept: float = 0.0  # share of the height that the outer upper corner rises
    rim: Literal["full", "upper", "none"] = "full"
    brow: float = 1.0  # thickness of the upper rim over that of the lower
    second_bridge: bool = False
    metal: bool = False


Kind = Callable[[Generator], Frames]


def _rim(r: Generator, wire: float) -> dict:
    metal = r.random() < wire
    return dict(metal=metal, thick=r.uniform(0.0006, 0.0010) if metal else r.uniform(0.0013, 0.0024))


GLASSES: dict[str, Kind] = {
    "round": lambda r: Frames((size := r.uniform(0.020, 0.0255)), size * r.uniform(0.95, 1.02), 2.0, **_rim(r, 0.6)),
    "oval": lambda r: Frames(r.uniform(0.022, 0.026), r.uniform(0.015, 0.019), 2.2, **_rim(r, 0.6)),
    "rectangle": lambda r: Frames(r.uniform(0.024, 0.028), r.uniform(0.014, 0.018), r.uniform(4, 6), **_rim(r, 0.4)),
    "square": lambda r: Frames(r.uniform(0.023, 0.027), r.uniform(0.019, 0.023), r.uniform(3.2, 5), **_rim(r, 0.3)),
    "wayfarer": lambda r: Frames(
        r.uniform(0.024, 0.028), r.uniform(0.018, 0.022), 3.4, r.uniform(0.0018, 0.0028), 0.10, 0.08, brow=1.3
    ),
    "cat_eye": lambda r: Frames(
        r.uniform(0.023, 0.027), r.uniform(0.017, 0.021), 2.8, r.uniform(0.0014, 0.0024), 0.06, r.uniform(0.25, 0.5),
        brow=1.4,
    ),
    "aviator": lambda r: Frames(
        r.uniform(0.026, 0.030), r.uniform(0.022, 0.026), 2.5, r.uniform(0.0006, 0.0010), 0.14, -0.06,
        second_bridge=True, metal=True,
    ),
    "browline": lambda r: Frames(
        r.uniform(0.023, 0.027), r.uniform(0.017, 0.021), 3.0, r.uniform(0.0006, 0.0009), 0.08, 0.06, brow=3.2
    ),
    "half_rim": lambda r: Frames(
        r.uniform(0.024, 0.028), r.uniform(0.014, 0.018), 4.0, r.uniform(0.0008, 0.0016), rim="upper",
        metal=r.random() < 0.7,
    ),
    "rimless": lambda r: Frames(
        r.uniform(0.023, 0.027), r.uniform(0.015, 0.019), r.uniform(2.5, 4), 0.0005, rim="none", metal=True
    ),
    "oversized": lambda r: Frames(
        r.uniform(0.0285, 0.0315), r.uniform(0.025, 0.029), r.uniform(2.2, 3.2), r.uniform(0.0014, 0.0024), 0.05,
        r.uniform(0, 0.12),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Glasses:
    """Glasses around the mean head."""

    frame: tuple[Sheet, ...]
    lenses: tuple[Sheet, ...]
    lens_opacity: float
    gloss: float


def make_glasses(frames: Frames, r: Generator) -> Glasses:
    """Their surfaces; clear lenses, tinted ones or sunglasses."""
    aside = max(0.0325 + r.normal() * 0.0008, frames.wide + r.uniform(0.0075, 0.0095))
    low = -0.004 - max(frames.high - 0.018, 0) * 0.6 + r.normal() * 0.0015
    wrap = r.uniform(2.2, 3.6)  # 1/metre: z falls off with x squared
    front = 0.031
    turn = np.linspace(-math.pi, math.pi, 73)
    p, q = _outline(frames, turn)
    rim = _place(p, q, 1, aside, low, front, wrap)
    thick = frames.thick * np.where(q > 0, 1 + (frames.brow - 1) * (q / frames.high).clip(0, 1) ** 0.5, 1.0)
    # Off cheeks, brows and nose; however far that is.
    for _ in range(4):
        lack = (thick + 0.0012 - off_skin(rim)).max()
        if lack <= 0:
            break
        front += lack
        rim = _place(p, q, 1, aside, low, front, wrap)
    metal = np.array([[0.72, 0.58, 0.32], [0.62, 0.62, 0.64], [0.12, 0.12, 0.13]][r.integers(3)])
    color = metal if frames.metal else _acetate(r)
    paint = _mottled(color, r) if not frames.metal and r.random() < 0.25 else plain(color)
    lower = plain(metal) if frames.brow > 2 else paint
    sheets: list[Sheet] = []
    lenses: list[Sheet] = []
    kind = r.random()
    sun = kind > 0.72
    tint, opacity = _lens(r, kind)
    fine = min(0.0011, max(0.0006, frames.thick * 0.8))
    for side in (1, -1):
        line = rim * [side, 1, 1]
        if frames.rim == "full":
            ring = tube(line, thick, 9)
            shown = (
                (lambda s: np.where((s.points[:, 1] > low)[:, None], paint(s), lower(s))) if frames.brow > 2 else paint
            )
            sheets.append(Sheet(ring, shown, spacing=fine))
        elif frames.rim == "upper":
            sheets.append(
                Sheet(tube(line[(turn > -0.25) & (turn < math.pi + 0.25)], frames.thick, 9), paint, spacing=fine)
            )
            sheets.append(Sheet(tube(line[turn <= -0.25], 0.0004, 7), plain(np.full(3, 0.5)), spacing=0.0004))
        else:
            sheets.append(Sheet(tube(line, 0.0004, 7), plain(np.full(3, 0.55)), spacing=0.0004))
        lenses.append(_disc(line, side, tint, sun))
        sheets += _temple(frames, line, turn, side, paint, r.uniform(0.0022, 0.0042), fine)
    sheets += _bridge(frames, rim, turn, low, paint, fine)
    return Glasses(tuple(sheets), tuple(lenses), opacity, 0.7)


def _outline(frames: Frames, turn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of the rim beside the middle of the lens: outwards and upwards, in metres."""
    cos, sin = np.cos(turn), np.sin(turn)
    p = frames.wide * np.sign(cos) * np.abs(cos) ** (2 / frames.power)
    q = frames.high * np.sign(sin) * np.abs(sin) ** (2 / frames.power)
    p = p * (1 + frames.top_wider * q / frames.high)
    outer = (p / frames.wide).clip(0, 1.2)
    return p, q + frames.swept * frames.high * outer**2 * ((q / frames.high) * 0.5 + 0.5).clip(0, 1)


def _place(p, q, side, aside, low, front, wrap) -> np.ndarray:
    x = aside + p
    return np.stack([side * x, low + q, front - wrap * x**2 + 0.10 * q], -1)


def _acetate(r: Generator) -> np.ndarray:
    if r.random() < 0.55:
        return np.full(3, r.uniform(0.02, 0.06))
    if r.random() < 0.5:
        return np.array([0.22, 0.11, 0.05]) * r.uniform(0.6, 1.8)
    return cloth_color(r)


def _mottled(color: np.ndarray, r: Generator) -> Callable[[Samples], np.ndarray]:
    """Tortoiseshell."""
    way, phase = r.normal(size=(4, 3)) * 320, r.uniform(0, 6, 4)
    other = np.array([0.55, 0.30, 0.10])
    return lambda s: color + (np.sin(s.points @ way.T + phase).sum(1) > 0.6)[:, None] * (other - color)


def _lens(r: Generator, kind: float) -> tuple[np.ndarray, float]:
    """Colour and opacity: 60 % clear, 12 % tinted, 28 % sunglasses."""
    if kind < 0.60:
        return np.array([0.5, 0.55, 0.57]), r.uniform(0.02, 0.06)
    if kind < 0.72:
        return cloth_color(r) * 0.7 + 0.1, r.uniform(0.25, 0.5)
    dark = np.array([[0.04, 0.04, 0.045], [0.09, 0.06, 0.035], [0.04, 0.07, 0.05]][r.integers(3)])
    return (dark if r.random() < 0.85 else cloth_color(r)), r.uniform(0.86, 0.97)


def _disc(line: np.ndarray, side: int, tint: np.ndarray, sun: bool) -> Sheet:
    middle = line[:-1].mean(0)
    v = np.linspace(0, 0.99, 14)
    points = middle + v[None, :, None] * (line - middle)[:, None]
    points[..., 2] += 0.0018 * (1 - v**2)
    shade = lambda s: 1 + (0.7 * ((middle[1] - s.points[:, 1]) / 0.02).clip(-0.5, 1) if sun else 0 * s.u)  # noqa: E731
    paint = lambda s: tint * shade(s)[:, None]  # noqa: E731
    return Sheet(points if side < 0 else flipped(points), paint, spacing=0.0011)


def _temple(frames: Frames, line, turn, side, paint, half, fine) -> list[Sheet]:
    """From the hinge at the outer upper edge to behind the ear."""
    hinge = line[np.abs(turn - 0.45).argmin()]
    ear = EAR * [side, 1, 1]
    start = hinge + [side * (0.002 + frames.thick), 0, -0.001]
    bent = start + [side * 0.0015, 0, -0.007]
    knots = np.array([hinge, start, bent, 0.5 * (bent + ear[0]) + [side * 0.003, 0.001, 0], *ear])
    t = np.concatenate([[0], np.linalg.norm(np.diff(knots, axis=0), axis=1).cumsum()])
    way = np.stack([np.interp(np.linspace(0, t[-1], 70), t, knots[:, k]) for k in range(3)], -1)
    thin = 0.0007 if frames.metal else 0.0012
    kernel = np.array([1, 2, 3, 2, 1]) / 9
    way[2:-2] = np.stack([np.convolve(way[:, k], kernel, "valid") for k in range(3)], -1)
    way = pushed_out(way, thin + 0.0012)
    half = 0.0008 if frames.metal else half
    along = np.gradient(way, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    out = np.cross([0, 1.0, 0], along) * side
    out = np.where((out[:, :1] * side) < 0, -out, out)
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    up = np.cross(along, out)
    angle = np.linspace(0, 2 * math.pi, 11)
    around = thin * np.cos(angle)[:, None] * out[:, None] + half * np.sin(angle)[:, None] * up[:, None]
    ring = way[:, None] + around
    return [Sheet(ring[:, ::-1], paint, spacing=max(fine, 0.0009))]


def _bridge(frames: Frames, rim, turn, low, paint, fine) -> list[Sheet]:
    inner = rim[np.abs(np.abs(turn) - (math.pi - 0.55)).argmin()]
    inner = rim[np.abs(turn - (math.pi - 0.55)).argmin()]
    sheets = []
    for rise, at in ((0.004, inner), *(((0.001, rim[np.abs(turn - 1.9).argmin()]),) if frames.second_bridge else ())):
        t = np.linspace(-1, 1, 21)
        line = np.stack([at[0] * t, at[1] + rise * (1 - t**2), at[2] + 0.002 * (1 - t**2)], -1)
        thick = max(frames.thick, 0.0008) * (1.1 if not frames.metal else 1.0)
        line = pushed_out(line, thick + 0.0008)
        sheets.append(Sheet(tube(line, thick, 9), paint, spacing=fine))
    return sheets
