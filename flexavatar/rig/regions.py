"""Soft masks over the atlas, defined once on the rig's mean head."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from torch import Tensor

from flexavatar.rig import REGION_NAMES, Rig
from flexavatar.rig.rig import HEAD_AXIS

# Height of the hairline (metres above the eyes) by angle around the head, 0 = front, 180 = nape.
HAIRLINE = ((0, 0.068), (25, 0.066), (45, 0.052), (58, 0.030), (68, 0.000), (82, 0.008), (100, 0.012), (115, -0.022),
            (135, -0.045), (160, -0.058), (180, -0.062))  # fmt: skip


@dataclass(frozen=True)
class RegionParams:
    """Where the masks end; metres on the mean head, texels of the atlas."""

    hairline_width: float = 0.012  # metres to either side of the hairline over which the scalp fades
    neckline_width: float = 0.015  # the same of the torso
    hair_height: float = 0.018  # metres over the rig from which something is hair and no ear
    hair_width: float = 0.008  # metres to either side of that height over which hair begins
    rim: float = 2  # texels over which the bust fades out at its rim, the bottom row of the skin chart
    ear_center: tuple[float, float] = (35.0, 90.0)  # texels (column, row), of the right ear
    ear_radii: tuple[float, float] = (13.5, 26.5)  # texels


PARAMS = RegionParams()  # textures, networks and files agree on the regions: there is one choice for all

Values = TypeVar("Values", np.ndarray, Tensor)


@dataclass(frozen=True)
class Regions:
    """All [256, 256]; soft ones are float32 in 0..1."""

    position: np.ndarray  # [256, 256, 3] of the mean head, metres; 0 where no surface is
    skin_chart: np.ndarray  # bool: head, mouth and sockets
    scalp: np.ndarray  # where hair grows on a full head of hair
    torso: np.ndarray  # shoulders, chest, upper back: what clothes cover
    face: np.ndarray  # bool: cheeks, forehead, nose, chin; certainly skin unless bearded
    ear: np.ndarray  # bool
    edge: np.ndarray  # 1 inside, 0 at the rim of the bust
    region: np.ndarray  # index into REGION_NAMES, -1 where no surface is

    def named(self, *names: str) -> np.ndarray:
        """Texels [256, 256] bool of the named regions of the rig."""
        return np.isin(self.region, [REGION_NAMES.index(n) for n in names])


def atlas_regions(rig: Rig) -> Regions:
    """The regions of a rig's atlas."""
    region = rig.atlas.region.numpy()
    valid = rig.atlas.valid.numpy()
    position = np.zeros((*valid.shape, 3), np.float32)
    position[valid] = rig.anchors.positions(rig.mean).numpy()
    x, y, z = np.moveaxis(position, -1, 0)
    angle = np.degrees(np.abs(np.arctan2(x - HEAD_AXIS[0], z - HEAD_AXIS[1])))
    hairline = np.interp(angle, [a for a, _ in HAIRLINE], [y for _, y in HAIRLINE])
    chart = np.isin(region, [REGION_NAMES.index(n) for n in ("head", "mouth", "sockets")])
    head = region == REGION_NAMES.index("head")
    row, column = np.mgrid[: valid.shape[0], : valid.shape[1]] + 0.5
    column = np.minimum(column, valid.shape[1] - column)
    center, radii = PARAMS.ear_center, PARAMS.ear_radii
    ear = head & (np.hypot((column - center[0]) / radii[0], (row - center[1]) / radii[1]) < 1)
    scalp = _smooth((y - hairline) / PARAMS.hairline_width) * head * ~ear
    # The neckline falls from the nape towards the collarbones.
    neckline = np.interp(z, [-0.17, -0.02], [-0.125, -0.185])
    torso = _smooth((neckline - y) / PARAMS.neckline_width) * head
    face = head & (angle < 62) & (y < 0.055) & (y > -0.10) & (z > -0.06)
    edge = np.where(chart, ((np.where(chart, row, 0).max() - row + 0.5) / PARAMS.rim).clip(0, 1), valid)
    return Regions(position, chart, scalp, torso, face, ear, edge.astype(np.float32), region)


def under_hair(regions: Regions, rig: Rig, hair_displacement: Tensor) -> Regions:
    """Regions in which what is raised by `hair_displacement` [V] metres counts as hair, also over ears and neck."""
    height = np.zeros(regions.scalp.shape, np.float32)
    height[rig.atlas.valid.numpy()] = rig.anchors.interpolate(hair_displacement[:, None])[:, 0].numpy()
    hair = _smooth((height - PARAMS.hair_height) / PARAMS.hair_width) * (regions.region == REGION_NAMES.index("head"))
    return replace(regions, scalp=np.maximum(regions.scalp, hair), ear=regions.ear & (hair < 0.5))


def smooth_step(values: Values, low: float, high: float) -> Values:
    """0 below `low`, 1 above `high`, and a smooth cubic between them."""
    t = ((values - low) / (high - low)).clip(0, 1)
    return t * t * (3 - 2 * t)


def _smooth(value) -> np.ndarray:
    return smooth_step(value, -1, 1).astype(np.float32)
