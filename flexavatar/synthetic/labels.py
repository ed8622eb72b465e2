"""The answer in the atlas: for each texel the outermost surface met when looking in from outside."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba as nb
import numpy as np
import torch
from torch import Tensor

from flexavatar.gaussians import Gaussians
from flexavatar.render.numba_support import prepare_cache
from flexavatar.rig import Rig
from flexavatar.rig.anchors import ATLAS_SIZE
from flexavatar.rig.hair_displacement import Outside
from flexavatar.rotations import rotation_matrices

prepare_cache()

CELL = 0.003  # metres
CORNER, CELLS = (-0.33, -0.33, -0.40), (220, 220, 220)  # of the grid of cells
WINDOW, SURROUNDED = 2, 0.6  # texels; share of raised neighbours that closes a gap
FEWEST = 1.6  # splats: a lone hair is no surface
SLIM = 0.34  # width over length from which a splat is a piece of a strand


@dataclass(frozen=True)
class UVLabels:
    """Targets in the atlas; row 0 is the top. Where `valid` is false the values are 0."""

    positions: Tensor  # [3, 256, 256] metres, canonical head frame
    colors: Tensor  # [3, 256, 256] RGB 0..1, lit
    valid: Tensor  # [256, 256] bool: texels with a surface
    raised: Tensor  # [256, 256] bool: the surface is hair, cloth or a hat and not the rig


def uv_labels(
    rig: Rig, outside: Outside, surface: Gaussians, cover: Gaussians, head_rotation: Tensor, shown: Tensor
) -> UVLabels:
    """Labels of one head.

    `surface` are the rig's G anchors, `cover` the S splats of what may lie outside of it, `shown` [G] bool the
    anchors that are part of the head; the others (under clothes, the rim) are valid only where covered.
    """
    direction = outside.direction
    turned = direction @ head_rotation
    direction = direction + outside.torso_weights[:, None] * (turned - direction)
    position, color, raised = surface.means, surface.colors, torch.zeros_like(shown)
    if len(cover):
        grid, places, tones = _cells(cover)
        texel = torch.where(outside.reach > 0)[0]
        hit = look_in(grid, position[texel], direction[texel], outside.reach[texel])
        found = hit >= 0
        raised = raised.index_put((texel[found],), torch.tensor(True, device=raised.device))
        position = position.index_put((texel[found],), places[hit[found]])
        color = color.index_put((texel[found],), tones[hit[found]])
        valid = rig.atlas.valid
        position, color, raised = _closed(valid, outside.reach > 0, position, color, raised)
    known = shown | raised
    valid = rig.atlas.valid
    mask = torch.zeros_like(valid)
    mask[valid] = known
    covered = torch.zeros_like(valid)
    covered[valid] = raised

    def chart(values: Tensor) -> Tensor:
        out = values.new_zeros(ATLAS_SIZE, ATLAS_SIZE, 3)
        out[valid] = values * known[:, None]
        return out.permute(2, 0, 1)

    return UVLabels(chart(position), chart(color), mask, covered)


def _closed(
    valid: Tensor, open_to_cover: Tensor, position: Tensor, color: Tensor, raised: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Texels among hair whose look slipped between two hairs take the mean of their raised neighbours."""
    chart = position.new_zeros(7, *valid.shape)
    chart[:, valid] = torch.cat([position, color, torch.ones_like(color[:, :1])], -1).T * raised
    near = torch.nn.functional.avg_pool2d(chart[None], 2 * WINDOW + 1, 1, WINDOW)[0, :, valid].T
    slipped = ~raised & open_to_cover & (near[:, 6] > SURROUNDED)
    mean = near[:, :6] / near[:, 6:].clamp_min(1e-6)
    position = torch.where(slipped[:, None], mean[:, :3], position)
    return position, torch.where(slipped[:, None], mean[:, 3:], color), raised | slipped


def _cells(cover: Gaussians) -> tuple[Tensor, Tensor, Tensor]:
    """Grid [X, Y, Z] of cell numbers (-1 empty), and the mean place and colour of each cell's splats."""
    device = cover.means.device
    array = lambda values: values.float().contiguous().cpu().numpy()  # noqa: E731
    grid = np.full(CELLS, -1, np.int32)
    longest = cover.scales.argmax(-1, keepdim=True)
    way = rotation_matrices(cover.quats).gather(-1, longest[:, None].expand(-1, 3, 1))[..., 0] * cover.scales.gather(
        -1, longest
    )
    slim = cover.scales.median(-1).values < SLIM * cover.scales.amax(-1)
    # No more cells than splats and the parts of long ones can fill.
    parts = (2 * way.norm(dim=-1) / CELL).ceil().clamp_min(1) * slim + ~slim
    sums = np.zeros((int(parts.sum()), 7))
    number = _fill(array(cover.means), array(way), array(parts), array(slim), array(cover.colors), grid, sums)
    sums = sums[:number]
    dense = sums[:, 6] >= FEWEST
    renumbered = np.where(dense, np.cumsum(dense) - 1, -1).astype(np.int32)
    grid = np.where(grid >= 0, renumbered[grid], -1).astype(np.int32)
    mean = torch.from_numpy(sums[dense, :6] / sums[dense, 6:]).float().to(device)
    return torch.from_numpy(grid), mean[:, :3], mean[:, 3:]


@nb.njit(cache=True, error_model="numpy")
def _fill(means, way, parts, slim, colors, grid, sums):
    """Add all splats to the cells that they pass; a slim one counts by the share of a cell that it runs through."""
    number = 0
    for i in range(len(means)):
        count = int(parts[i])
        length = 2 * math.sqrt(way[i, 0] ** 2 + way[i, 1] ** 2 + way[i, 2] ** 2)
        weight = min(length / count / CELL, 1.0) if slim[i] > 0 else 1.0
        for k in range(count):
            t = (2 * k + 1) / count - 1
            px, py, pz = means[i, 0] + t * way[i, 0], means[i, 1] + t * way[i, 1], means[i, 2] + t * way[i, 2]
            x, y, z = int((px - CORNER[0]) / CELL), int((py - CORNER[1]) / CELL), int((pz - CORNER[2]) / CELL)
            if min(x, y, z) < 0 or x >= grid.shape[0] or y >= grid.shape[1] or z >= grid.shape[2]:
                continue
            if grid[x, y, z] < 0:
                grid[x, y, z] = number
                number += 1
            own = sums[grid[x, y, z]]
            own[0] += weight * px
            own[1] += weight * py
            own[2] += weight * pz
            for c in range(3):
                own[3 + c] += weight * colors[i, c]
            own[6] += weight
    return number


def look_in(grid: Tensor, start: Tensor, direction: Tensor, reach: Tensor) -> Tensor:
    """The first cell met from `reach` metres outside down to the surface [N, 3], [N], -1 if none."""
    origin = (start - torch.tensor(CORNER, device=start.device)) / CELL
    array = lambda values: values.contiguous().cpu().numpy()  # noqa: E731
    hit = np.empty(len(start), np.int64)
    _march(array(grid), array(origin), array(direction), array(reach / CELL), hit)
    return torch.from_numpy(hit).to(start.device)


@nb.njit(cache=True, error_model="numpy")
def _march(grid, origin, direction, reach, hit):
    """All in cells; from outside inwards, half a cell a step."""
    for ray in range(len(hit)):
        hit[ray] = -1
        for step in range(int(2 * reach[ray]), -1, -1):
            x = int(origin[ray, 0] + 0.5 * step * direction[ray, 0])
            y = int(origin[ray, 1] + 0.5 * step * direction[ray, 1])
            z = int(origin[ray, 2] + 0.5 * step * direction[ray, 2])
            outside = min(x, y, z) < 0 or x >= grid.shape[0] or y >= grid.shape[1] or z >= grid.shape[2]
            if not outside and grid[x, y, z] >= 0:
                hit[ray] = grid[x, y, z]
                break
