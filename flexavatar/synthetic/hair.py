"""Strand hair of one head: a style grown on the mean head, carried to the head's own shape, as thin Gaussians."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.random import Generator
from scipy.ndimage import gaussian_filter
from scipy.spatial import KDTree

from flexavatar.rig import Rig
from flexavatar.rig.anchors import outward_normals
from flexavatar.rig.regions import HAIRLINE, atlas_regions, smooth_step
from flexavatar.rig.rig import HEAD_AXIS
from flexavatar.synthetic.body import CORNER, Body, carry
from flexavatar.synthetic.grow import (
    SHADE_CELL,
    Growth,
    Tail,
    clump,
    covers,
    curl,
    densities,
    follow,
    grow,
    outwards,
    segments,
)
from flexavatar.synthetic.hair_colors import HairColor
from flexavatar.synthetic.hair_styles import WHORL, HairStyle, Tie, Tubes
from flexavatar.synthetic.pieces import StrandPiece

LIMIT, DRAWN = 150_000, 1.4  # Gaussians, and how many times as many before what lies too deep is left out
WIDTHS = (0.00025, 0.0011)  # metres, standard deviation across a strand
UNDER_LONGEST = 0.008  # metres, of a Gaussian close under a hat
LAYERS = 7.0  # of hair over the area that it covers
REGIONS = np.array([[0, 0.45, 0.9], [0, 1, 0.1], [0, 0.75, -0.65], [0.97, 0.05, 0.1], [0, 0.1, -1], [0, -0.65, -0.75]])
SKULL = np.array([0.0, 0.02, -0.085])  # metres
LOCKED = 0.03  # metres from which hair forms locks
NO_CUT = -1.0  # metres: below everything
FACE = 0.058  # metres, half the width of the face that a fringe covers
STRAY = (0.046, 0.050)  # metres: height and half width of the face, in which stray hair ends


@dataclass(frozen=True)
class Ground:
    """Where hair can grow: the G anchors of the mean head."""

    places: np.ndarray  # [G, 3] metres
    normals: np.ndarray  # [G, 3]
    areas: np.ndarray  # [G] square metres
    scalp: np.ndarray  # [G] 0..1
    face: np.ndarray  # [G] bool: skin of the head, no ears, eyes or mouth
    above: np.ndarray  # [G] metres over the hairline
    front: np.ndarray  # [G] degrees from the front
    regions: np.ndarray  # [G, 6] shares of front, top, crown, side, back, nape

    @staticmethod
    @lru_cache(maxsize=1)
    def load() -> Ground:
        """Of the bundled rig."""
        rig = Rig.load()
        frames = rig.anchors.frames(rig.mean)
        places = frames.means.numpy()
        regions, valid = atlas_regions(rig), rig.atlas.valid.numpy()
        front = np.degrees(np.abs(np.arctan2(places[:, 0] - HEAD_AXIS[0], places[:, 2] - HEAD_AXIS[1])))
        hairline = np.interp(front, [a for a, _ in HAIRLINE], [y for _, y in HAIRLINE])
        seen = (places - SKULL) / np.linalg.norm(places - SKULL, axis=1, keepdims=True)
        seen[:, 0] = np.abs(seen[:, 0])
        shares = np.exp(9 * seen @ (REGIONS / np.linalg.norm(REGIONS, axis=1, keepdims=True)).T)
        return Ground(
            places=places,
            normals=outward_normals(frames.quats).numpy(),
            areas=rig.anchors.areas(rig.mean).numpy(),
            scalp=regions.scalp[valid],
            face=(regions.named("head") & ~regions.ear)[valid],
            above=places[:, 1] - hairline,
            front=front,
            regions=shares / shares.sum(1, keepdims=True),
        )

    def grown(self, style: HairStyle) -> tuple[np.ndarray, np.ndarray]:
        """Where the style has hair [G] 0..1, and how long it is there [G] in metres."""
        x, y, _ = self.places.T
        corner = np.exp(-(((self.front - 38) / 14) ** 2))
        raised = style.hairline * (self.front < 75) + style.recede * corner + 0.4 * style.recede * (self.front < 30)
        there = self.scalp * smooth_step(self.above - raised, -0.004, 0.010)
        if style.thin_crown > 0:
            far = np.linalg.norm(self.places - np.array(WHORL[0]), axis=1)
            there = there * (0.05 + 0.95 * smooth_step(far, 0.4 * style.thin_crown, 1.3 * style.thin_crown))
        if style.bald_above is not None:
            there = there * (1 - smooth_step(y, style.bald_above - 0.008, style.bald_above + 0.012))
        length = self.regions @ np.array(style.lengths)
        long = np.ones_like(length)
        if style.fade is not None:
            long = smooth_step(y, *style.fade)
        if style.strip is not None:
            long = long * (1 - smooth_step(np.abs(x), style.strip - 0.003, style.strip + 0.003))
        return there, np.minimum(length, style.shortest + (length - style.shortest) * long)


@dataclass(frozen=True)
class Strands:
    """S strands of up to N points around the mean head; metres, one step apart."""

    points: np.ndarray  # [S, N, 3]
    count: np.ndarray  # [S]
    root: np.ndarray  # [S] anchors
    lock: np.ndarray  # [S] the clump or tube that a strand belongs to
    step: float


def cover_of(style: HairStyle) -> np.ndarray:
    """How much of the skin [G] 0..1 the roots of a style hide."""
    there, length = Ground.load().grown(style)
    thin = 0.35 if style.dense >= 1 else 0.2
    cover = there * (thin + (1 - thin) * smooth_step(length, 0.0, 0.016)) * min(style.dense, 1.0)
    return cover * 0.75 if style.tubes is not None else cover


def grow_strands(style: HairStyle, r: Generator, clothes: float) -> Strands:
    """The strands of a style; `clothes` is how far they stand off the shoulders (metres)."""
    there, length = Ground.load().grown(style)
    return grow_on(style, there, length, r, clothes)


def grow_on(
    style: HairStyle, there: np.ndarray, length: np.ndarray, r: Generator, clothes: float, limit: int = LIMIT
) -> Strands:
    """Strands for at most `limit` Gaussians where hair is `there` [G] 0..1, with the `length` [G] in metres."""
    ground = Ground.load()
    turn = style.curl[1] / 6 if style.curl[0] > 0.0008 else 1.0
    if style.tubes is not None:
        turn = min(turn, style.tubes.pitch / 5)
    odds = there * ground.areas * (length > 0.0008)
    odds = odds / odds.sum()
    typical = float(odds @ length) + sum(tie.length for tie in style.ties) / max(len(style.ties), 1)
    piece = min(max(min(turn, 0.017), 0.003), max(typical, 0.003))
    step = min(max(min(0.5 * piece, 0.006), 0.0022), 0.006)
    strands = int(min(30_000, DRAWN * limit / (typical / max(piece, step) + 0.6)) * style.dense)
    root = r.choice(len(odds), strands, p=odds)
    how = Growth(
        step, style.lift_length, style.brush_length, style.flow, style.gravity, style.gravity_length, style.stiffness,
        style.jitter, style.open_face, style.drift, clothes, style.split,
    )  # fmt: skip
    lengths = length[root] * np.exp(style.uneven * r.normal(size=strands)).clip(0.5, 1.5)
    if style.tubes is not None:
        return _in_tubes(style, style.tubes, how, r, root, lengths)
    tie, ties = _assigned(style, ground, root, length[root])
    tail = max((t.length for t in style.ties), default=0.0)
    reach = int(max(lengths.max(), 0.42 if style.ties else 0) / step) + 2
    points, count, arrived = _grown(style, how, r, root, lengths, tie, ties, reach + int(tail / step) + 8, reach)
    own = _clumps(r, ground.places[root], style.locks)
    if style.ties:
        _tails(style, how, r, points, count, arrived, tie, ties)
    free = np.where(tie >= 0, 0.3, 1.0)
    free = free * (lengths / LOCKED).clip(0, 1)
    clump(own, style.clump * free * r.uniform(0.6, 1.0, strands)[own], points, count)
    _curled(style, how, r, own, points, count)
    return Strands(points, count, root, own, step)


def _grown(style, how, r, root, lengths, tie, ties, size, reach):
    """Polylines of roots that grow freely or to their ties."""
    ground, body = Ground.load(), Body.load()
    strands = len(root)
    aside = 0.8 * np.sqrt(ground.areas[root])[:, None] * r.normal(size=(strands, 3))
    out = ground.normals[root]
    start = ground.places[root] + aside - (aside * out).sum(1, keepdims=True) * out
    regions = ground.regions[root][:, [0, 1, 3, 4]] + ground.regions[root][:, [2, 2, 2, 5]] * [0, 0.5, 0, 1] + 1e-6
    regions = regions / regions.sum(1, keepdims=True)
    brush = np.array(style.brush, float)[None] * np.ones((strands, 1, 1))
    brush[:, 2:, 0] *= np.sign(start[:, :1])
    brush = (regions[..., None] * brush).sum(1)
    # A raised front is narrow: temples stand off as the sides do.
    middle = np.exp(-((start[:, 0] / 0.045) ** 2))
    lift = regions @ np.array(style.lift)
    lift = lift + regions[:, 0] * (1 - middle) * (style.lift[2] - style.lift[0])
    layer = style.layer[0] + (style.layer[1] - style.layer[0]) * r.random(strands) ** 0.7
    points = np.zeros((strands, size, 3), np.float32)
    count, arrived = np.ones(strands, np.int64), np.zeros(strands, bool)
    ragged = style.ragged * r.normal(size=(strands, 2))
    fringe = np.empty((strands, 2))
    fringe[:] = STRAY if style.fringe is None else (style.fringe, FACE)
    fringe[:, 0] += ragged[:, 0] if style.fringe is not None else 0.01 * r.normal(size=strands)
    hem = np.full((strands, 2), NO_CUT) if style.hem is None else np.array(style.hem) + ragged[:, 1:]
    grow(
        body.distance, int(r.integers(2**31)), how, np.array(style.part, float), np.array(ties, float).reshape(-1, 3),
        start, out.astype(float), lengths, np.minimum(layer, 0.6 * lengths + 0.001),
        lift, brush, fringe, hem, tie, points[:, :reach], count, arrived,
    )  # fmt: skip
    return points, count, arrived


def _clumps(r: Generator, places: np.ndarray, locks: int) -> np.ndarray:
    """The guide strand [S] of each strand."""
    guides = r.choice(len(places), min(locks, len(places)), replace=False)
    return guides[KDTree(places[guides]).query(places)[1]]


def _curled(
    style: HairStyle, how: Growth, r: Generator, own: np.ndarray, points: np.ndarray, count: np.ndarray
) -> None:
    amplitude, wavelength = style.curl
    strands = len(points)
    if amplitude <= 0:
        return
    apart = 1 - style.together
    phase = (2 * math.pi * r.random(strands))[own] + 2.5 * apart * r.normal(size=strands)
    waves = wavelength * np.exp((0.15 * r.normal(size=strands))[own] + 0.15 * apart * r.normal(size=strands))
    waves *= np.where(r.random(strands) < 0.5, 1.0, -1.0)[own]
    sizes = amplitude * np.exp((0.25 * r.normal(size=strands))[own] + 0.2 * r.normal(size=strands))
    curl(
        Body.load().distance, how.step, how.clothes, sizes, waves, phase, style.flat, style.ramp, 0.001, points, count
    )  # fmt: skip


def _assigned(style: HairStyle, ground: Ground, root: np.ndarray, length: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The tie [S] of each root (-1 free), and the ties' places [T, 3] over the skin."""
    tie = np.full(len(root), -1)
    if not style.ties:
        return tie, np.zeros((0, 3))
    places = np.array([_over_skin(t, 0.006) for t in style.ties])
    near = np.linalg.norm(ground.places[root][:, None] - places, axis=-1).argmin(1)
    above, before = np.array([(t.above, t.before) for t in style.ties])[near].T
    tied = (ground.places[root][:, 1] > above) & (ground.places[root][:, 2] > before)
    return np.where(tied & (length > 0.05), near, tie), places


def _over_skin(tie: Tie, height: float) -> np.ndarray:
    ground = Ground.load()
    near = np.linalg.norm(ground.places - np.array(tie.place), axis=1).argmin()
    return ground.places[near] + height * ground.normals[near]


def _tails(style, how, r, points, count, arrived, tie, ties) -> None:
    """What hangs or winds beyond the ties."""
    strands = len(points)
    for number, (tied, place) in enumerate(zip(style.ties, ties, strict=True)):
        line = _bun(tied, place, how.step) if tied.kind == "bun" else _hanging_line(tied, place, how, r)
        owner = np.where((tie == number) & arrived, 0, -1)
        lobes = 3 if tied.kind == "braid" else 1
        start = np.zeros(strands, np.int64)
        if tied.kind == "bun":
            start = r.integers(0, max(int(2 * math.pi * tied.radius / how.step), 1), strands)
        disc = np.stack([np.sqrt(r.random(strands)), 2 * math.pi * r.random(strands)], 1)
        open_, taper = {"tail": (0.08, 0.4), "braid": (0.02, 0.45), "bun": (0.001, 0.0), "loose": (0.06, 0.1)}[
            tied.kind
        ]
        pitch = {"tail": 1.5, "braid": 3.2 * tied.radius, "bun": 0.12, "loose": 2.0}[tied.kind]
        radius = 0.62 * tied.radius if tied.kind == "bun" else tied.radius
        length = tied.length * (1 if lobes == 3 else r.uniform(0.6, 1.0, strands) ** 0.7)
        follow(
            line[None], np.array([len(line)]), Tail(lobes, radius, pitch, open_, taper), how.step, owner, start,
            np.broadcast_to(length, strands), disc, r.integers(0, lobes, strands), points, count,
        )  # fmt: skip


def _hanging_line(tie: Tie, place: np.ndarray, how: Growth, r: Generator) -> np.ndarray:
    """The middle [N, 3] of a tail."""
    ground, body = Ground.load(), Body.load()
    near = np.linalg.norm(ground.places - place, axis=1).argmin()
    size = int(tie.length / how.step) + 2
    points, count = np.zeros((1, size, 3), np.float32), np.ones(1, np.int64)
    free = how._replace(
        lift_length=0.04, flow=0.0, gravity=1.0, gravity_length=0.05, jitter=0.0, open_face=0.0, stiffness=0.8,
        drift=(0.0, 0.0, 0.0),
    )  # fmt: skip
    wide = 0.8 * tie.radius + 0.002
    aside = 0.3 * r.normal(size=3) * [1, 0, 0]
    grow(
        body.distance, 0, free, np.array(WHORL, float), np.zeros((0, 3)), place[None].astype(float),
        ground.normals[near][None].astype(float), np.array([tie.length]), np.array([wide]),
        np.array([2 * tie.stand_off]),
        aside[None], np.full((1, 2), NO_CUT), np.full((1, 2), NO_CUT), np.full(1, -1), points, count, np.zeros(1, bool),
    )  # fmt: skip
    return points[0, : count[0]]


def _bun(tie: Tie, place: np.ndarray, step: float) -> np.ndarray:
    """Turns [N, 3] around a tie."""
    ground = Ground.load()
    normal = ground.normals[np.linalg.norm(ground.places - place, axis=1).argmin()]
    first = np.cross(normal, [0.3, 0.9, 0.2])
    first /= np.linalg.norm(first)
    second = np.cross(normal, first)
    wide = 0.6 * tie.radius
    angle = np.arange(int((tie.length + 2 * math.pi * tie.radius) / step)) * step / wide
    around = np.cos(angle)[:, None] * first + np.sin(angle)[:, None] * second
    return (place + 0.75 * tie.radius * normal + wide * around).astype(np.float32)


def _in_tubes(
    style: HairStyle, tubes: Tubes, how: Growth, r: Generator, root: np.ndarray, lengths: np.ndarray
) -> Strands:
    """Strands along many guide lines."""
    ground = Ground.load()
    places = ground.places[root]
    guides = _row_starts(ground, root, tubes.rows) if tubes.rows else _spread_out(r, places, tubes.count)
    size = int(lengths.max() / how.step) + 2
    free = np.full(len(guides), -1)
    lines, ends, _ = _grown(style, how, r, root[guides], lengths[guides], free, np.zeros((0, 3)), size, size)
    clumps = np.arange(len(guides))
    _curled(style, how, r, clumps, lines, ends)
    if tubes.rows:
        line, at = np.nonzero(np.arange(size)[None] < ends[:, None])
        near = KDTree(lines[line, at]).query(places)[1]
        owner, start = line[near], at[near]
    else:
        owner, start = KDTree(places[guides]).query(places)[1], np.zeros(len(root), np.int64)
    points = np.zeros((len(root), size + 1, 3), np.float32)
    points[:, 0] = places + 0.4 * np.sqrt(ground.areas[root])[:, None] * r.normal(size=places.shape)
    count = np.ones(len(root), np.int64)
    disc = np.stack([np.sqrt(r.random(len(root))), 2 * math.pi * r.random(len(root))], 1)
    tail = Tail(tubes.lobes, tubes.radius, tubes.pitch, 0.012, 0.5)
    length = lengths.max() * np.exp(-0.12 * r.random(len(root)))
    follow(
        lines, ends, tail, how.step, owner, start, length, disc, r.integers(0, tubes.lobes, len(root)), points, count
    )
    return Strands(points, count, root, np.asarray(owner), how.step)


def _spread_out(r: Generator, places: np.ndarray, count: int) -> np.ndarray:
    """Indices [count] of places that lie apart from one another."""
    candidates = r.choice(len(places), min(1500, len(places)), replace=False)
    far = np.full(len(candidates), np.inf)
    chosen = [0]
    for _ in range(count - 1):
        far = np.minimum(far, np.linalg.norm(places[candidates] - places[candidates[chosen[-1]]], axis=1))
        chosen.append(int(far.argmax()))
    return candidates[chosen]


def _row_starts(ground: Ground, root: np.ndarray, rows: int) -> np.ndarray:
    """Roots along the hairline of the forehead and the temples."""
    places = ground.places[root]
    angle = np.arctan2(places[:, 0], places[:, 2] + 0.075)
    wanted = np.linspace(-1.5, 1.5, rows)
    low = ground.above[root] + 0.25 * np.abs(wanted[:, None] - angle[None])
    return low.argmin(1)


def placed_strands(
    strands: Strands,
    color: HairColor,
    r: Generator,
    vertices: np.ndarray,
    gloss: float,
    limit: int = LIMIT,
    moving: bool = False,
    under: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]] | None = None,
) -> StrandPiece:
    """The piece of a head whose vertices at rest are `vertices` [V, 3]; if `moving`, expressions move it.

    `under` says which places [N, 3] around the mean head are hidden, as by a hat, and which lie close under it.
    """
    rig, body = Rig.load(), Body.load()
    drawn = int(DRAWN * limit)
    first, strand, along = np.zeros((drawn, 2), np.int64), np.zeros(drawn, np.int64), np.zeros(drawn, np.float32)
    number = segments(strands.points, strands.count, drawn, first, strand, along)
    first, strand, along = first[:number], strand[:number], along[:number]
    ends = strands.points[strand[:, None], first]
    means = ends.mean(1)
    length = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1)
    typical = length.sum() / len(strands.root)
    widest = min(WIDTHS[1], WIDTHS[0] + 0.012 * typical)
    width = float(np.clip(LAYERS * _covered_area(means) / (2.5 * length.sum()), WIDTHS[0], widest))
    outward = np.empty_like(means)
    outwards(body.distance, means, outward)
    grid = np.zeros((94, 97, 92), np.float32)
    densities(means, (2.5 * width * length).astype(np.float32), grid)
    cover = np.empty(number, np.float32)
    covers(grid, means, outward, cover)
    seen = cover < 9.0  # layers
    if under is not None:
        hidden, close = under(means)
        seen &= ~hidden
        # The ends of long Gaussians would come through what bends around them.
        long = close & (length > UNDER_LONGEST)
        shorter = np.where(long, UNDER_LONGEST / length.clip(1e-6), 1.0)[:, None, None]
        ends = means[:, None] + shorter * (ends - means[:, None])
    if seen.sum() > limit:
        seen &= cover <= np.partition(cover, limit - 1)[limit - 1]
        seen[np.flatnonzero(seen)[limit:]] = False
    ends, means, outward, cover = ends[seen], means[seen], outward[seen], cover[seen]
    first, strand, along = first[seen], strand[seen], along[seen]
    colors = color.paint(r, strand, strands.lock[strand], along, strands.points[strand, 0, 0])
    way = (ends[:, 1] - ends[:, 0]) / np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1, keepdims=True).clip(1e-6)
    shade = 0.5 + 0.5 * np.exp(-0.22 * cover)
    opacity = 0.55 + 0.4 * min(typical / 0.01, 1)
    tips = 1 - 0.55 * smooth_step(along, 0.6, 1.0)
    flat = ends.reshape(-1, 3)
    carried = flat + carry(body.carrier(vertices), flat)
    root = strands.root[strand]
    there = Ground.load().places[root]
    own = rig.anchors.positions(torch.from_numpy(vertices)).numpy()[root]
    lack = own - there - carry(body.carrier(vertices), there)
    colors = colors + sheen(way, outward, cover)[:, None] * gloss * (0.04 + 0.25 * colors)
    fade = np.exp(-first * strands.step / 0.03)[..., None]
    carried = carried.reshape(-1, 2, 3) + fade * lack[:, None]
    normals = _bulge(grid, means) + 0.6 * outward
    tensor = lambda value: torch.from_numpy(np.ascontiguousarray(value, np.float32))  # noqa: E731
    return StrandPiece(
        ends=tensor(carried),
        normals=torch.nn.functional.normalize(tensor(normals), dim=-1),
        widths=tensor(width * tips),
        torso_weights=tensor(body.torso_weights(rig, flat).reshape(-1, 2)),
        colors=tensor(colors * shade[:, None]),
        opacity=opacity,
        gloss=gloss,
        roots=torch.from_numpy(root) if moving else None,
        rest=tensor(own) if moving else None,
    )


def sheen(way: np.ndarray, outward: np.ndarray, cover: np.ndarray) -> np.ndarray:
    """Reflection [N] of the sky, which shines everywhere, for an onlooker straight ahead of each place.

    `way` [N, 3] and `outward` [N, 3] are unit vectors, `cover` [N] the layers of hair over the place.
    """
    half = outward + [0.0, 1.0, 0.0]
    across = (way * half).sum(1) / np.linalg.norm(half, axis=1).clip(0.2)
    return (1 - across**2).clip(0) ** 10.0 * np.exp(-0.5 * cover)


def _covered_area(means: np.ndarray) -> float:
    """Square metres of the hull that the hair makes up, about."""
    cell = 0.012
    grid = np.unique(((means - CORNER) / cell).astype(int) @ np.array([1, 1000, 1_000_000]))
    return 0.35 * len(grid) * cell**2


def _bulge(grid: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Directions [N, 3] to where the hair gets thinner, about unit length where that is clear."""
    smooth = gaussian_filter(grid, 1.6)
    at = tuple(((means - CORNER) / SHADE_CELL).astype(int).clip(1, np.array(grid.shape) - 2).T)
    slope = np.stack([smooth[_shifted(at, k, -1)] - smooth[_shifted(at, k, 1)] for k in range(3)], -1)
    return slope / (np.linalg.norm(slope, axis=1, keepdims=True) + 0.05)


def _shifted(at: tuple[np.ndarray, ...], axis: int, by: int) -> tuple[np.ndarray, ...]:
    return tuple(index + by if k == axis else index for k, index in enumerate(at))
