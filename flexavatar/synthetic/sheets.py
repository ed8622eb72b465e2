"""Cloth, felt, metal and glass around the mean head: parametric surfaces and their flat Gaussians.

A surface is a grid of points in metres of the canonical head frame (+x subject's left, +y up, +z out of the face).
It is laid around the *mean* head, off the distance field of `Body`, and carried to a head's own shape as hair is:
what does not pass through the mean head does not pass through any.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numba as nb
import numpy as np
import torch
from numpy.random import Generator
from scipy.ndimage import gaussian_filter1d, maximum_filter
from scipy.spatial import KDTree

from flexavatar.render.numba_support import prepare_cache
from flexavatar.rig import Rig
from flexavatar.synthetic.body import Body, carry
from flexavatar.synthetic.grow import sample
from flexavatar.synthetic.hair import Ground
from flexavatar.synthetic.pieces import Part, SheetPiece

prepare_cache()


@dataclass(frozen=True)
class SheetParams:
    """How surfaces are laid and sampled."""

    jitter: float = 0.6  # of a splat's place, in spacings: evenly spaced ones would show as a weave
    full_cover: float = 0.68  # deviation of a splat over their spacing that leaves no gaps
    flat: float = 0.3  # thickness over that deviation
    farthest: float = 0.24  # metres from the middle of the skull from where rays look in
    near: float = 2e-4  # metres to which a ray meets a surface
    pace: float = 0.004  # metres, a step down the bust
    neck: tuple[float, float] = (0.0, -0.09)  # metres, x and z of the axis of the neck
    below_jaw: tuple[float, float, float] = (-0.143, -0.098, -0.072)  # metres, height where the neck begins: front,
    # side, back
    bottom: float = -0.236  # metres: the bust ends before
    aside: float = 0.215  # metres
    thinned: int = 6  # one of so many texels of the skin tells how a head differs from the carrying grid
    own: float = 0.05  # metres over which this fades out


PARAMS = SheetParams()
SKULL = np.array([0.0, 0.03, -0.08])  # metres: the middle from which rays look at the head


class Samples(NamedTuple):
    """S places of a surface."""

    u: np.ndarray  # [S] 0..1 along its first direction
    v: np.ndarray  # [S] 0..1 along its second
    a: np.ndarray  # [S] metres along its first
    b: np.ndarray  # [S] metres along its second
    points: np.ndarray  # [S, 3] metres, mean head


@dataclass(frozen=True)
class Sheet:
    """A surface of U x V points with what it looks like; its outside is where u x v points to."""

    points: np.ndarray  # [U, V, 3] metres, mean head
    paint: Callable[[Samples], np.ndarray]  # RGB [S, 3] before light
    bump: Callable[[Samples], np.ndarray] | None = None  # metres [S] that it rises off the grid
    kept: Callable[[Samples], np.ndarray] | None = None  # bool [S]: where there is something
    spacing: float = 0.0018  # metres between splats


@dataclass(frozen=True)
class Frame:
    """Axes [3] of a shell of directions: azimuth 0 is `forward`, 90 degrees `left`, elevation 90 degrees `up`."""

    left: np.ndarray
    up: np.ndarray
    forward: np.ndarray

    @staticmethod
    def tilted(degrees: float, roll: float = 0.0, turn: float = 0.0) -> Frame:
        """The head's own, tipped back by `degrees`, to the subject's left by `roll` and turned by `turn`."""
        p, q, t = math.radians(degrees), math.radians(roll), math.radians(turn)
        up = np.array([math.sin(q), math.cos(p) * math.cos(q), -math.sin(p)])
        up = up / np.linalg.norm(up)
        forward = np.array([math.sin(t), 0.0, math.cos(t)])
        forward = forward - (forward @ up) * up
        forward = forward / np.linalg.norm(forward)
        return Frame(np.cross(up, forward), up, forward)

    def directions(self, azimuth: np.ndarray, elevation: np.ndarray) -> np.ndarray:
        """Unit vectors [..., 3] of angles in radians."""
        a, e = azimuth[..., None], elevation[..., None]
        return np.cos(e) * (np.sin(a) * self.left + np.cos(a) * self.forward) + np.sin(e) * self.up


@nb.njit(cache=True, error_model="numpy")
def _meet(distance, origin, directions, offsets, farthest, near, outwards, radius):
    """Radii [N] at which rays are `offsets` [N] metres off the skin, seen from outside or going `outwards`."""
    for i in range(len(directions)):
        r = 0.02 if outwards else farthest
        for _ in range(200):
            d, _, _, _ = sample(
                distance, origin[0] + r * directions[i, 0], origin[1] + r * directions[i, 1],
                origin[2] + r * directions[i, 2],
            )  # fmt: skip
            lack = offsets[i] - d if outwards else d - offsets[i]
            if lack < near:
                break
            r += max(0.8 * lack, near) * (1.0 if outwards else -1.0)
            if r > farthest or r < 0.02:
                break
        radius[i] = min(max(r, 0.02), farthest)


def meet(
    directions: np.ndarray, offset: np.ndarray | float, outwards: bool = False, origin: np.ndarray = SKULL
) -> np.ndarray:
    """Metres [...] from `origin` along unit `directions` [..., 3] to `offset` metres [...] over the mean skin."""
    flat = np.ascontiguousarray(directions.reshape(-1, 3), np.float64)
    offsets = np.ascontiguousarray(np.broadcast_to(offset, directions.shape[:-1]).ravel(), np.float64)
    radius = np.empty(len(flat))
    _meet(Body.load().distance, origin, flat, offsets, PARAMS.farthest, PARAMS.near, outwards, radius)
    return radius.reshape(directions.shape[:-1])


@nb.njit(cache=True, error_model="numpy")
def _push(distance, least, points):
    for i in range(len(points)):
        for _ in range(4):
            d, x, y, z = sample(distance, points[i, 0], points[i, 1], points[i, 2])
            lack = least[i] - d
            if lack <= 0:
                break
            points[i, 0] += lack * x
            points[i, 1] += lack * y
            points[i, 2] += lack * z


def pushed_out(points: np.ndarray, least: np.ndarray | float) -> np.ndarray:
    """Points [..., 3] moved along the gradient of the distance until they are `least` metres [...] off the skin."""
    flat = np.array(points, np.float64).reshape(-1, 3)
    _push(Body.load().distance, np.array(np.broadcast_to(least, points.shape[:-1]), np.float64).ravel(), flat)
    return flat.reshape(points.shape)


def laid(points: np.ndarray, off: np.ndarray | float, smooth: float = 2.0, closed: bool = False) -> np.ndarray:
    """A grid [U, V, 3] laid `off` metres [U, V] over the skin without creasing where this is hollow.

    Pushed out of a hollow, neighbours would pass one another: so smoothed over `smooth` cells, and pushed again.
    `closed`: the last of its first direction is the first.
    """
    for _ in range(2):
        points = pushed_out(points, off)
        rows = points[:-1] if closed else points
        rows = gaussian_filter1d(rows, smooth, axis=0, mode="wrap" if closed else "nearest")
        rows = gaussian_filter1d(rows, smooth, axis=1, mode="nearest")
        points = np.concatenate([rows, rows[:1]]) if closed else rows
    return pushed_out(points, 0.75 * off)


@nb.njit(cache=True, error_model="numpy")
def _off_skin(distance, points, off):
    for i in range(len(points)):
        off[i], _, _, _ = sample(distance, points[i, 0], points[i, 1], points[i, 2])


def off_skin(points: np.ndarray) -> np.ndarray:
    """Metres [...] from the mean head's skin, negative inside, of points [..., 3]."""
    flat = np.ascontiguousarray(points.reshape(-1, 3), np.float64)
    off = np.empty(len(flat))
    _off_skin(Body.load().distance, flat, off)
    return off.reshape(points.shape[:-1])


def edge_elevation(frame: Frame, azimuth: np.ndarray, height: Callable[[np.ndarray, np.ndarray], np.ndarray]):
    """Elevations [U] in radians where a cover ends that reaches down to where `height(points, azimuth)` is 0."""
    elevation = np.radians(np.linspace(-70, 90, 81))
    a, e = np.meshgrid(azimuth, elevation, indexing="ij")
    directions = frame.directions(a, e)
    points = SKULL + meet(directions, 0.005)[..., None] * directions
    value = height(points, a)
    over = value > 0
    last = np.maximum(len(elevation) - 1 - (~over[:, ::-1]).argmax(1), 0)  # the highest that is below the edge
    last = np.minimum(np.where(over.all(1), 0, last), len(elevation) - 2)
    rows = np.arange(len(azimuth))
    low, high = value[rows, last], value[rows, last + 1]
    share = np.clip(-low / np.where(np.abs(high - low) < 1e-9, 1e-9, high - low), 0, 1)
    return gaussian_filter1d(elevation[last] + share * (elevation[1] - elevation[0]), 1.0, mode="wrap")


def largest_around(values: np.ndarray, size: int) -> np.ndarray:
    """The largest of `size` x `size` neighbours in a grid [U, V] whose first direction is a whole turn."""
    wrapped = np.pad(values, ((size, size), (0, 0)), mode="wrap")
    return np.asarray(maximum_filter(wrapped, size, mode="nearest"))[size:-size]


@dataclass(frozen=True)
class Dome:
    """A cover of the head as seen from the middle of the skull: its edge to its pole."""

    frame: Frame
    azimuth: np.ndarray  # [U] radians, the last is the first and a whole turn
    elevation: np.ndarray  # [U, V] radians, edge first
    radius: np.ndarray  # [U, V] metres
    closed: bool = True  # it has a top

    @staticmethod
    def over(
        frame: Frame,
        height: Callable[[np.ndarray, np.ndarray], np.ndarray],
        offset: Callable[[np.ndarray, np.ndarray], np.ndarray],
        size: tuple[int, int] = (97, 48),
        outwards: bool = False,
        top: float = 90.0,
        dilated: int = 3,
    ) -> Dome:
        """Down to where `height` is 0 (as `edge_elevation`), `offset(azimuth, v)` metres over the skin.

        `top` is the elevation in degrees where it ends: 90 closes it. `dilated` cells around an ear rise with it.
        """
        azimuth = np.linspace(-math.pi, math.pi, size[0])
        edge = edge_elevation(frame, azimuth[:-1], height)
        edge = np.append(edge, edge[0])
        v = np.linspace(0, 1, size[1])
        elevation = edge[:, None] + (math.radians(top) - edge[:, None]) * v
        a = np.broadcast_to(azimuth[:, None], elevation.shape)
        directions = frame.directions(a, elevation)
        radius = meet(directions, offset(a, np.broadcast_to(v, a.shape)), outwards)[:-1]
        if dilated:
            radius = largest_around(radius, dilated)
        radius = gaussian_filter1d(gaussian_filter1d(radius, 1.5, axis=0, mode="wrap"), 1.2, axis=1, mode="nearest")
        if top >= 89.9:
            radius[:, -1] = radius[:, -1].mean()
        return Dome(frame, azimuth, elevation, np.concatenate([radius, radius[:1]]))

    @property
    def points(self) -> np.ndarray:
        """[U, V, 3] metres, mean head; u x v points outwards."""
        a = np.broadcast_to(self.azimuth[:, None], self.elevation.shape)
        return SKULL + self.radius[..., None] * self.frame.directions(a, self.elevation)


@nb.njit(cache=True, error_model="numpy")
def _walk(distance, start, radial, offset, pace, bottom, aside, lines):
    for i in range(len(start)):
        x, y, z = start[i, 0], start[i, 1], start[i, 2]
        ended = False
        for k in range(lines.shape[1]):
            if not ended:
                for _ in range(3):
                    d, nx, ny, nz = sample(distance, x, y, z)
                    x, y, z = x + (offset - d) * nx, y + (offset - d) * ny, z + (offset - d) * nz
            lines[i, k, 0], lines[i, k, 1], lines[i, k, 2] = x, y, z
            if y < bottom or abs(x) > aside:
                ended = True
            if ended:
                # Straight down: what lies below the bust is not drawn.
                y -= pace
                continue
            _, nx, ny, nz = sample(distance, x, y, z)
            tx, ty, tz = 0.9 * radial[i, 0], -1.0, 0.9 * radial[i, 1]
            along = tx * nx + ty * ny + tz * nz
            tx, ty, tz = tx - along * nx, ty - along * ny, tz - along * nz
            size = math.sqrt(tx * tx + ty * ty + tz * tz) + 1e-6
            x, y, z = x + pace * tx / size, y + pace * ty / size, z + pace * tz / size


def bust_lines(offset: float, count: int = 129, steps: int = 62) -> np.ndarray:
    """Lines [count, steps, 3] from below the jaw down the neck and over the shoulders, `offset` metres over the skin.

    The first starts behind, the middle one at the throat; azimuth grows to the subject's left. The last is the first.
    """
    azimuth = np.linspace(-math.pi, math.pi, count)
    radial = np.stack([np.sin(azimuth), np.cos(azimuth)], -1)
    front, side, back = PARAMS.below_jaw
    share = np.cos(azimuth)
    height = side + np.where(share > 0, front - side, back - side) * share**2
    origin = np.array([PARAMS.neck[0], 0.0, PARAMS.neck[1]])
    directions = np.stack([radial[:, 0], 0 * azimuth, radial[:, 1]], -1)
    start = np.empty((count, 3))
    for i in range(count):
        origin[1] = height[i]
        start[i] = origin + meet(directions[i : i + 1], 0.002, True, origin)[0] * directions[i]
    lines = np.empty((count, steps, 3))
    _walk(Body.load().distance, start, radial, offset, PARAMS.pace, PARAMS.bottom, PARAMS.aside, lines)
    # Where the chest is hollow lines run into one another.
    for _ in range(2):
        lines[:-1] = gaussian_filter1d(lines[:-1], 1.5, axis=0, mode="wrap")
        lines[:, 2:-2] = gaussian_filter1d(lines, 1.2, axis=1, mode="nearest")[:, 2:-2]
        lines[:-1] = np.where(lines[:-1, :, 1:2] > PARAMS.bottom, pushed_out(lines[:-1], 0.9 * offset), lines[:-1])
    lines[-1] = lines[0]
    return lines


def on_lines(lines: np.ndarray, azimuth: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Points [..., 3] of `bust_lines` at azimuths (radians, 0 the throat) and places counted in steps of the lines."""
    u = ((azimuth + math.pi) / (2 * math.pi)) % 1.0 * (len(lines) - 1)
    u, k = u.clip(0, len(lines) - 1.001), np.asarray(step).clip(0, lines.shape[1] - 1.001)
    i, j = u.astype(int), k.astype(int)
    p, q = (u - i)[..., None], (k - j)[..., None]
    return (lines[i, j] * (1 - p) + lines[i + 1, j] * p) * (1 - q) + (
        lines[i, j + 1] * (1 - p) + lines[i + 1, j + 1] * p
    ) * q


def resampled(lines: np.ndarray, start: np.ndarray, end: np.ndarray, steps: int) -> np.ndarray:
    """Points [U, steps, 3] of lines [U, N, 3] between the places `start` and `end` [U], in steps."""
    at = start[:, None] + (end - start)[:, None] * np.linspace(0, 1, steps)
    at = at.clip(0, lines.shape[1] - 1.001)
    k = at.astype(int)
    rows = np.arange(len(lines))[:, None]
    share = (at - k)[..., None]
    return lines[rows, k] * (1 - share) + lines[rows, k + 1] * share


def tube(line: np.ndarray, radius: np.ndarray | float, sides: int = 9, flat: float = 1.0) -> np.ndarray:
    """Points [N, sides, 3] around a line [N, 3]; `flat` squeezes it across its own side vector."""
    way = np.gradient(line, axis=0)
    way /= np.linalg.norm(way, axis=1, keepdims=True) + 1e-12
    side = np.empty_like(way)
    last = np.cross(way[0], [0.31, 0.9, 0.17])
    for k, t in enumerate(way):
        last = last - (last @ t) * t
        last = last / (np.linalg.norm(last) + 1e-12)
        side[k] = last
    other = np.cross(way, side)
    turn = np.linspace(0, 2 * math.pi, sides)
    wide = np.broadcast_to(radius, len(line))[:, None, None]
    around = np.cos(turn)[:, None] * side[:, None] + flat * np.sin(turn)[:, None] * other[:, None]
    return (line[:, None] + wide * around)[:, ::-1]


def ball(middle: np.ndarray, radius: float, size: int = 13) -> np.ndarray:
    """Points [2 size, size, 3] of a sphere."""
    a, e = np.meshgrid(np.linspace(-math.pi, math.pi, 2 * size), np.linspace(-1.57, 1.57, size), indexing="ij")
    return middle + radius * np.stack([np.sin(a) * np.cos(e), np.sin(e), np.cos(a) * np.cos(e)], -1)


def flipped(points: np.ndarray) -> np.ndarray:
    """The same surface with its other side outside."""
    return points[::-1]


def plain(color: np.ndarray) -> Callable[[Samples], np.ndarray]:
    """Paint of one colour [3]."""
    return lambda s: np.repeat(np.asarray(color, float)[None], len(s.u), 0)


@dataclass(frozen=True)
class _Made:
    points: np.ndarray  # [S, 3]
    axes: np.ndarray  # [S, 2, 3]
    colors: np.ndarray  # [S, 3]
    deviation: np.ndarray  # [S]


def _sampled(sheet: Sheet, r: Generator) -> _Made:
    grid = sheet.points
    corner, u1, v1, both = grid[:-1, :-1], grid[1:, :-1], grid[:-1, 1:], grid[1:, 1:]
    area = 0.5 * (
        np.linalg.norm(np.cross(u1 - corner, v1 - corner), axis=-1)
        + np.linalg.norm(np.cross(u1 - both, v1 - both), axis=-1)
    )
    # Rows along u that are as far apart as the splats in them, in step with the area.
    high = (np.linalg.norm(np.diff(grid, axis=1), axis=-1)[1:] * area).sum(0) / area.sum(0).clip(1e-15)
    high = np.concatenate([[0], high.cumsum()])
    number = max(int(round(high[-1] / sheet.spacing)), 1)
    bounds = np.interp(np.linspace(0, high[-1], number + 1), high, np.arange(len(high)))
    columns = np.concatenate([[0], area.sum(0).cumsum()])
    in_row = np.diff(np.interp(bounds, np.arange(len(columns)), columns))
    each = np.maximum(np.round(in_row / sheet.spacing**2), 1).astype(int)
    row = np.repeat(np.arange(number), each)
    count = len(row)
    rank = np.arange(count) - np.repeat(each.cumsum() - each, each)
    x = (rank + r.random(number)[row] + PARAMS.jitter * r.uniform(-0.5, 0.5, count)) / each[row] % 1.0
    y = bounds[row] + (0.5 + PARAMS.jitter * r.uniform(-0.5, 0.5, count)) * np.diff(bounds)[row]
    y = y.clip(0, area.shape[1] - 1e-6)
    j = y.astype(int)
    rows = np.concatenate([np.zeros((1, area.shape[1])), area.cumsum(0)])
    rows = rows / rows[-1:].clip(1e-15)
    keys = (rows + 2 * np.arange(area.shape[1])).T.ravel()
    place = np.searchsorted(keys, x + 2 * j, "right") - 1
    i = (place - j * len(rows)).clip(0, area.shape[0] - 1)
    p = ((x - rows[i, j]) / (rows[i + 1, j] - rows[i, j]).clip(1e-15)).clip(0, 1)
    q = y - j
    wp, wq = p[:, None], q[:, None]
    corner, u1, v1, both = corner[i, j], u1[i, j], v1[i, j], both[i, j]
    points = (corner * (1 - wp) + u1 * wp) * (1 - wq) + (v1 * (1 - wp) + both * wp) * wq
    along = (u1 - corner) * (1 - wq) + (both - v1) * wq
    across = (v1 - corner) * (1 - wp) + (both - u1) * wp
    normal = np.cross(along, across)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-15
    # At a pole one of the two directions has no length.
    short = np.linalg.norm(along, axis=1, keepdims=True) < 1e-6
    along = np.where(short, np.cross(across, normal), along)
    along /= np.linalg.norm(along, axis=1, keepdims=True) + 1e-15
    lengths = np.linalg.norm(np.diff(grid, axis=0), axis=-1).cumsum(0)
    a = np.concatenate([np.zeros((1, grid.shape[1])), lengths])
    lengths = np.linalg.norm(np.diff(grid, axis=1), axis=-1).cumsum(1)
    b = np.concatenate([np.zeros((grid.shape[0], 1)), lengths], 1)

    def blend(f: np.ndarray) -> np.ndarray:
        return (f[i, j] * (1 - p) + f[i + 1, j] * p) * (1 - q) + (f[i, j + 1] * (1 - p) + f[i + 1, j + 1] * p) * q

    samples = Samples((i + p) / (grid.shape[0] - 1), (j + q) / (grid.shape[1] - 1), blend(a), blend(b), points)
    if sheet.kept is not None:
        kept = sheet.kept(samples)
        samples = Samples(*(values[kept] for values in samples))
        points, normal, along = points[kept], normal[kept], along[kept]
    colors = sheet.paint(samples).clip(0.005, 1)
    if sheet.bump is not None:
        points = points + sheet.bump(samples)[:, None] * normal
    axes = np.stack([along, np.cross(normal, along)], 1)
    return _Made(points, axes, colors, np.full(len(points), PARAMS.full_cover * sheet.spacing))


@lru_cache(maxsize=1)
def _seats() -> tuple[np.ndarray, KDTree]:
    """Some of the anchors of the head's skin but for the ears, and their places on the mean head."""
    ground = Ground.load()
    chosen = np.flatnonzero(ground.face)[:: PARAMS.thinned]
    return chosen, KDTree(ground.places[chosen])


def _own_skin(vertices: np.ndarray, points: np.ndarray) -> np.ndarray:
    """What [N, 3] the carrying grid lacks of a head's own skin, which is finer, near points [N, 3]."""
    rig, body = Rig.load(), Body.load()
    chosen, tree = _seats()
    own = rig.anchors.positions(torch.from_numpy(vertices).float()).numpy()[chosen]
    there = Ground.load().places[chosen]
    lack = own - there - carry(body.carrier(vertices), there)
    far, near = tree.query(points, 6)
    weight = 1 / (far + 0.004)
    mean = (lack[near] * weight[..., None]).sum(1) / weight.sum(1, keepdims=True)
    return mean * np.exp(-far[:, :1] / PARAMS.own)


def sheet_piece(
    sheets: Sequence[Sheet],
    part: Part,
    vertices: np.ndarray,
    r: Generator,
    opacity: float = 0.985,
    gloss: float = 0.0,
    labelled: bool = True,
    on_torso: bool = False,
    moving: bool = False,
) -> SheetPiece:
    """Sheets around the mean head as the piece of a head whose vertices at rest are `vertices` [V, 3].

    `on_torso`: it stays with the torso as far as it lies on it; else it turns with the head. `moving`: expressions
    move it.
    """
    rig, body = Rig.load(), Body.load()
    made = [_sampled(sheet, r) for sheet in sheets]
    join = lambda name: np.concatenate([getattr(m, name) for m in made])  # noqa: E731
    points, deviation = join("points"), join("deviation")
    carried = points + carry(body.carrier(vertices), points) + _own_skin(vertices, points)
    weights = body.torso_weights(rig, points).clip(0, 1) if on_torso else np.zeros(len(points))
    roots = rest = None
    if moving:
        own = rig.anchors.positions(torch.from_numpy(vertices).float()).numpy()
        roots = KDTree(rig.anchors.positions(rig.mean).numpy()).query(points)[1]
        rest = torch.from_numpy(own[roots]).float()
        roots = torch.from_numpy(roots)
    tensor = lambda value: torch.from_numpy(np.ascontiguousarray(value, np.float32))  # noqa: E731
    return SheetPiece(
        means=tensor(carried),
        axes=tensor(join("axes")),
        scales=tensor(deviation[:, None] * [1.0, 1.0, PARAMS.flat]),
        torso_weights=tensor(weights),
        colors=tensor(join("colors")),
        part=part,
        opacity=opacity,
        gloss=gloss,
        labelled=labelled,
        roots=roots,
        rest=rest,
    )
