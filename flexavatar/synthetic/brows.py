"""Eyebrows, grown as the hair of the scalp is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.random import Generator
from scipy.spatial import KDTree
from torch import Tensor

from flexavatar.rig.regions import smooth_step
from flexavatar.synthetic.hair import NO_CUT, Ground, Strands, grow_on
from flexavatar.synthetic.hair_styles import HairStyle, everywhere


@dataclass(frozen=True)
class BrowParams:
    """Where brows are on the mean head (metres), how they grow, and when a face has too little of them."""

    inner: float = 0.011  # from the middle
    outer: float = 0.055
    crest: float = 0.038
    heights: tuple[float, float, float] = (0.0070, 0.0118, 0.0068)  # inner end, crest, outer end
    limit: int = 6_000  # Gaussians
    weak: float = 0.90  # brightness of brows over that of the skin around from which a face has weak ones
    around: tuple[float, float] = (0.006, 0.013)  # metres over and under the middle line, skin to compare with
    half_cleared: float = 0.0085  # metres to either side of the middle line that are cleared of weak brows
    neighbours: int = 20  # texels of skin that a cleared one takes its colour from


PARAMS = BrowParams()


@dataclass(frozen=True)
class Brows:
    """One pair."""

    half: float  # metres, half the thickness at the inner third
    length: float  # metres, of a hair
    dense: float  # share of a full brow
    arch: float = 0.0  # metres that the crest is higher
    tilt: float = 0.0  # metres that the outer end is higher
    raised: float = 0.0  # metres, the whole
    taper: float = 0.35  # of the thickness that the outer end has
    short: float = 0.0  # metres that the outer end is nearer
    joined: float = 0.0  # 0..1, hair between them
    lift: float = 0.3  # how much it stands off


Kind = Callable[[Generator], Brows]


def _brows(r: Generator, half: float, length: float, dense: float, **fields) -> Brows:
    given = dict(
        arch=r.normal() * 0.0008, tilt=r.normal() * 0.0010, raised=0.0004 + r.normal() * 0.0010,
        taper=r.uniform(0.2, 0.5), short=r.uniform(-0.002, 0.006), lift=r.uniform(0.15, 0.4),
    )  # fmt: skip
    return Brows(half, length, dense, **{**given, **fields})


BROWS: dict[str, Kind] = {
    "natural": lambda r: _brows(r, r.uniform(0.0028, 0.0040), r.uniform(0.006, 0.008), r.uniform(0.6, 1.0)),
    "straight": lambda r: _brows(
        r, r.uniform(0.0030, 0.0042), r.uniform(0.006, 0.008), r.uniform(0.7, 1.0), arch=-0.0022
    ),
    "arched": lambda r: _brows(
        r, r.uniform(0.0024, 0.0034), r.uniform(0.005, 0.007), r.uniform(0.7, 1.0), arch=r.uniform(0.0015, 0.0032)
    ),
    "thin": lambda r: _brows(r, r.uniform(0.0013, 0.0020), r.uniform(0.0035, 0.005), r.uniform(0.5, 0.9), taper=0.5),
    "thick": lambda r: _brows(r, r.uniform(0.0038, 0.0048), r.uniform(0.007, 0.010), r.uniform(0.5, 0.9)),
    "bushy": lambda r: _brows(
        r, r.uniform(0.0036, 0.0048), r.uniform(0.009, 0.013), r.uniform(0.5, 0.9), lift=r.uniform(0.5, 0.9),
        joined=r.uniform(0, 0.35) if r.random() < 0.3 else 0.0,
    ),
    "sparse": lambda r: _brows(r, r.uniform(0.0026, 0.0044), r.uniform(0.005, 0.008), r.uniform(0.2, 0.4)),
}  # fmt: skip


def _middle_line(x: np.ndarray, brows: Brows | None = None) -> np.ndarray:
    """Height [N] of the line that brows follow at |x| [N]."""
    arch, tilt, raised = (brows.arch, brows.tilt, brows.raised) if brows is not None else (0.0, 0.0, 0.0)
    low, high, end = PARAMS.heights
    t = ((x - PARAMS.inner) / (PARAMS.crest - PARAMS.inner)).clip(0, None)
    rise = low + (high + arch - low) * np.sin(0.5 * np.pi * t.clip(0, 1))
    fall = ((x - PARAMS.crest) / (PARAMS.outer - PARAMS.crest)).clip(0, 1.3)
    return raised + rise + (end + tilt - high - arch) * fall**1.6 + 0.5 * tilt * t.clip(0, 1)


def brow_growth(brows: Brows) -> np.ndarray:
    """Where they grow [G] 0..1."""
    ground = Ground.load()
    x, y, z = ground.places.T
    x = np.abs(x)
    outer = PARAMS.outer - brows.short
    t = ((x - PARAMS.inner) / (outer - PARAMS.inner)).clip(0, 1)
    half = brows.half * (0.5 + 0.5 * smooth_step(t, 0.0, 0.22)) * (1 - (1 - brows.taper) * smooth_step(t, 0.35, 1.0))
    away = np.abs(y - _middle_line(x, brows)) / half
    there = 1 - smooth_step(away, 0.55, 1.15)
    inner = smooth_step(x, PARAMS.inner - 0.003, PARAMS.inner + 0.003)
    there = there * np.maximum(inner, brows.joined) * (1 - smooth_step(x, outer - 0.004, outer + 0.002))
    return there * ground.face * (z > -0.02) * (y > 0.0)


def grow_brows(brows: Brows, r: Generator) -> tuple[Strands, np.ndarray]:
    """The strands, and how much of the skin [G] 0..1 their roots hide."""
    there = brow_growth(brows)
    ground = Ground.load()
    x = np.abs(ground.places[:, 0])
    # The inner hairs stand up; towards the temples they lie along the brow.
    length = brows.length * (1 - 0.35 * smooth_step(x, 0.03, 0.055))
    style = HairStyle(
        lengths=(*everywhere(brows.length), brows.length, brows.length),
        part=((0.0, -0.012, 0.03), (0.0, -0.014, 0.03)),  # between the eyes
        flow=1.0,
        brush=everywhere((0.0, 0.25, 0.0)),
        brush_length=0.05,
        lift=everywhere(brows.lift),
        lift_length=0.004,
        gravity=0.25,
        gravity_length=0.006,
        stiffness=0.55,
        layer=(0.0004, 0.0004 + 0.12 * brows.length),
        fringe=NO_CUT,
        ragged=0.0,
        open_face=0.0,
        locks=int(r.uniform(60, 160)),
        clump=r.uniform(0.05, 0.3),
        curl=(0.0, 0.02),
        uneven=0.2,
        jitter=r.uniform(0.04, 0.10),
        dense=brows.dense,
    )
    cover = there * (0.25 + 0.3 * min(brows.dense, 1.0))
    return grow_on(style, there, length, r, clothes=0.01, limit=PARAMS.limit), cover


@lru_cache(maxsize=1)
def _zones() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Texels of brows, of the skin around, those to be cleared, and for each of these the skin [C, K] beside it."""
    ground = Ground.load()
    x, y, z = ground.places.T
    x = np.abs(x)
    off = y - _middle_line(x)
    side = ground.face & (x > PARAMS.inner + 0.004) & (x < PARAMS.outer - 0.006) & (z > -0.02)
    core = side & (np.abs(off) < 0.0022)
    around = side & (off > PARAMS.around[0]) & (off < PARAMS.around[1])
    band = ground.face & (x < PARAMS.outer + 0.005) & (z > -0.03) & (np.abs(off) < PARAMS.half_cleared) & (y > -0.001)
    band &= x > PARAMS.inner - 0.006
    skin = ground.face & ~band & (y > 0.0) & (y < 0.04) & (z > -0.03)
    cleared = np.flatnonzero(band)
    beside = np.flatnonzero(skin)[KDTree(ground.places[skin]).query(ground.places[cleared], PARAMS.neighbours)[1]]
    return core, around, cleared, beside


def brow_strength(color: np.ndarray) -> float:
    """Brightness of a face's brows [G, 3] over that of the forehead beside them: 1 where there are none."""
    core, around, _, _ = _zones()
    luma = color @ [0.3, 0.6, 0.1]
    return float(np.median(luma[core]) / max(np.median(luma[around]), 1e-3))


def without_brows(color: Tensor) -> Tensor:
    """Skin [G, 3] whose weak brows took the colour of the skin above and below them, softly at the edge."""
    _, _, cleared, beside = _zones()
    ground = Ground.load()
    off = np.abs(ground.places[cleared, 1] - _middle_line(np.abs(ground.places[cleared, 0])))
    share = torch.from_numpy(1 - smooth_step(off, 0.7 * PARAMS.half_cleared, PARAMS.half_cleared)).to(color)[:, None]
    at = torch.from_numpy(cleared).to(color.device)
    filled = color[torch.from_numpy(beside).to(color.device)].mean(1)
    result = color.clone()
    result[at] = color[at] + share * (filled - color[at])
    return result
