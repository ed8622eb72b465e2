"""More Gaussians where people look: texels of face and eyes stand for four Gaussians each, all others for one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from flexavatar.gaussians import Gaussians
from flexavatar.rig.anchors import REGION_NAMES
from flexavatar.rig.rig import HEAD_AXIS, Rig
from flexavatar.settings import to_device


@dataclass(frozen=True)
class SubdivisionParams:
    """What is divided, the face up to the hairline, and how; metres and degrees on the mean head."""

    height: tuple[float, float] = (-0.105, 0.085)  # y
    angle: float = 62.0  # around the head, from straight ahead, at most
    depth: float = -0.06  # z, at least
    step: float = 0.25  # of the way from a texel to its neighbours, where its Gaussians lie
    size: float = 0.64  # of a texel's; not half: seen close up, what lies behind would show through between them
    max_step: float = 0.008  # metres between neighbouring texels of one surface


PARAMS = SubdivisionParams()  # files hold residuals of the Gaussians in this order: there is one choice for all


@dataclass(frozen=True)
class Subdivision:
    """S Gaussians from G: every one a fixed mixture of a texel and its neighbours along u and v."""

    index: Tensor  # [S, 3] int64: the texel itself, its neighbours
    weight: Tensor  # [S, 3] sums to 1
    size: Tensor  # [S] of a Gaussian, relative to its texel's
    pairs: Tensor  # [P, 2] int64: Gaussians that are neighbours on one surface

    def __len__(self) -> int:
        return len(self.index)

    @property
    def parent(self) -> Tensor:
        """The texel [S] each Gaussian comes from."""
        return self.index[:, 0]

    def spread(self, values: Tensor) -> Tensor:
        """Values [..., G, C] of texels at the Gaussians [..., S, C]."""
        own, along_u, along_v = (values[..., self.index[:, i], :] for i in range(3))
        w = self.weight
        return own * w[:, :1] + along_u * w[:, 1:2] + along_v * w[:, 2:]

    def apply(self, gaussians: Gaussians) -> Gaussians:
        """Gaussians [..., G] as [..., S], which look the same but can hold twice the detail where divided."""
        scales = self.spread(gaussians.scales) * self.size[:, None]
        return Gaussians(
            means=self.spread(gaussians.means),
            quats=gaussians.quats[..., self.parent, :],
            scales=torch.maximum(scales, gaussians.scales[..., self.parent, :] * (0.5 * self.size[:, None])),
            opacities=gaussians.opacities[..., self.parent],
            colors=self.spread(gaussians.colors).clamp(0, 1),
        )


def subdivision(device: torch.device | str = "cpu") -> Subdivision:
    """The subdivision of the bundled rig on `device`, made once for each device."""
    return _subdivision(str(device))


@lru_cache(maxsize=2)
def _subdivision(device: str) -> Subdivision:
    return to_device(_subdivide(Rig.load()), device)


def divided(rig: Rig) -> Tensor:
    """The texels [G] bool that stand for four Gaussians."""
    x, y, z = rig.anchors.positions(rig.mean).unbind(-1)
    region = rig.atlas.region[rig.atlas.valid]
    angle = torch.rad2deg(torch.atan2(x - HEAD_AXIS[0], z - HEAD_AXIS[1]).abs())
    low, high = PARAMS.height
    face = (region == REGION_NAMES.index("head")) & (angle < PARAMS.angle) & (y > low) & (y < high)
    face &= z > PARAMS.depth
    eyes = (region == REGION_NAMES.index("eye_left")) | (region == REGION_NAMES.index("eye_right"))
    return face | eyes


def _subdivide(rig: Rig) -> Subdivision:
    valid = rig.atlas.valid
    count = int(valid.sum())
    chart = rig.atlas.region.clone()
    for name in ("mouth", "sockets"):
        chart[chart == REGION_NAMES.index(name)] = REGION_NAMES.index("head")
    number = torch.full(valid.shape, -1, dtype=torch.int64)
    number[valid] = torch.arange(count)
    position = rig.anchors.positions(rig.mean)
    own_chart = chart[valid]

    def neighbour(rows: int, columns: int) -> Tensor:
        """The texel [G] in that direction, -1 where the surface ends."""
        other = torch.full_like(number, -1)
        height, width = number.shape
        source = number[max(rows, 0) : height + min(rows, 0), max(columns, 0) : width + min(columns, 0)]
        other[max(-rows, 0) : height + min(-rows, 0), max(-columns, 0) : width + min(-columns, 0)] = source
        other = other[valid]
        near = (position - position[other.clamp_min(0)]).norm(dim=-1) < PARAMS.max_step
        return torch.where((other >= 0) & near & (own_chart == own_chart[other.clamp_min(0)]), other, -1)

    split = divided(rig)
    whole = torch.arange(count)[~split]
    own = torch.arange(count)[split]
    index = [whole[:, None].expand(-1, 3)]
    weight = [torch.tensor([1.0, 0.0, 0.0]).expand(len(whole), -1)]
    for rows in (-1, 1):
        for columns in (-1, 1):
            along_u, weight_u = _toward(own, neighbour(0, columns)[split], neighbour(0, -columns)[split])
            along_v, weight_v = _toward(own, neighbour(rows, 0)[split], neighbour(-rows, 0)[split])
            index.append(torch.stack([own, along_u, along_v], -1))
            weight.append(torch.stack([1 - weight_u - weight_v, weight_u, weight_v], -1))
    size = torch.ones(len(whole) + 4 * len(own))
    size[len(whole) :] = PARAMS.size
    return Subdivision(torch.cat(index), torch.cat(weight), size, _pairs(number, chart, whole, own, position))


def _pairs(number: Tensor, chart: Tensor, whole: Tensor, own: Tensor, position: Tensor) -> Tensor:
    """Neighbouring Gaussians [P, 2], for texels that stay whole and those that are divided, in the order of both."""
    fine = torch.full((2 * number.shape[0], 2 * number.shape[1]), -1, dtype=torch.int64)
    row, column = (number >= 0).nonzero().unbind(-1)
    quarters = ((0, 0), (0, 1), (1, 0), (1, 1))
    for i, (down, right) in enumerate(quarters):
        fine[2 * row[whole] + down, 2 * column[whole] + right] = torch.arange(len(whole))
        first = len(whole) + i * len(own)
        fine[2 * row[own] + down, 2 * column[own] + right] = torch.arange(first, first + len(own))
    place = torch.cat([position[whole], *[position[own]] * len(quarters)])
    charts = chart.repeat_interleave(2, 0).repeat_interleave(2, 1)
    pairs = []
    for here, there in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        a, b = fine[here], fine[there]
        found = (a >= 0) & (b >= 0) & (a != b) & (charts[here] == charts[there])
        a, b = a[found], b[found]
        near = (place[a] - place[b]).norm(dim=-1) < PARAMS.max_step
        pairs.append(torch.stack([a[near], b[near]], -1))
    return torch.unique(torch.cat(pairs), dim=0)


def _toward(own: Tensor, there: Tensor, opposite: Tensor) -> tuple[Tensor, Tensor]:
    """The neighbour [N] to mix in and its weight; beyond the end of a surface, what lies opposite is continued."""
    weight = torch.where(there >= 0, PARAMS.step, torch.where(opposite >= 0, -PARAMS.step, 0.0))
    return torch.where(there >= 0, there, torch.where(opposite >= 0, opposite, own)), weight
