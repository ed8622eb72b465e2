"""Hats and covers that people wear, each family with continuous ranges, laid around the mean head.

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
    SKULL,
    Dome,
    Frame,
    Samples,
    Sheet,
    ball,
    bust_lines,
    flipped,
    laid,
    off_skin,
    plain,
    pushed_out,
    tube,
)

HELD_OUT_HATS = ("beanie_slouchy", "cowboy", "headwrap")


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


def _line(front: float, back: float, side: float = 0.0):
    """Heights over a line from `front` (at z 0.02) to `back` (at z -0.17); `side` raises it over the ears."""

    def height(points: np.ndarray, azimuth: np.ndarray) -> np.ndarray:
        share = (points[..., 2] + 0.17) / 0.19
        return points[..., 1] - (back + (front - back) * share + side * np.sin(azimuth) ** 2)

    return height


def _even(metres: float, top: float = 0.0, edge: float | None = None):
    """Offsets: `metres` on the sides, so much more at the top, `edge` where it begins."""
    first = metres if edge is None else edge
    return lambda a, v: first + (metres - first) * smooth_step(v, 0.0, 0.2) + top * smooth_step(v, 0.15, 1.0)


def _cap(r: Generator, backwards: bool) -> Headwear:
    fabric, deep = draw_fabric(r, 0.1), r.uniform(0.007, 0.011)
    front = fabric if r.random() < 0.7 else draw_fabric(r, 0.0)
    turn = 180.0 if backwards else r.normal() * 4
    frame = Frame.tilted(r.uniform(4, 12) * (0.5 if backwards else 1), r.normal() * 1.5, turn)
    height = r.uniform(0.040, 0.056) + (0.006 if backwards else 0)
    low = _line(height, r.uniform(-0.030, -0.005), 0.006) if not backwards else _line(height, -0.012, 0.008)
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
    low = _line(r.uniform(0.034, 0.052), r.uniform(-0.055, -0.03), r.uniform(-0.006, 0.014))
    ribs = int(r.uniform(55, 110))
    thick = r.uniform(0.006, 0.010)
    slouch = 0.0 if cuffed else r.uniform(0.035, 0.07)
    dome = Dome.over(frame, low, _even(thick, r.uniform(0.0, 0.012) if cuffed else 0.35 * slouch))
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
    low = _line(front, r.uniform(-0.012, 0.004), 0.004)
    inner = Dome.over(frame, low, _even(0.007, 0.004))
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
    dome = Dome.over(frame, _line(r.uniform(0.045, 0.062), 0.0, 0.012), _even(0.006, 0.006))
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


def _hood(r: Generator) -> Headwear:
    """A hood worn up, on a garment that it ends in."""
    fabric, room = draw_fabric(r, 0.15), r.uniform(0.012, 0.026)
    frame = Frame(np.array([1.0, 0, 0]), np.array([0, 0.38, -0.92]), np.array([0, 0.92, 0.38]))
    open_ = r.uniform(-0.035, -0.005)  # how far back the opening lies

    def height(points: np.ndarray, azimuth: np.ndarray) -> np.ndarray:
        # The opening's rim comes forward over the forehead and runs back to the throat.
        return (
            open_
            + 0.035 * smooth_step(points[..., 1], 0.0, 0.10)
            - points[..., 2]
            - 0.10 * (-0.08 - points[..., 1]).clip(0, 0.1)
        )

    def offset(a: np.ndarray, v: np.ndarray) -> np.ndarray:
        high = 0.85 + 0.9 * np.cos(a).clip(0, 1) * smooth_step(v, 0.2, 0.8)
        return room * high + 0.006 * smooth_step(-v, -0.25, 0)

    dome = Dome.over(frame, height, offset, outwards=True, dilated=5)
    bottom = -0.155
    crumple = folds(r, 0.07, 0.0035, drawn=1.0)
    cloth = creased(fabric, crumple, 0.0035)
    points = dome.points
    kept = lambda s: s.points[:, 1] > bottom  # noqa: E731
    rim = tube(points[:, 0] + 0.002 * frame.up, 0.0045, 10)
    inner = points.copy() - 0.0045 * _outwards(points)
    lined = Sheet(flipped(inner[:, :20]), fabric.shaded(lambda s: 0.35 + 0.2 * s.v), kept=kept, spacing=0.0024)
    hem = Sheet(rim, fabric.shaded(lambda s: 0.9 + 0 * s.u), kept=kept)
    return Headwear((Sheet(points, cloth, crumple, kept), lined, hem), (dome,), "pressed", on_torso=True, fabric=fabric)


def _outwards(points: np.ndarray) -> np.ndarray:
    out = points - SKULL
    return out / np.linalg.norm(out, axis=-1, keepdims=True)


def _hijab(r: Generator) -> Headwear:
    fabric = draw_fabric(r, 0.3)
    frame = Frame(np.array([1.0, 0, 0]), np.array([0, 0.30, -0.954]), np.array([0, 0.954, 0.30]))
    top, chin, side = r.uniform(0.058, 0.068), r.uniform(-0.128, -0.118), r.uniform(-0.034, -0.020)

    def height(points: np.ndarray, azimuth: np.ndarray) -> np.ndarray:
        y = points[..., 1]
        oval = np.sqrt((1 - ((y - 0.5 * (top + chin)) / (0.5 * (top - chin))) ** 2).clip(0, 1))
        # Behind the plane of the oval, or above and below it.
        inside = np.abs(points[..., 0]) < 0.066 * oval**0.8
        far = np.where(inside, 1.0, 0.0)
        return np.where((points[..., 2] > side) & (far > 0), -1.0, 1.0) * 0.01 + 0 * azimuth

    thick = r.uniform(0.005, 0.009)
    puff = r.uniform(0.004, 0.02)
    dome = Dome.over(
        frame, height, lambda a, v: thick + puff * smooth_step(v, 0.25, 0.8) * (0.4 + 0.6 * np.cos(a).clip(0, 1)),
        outwards=True, size=(129, 56),
    )  # fmt: skip
    wrinkles = folds(r, 0.05, 0.0022, drawn=2.0)
    cloth = creased(fabric, wrinkles, 0.0022)
    kept = lambda s: s.points[:, 1] > -0.148 - 0.016 * (s.points[:, 2] > -0.09)  # noqa: E731
    points = np.where(dome.points[..., 1:2] > -0.165, pushed_out(dome.points, 0.004), dome.points)
    rim = tube(points[:, 0], 0.0028, 8)
    return Headwear(
        (
            Sheet(points, cloth, wrinkles, kept),
            Sheet(rim, plain(fabric.base * 0.92), kept=kept, spacing=0.0014),
            *_draped(r, fabric),
        ),
        (dome,),
        "hidden",
        on_torso=True,
        moving=True,
    )


def _draped(r: Generator, fabric: Fabric) -> list[Sheet]:
    """Cloth around the neck and over the shoulders."""
    lines = bust_lines(0.008)
    azimuth = np.linspace(-math.pi, math.pi, len(lines))
    reach = int(r.uniform(34, 52))
    points = lines[:, :reach].copy()
    steps = np.arange(reach) / reach
    loose = 0.006 + r.uniform(0.008, 0.016) * np.exp(-(((steps - 0.22) / 0.16) ** 2))
    sway = (
        0.004 * np.sin(3 * azimuth + r.uniform(0, 6))[:, None] + 0.003 * np.sin(7 * azimuth + r.uniform(0, 6))[:, None]
    )
    points = laid(points, 0.010 + loose[None] + sway * smooth_step(steps, 0.0, 0.3), closed=True)
    wrapped = r.uniform(0.5, 1.2) * (1 if r.random() < 0.5 else -1)
    number = r.uniform(2.5, 5)

    def wave(s: Samples) -> np.ndarray:
        turn = 2 * math.pi * s.u
        return np.sin(2 * math.pi * (number * s.b / 0.12 + wrapped * np.cos(turn)) + 2 * np.sin(turn))

    bump = lambda s: 0.0022 * wave(s) * smooth_step(1 - s.v, 0.0, 0.3)  # noqa: E731
    return [Sheet(flipped(points), fabric.shaded(lambda s: 0.88 + 0.11 * wave(s)), bump, spacing=0.0021)]


def _turban(r: Generator, knotted: bool) -> Headwear:
    fabric = draw_fabric(r, 0.25 if knotted else 0.05)
    high = r.uniform(0.018, 0.038)
    frame = Frame.tilted(r.uniform(6, 16))
    low = _line(r.uniform(0.036, 0.05), r.uniform(-0.03, -0.01), r.uniform(-0.006, 0.010))

    def offset(a: np.ndarray, v: np.ndarray) -> np.ndarray:
        wide = (high + 0.008 * np.sin(a) ** 2) * (1 - 0.5 * smooth_step(v, 0.6, 1.0))
        return 0.010 + wide * smooth_step(v, -0.05, 0.5)

    dome = Dome.over(frame, low, offset)
    wraps, lean = r.uniform(5, 9), r.uniform(0.25, 0.7) * (1 if r.random() < 0.5 else -1)
    crossed = r.random() < 0.6 and not knotted

    def band(s: Samples) -> np.ndarray:
        side = np.abs(np.sin(math.pi * (2 * s.u - 1))) if crossed else np.sin(2 * math.pi * s.u) * lean * 1.5
        tip = np.cos(2 * math.pi * (s.u - 0.5)).clip(-0.2, 1) if crossed else 0
        return wraps * (s.v + (0.32 * side if crossed else 0.2 * side) - 0.1 * tip)

    saw = lambda s: band(s) % 1  # noqa: E731
    bump = lambda s: 0.0045 * (np.sqrt(saw(s)) - 0.5) * smooth_step(s.v, 0.0, 0.1)  # noqa: E731
    fine = folds(r, 0.012, 0.0006, drawn=0.6)
    paint = fabric.shaded(lambda s: (0.62 + 0.38 * smooth_step(saw(s), 0.0, 0.35)) * (1 + 120 * fine(s)))
    sheets = [Sheet(dome.points, paint, bump)]
    if knotted:
        middle = dome.points[len(dome.azimuth) // 2, 12]
        turn = np.linspace(0, 2.2 * math.pi, 60)
        size = r.uniform(0.018, 0.03)
        spiral = middle + np.stack(
            [size * np.cos(turn), size * np.sin(turn) * 0.8, 0.012 + 0.006 * np.sin(1.5 * turn)], -1
        )
        ridges = fabric.shaded(lambda s: 0.75 + 0.25 * np.sin(12 * math.pi * s.v))
        sheets.append(Sheet(pushed_out(tube(spiral, 0.011, 12), 0.004), ridges, spacing=0.0014))
    return Headwear(tuple(sheets), (dome,), "hidden")


def _band(r: Generator, over_top: bool) -> Headwear:
    """A sports band around the forehead, or a hair band from ear to ear."""
    fabric = draw_fabric(r, 0.35)
    wide, thick = (r.uniform(0.010, 0.03), 0.008) if over_top else (r.uniform(0.025, 0.06), 0.006)
    if over_top:
        # Seen along the band's own axis it is a great circle: from ear to ear over the top.
        frame = Frame(np.array([1.0, 0, 0]), np.array([0, -0.18, 0.98]), np.array([0, 0.98, 0.18]))
        depth = r.uniform(-0.075, -0.045)
        low = lambda p, a: p[..., 2] - depth + 0.25 * (p[..., 1] - 0.05)  # noqa: E731
    else:
        frame = Frame.tilted(r.uniform(4, 14))
        low = _line(r.uniform(0.036, 0.05), r.uniform(-0.03, -0.005), 0.010)
    whole = Dome.over(frame, low, lambda a, v: thick + 0 * v, size=(97, 64))
    step = np.linalg.norm(np.diff(whole.points, axis=1), axis=-1).mean()
    rows = max(int(wide / step), 3)
    dome = Dome(frame, whole.azimuth, whole.elevation[:, :rows], whole.radius[:, :rows], closed=False)
    v = np.linspace(0, 1, rows)
    rounded = 0.0035 * (np.sqrt(1 - (2 * v - 1) ** 2) - 1)
    radius = dome.radius + rounded
    points = SKULL + radius[..., None] * _outwards(dome.points)
    edge = fabric.shaded(lambda s: 0.7 + 0.3 * np.sin(np.pi * s.v) ** 0.4)
    kept = (lambda s: s.points[:, 1] > -0.02) if over_top else None
    bump = folds(r, 0.03, 0.0008) if not over_top else None
    if over_top:
        # Hair is pressed only where the band is.
        low_end = points[:, rows // 2, 1] > -0.02
        middle = np.flatnonzero(low_end)
        dome = Dome(frame, dome.azimuth[middle], dome.elevation[middle], dome.radius[middle], closed=False)
    return Headwear((Sheet(points, edge, bump, kept, spacing=0.0014),), (dome,), "pressed")


def _bandana(r: Generator) -> Headwear:
    fabric = draw_fabric(r, 0.75)
    frame = Frame.tilted(r.uniform(8, 16))
    low = _line(r.uniform(0.045, 0.06), r.uniform(-0.045, -0.02), r.uniform(0.004, 0.016))
    dome = Dome.over(frame, low, _even(0.006, 0.002))
    wrinkle = folds(r, 0.035, 0.0012)
    cloth = creased(fabric, wrinkle, 0.0012)
    knot = dome.points[0, 1] + np.array([0, 0.0, -0.006])
    sheets = [Sheet(dome.points, lambda s: cloth(s) * (0.75 + 0.25 * smooth_step(s.v, 0, 0.07))[:, None], wrinkle)]
    sheets.append(Sheet(ball(knot, 0.011), fabric.paint, spacing=0.0013))
    for side in (-1, 1):
        t = np.linspace(0, 1, 14)[:, None]
        line = knot + t * np.array([side * 0.018, -0.055 * r.uniform(0.8, 1.2), -0.006])
        flap = np.stack([line - [0.010 * 1, 0, 0] * (0.3 + t), line + [0.010, 0, 0] * (0.3 + t)], 1)
        flap = pushed_out(flap, 0.006)
        sheets += [Sheet(flap, fabric.paint, spacing=0.0014), Sheet(flipped(flap), fabric.paint, spacing=0.0014)]
    return Headwear(tuple(sheets), (dome,), "pressed")


HATS: dict[str, Kind] = {
    "cap": lambda r: _cap(r, False),
    "cap_backwards": lambda r: _cap(r, True),
    "beanie_cuffed": lambda r: _beanie(r, True),
    "beanie_slouchy": lambda r: _beanie(r, False),
    "fedora": _fedora,
    "sun_hat": _sun_hat,
    "cowboy": _cowboy,
    "bucket": _bucket,
    "beret": _beret,
    "hood": _hood,
    "hijab": _hijab,
    "turban": lambda r: _turban(r, False),
    "headwrap": lambda r: _turban(r, True),
    "headband": lambda r: _band(r, False),
    "hair_band": lambda r: _band(r, True),
    "bandana": _bandana,
}


def off_head(worn: Headwear) -> float:
    """Metres that the nearest point of it lies off the mean head's skin; negative where it cuts in."""
    return min(float(off_skin(sheet.points).min()) for sheet in worn.sheets)
