"""Caps, beanies, brimmed hats and berets, each family with continuous ranges, laid around the mean head.

Heights and lengths are metres of the canonical head frame on the mean head: the forehead's hairline is at y 0.07, the
brows at 0.01, the ears from -0.05 to 0.005 at z -0.08, the nape's hairline at -0.06, the crown at 0.116.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.random import Generator

from flexavatar.rig.regions import smooth_step
from flexavatar.synthetic.fabrics import Fabric, cloth_color, creased, draw_fabric, folds, knit
from flexavatar.synthetic.sheets import (
    Dome,
    Frame,
    Samples,
    Sheet,
    ball,
    flipped,
    plain,
    pushed_out,
    tube,
)


@dataclass(frozen=True)
class Headwear:
    """What is worn on a head."""

    sheets: tuple[Sheet, ...]
    inside: tuple[Dome, ...]  # what presses the hair
    hair: Literal["pressed", "hidden"]  # does hair come out from under it
    on_torso: bool = False  # it lies on the shoulders too
    moving: bool = False  # it lies on the jaw and moves with it
    unseen: float = 0.1  # share of the way from the edge to the top from which on no hair under it is seen
    fabric: Fabric | None = None  # of which its garment is made as well


Kind = Callable[[Generator], Headwear]


def edge_line(front: float, back: float, side: float = 0.0):
    """Heights over a line from `front` (at z 0.02) to `back` (at z -0.17); `side` raises it over the ears."""

    def height(points: np.ndarray, azimuth: np.ndarray) -> np.ndarray:
        share = (points[..., 2] + 0.17) / 0.19
        return points[..., 1] - (back + (front - back) * share + side * np.sin(azimuth) ** 2)

    return height


def even_offset(metres: float, top: float = 0.0, edge: float | None = None):
    """Offsets: `metres` on the sides, so much more at the top, `edge` where it begins."""
    first = metres if edge is None else edge
    return lambda a, v: first + (metres - first) * smooth_step(v, 0.0, 0.2) + top * smooth_step(v, 0.15, 1.0)


def _cap(r: Generator, backwards: bool) -> Headwear:
    fabric, deep = draw_fabric(r, 0.1), r.uniform(0.007, 0.011)
    front = fabric if r.random() < 0.7 else draw_fabric(r, 0.0)
    turn = 180.0 if backwards else r.normal() * 4
    frame = Frame.tilted(r.uniform(4, 12) * (0.5 if backwards else 1), r.normal() * 1.5, turn)
    height = r.uniform(0.040, 0.056) + (0.006 if backwards else 0)
    low = edge_line(height, r.uniform(-0.030, -0.005), 0.006) if not backwards else edge_line(height, -0.012, 0.008)
    tall = r.uniform(0.008, 0.026)
    offset = lambda a, v: (  # noqa: E731
        deep + (0.4 * tall + 0.6 * tall * np.cos(a).clip(0, 1)) * smooth_step(v, 0.05, 0.75) * (1 - 0.25 * v)
    )
    dome = Dome.over(frame, low, offset)
    is_front = lambda s: np.abs(s.u - 0.5) < 1 / 6  # noqa: E731
    logo, logo_size, round_ = cloth_color(r), r.uniform(0.010, 0.02), r.random() < 0.5
    with_logo = r.random() < 0.6

    def paint(s: Samples) -> np.ndarray:
        color = np.where(is_front(s)[:, None], front.paint(s), fabric.paint(s))
        color = color * np.where(np.abs((6 * s.u) % 1 - 0.5) > 0.5 - 0.012 / (1.15 - s.v), 0.72, 1.0)[:, None]
        color = color * (0.8 + 0.2 * smooth_step(s.v, 0.0, 0.06))[:, None]
        if with_logo:
            x, y = (s.u - 0.5) * 0.58, s.b - 0.038
            shape = np.hypot(x, y) if round_ else np.maximum(np.abs(x) * 0.6, np.abs(y))
            color[shape < logo_size] = logo
        return color

    gap = r.uniform(0.026, 0.034)  # over the strap, at the back of the cap
    away = lambda s: np.hypot((np.abs(s.u - 0.5) - 0.5) * 0.56, s.b - 0.012)  # noqa: E731
    kept = lambda s: (away(s) > gap) | (s.b < 0.014)  # noqa: E731
    sheets = [Sheet(dome.points, paint, kept=kept, spacing=0.0017)]
    points = dome.points
    sheets.append(
        Sheet(ball(points[:, -1].mean(0) + 0.001 * frame.up, 0.0055), plain(fabric.base * 0.8), spacing=0.0012)
    )
    sheets += _bill(r, dome, front if r.random() < 0.3 else fabric, backwards)
    return Headwear(tuple(sheets), (dome,), "pressed", unseen=0.33)


def _bill(r: Generator, dome: Dome, fabric: Fabric, backwards: bool) -> list[Sheet]:
    half, length = math.radians(r.uniform(52, 62)), r.uniform(0.058, 0.075)
    curve = r.uniform(0.0, 0.032)
    droop = r.uniform(0.10, 0.32) + (0.2 if backwards else 0)
    azimuth = np.linspace(-half, half, 49)
    edge = np.stack([np.interp(azimuth, dome.azimuth, dome.points[:, 0, k]) for k in range(3)], -1)
    out = np.sqrt((1 - (azimuth / half) ** 2).clip(0, 1)) * length + 0.002
    v = np.linspace(0, 1, 20)
    forward, up = dome.frame.forward, dome.frame.up
    way = forward - droop * up
    way = way / np.linalg.norm(way)
    aside = ((edge - edge[24]) @ dome.frame.left)[:, None] / 0.07
    points = edge[:, None] - 0.004 * forward + (out[:, None] * v)[..., None] * way
    points = points - (curve * aside**2 * v)[..., None] * up
    thick = 0.0022
    line = lambda s: 0.9 + 0.1 * np.cos(2 * math.pi * s.v * 7).clip(-0.3, 1)  # noqa: E731
    under = plain(fabric.base * 0.6)
    top = points + thick * up
    rim = np.stack([top[:, -1], points[:, -1]], 1)
    return [
        Sheet(flipped(top), fabric.shaded(line), spacing=0.0014),
        Sheet(points, under, spacing=0.0016),
        Sheet(flipped(rim), plain(fabric.base * 0.8), spacing=0.001),
    ]


def _beanie(r: Generator, cuffed: bool) -> Headwear:
    fabric = draw_fabric(r, 0.35)
    frame = Frame.tilted(r.uniform(8, 20), r.normal() * 2)
    low = edge_line(r.uniform(0.034, 0.052), r.uniform(-0.055, -0.03), r.uniform(-0.006, 0.014))
    ribs = int(r.uniform(55, 110))
    thick = r.uniform(0.006, 0.010)
    slouch = 0.0 if cuffed else r.uniform(0.035, 0.07)
    dome = Dome.over(frame, low, even_offset(thick, r.uniform(0.0, 0.012) if cuffed else 0.35 * slouch))
    points = dome.points
    if slouch:
        share = smooth_step(np.linspace(0, 1, points.shape[1]), 0.35, 1.0)[None, :, None]
        behind = (0.5 - 0.5 * np.cos(dome.azimuth))[:, None, None]
        points = points + slouch * share * (0.4 + 0.6 * behind) * np.array([r.normal() * 0.15, 0.12, -0.85])
        points = pushed_out(points, thick)
    paint, bump = knit(fabric, ribs, 0.0009)
    if slouch:
        crumple = folds(r, 0.045, 0.0035)
        knitted, ribbed = paint, bump
        paint = lambda s: knitted(s) * (1 + 35 * crumple(s))[:, None]  # noqa: E731
        bump = lambda s: ribbed(s) + crumple(s) * smooth_step(s.v, 0.15, 0.4)  # noqa: E731
    sheets = [Sheet(points, paint, bump)]
    band = r.uniform(0.04, 0.065) if cuffed else r.uniform(0.018, 0.03)
    sheets += _cuff(
        dome, band, 0.0045 if cuffed else 0.0015, knit(fabric if r.random() < 0.8 else draw_fabric(r), ribs, 0.001)
    )
    if cuffed and r.random() < 0.3:
        tuft = fabric.base if r.random() < 0.5 else cloth_color(r)
        size = r.uniform(0.02, 0.035)
        seed = int(r.integers(2**31))
        shaggy = lambda s: 0.35 * size * (np.random.default_rng(seed).random(len(s.u)) - 0.7)  # noqa: E731
        grain = lambda s: tuft * np.exp(0.2 * np.random.default_rng(seed + 1).normal(size=(len(s.u), 1)))  # noqa: E731
        sheets.append(Sheet(ball(points[:, -1].mean(0) + 0.95 * size * frame.up, size), grain, shaggy, spacing=0.0011))
    return Headwear(tuple(sheets), (dome,), "pressed")


def _cuff(dome: Dome, high: float, off: float, made) -> list[Sheet]:
    """A band along the edge of a dome that stands `off` it, and its rolled edges."""
    step = np.linalg.norm(np.diff(dome.points, axis=1), axis=-1)
    along = np.concatenate([np.zeros((len(step), 1)), step.cumsum(1)], 1)
    v = np.linspace(-0.06, 1, 16)
    out = dome.frame.directions(np.broadcast_to(dome.azimuth[:, None], (len(dome.azimuth), 16)), np.zeros((1, 16)))
    swell = np.sqrt((1 - ((v - 0.47) / 0.53) ** 2).clip(0, 1)) ** 0.5
    points = np.empty((len(dome.azimuth), 16, 3))
    for i, row in enumerate(along):
        for k in range(3):
            points[i, :, k] = np.interp(v * high, row, dome.points[i, :, k])
    points = points + (off * swell)[None, :, None] * out
    points[:, 0] = dome.points[:, 0] - 0.001 * out[:, 0]
    points = pushed_out(points, 0.003)
    paint, bump = made
    return [
        Sheet(points, lambda s: paint(s) * (0.75 + 0.25 * np.sin(np.pi * s.v.clip(0.03, 0.97)) ** 0.5)[:, None], bump)
    ]


def _brimmed(
    r: Generator, fabric: Fabric, brim: float, rise: Callable[[np.ndarray, np.ndarray], np.ndarray], crown: float,
    taper: float, dent: float, pinch: float, straw: bool, front: float, tilt: float, wide: float = 0.0,
) -> Headwear:  # fmt: skip
    """A crown with a brim; `rise(azimuth, v)` metres that the brim rises at the share v of its width."""
    frame = Frame.tilted(tilt, r.normal() * 2)
    low = edge_line(front, r.uniform(-0.012, 0.004), 0.004)
    inner = Dome.over(frame, low, even_offset(0.007, 0.004))
    edge, up = inner.points[:, 0], frame.up
    middle = edge[:-1].mean(0)
    # The crown's height over the edge at each azimuth, so that its top is level.
    v = np.linspace(0, 1, 44)
    wall = smooth_step(v, -0.02, 0.62)
    shrink = 1 - taper * wall - (1 - taper) * smooth_step(v, 0.58, 1.0)
    level = (edge - middle) @ up
    flat_edge = edge - level[:, None] * up
    around = flat_edge - middle
    points = middle + around[:, None] * (shrink + wide * np.sin(np.pi * wall.clip(0, 1)) ** 2)[None, :, None]
    rise_top = np.sin(0.5 * np.pi * (v / 0.66).clip(0, 1))
    lift = level[:, None] * (1 - wall) + crown * rise_top
    x = ((points - middle) @ frame.left) / 0.075
    z = ((points - middle) @ frame.forward) / 0.095
    crease = dent * np.exp(-((x / 0.33) ** 2)) * (1 - 0.35 * z**2) * smooth_step(v, 0.5, 0.72)
    points = points + (lift - crease)[..., None] * up
    side = (
        pinch
        * np.exp(-(((np.abs(x) - 0.62) / 0.3) ** 2))
        * np.exp(-(((z - 0.75) / 0.4) ** 2))
        * smooth_step(v, 0.2, 0.6)
    )
    points = points - (side * np.sign(x))[..., None] * frame.left
    points = pushed_out(points, 0.005)
    weave = (lambda s: 0.88 + 0.12 * np.cos(2 * math.pi * s.b / 0.0055)) if straw else (lambda s: np.ones(len(s.u)))  # noqa: E731
    band_color, band_high = cloth_color(r), r.uniform(0.012, 0.035)
    banded = r.random() < 0.85

    def paint(s: Samples) -> np.ndarray:
        color = fabric.paint(s) * weave(s)[:, None]
        if banded:
            color = np.where(
                (s.b < band_high)[:, None], band_color * (0.93 + 0.07 * np.cos(s.b * 2500))[:, None], color
            )
        return color * (0.8 + 0.2 * smooth_step(s.b, 0.0, 0.004))[:, None]

    out = around / np.linalg.norm(around, axis=1, keepdims=True)
    w = np.linspace(0, 1, 30)
    azimuth = inner.azimuth[:, None]
    lying = (
        edge[:, None] - 0.003 * out[:, None] + brim * w[None, :, None] * out[:, None] + rise(azimuth, w)[..., None] * up
    )
    # Not through the shoulders, however far it hangs down.
    lying = pushed_out(lying, np.minimum(0.004 + 0 * w, 0.02)[None] * np.ones((len(edge), 1)))
    lying[..., 0] = lying[..., 0].clip(-0.235, 0.235)
    top = lying + 0.0022 * up
    ring = np.stack([top[:, -1], lying[:, -1]], 1)
    over = fabric.shaded(lambda s: weave(s) * (0.85 + 0.15 * smooth_step(s.v, 0.0, 0.15)))
    under = fabric.shaded(lambda s: 0.62 * weave(s) * (0.7 + 0.3 * s.v))
    return Headwear(
        (
            Sheet(points, paint, spacing=0.0017),
            Sheet(flipped(top), over, spacing=0.0017),
            Sheet(lying, under, spacing=0.0019),
            Sheet(flipped(ring), plain(fabric.base * 0.8), spacing=0.001),
        ),
        (inner,),
        "pressed",
    )


def _fedora(r: Generator) -> Headwear:
    fabric = draw_fabric(r, 0.05)
    front, back, side = r.uniform(-0.014, 0.004), r.uniform(0.0, 0.014), r.uniform(0.0, 0.016)
    rise = lambda a, v: v**1.6 * (front * np.cos(a).clip(0, 1) + back * (-np.cos(a)).clip(0, 1) + side * np.sin(a) ** 2)  # noqa: E731
    return _brimmed(
        r, fabric, r.uniform(0.04, 0.065), rise, r.uniform(0.095, 0.115), r.uniform(0.12, 0.2), r.uniform(0.010, 0.022),
        r.uniform(0.004, 0.012), r.random() < 0.25, r.uniform(0.042, 0.055), r.uniform(3, 10),
    )  # fmt: skip


def _sun_hat(r: Generator) -> Headwear:
    straw = r.random() < 0.65
    fabric = draw_fabric(r, 0.0)
    if straw:
        fabric = Fabric(
            np.array([0.78, 0.62, 0.38]) * r.uniform(0.75, 1.15), fabric.second, "heather", 0.01, fabric.seed
        )
    droop, waves, phase = r.uniform(0.012, 0.045), int(r.uniform(2, 6)), r.uniform(0, 6)
    floppy = r.uniform(0.0, 0.010)
    rise = lambda a, v: -droop * v**1.8 + floppy * v**2 * np.sin(waves * a + phase)  # noqa: E731
    return _brimmed(
        r, fabric, r.uniform(0.075, 0.12), rise, r.uniform(0.085, 0.10), r.uniform(0.1, 0.25), 0.0, 0.0, straw,
        r.uniform(0.045, 0.056), r.uniform(5, 14),
    )  # fmt: skip


def _cowboy(r: Generator) -> Headwear:
    fabric = draw_fabric(r, 0.0)
    if r.random() < 0.7:
        tone = np.array([[0.35, 0.22, 0.12], [0.62, 0.48, 0.30], [0.05, 0.05, 0.05], [0.8, 0.75, 0.65]][r.integers(4)])
        fabric = Fabric(tone, tone, "plain", 0.02, fabric.seed)
    side, dip = r.uniform(0.030, 0.055), r.uniform(0.008, 0.02)
    rise = lambda a, v: v**1.7 * (side * np.sin(a) ** 4 - dip * np.cos(a) ** 2)  # noqa: E731
    return _brimmed(
        r, fabric, r.uniform(0.07, 0.095), rise, r.uniform(0.11, 0.13), r.uniform(0.1, 0.2), r.uniform(0.018, 0.03),
        r.uniform(0.010, 0.016), r.random() < 0.2, r.uniform(0.045, 0.055), r.uniform(4, 10),
    )  # fmt: skip


def _bucket(r: Generator) -> Headwear:
    down = r.uniform(0.025, 0.04)
    return _brimmed(
        r, draw_fabric(r, 0.4), r.uniform(0.03, 0.045), lambda a, v: -down * v + 0 * a, r.uniform(0.078, 0.09), 0.18,
        0.0, 0.0, False, r.uniform(0.04, 0.052), r.uniform(6, 12),
    )  # fmt: skip


def _beret(r: Generator) -> Headwear:
    fabric = draw_fabric(r, 0.05)
    roll, side = r.uniform(8, 20), 1 if r.random() < 0.5 else -1
    frame = Frame.tilted(r.uniform(4, 14), side * roll)
    dome = Dome.over(frame, edge_line(r.uniform(0.045, 0.062), 0.0, 0.012), even_offset(0.006, 0.006))
    wide = r.uniform(0.028, 0.045)
    v = np.linspace(0, 1, dome.points.shape[1])
    out = dome.points - (dome.points[:-1, 0].mean(0) + 0.02 * frame.up)
    out = out - (out @ frame.up)[..., None] * frame.up
    out = out / np.linalg.norm(out, axis=-1, keepdims=True).clip(0.01)
    swell = np.exp(-(((v - 0.36) / 0.22) ** 2)) * smooth_step(v, 0.0, 0.22)
    lean = 1 + 0.6 * side * (out @ np.array([1.0, 0, 0]))
    points = dome.points + (wide * swell[None] * lean)[..., None] * out
    points = pushed_out(points - (0.5 * wide * swell[None] * (lean - 1).clip(0, 1))[..., None] * frame.up, 0.006)
    stalk = points[:, -1].mean(0) + np.linspace(0, 0.012, 5)[:, None] * frame.up
    felt = creased(fabric, bump := folds(r, 0.09, 0.003), 0.003)
    edge = lambda s: felt(s) * (0.65 + 0.35 * smooth_step(s.v, 0.03, 0.12))[:, None]  # noqa: E731
    return Headwear(
        (Sheet(points, edge, bump), Sheet(tube(stalk, 0.002), plain(fabric.base), spacing=0.001)), (dome,), "pressed"
    )


CLOSE_HATS: dict[str, Kind] = {
    "cap": lambda r: _cap(r, False),
    "cap_backwards": lambda r: _cap(r, True),
    "beanie_cuffed": lambda r: _beanie(r, True),
    "beanie_slouchy": lambda r: _beanie(r, False),
    "fedora": _fedora,
    "sun_hat": _sun_hat,
    "cowboy": _cowboy,
    "bucket": _bucket,
    "beret": _beret,
}
