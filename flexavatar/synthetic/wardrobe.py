"""What one head wears: headwear, glasses, earrings and clothes of our own geometry, and how hair goes with them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property

import numba as nb
import numpy as np
import torch
from numpy.random import Generator
from scipy.spatial import KDTree
from torch import Tensor

from flexavatar.render.numba_support import prepare_cache
from flexavatar.synthetic.body import Body
from flexavatar.synthetic.collars import CLOTHES, HELD_OUT_CLOTHES, Garment
from flexavatar.synthetic.eyewear import GLASSES, HELD_OUT_GLASSES, make_glasses
from flexavatar.synthetic.fabrics import draw_fabric
from flexavatar.synthetic.grow import sample
from flexavatar.synthetic.hair import Strands
from flexavatar.synthetic.headwear import HATS, HELD_OUT_HATS, Headwear
from flexavatar.synthetic.jewelry import EARRINGS, HELD_OUT_EARRINGS, earrings
from flexavatar.synthetic.pieces import Piece
from flexavatar.synthetic.sheets import PARAMS as SHEETS
from flexavatar.synthetic.sheets import SKULL, largest_around, sheet_piece

prepare_cache()

BARE = ("strap_top", "thin_straps", "strapless", "halter")  # clothes that show shoulders
FULL = ("hijab",)  # headwear that hides neck and ears as well
UNDER_HOOD, UNDER_DRAPE = ("hoodie",), ("crew_neck", "boat_neck")


@dataclass(frozen=True)
class WardrobeParams:
    """Shares of heads, and how hair is pressed."""

    headwear: float = 0.20
    glasses: float = 0.22
    earrings: float = 0.15
    clothes: float = 0.72  # the others wear MakeHuman's meshes or painted cloth
    under: float = 0.0045  # metres that hair stays under the cloth
    close: float = 0.006  # metres under that, within which hair is close to it
    flare: tuple[float, float] = (1.1, 12.0)  # how far hair stands off a hat's edge, over the distance from the skull's
    # middle: per radian from the edge, and per radian squared
    reach: float = 0.045  # radians from a dome's points within which a place is under it
    cells: tuple[int, int] = (288, 144)  # of azimuth and elevation
    free: float = 1.0  # metres: where nothing presses
    over: float = 0.003  # metres that hair lies over collars
    hanging: float = -0.125  # metres: only strands that come down so far lie over collars
    gate: tuple[float, float, int, int] = (-0.25, -0.05, 72, 50)  # heights from, to; cells of azimuth and height


PARAMS = WardrobeParams()


@dataclass(frozen=True)
class Worn:
    """What one head wears; None where it wears nothing of the kind."""

    headwear: str | None = None
    glasses: str | None = None
    earrings: str | None = None
    clothes: str | None = None
    pieces: tuple[Piece, ...] = ()
    bust_color: Tensor | None = None  # [3] RGB that skin under clothes is painted with
    bare: bool = False  # the clothes show shoulders
    covers: Headwear | None = None
    over: tuple[np.ndarray, ...] = field(default=())  # points [..., 3] of what hair lies over

    @cached_property
    def _ceiling(self) -> tuple[np.ndarray, np.ndarray]:
        assert self.covers is not None
        return _ceiling(self.covers)

    @property
    def hides_hair(self) -> bool:
        """Whether no hair of the scalp is seen."""
        return self.covers is not None and self.covers.hair == "hidden"

    def arranged(self, strands: Strands) -> Strands:
        """Strands of hair pressed under the headwear and lifted over collars and scarves."""
        points = strands.points.copy()
        if self.over:
            _lift(points, strands.count, _gates(self.over), *PARAMS.gate[:2], *SHEETS.neck, PARAMS.hanging)
        if self.covers is not None:
            _press(Body.load().distance, points, strands.count, self._ceiling[0], SKULL)
        return replace(strands, points=points)

    def under(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which places [N, 3] around the mean head lie well under the headwear, and which lie under it at all."""
        if self.covers is None:
            return np.zeros(len(places), bool), np.zeros(len(places), bool)
        out = places - SKULL
        columns, rows = PARAMS.cells
        radius = np.linalg.norm(out, axis=1)
        a = ((np.arctan2(out[:, 0], out[:, 2]) + math.pi) / (2 * math.pi) * columns).astype(int).clip(0, columns - 1)
        e = ((np.arcsin(out[:, 1] / radius) / math.pi + 0.5) * rows).astype(int).clip(0, rows - 1)
        ceiling, unseen = self._ceiling
        return unseen[a, e], radius > ceiling[a, e] - PARAMS.close


class Wardrobe:
    """Draws what heads wear, from the families of one split."""

    def __init__(self, held_out: bool) -> None:
        pick = lambda families, held: [name for name in families if (name in held) == held_out]  # noqa: E731
        self.hats = pick(HATS, HELD_OUT_HATS)
        self.glasses = pick(GLASSES, HELD_OUT_GLASSES)
        self.earrings = pick(EARRINGS, HELD_OUT_EARRINGS)
        self.clothes = pick(CLOTHES, HELD_OUT_CLOTHES)

    def draw(self, generator: torch.Generator, vertices: np.ndarray) -> Worn:
        """Of a head whose vertices at rest are [V, 3]. Each kind has random numbers of its own."""
        seeds = torch.randint(2**62, (4,), generator=generator).tolist()
        for_hat, for_glasses, for_ears, for_clothes = (np.random.default_rng(seed) for seed in seeds)
        one = lambda r, names: names[r.integers(len(names))] if names else None  # noqa: E731
        hat = one(for_hat, self.hats) if for_hat.random() < PARAMS.headwear else None
        spectacles = one(for_glasses, self.glasses) if for_glasses.random() < PARAMS.glasses else None
        rings = (
            one(for_ears, self.earrings) if for_ears.random() < PARAMS.earrings and hat not in (*FULL, "hood") else None
        )
        clothes = one(for_clothes, self.clothes) if for_clothes.random() < PARAMS.clothes else None
        # Hoods belong to a hoodie, and drapes need plain cloth below them; both are our own.
        if hat == "hood":
            clothes = "hoodie"
        elif hat in FULL:
            clothes = UNDER_DRAPE[int(for_clothes.integers(len(UNDER_DRAPE)))]
        return dressed(hat, spectacles, rings, clothes, (for_hat, for_glasses, for_ears, for_clothes), vertices)


def dressed(
    hat: str | None,
    spectacles: str | None,
    rings: str | None,
    clothes: str | None,
    numbers: tuple[Generator, Generator, Generator, Generator],
    vertices: np.ndarray,
) -> Worn:
    """The pieces of families by name, for a head whose vertices at rest are [V, 3]."""
    for_hat, for_glasses, for_ears, for_clothes = numbers
    pieces: list[Piece] = []
    over: list[np.ndarray] = []
    garment: Garment | None = None
    covers: Headwear | None = None
    if hat is not None:
        covers = HATS[hat](for_hat)
    if clothes is not None:
        fabric = draw_fabric(for_clothes)
        if covers is not None and covers.fabric is not None and hat == "hood":
            fabric = covers.fabric
        garment = CLOTHES[clothes](for_clothes, fabric)
        if hat == "hood":
            garment = replace(garment, sheets=garment.sheets[:1] + garment.sheets[3:], thick=())
        made = sheet_piece(garment.sheets, "cloth", vertices, for_clothes, on_torso=True)
        pieces.append(replace(made, covered=torch.from_numpy(garment.covered)))
        over += garment.thick
    if covers is not None:
        pieces.append(
            sheet_piece(covers.sheets, "hat", vertices, for_hat, on_torso=covers.on_torso, moving=covers.moving)
        )
    if spectacles is not None:
        made = make_glasses(GLASSES[spectacles](for_glasses), for_glasses)
        pieces.append(sheet_piece(made.frame, "glasses", vertices, for_glasses, gloss=made.gloss))
        pieces.append(
            sheet_piece(
                made.lenses, "glasses", vertices, for_glasses, made.lens_opacity, made.gloss, made.lens_opacity > 0.6
            )
        )
    if rings is not None:
        pieces.append(sheet_piece(earrings(rings, for_ears), "none", vertices, for_ears, gloss=0.9, labelled=False))
    return Worn(
        headwear=hat,
        glasses=spectacles,
        earrings=rings,
        clothes=clothes,
        pieces=tuple(pieces),
        bust_color=None if garment is None else torch.from_numpy(garment.fabric.base).float(),
        bare=clothes in BARE,
        covers=covers,
        over=tuple(over),
    )


def _ceiling(covers: Headwear) -> tuple[np.ndarray, np.ndarray]:
    """Metres from the middle of the skull [azimuths, elevations] that hair may reach, and where it is not seen."""
    columns, rows = PARAMS.cells
    azimuth = (np.arange(columns) + 0.5) / columns * 2 * math.pi - math.pi
    elevation = (np.arange(rows) + 0.5) / rows * math.pi - 0.5 * math.pi
    a, e = np.meshgrid(azimuth, elevation, indexing="ij")
    looks = np.stack([np.cos(e) * np.sin(a), np.sin(e), np.cos(e) * np.cos(a)], -1)
    limit = np.full(looks.shape[:2], PARAMS.free)
    unseen = np.zeros(limit.shape, bool)
    for dome in covers.inside:
        out = (dome.points - SKULL).reshape(-1, 3)
        radius = np.linalg.norm(out, axis=1)
        far, near = KDTree(out / radius[:, None]).query(looks, 3)
        weight = 1 / (far + 0.01)
        inner = (radius[near] * weight).sum(-1) / weight.sum(-1) - PARAMS.under
        aside = (far[..., 0] - PARAMS.reach).clip(0)
        limit = np.minimum(limit, inner * (1 + PARAMS.flare[0] * aside + PARAMS.flare[1] * aside**2))
        row = np.asarray(near)[..., 0] % dome.radius.shape[1]
        if dome.closed:
            unseen |= (row > covers.unseen * dome.radius.shape[1]) & (far[..., 0] < PARAMS.reach)
    return limit.astype(np.float32), unseen


@nb.njit(cache=True, error_model="numpy")
def _press(distance, points, count, ceiling, middle):
    """Pull what reaches beyond the ceiling back to it, but not into the skin."""
    columns, rows = ceiling.shape
    for i in range(len(points)):
        for k in range(1, count[i]):
            x, y, z = points[i, k, 0] - middle[0], points[i, k, 1] - middle[1], points[i, k, 2] - middle[2]
            r = math.sqrt(x * x + y * y + z * z)
            a = min(int((math.atan2(x, z) + math.pi) / (2 * math.pi) * columns), columns - 1)
            e = min(int((math.asin(min(max(y / r, -1.0), 1.0)) + 0.5 * math.pi) / math.pi * rows), rows - 1)
            most = ceiling[a, e]
            if r > most:
                x, y, z = middle[0] + x * most / r, middle[1] + y * most / r, middle[2] + z * most / r
                d, nx, ny, nz = sample(distance, x, y, z)
                lack = 0.0008 - d
                if lack > 0:
                    x, y, z = x + lack * nx, y + lack * ny, z + lack * nz
                points[i, k, 0], points[i, k, 1], points[i, k, 2] = x, y, z


def _gates(thick: tuple[np.ndarray, ...]) -> np.ndarray:
    """Metres from the axis of the neck [azimuths, heights] that collars and scarves reach."""
    low, high, columns, rows = PARAMS.gate
    gates = np.zeros((columns, rows), np.float32)
    for points in thick:
        flat = points.reshape(-1, 3)
        x, z = flat[:, 0] - SHEETS.neck[0], flat[:, 2] - SHEETS.neck[1]
        a = ((np.arctan2(x, z) + math.pi) / (2 * math.pi) * columns).astype(int) % columns
        b = ((flat[:, 1] - low) / (high - low) * rows).astype(int).clip(0, rows - 1)
        np.maximum.at(gates, (a, b), np.hypot(x, z) + PARAMS.over)
    return largest_around(gates, 3)


@nb.njit(cache=True, error_model="numpy")
def _lift(points, count, gates, low, high, neck_x, neck_z, hanging):
    """Move strands that hang down outwards until they pass outside of collars and scarves."""
    columns, rows = gates.shape
    for i in range(len(points)):
        n = count[i]
        lowest = 1.0
        for k in range(n):
            lowest = min(lowest, points[i, k, 1])
        if lowest > hanging:
            continue
        for k in range(1, n):
            y = points[i, k, 1]
            if y < low or y >= high:
                continue
            x, z = points[i, k, 0] - neck_x, points[i, k, 2] - neck_z
            a = min(int((math.atan2(x, z) + math.pi) / (2 * math.pi) * columns), columns - 1)
            least = gates[a, int((y - low) / (high - low) * rows)]
            r = math.sqrt(x * x + z * z) + 1e-6
            if r < least:
                points[i, k, 0], points[i, k, 2] = neck_x + x * least / r, neck_z + z * least / r
