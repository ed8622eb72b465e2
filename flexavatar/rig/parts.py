"""Which of the rig's texels are face, hair, clothes, eyes and lids: soft masks [G] in 0..1."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import torch
from torch import Tensor

from flexavatar.expression import BLINKS
from flexavatar.rig.regions import atlas_regions, smooth_step
from flexavatar.rig.rig import Rig
from flexavatar.settings import to_device

LID_TRAVEL = (0.0006, 0.002)  # metres that skin moves as an eye closes: between them it begins to be lid
MIN_AREA = 1e-12  # square metres
# MediaPipe's landmarks of what is dark without a crease, and metres from them between which skin that creases begins.
FEATURES = (
    ((61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185, 76, 77, 90, 180, 85,
      16, 315, 404, 320, 307, 306, 408, 304, 303, 302, 11, 72, 73, 74, 184, 78, 95, 88, 178, 87, 14, 317, 402, 318,
      324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191), (0.002, 0.005)),  # lips
    ((70, 63, 105, 66, 107, 55, 65, 52, 53, 46, 300, 293, 334, 296, 336, 285, 295, 282, 283, 276),
     (0.005, 0.01)),  # brows
    ((33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246, 263, 249, 390, 373, 374, 380, 381,
      382, 362, 398, 384, 385, 386, 387, 388, 466), (0.003, 0.007)),  # eyes
    ((2, 97, 98, 326, 327, 60, 290, 75, 305, 240, 460, 99, 328, 20, 250, 238, 458, 79, 309, 166, 392, 59, 289, 218,
      438, 219, 439, 237, 457, 64, 294, 48, 278), (0.003, 0.006)),  # nostrils and wings of the nose
)  # fmt: skip


@dataclass(frozen=True)
class Parts:
    """Soft masks of the G texels."""

    outside: Tensor  # the head's outer skin: no eyes, teeth, tongue, walls of the mouth
    face: Tensor  # skin of the face, certainly no hair unless bearded
    core: Tensor  # the same without its border, over which it fades
    scalp: Tensor
    torso: Tensor
    eyes: Tensor
    lids: Tensor  # [2, G] left, right: skin that moves with eyeBlinkLeft, eyeBlinkRight
    lashes: Tensor  # the edges of the upper lids
    lid_edges: Tensor  # around the openings of the eyes: in a photo of open eyes it is lined with lashes
    creasing: Tensor  # skin of the face that expressions fold: no lids, lips, brows, wings of the nose


def parts(device: torch.device | str = "cpu") -> Parts:
    """The masks of the bundled rig on `device`, made once for each device."""
    return _parts(str(device))


@lru_cache(maxsize=2)
def _parts(device: str) -> Parts:
    rig = Rig.load()
    regions, valid = atlas_regions(rig), rig.atlas.valid.numpy()
    mask = lambda values: torch.from_numpy(np.asarray(values[valid], np.float32))  # noqa: E731
    outside = mask(regions.named("head"))
    travel = rig.expression_deltas[BLINKS]
    moves = rig.anchors.interpolate(travel)
    stretch = rig.anchors.areas(rig.mean + travel) / rig.anchors.areas(rig.mean).clamp_min(MIN_AREA)
    # What lay in a fold while the eye was open is lid too; where nothing moves a stretch means nothing.
    folded = smooth_step(stretch, 1.1, 1.5) * (moves.norm(dim=-1) > 1e-4)
    lids = torch.maximum(smooth_step(moves.norm(dim=-1), *LID_TRAVEL), folded) * outside
    spread = np.zeros((*valid.shape, 2), np.float32)
    spread[valid] = lids.T.numpy()
    spread = np.maximum(spread, cv2.dilate(spread, np.ones((3, 3), np.uint8)))
    lids = torch.from_numpy(cv2.GaussianBlur(spread, (0, 0), 1.0)[valid]).T * outside
    opening = _distance(~regions.named("sockets"))
    upper = (moves[..., 1].amin(0) < -LID_TRAVEL[1]).float()  # the lower lid rises
    lashes = mask((1 - (opening - 1) / 3.5).clip(0, 1)) * upper * outside
    core = (_distance(regions.face | ~regions.named("head")) / 10).clip(0, 1)
    edges = mask((1 - (opening - 1) / 5).clip(0, 1)) * outside
    made = Parts(
        outside, mask(regions.face), mask(core), mask(regions.scalp), mask(regions.torso),
        mask(regions.named("eye_left", "eye_right")), lids, lashes, edges,
        mask(regions.face) * mask(core) * (1 - lids.amax(0)) * (1 - edges) * _featureless(rig),
    )  # fmt: skip
    return to_device(made, device)


def _featureless(rig: Rig) -> Tensor:
    """1 away from lips, brows, eyes and nostrils, [G]."""
    places, landmarks = rig.anchors.positions(rig.mean), rig.landmarks(rig.mean)
    away = [smooth_step(torch.cdist(places, landmarks[list(points)]).amin(1), *border) for points, border in FEATURES]
    return torch.stack(away).amin(0)


def _distance(mask: np.ndarray) -> np.ndarray:
    """Texels [256, 256] from every texel of a mask to the nearest that is not in it."""
    return cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)
