"""Hats and covers that people wear, each family with continuous ranges, laid around the mean head.

Heights and lengths are metres of the canonical head frame on the mean head: the forehead's hairline is at y 0.07, the
brows at 0.01, the ears from -0.05 to 0.005 at z -0.08, the nape's hairline at -0.06, the crown at 0.116.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator

from flexavatar.rig.regions import smooth_step
from flexavatar.synthetic.fabrics import Fabric, creased, draw_fabric, folds
from flexavatar.synthetic.hats import CLOSE_HATS, Headwear, Kind, edge_line, even_offset
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
    low = edge_line(r.uniform(0.036, 0.05), r.uniform(-0.03, -0.01), r.uniform(-0.006, 0.010))

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
        low = edge_line(r.uniform(0.036, 0.05), r.uniform(-0.03, -0.005), 0.010)
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
    low = edge_line(r.uniform(0.045, 0.06), r.uniform(-0.045, -0.02), r.uniform(0.004, 0.016))
    dome = Dome.over(frame, low, even_offset(0.006, 0.002))
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
    **CLOSE_HATS,
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
