"""Where hair, clothes and hats may lie: smooth outward directions of the texels, and how far out."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from flexavatar.rig import Rig
from flexavatar.rig.anchors import outward_normals

# Metres to which hair, clothes and hats stand off, by region.
REACH_SCALP, REACH_FACE, REACH_NECK, REACH_TORSO = 0.16, 0.045, 0.08, 0.05
REACH_BEHIND = 0.09  # of neck and torso where they look back: long hair hangs free there
SCALP_CENTER = (0.0, -0.01, -0.085)  # where the outward directions of the scalp come from


@dataclass(frozen=True)
class Outside:
    """From where the G texels are looked at, on the mean head."""

    direction: Tensor  # [G, 3] unit, outward
    reach: Tensor  # [G] metres; 0 where nothing can lie in front (eyes, mouth interior)
    torso_weights: Tensor  # [G] as Rig.torso_weights


def outside_of(rig: Rig, scalp: Tensor, torso: Tensor) -> Outside:
    """Smooth outward directions and reaches from the masks [G] of scalp and torso."""
    frames = rig.anchors.frames(rig.mean)
    valid, region = rig.atlas.valid.numpy(), rig.atlas.region.numpy()
    normal = np.zeros((*valid.shape, 3), np.float32)
    normal[valid] = outward_normals(frames.quats).numpy()
    normal[region != 0] = 0
    smooth = torch.from_numpy(cv2.GaussianBlur(normal, (0, 0), 9.0)[valid])
    radial = torch.nn.functional.normalize(frames.means - torch.tensor(SCALP_CENTER), dim=-1)
    height, depth = frames.means[:, 1], frames.means[:, 2]
    # Ears and temples have no smooth normal of their own either.
    head = ((height + 0.10) / 0.05).clamp(0, 1) * ((-0.03 - depth) / 0.04).clamp(0, 1)
    share = torch.maximum(scalp, head)[:, None]
    direction = torch.nn.functional.normalize(smooth + 1e-6, dim=-1) * (1 - share) + radial * share
    neck = ((-0.085 - height) / 0.03).clamp(0, 1)
    reach = REACH_FACE * (1 - neck) + REACH_NECK * neck
    reach = reach * (1 - share[:, 0]) + REACH_SCALP * share[:, 0]
    reach = reach * (1 - torso) + REACH_TORSO * torso
    behind = ((-0.10 - depth) / 0.03).clamp(0, 1) * (-direction[:, 2] / 0.3).clamp(0, 1) * torch.maximum(neck, torso)
    reach = torch.maximum(reach, REACH_BEHIND * behind)
    reach = reach * torch.from_numpy(region[valid] == 0)
    torso_weights = rig.anchors.interpolate(rig.torso_weights[:, None])[:, 0]
    return Outside(torch.nn.functional.normalize(direction, dim=-1), reach, torso_weights)
