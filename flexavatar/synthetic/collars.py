"""What people wear on neck and shoulders, laid around the mean bust along lines that run down from below the jaw.

Lines are those of `bust_lines`; places on them are counted in steps (4 mm), azimuth 0 is the throat. Heights are
metres of the canonical head frame: the throat ends at y -0.15, the shoulders lie at -0.15 to -0.19.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator
from scipy.ndimage import gaussian_filter1d

from flexavatar.rig.regions import smooth_step
from flexavatar.synthetic.fabrics import Fabric, cloth_color, creased, draw_fabric, folds
from flexavatar.synthetic.necklines import PARAMS, TOPS, Bust, Garment, Kind, draped, neckline, on_bust, ribbed_band
from flexavatar.synthetic.sheets import (
    PARAMS as SHEETS,
)
from flexavatar.synthetic.sheets import (
    Sheet,
    ball,
    flipped,
    laid,
    on_lines,
    plain,
    pushed_out,
    tube,
)

HELD_OUT_CLOTHES = ("turtleneck", "halter", "vest_shirt")


def _shirt_collar(
    r: Generator, bust: Bust, fabric: Fabric, start: np.ndarray, gap: float, spread: float, stand: float, point: float
) -> tuple[list[Sheet], np.ndarray]:
    """Stand and leaf of a collar that is `gap` radians open before the throat; also the leaf's points."""
    u = np.linspace(-1, 1, 121)
    azimuth = u * (math.pi - gap)  # 0 behind
    around = lambda a: a + math.pi  # noqa: E731  azimuth 0 behind becomes that of the lines
    first = np.interp(
        azimuth + math.pi,
        np.linspace(0, 2 * math.pi, len(start)),
        np.roll(start[:-1], len(start) // 2).tolist() + [start[len(start) // 2]],
    )
    top = np.maximum(first - stand / SHEETS.pace, 0.3)
    w = np.linspace(0, 1, 12)
    steps = first[:, None] + 1.0 + (top - first - 1.0)[:, None] * w
    wall = on_lines(bust.lines, around(azimuth)[:, None] + 0 * w, steps)
    wall = laid(wall, 0.0065 * np.ones(wall.shape[:2]), 1.0)
    front = smooth_step(np.abs(u), 0.55, 1.0)
    length = (0.040 + (point - 0.040) * front) / SHEETS.pace
    w = np.linspace(0, 1, 22)
    # The leaf's front edges slant to the sides.
    slant = azimuth[:, None] * (1 - spread * front[:, None] * w)
    leaf = on_lines(bust.lines, around(slant), top[:, None] + length[:, None] * w)
    off = 0.0075 + (PARAMS.collar - 0.0075) * smooth_step(w, 0.0, 0.35)
    leaf = laid(leaf, off[None] * np.ones((len(u), 1)))
    edge = fabric.shaded(lambda s: 0.94 + 0.06 * smooth_step(1 - s.v, 0.03, 0.08))
    sheets = [
        Sheet(wall, fabric.shaded(lambda s: 0.72 + 0 * s.u), spacing=0.0019),
        Sheet(flipped(leaf), edge, spacing=0.0017),
    ]
    return sheets, leaf


def _placket(bust: Bust, first: float, last: float, fabric: Fabric, r: Generator, off: float) -> list[Sheet]:
    """A strip down the chest with buttons."""
    steps = np.linspace(first, last, 30)
    line = on_lines(bust.lines, np.zeros(30), steps)
    x = np.linspace(-0.014, 0.014, 5)
    points = line[:, None] + x[None, :, None] * np.array([1.0, 0, 0])
    points = pushed_out(points, off)
    button = cloth_color(r) if r.random() < 0.4 else np.full(3, 0.85)
    sheets = [
        Sheet(
            points,
            fabric.shaded(lambda s: 0.88 + 0.12 * smooth_step(0.5 - np.abs(s.v - 0.5), 0.02, 0.1)),
            kept=lambda s: on_bust(s.points),
            spacing=0.0017,
        )
    ]
    for at in np.arange(first + 3, last, 11):
        middle = pushed_out(on_lines(bust.lines, np.zeros(1), np.array([at])), off)[0]
        if middle[1] > -0.212:
            sheets.append(Sheet(ball(middle, 0.0042, 9) * [1, 1, 1], plain(button), spacing=0.001))
    return sheets


def _shirt(r: Generator, fabric: Fabric, polo: bool, offset: float = PARAMS.shirt) -> Garment:
    bust = Bust(offset)
    open_ = r.uniform(0.0, 0.045) if r.random() < 0.6 else 0.0
    start = bust.start(neckline(-0.122, -0.158, open_, 0.028))
    ring = bust.start(neckline(-0.122, -0.158))
    second = draw_fabric(r, 0.0) if polo and r.random() < 0.25 else fabric
    gap = 0.10 + 4.5 * open_
    sheets, leaf = _shirt_collar(
        r, bust, second, ring, gap, r.uniform(0.08, 0.3), r.uniform(0.016, 0.028), r.uniform(0.05, 0.07)
    )  # fmt: skip
    last = start[len(start) // 2] + 30 if polo else bust.last[0]
    sheets += [
        draped(bust, start, fabric, r, 0.0013),
        *_placket(bust, start[len(start) // 2] + 0.2, last, fabric, r, offset + 0.002),
    ]
    return Garment(tuple(sheets), (leaf,), bust.covered(start), fabric)


def _suit(r: Generator, fabric: Fabric, tied: bool) -> Garment:
    """A jacket with lapels over a closed shirt with a tie, or an open one."""
    shirt_cloth = Fabric(
        np.full(3, r.uniform(0.72, 0.92)) if r.random() < 0.7 else cloth_color(r),
        cloth_color(r),
        "plain",
        0.01,
        fabric.seed + 1,
    )
    if fabric.base.mean() > 0.45 and r.random() < 0.7:
        fabric = Fabric(fabric.base * 0.25, fabric.second * 0.3, fabric.pattern, fabric.period, fabric.seed)
    inner = Bust(PARAMS.shirt)
    open_ = 0.0 if tied else r.uniform(0.015, 0.05)
    start = inner.start(neckline(-0.122, -0.158, open_, 0.028))
    ring = inner.start(neckline(-0.122, -0.158))
    collar, leaf = _shirt_collar(
        r, inner, shirt_cloth, ring, 0.10 + 4.5 * open_, r.uniform(0.08, 0.3), 0.022, r.uniform(0.05, 0.065)
    )
    sheets = [
        *collar,
        draped(inner, start, shirt_cloth, r, 0.0006, lambda p: (np.abs(p[..., 0]) < 0.085) & (p[..., 2] > -0.11)),
    ]
    front = _tie(inner, r) if tied else []
    sheets += front or _placket(inner, start[64] + 0.2, inner.last[0], shirt_cloth, r, PARAMS.shirt + 0.0015)
    outer = Bust(PARAMS.jacket)
    wide = r.uniform(0.062, 0.08)
    open_jacket = neckline(-0.126, -0.150, 0.14, wide)
    edge = outer.start(open_jacket)
    sheets.append(draped(outer, edge, fabric, r, 0.0012, spacing=0.0022))
    sheets += _lapels(outer, edge, fabric, r)
    behind, over = _shirt_collar(
        r, Bust(PARAMS.jacket), fabric, outer.start(neckline(-0.128, -0.16)), 1.35, 0.0, 0.012, 0.045
    )
    sheets += behind[2:]
    return Garment(tuple(sheets), (leaf, over), outer.covered(edge) | inner.covered(start), fabric)


def _lapels(bust: Bust, edge: np.ndarray, fabric: Fabric, r: Generator) -> list[Sheet]:
    sheets = []
    broad, peak = r.uniform(0.045, 0.06), r.random() < 0.3
    for side in (1, -1):
        azimuth = side * np.linspace(1.15, 0.02, 60)
        at = np.interp(azimuth, np.linspace(-math.pi, math.pi, len(edge)), edge)
        base = on_lines(bust.lines, azimuth, at)
        t = np.linspace(0, 1, 60)
        upper = 0.032 + 0.010 * t
        lower = (
            broad * (1 - smooth_step(t, 0.5, 1.0)) * (1 + (0.25 if peak else 0.0) * np.exp(-(((t - 0.42) / 0.05) ** 2)))
        )
        width = np.where(t < 0.33, upper, lower)
        width = width * np.where(np.abs(t - 0.345) < 0.012, 0.55, 1.0) + 0.004
        w = np.linspace(0, 1, 18)
        points = base[:, None] + side * (width[:, None] * w)[..., None] * np.array([1.0, 0.18, -0.1])
        points = laid(points, PARAMS.jacket + 0.0035 + 0.002 * np.sin(math.pi * w)[None] * np.ones((60, 1)), 1.2)
        # Only as high as the cloth under it.
        shine = fabric.shaded(lambda s: 0.9 + 0.12 * smooth_step(1 - s.v, 0.0, 0.06) - 0.35 * (s.v > 0.93))
        shown = lambda s: on_bust(s.points) & (np.abs(s.points[:, 0]) > 0.036)  # noqa: E731
        sheets.append(Sheet(flipped(points) if side > 0 else points, shine, kept=shown, spacing=0.0017))
    return sheets


def _tie(bust: Bust, r: Generator) -> list[Sheet]:
    cloth = draw_fabric(r, 0.6)
    steps = np.linspace(2.0, 60, 60)
    line = on_lines(bust.lines, np.zeros(60), steps)
    line = gaussian_filter1d(line, 2.0, axis=0, mode="nearest")
    middle = pushed_out(line[np.abs(line[:, 1] + 0.163).argmin()][None], 0.0125)[0]
    knot = ball(np.zeros(3), 1.0, 17)
    knot = middle + knot * [0.0145, 0.0125, 0.0085] * (1 + 0.25 * knot[..., 1:2] * [1.0, 0, 0])
    blade = line[(line[:, 1] < -0.170) & (line[:, 1] > -0.24)]
    far = -0.170 - blade[:, 1]
    half = (0.010 + 0.22 * far).clip(0, r.uniform(0.026, 0.038))
    w = np.linspace(-1, 1, 9)
    points = blade[:, None] + (half[:, None] * w)[..., None] * np.array([1.0, 0, 0])
    points = laid(points, 0.0115 + 0.0025 * (1 - w**2)[None] * np.ones((len(blade), 1)))
    diagonal = lambda s: cloth.paint(s._replace(a=s.a, b=s.b + 0.7 * s.a))  # noqa: E731
    return [
        Sheet(knot, lambda s: 0.92 * cloth.paint(s), spacing=0.0014),
        Sheet(points, diagonal, kept=lambda s: on_bust(s.points), spacing=0.0016),
    ]


def _hoodie(r: Generator, fabric: Fabric) -> Garment:
    """A sweatshirt whose hood lies behind the neck."""
    bust = Bust(0.009)
    start = bust.start(neckline(-0.118, -0.162))
    sheets = [draped(bust, start, fabric, r, 0.0022)]
    gap = r.uniform(0.12, 0.3)
    azimuth = np.linspace(-math.pi + gap, math.pi - gap, 120)  # 0 behind
    back = np.cos(azimuth / 2).clip(0, 1)
    radius = r.uniform(0.006, 0.009) + r.uniform(0.007, 0.011) * back**2
    at = np.interp(azimuth + math.pi, np.linspace(0, 2 * math.pi, len(start)), np.r_[start[64:], start[1:65]])
    line = on_lines(bust.lines, azimuth + math.pi, at + 1.5)
    line = pushed_out(line, radius * 0.75 + 0.009) + np.array([0, 0.3, -0.25]) * (radius * back)[:, None]
    line = gaussian_filter1d(line, 2.0, axis=0, mode="nearest")
    roll = tube(line, radius, 16)
    crumple = folds(r, 0.03, 0.0018, drawn=1.0)
    cloth = creased(fabric, crumple, 0.0018)
    roll = pushed_out(roll, 0.004)
    sheets.append(Sheet(roll, cloth, crumple, spacing=0.0018))
    # The hood's bag hangs between the shoulder blades.
    a, k = np.meshgrid(np.linspace(-0.75, 0.75, 50), np.linspace(0, 1, 24), indexing="ij")
    low = 15 * np.sqrt((1 - (a / 0.78) ** 2).clip(0, 1))
    bag = on_lines(bust.lines, a + math.pi, np.interp(np.abs(a), [0, 0.75], [at[60], at[36]]) + 1.0 + low * k)
    bag = laid(bag, 0.012 + 0.018 * np.sin(math.pi * (0.25 + 0.75 * k)) * np.cos(a * 2).clip(0, 1))
    sheets.append(Sheet(flipped(bag), cloth, crumple, spacing=0.0019))
    if r.random() < 0.8:
        string = cloth_color(r) if r.random() < 0.5 else np.full(3, 0.85)
        for side in (1, -1):
            down = on_lines(
                bust.lines,
                np.full(40, side * (gap + 0.12)),
                np.linspace(start[64] + 1, start[64] + r.uniform(16, 28), 40),
            )
            cord = tube(pushed_out(down, 0.0135), 0.0019, 8)
            sheets.append(Sheet(cord, plain(string), kept=lambda s: on_bust(s.points), spacing=0.001))
    return Garment(tuple(sheets), (roll, bag), bust.covered(start), fabric)


def _scarf(r: Generator, fabric: Fabric) -> Garment:
    """Turns of a scarf over plain cloth."""
    under = draw_fabric(r, 0.1)
    bust = Bust(0.007)
    start = bust.start(neckline(-0.122, -0.165))
    sheets = [draped(bust, start, under, r)]
    thick = []
    azimuth = np.linspace(-math.pi, math.pi, 121)
    knitted = r.random() < 0.5
    for turn in range(int(r.integers(1, 3))):
        radius = r.uniform(0.015, 0.022) * (
            1 + 0.12 * np.sin(2 * azimuth + r.uniform(0, 6)) + 0.08 * np.sin(5 * azimuth + r.uniform(0, 6))
        )
        tilt = 1.6 * np.sin(azimuth + r.uniform(0, 6)) * np.sin(azimuth / 2 + 0.7)
        at = 4.5 + 4.5 * turn + 1.2 * np.cos(azimuth) + np.where(np.abs(azimuth) < 3.13, tilt, tilt[0])
        radius[-1], at[-1] = radius[0], at[0]
        radius, at = (gaussian_filter1d(value[:-1], 2.0, mode="wrap") for value in (radius, at))
        radius, at = np.append(radius, radius[0]), np.append(at, at[0])
        line = pushed_out(on_lines(bust.lines, azimuth, at), 0.8 * radius + 0.006)
        ring = np.stack([line, line], 1)
        way = np.gradient(line, axis=0)
        way[0] = way[-1] = way[0] + way[-1]
        way /= np.linalg.norm(way, axis=1, keepdims=True)
        up = np.array([0, 1.0, 0]) - way * way[:, 1:2]
        up /= np.linalg.norm(up, axis=1, keepdims=True)
        out = np.cross(up, way)
        around = np.linspace(0, 2 * math.pi, 20)
        ring = line[:, None] + radius[:, None, None] * (
            1.15 * np.cos(around)[:, None] * up[:, None] + 0.85 * np.sin(around)[:, None] * out[:, None]
        )
        ring = pushed_out(ring, 0.004)
        phase = r.uniform(0, 6)
        fold = lambda s, phase=phase: np.sin(2 * math.pi * (5 * s.v + 1.2 * np.sin(2 * math.pi * s.u + phase)))  # noqa: E731
        rib = (lambda s: np.cos(2 * math.pi * s.a / 0.006)) if knitted else (lambda s: 0 * s.u)  # noqa: E731
        paint = fabric.shaded(lambda s, f=fold, k=rib: 0.84 + 0.13 * f(s) + 0.07 * k(s))
        sheets.append(Sheet(ring, paint, lambda s, f=fold: 0.0017 * f(s), spacing=0.0018))
        thick.append(ring)
    if r.random() < 0.6:
        side = 1 if r.random() < 0.5 else -1
        steps = np.linspace(8, 60, 40)
        line = on_lines(bust.lines, np.full(40, 0.35 * side), steps)
        w = np.linspace(-1, 1, 17)
        points = line[:, None] + (0.036 * w)[None, :, None] * np.array([1.0, 0, 0])
        points = laid(points, 0.015 + 0.003 * np.cos(6 * w)[None] * np.ones((40, 1)))
        sheets.append(
            Sheet(
                points,
                fabric.shaded(lambda s: 0.84 + 0.14 * np.cos(12 * s.v)),
                kept=lambda s: on_bust(s.points),
                spacing=0.0018,
            )
        )
        sheets.append(Sheet(flipped(points), fabric.paint, kept=lambda s: on_bust(s.points), spacing=0.0022))
    return Garment(tuple(sheets), tuple(thick), bust.covered(start), fabric)


def _vest_shirt(r: Generator, fabric: Fabric) -> Garment:
    """A pullover with a V over a shirt whose collar shows."""
    shirt = Fabric(np.full(3, r.uniform(0.7, 0.92)), cloth_color(r), "plain", 0.01, fabric.seed + 1)
    inner, outer = Bust(PARAMS.shirt), Bust(0.010)
    ring = inner.start(neckline(-0.122, -0.158))
    collar, leaf = _shirt_collar(r, inner, shirt, ring, 0.10, r.uniform(0.08, 0.25), 0.022, r.uniform(0.045, 0.06))
    edge = outer.start(neckline(-0.124, -0.160, r.uniform(0.035, 0.06), 0.055))
    sheets = [
        *collar,
        draped(inner, ring, shirt, r, 0.0004, lambda p: (np.abs(p[..., 0]) < 0.075) & (p[..., 2] > -0.11)),
        draped(outer, edge, fabric, r, 0.0016),
        ribbed_band(outer, edge, 0.018, fabric),
    ]
    return Garment(tuple(sheets), (leaf,), outer.covered(edge), fabric)


CLOTHES: dict[str, Kind] = {
    **TOPS,
    "polo": lambda r, fabric: _shirt(r, fabric, True),
    "shirt": lambda r, fabric: _shirt(r, fabric, False),
    "suit_tie": lambda r, fabric: _suit(r, fabric, True),
    "suit_open": lambda r, fabric: _suit(r, fabric, False),
    "hoodie": _hoodie,
    "scarf": _scarf,
    "vest_shirt": _vest_shirt,
}
