"""Values of Gaussians and texels as maps over the rig's atlas, where they can be blurred and filtered."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from flexavatar.rig import Rig
from flexavatar.rig.subdivision import subdivision

FARTHEST = 48  # texels that a blur reaches over the seams of the atlas


def of_texels(values: Tensor, weights: Tensor) -> Tensor:
    """Sums [G, C + 1] over each texel's Gaussians of weighted values [S, C], and of the weights [S]."""
    divided = subdivision()
    weighted = torch.cat([values * weights[:, None], weights[:, None]], 1) * divided.size.square()[:, None]
    count = int(divided.parent.max()) + 1
    return weighted.new_zeros(count, weighted.shape[1]).index_add_(0, divided.parent, weighted)


def maps_of(values: Tensor) -> np.ndarray:
    """Values [G, C] over the atlas, float32 [256, 256, C], 0 where no surface is."""
    valid = Rig.load().atlas.valid.numpy()
    maps = np.zeros((*valid.shape, values.shape[1]), np.float32)
    maps[valid] = values.numpy()
    return maps


def blurred(maps: np.ndarray, deviation: float) -> Tensor:
    """Gaussian means [G, C] of maps [256, 256, C], across the seams at the back of the head and on its top edge."""
    padded = np.concatenate([maps[:FARTHEST][::-1, ::-1], maps])
    padded = np.concatenate([padded[:, -FARTHEST:], padded, padded[:, :FARTHEST]], 1)
    smooth = cv2.GaussianBlur(padded, (0, 0), deviation).reshape(padded.shape)[FARTHEST:, FARTHEST:-FARTHEST]
    return torch.from_numpy(smooth[Rig.load().atlas.valid.numpy()])
