"""The bust that clothes are laid on, along lines that run down from below the jaw, and tops without a collar.

Lines are those of `bust_lines`; places on them are counted in steps (4 mm), azimuth 0 is the throat. Heights are
metres of the canonical head frame: the throat ends at y -0.15, the shoulders lie at -0.15 to -0.19.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from scipy.ndimage import gaussian_filter1d
from scipy.spatial import KDTree

from flexavatar.rig.regions import smooth_step
from flexavatar.synthetic.body import Body
from flexavatar.synthetic.fabrics import Fabric, creased, draw_fabric, folds
from flexavatar.synthetic.sheets import (
    PARAMS as SHEETS,
)
from flexavatar.synthetic.sheets import (
    Sheet,
    bust_lines,
    flipped,
    laid,
    pushed_out,
    resampled,
)


@dataclass(frozen=True)
class CollarParams:
    """How far cloth lies over the skin, in metres."""

    shirt: float = 0.006
    jacket: float = 0.0115
    band: float = 0.0015  # of a ribbed neckline over its cloth
    collar: float = 0.0145  # a folded collar, over the skin
    hidden: float = 0.014  # from the edge, the skin under cloth is left out
    rim: tuple[tuple[float, ...], tuple[float, ...]] = (
        (0.0, 0.12, 0.145, 0.165, 0.182, 0.192, 0.2),
        (-0.224, -0.222, -0.217, -0.208, -0.198, -0.186, -0.1),
    )  # of the bust: |x| and height


PARAMS = CollarParams()


@dataclass(frozen=True)
class Garment:
    """What is worn on the bust."""

    sheets: tuple[Sheet, ...]
    thick: tuple[np.ndarray, ...]  # points [..., 3] of what hair lies over: collars, scarves, hoods
    covered: np.ndarray  # [V] bool: the rig's vertices well under it
    fabric: Fabric


Kind = Callable[[Generator, Fabric], Garment]
Heights = Callable[[np.ndarray], np.ndarray]


class Bust:
    """Lines over the skin and where cloth begins on them."""

    def __init__(self, offset: float) -> None:
        self.lines = bust_lines(offset)
        self.azimuth = np.linspace(-math.pi, math.pi, len(self.lines))
        self.last = np.full(len(self.lines), self.lines.shape[1] - 1.01)

    def start(self, height: Heights) -> np.ndarray:
        """Steps [U] at which the lines fall below `height(points)`."""
        over = self.lines[..., 1] - height(self.lines)
        first = (over < 0).argmax(1)
        first = np.where((over < 0).any(1), first, self.lines.shape[1] - 2).clip(1)
        rows = np.arange(len(first))
        high, low = over[rows, first - 1], over[rows, first]
        share = np.where(high > 0, high / np.maximum(high - low, 1e-9), 0.0)
        start = first - 1 + share.clip(0, 1)
        start[:-1] = gaussian_filter1d(start[:-1], 0.8, mode="wrap")
        start[-1] = start[0]
        return start

    def cloth(self, start: np.ndarray, steps: int = 56) -> np.ndarray:
        """Points [U, steps, 3] of cloth that lies on the lines from `start` [U] to the rim."""
        return resampled(self.lines, start, self.last, steps)

    def covered(self, start: np.ndarray, kept: Callable[[np.ndarray], np.ndarray] | None = None) -> np.ndarray:
        """The rig's vertices [V] bool that lie well under cloth."""
        mean = Body.load().mean
        low = mean[:, 1] < -0.09
        flat = self.lines[:, :-1].reshape(-1, 3)
        far, near = KDTree(flat).query(mean[low])
        line, step = np.unravel_index(near, (len(self.lines), self.lines.shape[1] - 1))
        inside = (step > start[line] + PARAMS.hidden / SHEETS.pace) & (far < 0.03)
        if kept is not None:
            inside &= kept(mean[low])
        covered = np.zeros(len(mean), bool)
        covered[low] = inside
        return covered


def neckline(back: float, front: float, depth: float = 0.0, wide: float = 0.06, round_: bool = False) -> Heights:
    """A neckline from `back` to `front` metres that falls `depth` deeper before the throat, as a V or round."""

    def height(points: np.ndarray) -> np.ndarray:
        x, z = points[..., 0], points[..., 2]
        level = back + (front - back) * ((z + 0.17) / 0.13).clip(0, 1)
        t = (np.abs(x) / wide).clip(0, 1)
        dip = np.sqrt((1 - t**2).clip(0, 1)) if round_ else 1 - t
        return level - depth * dip * (z > -0.10)

    return height


def on_bust(points: np.ndarray) -> np.ndarray:
    """Where the bust is: cloth ends at its rim, which rises to the sides."""
    return points[..., 1] > np.interp(np.abs(points[..., 0]), *PARAMS.rim)


def draped(
    bust: Bust, start: np.ndarray, fabric: Fabric, r: Generator, wrinkle: float = 0.0012,
    kept: Callable[[np.ndarray], np.ndarray] | None = None, spacing: float = 0.0023,
) -> Sheet:  # fmt: skip
    """Cloth on the bust from `start` [U] steps down, with folds `wrinkle` metres deep, shown where `kept` says so."""
    bump = folds(r, r.uniform(0.035, 0.07), wrinkle, drawn=1.0)
    shown = lambda s: on_bust(s.points) & (kept(s.points) if kept is not None else True)  # noqa: E731
    return Sheet(flipped(bust.cloth(start)), creased(fabric, bump, wrinkle), bump, shown, spacing)


def ribbed_band(bust: Bust, start: np.ndarray, wide: float, fabric: Fabric, ribbed: bool = True) -> Sheet:
    """Along a neckline, rolled over its edge."""
    steps = 9
    points = resampled(bust.lines, start - 0.25, start + wide / SHEETS.pace, steps)
    swell = PARAMS.band * np.array([-2.2, 0.2, 0.8, 1, 1, 1, 1, 0.8, 0.2])
    points = _raised(points, swell)
    rib = (lambda s: 0.86 + 0.14 * np.cos(2 * math.pi * s.a / 0.0042)) if ribbed else (lambda s: 0.95 + 0 * s.u)  # noqa: E731
    return Sheet(flipped(points), fabric.shaded(rib), kept=lambda s: on_bust(s.points), spacing=0.0014)


def _raised(points: np.ndarray, by: np.ndarray | float) -> np.ndarray:
    """A grid [U, V, 3] of lines that run down, moved out along its normals by metres [..., V]."""
    u, v = np.gradient(points, axis=0), np.gradient(points, axis=1)
    u[0] = u[-1] = u[0] + u[-1]
    out = np.cross(v, u)
    out /= np.linalg.norm(out, axis=-1, keepdims=True) + 1e-12
    return points + np.broadcast_to(by, points.shape[:2])[..., None] * out


def _simple(r: Generator, fabric: Fabric, height: Heights, ribbed: bool = True, band: float = 0.018) -> Garment:
    bust = Bust(PARAMS.shirt)
    start = bust.start(height)
    edge = fabric if r.random() < 0.75 else draw_fabric(r, 0.0)
    sheets = (draped(bust, start, fabric, r), ribbed_band(bust, start, band, edge, ribbed))
    return Garment(sheets, (), bust.covered(start), fabric)


def _crew(r: Generator, fabric: Fabric) -> Garment:
    height = neckline(r.uniform(-0.122, -0.108), r.uniform(-0.176, -0.158))
    return _simple(r, fabric, height, band=r.uniform(0.012, 0.024))


def _v_neck(r: Generator, fabric: Fabric) -> Garment:
    height = neckline(r.uniform(-0.125, -0.112), -0.165, r.uniform(0.02, 0.055), r.uniform(0.045, 0.065))
    return _simple(r, fabric, height, band=r.uniform(0.008, 0.02))


def _scoop(r: Generator, fabric: Fabric) -> Garment:
    height = neckline(r.uniform(-0.135, -0.12), r.uniform(-0.18, -0.165), r.uniform(0.015, 0.04), 0.075, True)
    return _simple(r, fabric, height, ribbed=False, band=r.uniform(0.005, 0.012))


def _boat(r: Generator, fabric: Fabric) -> Garment:
    low = r.uniform(-0.162, -0.148)
    height = lambda p: low - 0.012 * smooth_step(p[..., 2], -0.10, -0.05) + 0.012 * smooth_step(-p[..., 2], 0.11, 0.15)  # noqa: E731
    return _simple(r, fabric, height, ribbed=False, band=0.008)


def _straps(r: Generator, fabric: Fabric, thin: bool) -> Garment:
    """A top on straps; shoulders are bare."""
    bust = Bust(0.005)
    start = bust.start(neckline(-0.150, -0.175, r.uniform(0.015, 0.035), 0.075, True))
    middle, half = r.uniform(0.078, 0.092), r.uniform(0.003, 0.006) if thin else r.uniform(0.014, 0.026)
    chest, back = r.uniform(-0.205, -0.19), r.uniform(-0.21, -0.185)

    def kept(p: np.ndarray) -> np.ndarray:
        x, line = np.abs(p[..., 0]), np.where(p[..., 2] > -0.10, chest, back)
        lower = line - 0.10 * (x - middle - half).clip(0, 1)
        strap = np.abs(x - middle) < half
        cups = (p[..., 1] < lower) & (x < 0.155)
        return strap | cups

    return Garment(
        (draped(bust, start * 0 + np.minimum(start, 20), fabric, r, 0.0006, kept, 0.0019),),
        (),
        bust.covered(start, lambda p: p[:, 1] < -0.225),
        fabric,
    )


def _strapless(r: Generator, fabric: Fabric) -> Garment:
    bust = Bust(0.005)
    low = r.uniform(-0.208, -0.192)
    start = bust.start(lambda p: low - 0.006 * np.cos(p[..., 0] / 0.03) * (p[..., 2] > -0.1))
    return Garment(
        (draped(bust, start, fabric, r, 0.0008), ribbed_band(bust, start, 0.006, fabric, False)),
        (),
        bust.covered(start),
        fabric,
    )


def _halter(r: Generator, fabric: Fabric) -> Garment:
    """Straps that meet behind the neck."""
    bust = Bust(0.005)
    start = bust.start(neckline(-0.112, -0.150))
    half, slant = r.uniform(0.008, 0.014), r.uniform(0.9, 1.3)

    def kept(p: np.ndarray) -> np.ndarray:
        x, y, z = np.abs(p[..., 0]), p[..., 1], p[..., 2]
        along = 0.045 + slant * (-0.135 - y).clip(0, 1)
        front = (z > -0.11) & (np.abs(x - along) < half + 0.4 * (-0.17 - y).clip(0, 1))
        loop = (z <= -0.11) & (y > -0.135) & (y < -0.112)
        side = (np.abs(z + 0.11) < 0.02) & (x < 0.075) & (y > -0.15) & (y < -0.122)
        return front | loop | side | ((y < -0.205) & (x < 0.15))

    return Garment(
        (draped(bust, start, fabric, r, 0.0005, kept, 0.0017),), (), np.zeros(len(Body.load().mean), bool), fabric
    )


def _turtleneck(r: Generator, fabric: Fabric) -> Garment:
    bust = Bust(PARAMS.shirt)
    start = bust.start(neckline(-0.125, -0.165))
    top = r.uniform(0.5, 3.5)
    wall = pushed_out(resampled(bust.lines, np.full(len(start), top), start + 2, 16), 0.006)
    length = r.uniform(7, 10)
    outer = pushed_out(
        resampled(bust.lines, np.full(len(start), top), np.minimum(top + length, start + 3), 16), PARAMS.shirt
    )
    outer = _raised(
        laid(outer, PARAMS.shirt, closed=True), 0.0055 * np.sqrt(np.sin(np.linspace(0.12, math.pi, 16)).clip(0.04, 1))
    )
    rib = fabric.shaded(lambda s: 0.84 + 0.16 * np.cos(2 * math.pi * s.u * 90))
    sheets = (
        draped(bust, start, fabric, r),
        Sheet(flipped(wall), rib),
        Sheet(flipped(outer), rib, folds(r, 0.05, 0.0012, drawn=0.5)),
        Sheet(wall[:, :3], fabric.shaded(lambda s: 0.5 + 0 * s.u)),
    )
    return Garment(sheets, (outer,), bust.covered(np.full(len(start), top + 1)), fabric)


TOPS: dict[str, Kind] = {
    "crew_neck": _crew,
    "v_neck": _v_neck,
    "scoop_neck": _scoop,
    "boat_neck": _boat,
    "strap_top": lambda r, fabric: _straps(r, fabric, False),
    "thin_straps": lambda r, fabric: _straps(r, fabric, True),
    "strapless": _strapless,
    "halter": _halter,
    "turtleneck": _turtleneck,
}
