"""Values over the atlas: maps that can be blurred, means, and how large Gaussians have to be to leave no gaps."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from flexavatar.rig import Rig
from flexavatar.rig.anchors import ANCHOR_PARAMS, SPREAD
from flexavatar.rig.subdivision import subdivision

SEAM_PADDING = 48  # texels that a blur reaches over the seams of the atlas
MAX_STEP = 0.03  # metres between two neighbouring texels of one surface


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
    padded = np.concatenate([maps[:SEAM_PADDING][::-1, ::-1], maps])
    padded = np.concatenate([padded[:, -SEAM_PADDING:], padded, padded[:, :SEAM_PADDING]], 1)
    smooth = cv2.GaussianBlur(padded, (0, 0), deviation).reshape(padded.shape)
    smooth = smooth[SEAM_PADDING:, SEAM_PADDING:-SEAM_PADDING]
    return torch.from_numpy(smooth[Rig.load().atlas.valid.numpy()])


def covering(positions: Tensor, grid: Tensor, shown: Tensor | None = None) -> Tensor:
    """Standard deviations [B, G, 3] metres with which Gaussians at positions [B, G, 3] leave no gaps.

    grid [256, 256] bool: the G texels. shown [B, G] bool: those that are part of the surface, by default all.
    """
    place = torch.full((len(positions), *grid.shape, 3), float("nan"), device=grid.device)
    place[:, grid] = positions if shown is None else torch.where(shown[..., None], positions, place[:, grid])
    total, count = (torch.zeros(place.shape[:-1], device=grid.device) for _ in range(2))
    for axis in (1, 2):
        steps = place.diff(dim=axis).norm(dim=-1)
        close = steps < MAX_STEP  # not so for NaN
        steps = torch.where(close, steps, torch.zeros_like(steps))
        for edge in ((0, 1), (1, 0)):
            pad = (0, 0, *edge) if axis == 1 else edge
            total = total + F.pad(steps, pad)
            count = count + F.pad(close.float(), pad)
    spacing = total / count.clamp_min(1)
    wide = (SPREAD * spacing[:, grid]).clamp(ANCHOR_PARAMS.limits[0], ANCHOR_PARAMS.max_raised)
    return wide[..., None] * wide.new_tensor([1.0, 1.0, 0.5])  # hair is no foil


def averaged(values: Tensor, grid: Tensor, width: int) -> Tensor:
    """Means [B, G, C] of values [B, G, C] over `width` x `width` of the texels, `width` even.

    grid [256, 256] bool: the G texels. What repeats every `width` texels cancels out, and what changes evenly over the
    texels stays as it is; so do, more and more towards the border of the grid, values near it.
    """
    maps = values.new_zeros(len(values), *grid.shape, values.shape[-1])
    maps[:, grid] = values
    share = (_box(grid[None, None].to(values), width) / width**2).permute(0, 2, 3, 1)[:, grid]
    means = _box(maps.permute(0, 3, 1, 2), width).permute(0, 2, 3, 1)[:, grid] / (width**2 * share)
    return torch.lerp(values, means, (2 * share - 1).clamp(0, 1))


def _box(maps: Tensor, width: int) -> Tensor:
    """Sums over `width` texels along both axes, across the seam at the back; the outermost two of a row count half."""
    kernel = maps.new_ones(1, 1, width + 1, 1)
    kernel[:, :, 0] = kernel[:, :, -1] = 0.5
    half = width // 2
    columns = F.conv2d(maps.reshape(-1, 1, *maps.shape[2:]), kernel, padding=(half, 0))
    closed = F.pad(columns, (half, half, 0, 0), mode="circular")
    return F.conv2d(closed, kernel.mT).reshape(maps.shape)
