"""Where hair, clothes and hats may stand off the head, and how far they raise the rig, vertex by vertex."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import torch
from torch import Tensor

from flexavatar.rig import Rig
from flexavatar.rig.anchors import outward_normals
from flexavatar.rig.regions import atlas_regions
from flexavatar.settings import to_device


@dataclass(frozen=True)
class ReachParams:
    """How far hair, clothes and hats may stand off each region of the mean head, metres."""

    scalp: float = 0.16
    face: float = 0.045
    neck: float = 0.08
    torso: float = 0.05
    behind: float = 0.09  # of neck and torso where they look back: long hair hangs free there
    front: tuple[float, float] = (0.0, 0.04)  # behind the eyes, over which it begins that hair may stand off skin
    min_share: float = 0.3  # of a vertex's share in texels: less says nothing of its direction


PARAMS = ReachParams()  # displacements in files rest on these: there is one choice for all


@dataclass(frozen=True)
class Outside:
    """In which direction, and how far, hair and clothes may lie off the G texels of the mean head."""

    direction: Tensor  # [G, 3] unit, outward
    reach: Tensor  # [G] metres; 0 where nothing can lie in front (eyes, mouth interior)
    torso_weights: Tensor  # [G] as Rig.torso_weights


def outside_of(rig: Rig, scalp: Tensor, torso: Tensor) -> Outside:
    """Directions that change smoothly over the atlas, and reaches, from the masks [G] 0..1 of scalp and torso."""
    frames = rig.anchors.frames(rig.mean)
    valid, region = rig.atlas.valid.numpy(), rig.atlas.region.numpy()
    normal = np.zeros((*valid.shape, 3), np.float32)
    normal[valid] = outward_normals(frames.quats).numpy()
    normal[region != 0] = 0
    smooth = torch.from_numpy(cv2.GaussianBlur(normal, (0, 0), 9.0)[valid])
    radial = torch.nn.functional.normalize(frames.means - torch.tensor((0.0, -0.01, -0.085)), dim=-1)
    height, depth = frames.means[:, 1], frames.means[:, 2]
    # Ears and temples have no smooth normal of their own either.
    head = ((height + 0.10) / 0.05).clamp(0, 1) * ((-0.03 - depth) / 0.04).clamp(0, 1)
    share = torch.maximum(scalp, head)[:, None]
    direction = torch.nn.functional.normalize(smooth + 1e-6, dim=-1) * (1 - share) + radial * share
    neck = ((-0.085 - height) / 0.03).clamp(0, 1)
    reach = PARAMS.face * (1 - neck) + PARAMS.neck * neck
    reach = reach * (1 - share[:, 0]) + PARAMS.scalp * share[:, 0]
    reach = reach * (1 - torso) + PARAMS.torso * torso
    behind = ((-0.10 - depth) / 0.03).clamp(0, 1) * (-direction[:, 2] / 0.3).clamp(0, 1) * torch.maximum(neck, torso)
    reach = torch.maximum(reach, PARAMS.behind * behind)
    reach = reach * torch.from_numpy(region[valid] == 0)
    torso_weights = rig.anchors.interpolate(rig.torso_weights[:, None])[:, 0]
    return Outside(torch.nn.functional.normalize(direction, dim=-1), reach, torso_weights)


@dataclass(frozen=True)
class Outward:
    """In which direction, and how far, the rig's V vertices may be raised."""

    direction: Tensor  # [V, 3] unit, canonical head frame; smooth over the head
    reach: Tensor  # [V] metres; 0 for the face, the torso and inner parts
    place: Tensor  # [V] int64, the same for the vertices on either side of the seam at the back, which coincide


def outward(device: torch.device | str = "cpu") -> Outward:
    """Directions and reaches at the vertices of the bundled rig, on `device`; made once for each device.

    They are those of `outside_of`, in which the labels of synthetic heads are measured, too.
    """
    return _outward(str(device))


@lru_cache(maxsize=2)
def _outward(device: str) -> Outward:
    if device != "cpu":
        return to_device(_outward("cpu"), device)
    rig = Rig.load()
    regions, valid = atlas_regions(rig), rig.atlas.valid
    scalp, torso = (torch.from_numpy(mask)[valid] for mask in (regions.scalp, regions.torso))
    outside = outside_of(rig, scalp, torso)
    first, full = PARAMS.front
    behind = ((-first - rig.anchors.positions(rig.mean)[:, 2]) / (full - first)).clamp(0, 1)
    reach = outside.reach * torch.maximum(scalp, behind) * (1 - torso)
    corners, weights = rig.anchors.corners.flatten(), rig.anchors.weights[:, 0].clamp_min(0)
    values = torch.cat([outside.direction, reach[:, None], torch.ones_like(reach)[:, None]], 1)
    sums = torch.zeros(len(rig.mean), 5).index_add_(0, corners, (values[:, None] * weights[..., None]).flatten(0, 1))
    place = torch.unique((rig.mean / 1e-5).round(), dim=0, return_inverse=True)[1]
    sums = joined(sums, place)
    known = sums[:, 4:] > PARAMS.min_share
    mean = torch.where(known, sums / sums[:, 4:].clamp_min(PARAMS.min_share), 0)
    return Outward(torch.nn.functional.normalize(mean[:, :3], dim=-1), mean[:, 3], place)


def joined(values: Tensor, place: Tensor) -> Tensor:
    """Values [V, C] summed over the vertices that coincide (`Outward.place`), so that the seam does not open."""
    return values.new_zeros(int(place.max()) + 1, values.shape[1]).index_add_(0, place, values)[place]


def raised(vertices: Tensor, hair_displacement: Tensor | None) -> Tensor:
    """Vertices [..., V, 3] of the rig, before its torso turns, raised by `hair_displacement` [V] metres."""
    if hair_displacement is None:
        return vertices
    return vertices + hair_displacement[:, None] * outward(vertices.device).direction
