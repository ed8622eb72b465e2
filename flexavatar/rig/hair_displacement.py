"""Hair and hats stand off the head: how far the rig's surface is raised, vertex by vertex."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from flexavatar.rig import Rig
from flexavatar.rig.move import moved

FRONT = (0.0, 0.04)  # metres behind the eyes over which it begins that hair may stand off skin
SAME_PLACE = 1e-5  # metres
LEAST_SHARE = 0.3  # of a vertex's share in texels: less says nothing of its direction


@dataclass(frozen=True)
class Outward:
    """Where the rig's V vertices may be raised to."""

    direction: Tensor  # [V, 3] unit, canonical head frame; smooth over the head
    reach: Tensor  # [V] metres; 0 for the face, the torso and inner parts
    place: Tensor  # [V] int64, the same for the vertices on either side of the seam at the back, which coincide


def outward(device: torch.device | str = "cpu") -> Outward:
    """Directions and reaches of the synthetic heads' labels, at the vertices of the bundled rig; made once a device."""
    return _outward(str(device))


@lru_cache(maxsize=2)
def _outward(device: str) -> Outward:
    if device != "cpu":
        return moved(_outward("cpu"), device)
    from flexavatar.rig.outside import outside_of
    from flexavatar.rig.regions import atlas_regions

    rig = Rig.load()
    regions, valid = atlas_regions(rig), rig.atlas.valid
    scalp, torso = (torch.from_numpy(mask)[valid] for mask in (regions.scalp, regions.torso))
    outside = outside_of(rig, scalp, torso)
    behind = ((-FRONT[0] - rig.anchors.positions(rig.mean)[:, 2]) / (FRONT[1] - FRONT[0])).clamp(0, 1)
    reach = outside.reach * torch.maximum(scalp, behind) * (1 - torso)
    corners, weights = rig.anchors.corners.flatten(), rig.anchors.weights[:, 0].clamp_min(0)
    values = torch.cat([outside.direction, reach[:, None], torch.ones_like(reach)[:, None]], 1)
    sums = torch.zeros(len(rig.mean), 5).index_add_(0, corners, (values[:, None] * weights[..., None]).flatten(0, 1))
    place = torch.unique((rig.mean / SAME_PLACE).round(), dim=0, return_inverse=True)[1]
    sums = joined(sums, place)
    known = sums[:, 4:] > LEAST_SHARE
    mean = torch.where(known, sums / sums[:, 4:].clamp_min(LEAST_SHARE), 0)
    return Outward(torch.nn.functional.normalize(mean[:, :3], dim=-1), mean[:, 3], place)


def joined(values: Tensor, place: Tensor) -> Tensor:
    """Values [V, C] summed over the vertices that coincide (`Outward.place`), so that the seam does not open."""
    return values.new_zeros(int(place.max()) + 1, values.shape[1]).index_add_(0, place, values)[place]


def raised(vertices: Tensor, volume: Tensor | None) -> Tensor:
    """Vertices [..., V, 3] of the rig, before its torso turns, raised by `volume` [V] metres."""
    return vertices if volume is None else vertices + volume[:, None] * outward(vertices.device).direction
