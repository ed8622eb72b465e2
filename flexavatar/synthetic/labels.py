"""The answer in the atlas: for each texel the outermost surface met when looking in from outside."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

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
from flexavatar.synthetic.pieces import PARTS

prepare_cache()

CELL = 0.003  # metres
CORNER, CELLS = (-0.33, -0.33, -0.40), (220, 220, 220)  # of the grid of cells
WINDOW, SURROUNDED = 2, 0.6  # texels; share of raised neighbours that closes a gap
FLAT_FROM, SPREAD_BY = (
    0.0007,
    0.8,
)  # metres of deviation from which flat splats are spread; deviations they are spread by
ALONG_STEPS = 2  # cells to either side over which tone is compared along a strand
DARKEST = 0.02  # tone below which logarithms say nothing
ONE_WAY = 0.3  # length of the mean of unit directions from which on strands have one
FEWEST = 1.6  # splats: a lone hair is no surface
SLIM = 0.34  # width over length from which a splat is a piece of a strand


@dataclass(frozen=True)
class UVLabels:
    """Targets in the atlas; row 0 is the top. Where `valid` is false the values are 0."""

    positions: Tensor  # [3, 256, 256] metres, canonical head frame
    colors: Tensor  # [3, 256, 256] RGB 0..1, lit
    valid: Tensor  # [256, 256] bool: texels with a surface
    raised: Tensor  # [256, 256] bool: the surface is hair, cloth or a hat and not the rig
    parts: Tensor | None = None  # [256, 256] uint8 index into PARTS of what the surface is; 0 where not valid
    strands: Tensor | None = None  # [3, 256, 256] unit, root to tip, in `texel_frames`; 0 where there are no strands
    heights: Tensor | None = None  # [256, 256] metres over the rig, along the texel's outward direction
    tones: Tensor | None = None  # [3, 256, 256] brightness before light 0..1; standard deviations of its logarithm
    # along a strand (over 15 mm) and across (within 3 mm, from strand to strand)


@dataclass(frozen=True)
class Marks:
    """What the G texels of the rig and the S splats of its cover are, beside where they lie and how they are lit."""

    frames: Tensor  # [G, 3, 3] `texel_frames` of the posed rig
    parts: Tensor  # [G] uint8 index into PARTS
    tones: Tensor  # [G] brightness before light, 0..1
    cover_parts: Tensor  # [S] uint8
    cover_tones: Tensor  # [S]


def texel_frames(rig: Rig, vertices: Tensor) -> Tensor:
    """Rotations [G, 3, 3] of the rig's texels on vertices [V, 3].

    Columns are the unit tangent to the right in the atlas, the one up that is perpendicular to it, and the normal out.
    `direction_local = frame.T @ direction`. Unlike the axes of `AnchorFrames` they do not swap from texel to texel.
    """
    u, v = rig.anchors.steps(vertices).unbind(-1)
    normal = torch.nn.functional.normalize(torch.linalg.cross(v, u), dim=-1)
    right = torch.nn.functional.normalize(u, dim=-1)
    return torch.stack([right, torch.linalg.cross(normal, right), normal], -1)


def uv_labels(
    rig: Rig, outside: Outside, surface: Gaussians, cover: Gaussians, head_rotation: Tensor, shown: Tensor,
    marks: Marks | None = None,
) -> UVLabels:  # fmt: skip
    """Labels of one head.

    `surface` are the rig's G anchors, `cover` the S splats of what may lie outside of it, `shown` [G] bool the
    anchors that are part of the head; the others (under clothes, the rim) are valid only where covered. Without
    `marks` labels say where surfaces are and how they are lit, and no more.
    """
    direction = outside.direction
    turned = direction @ head_rotation
    direction = direction + outside.torso_weights[:, None] * (turned - direction)
    # Place, colour, direction of strands, tone and its two deviations, and the share of each part.
    count = len(surface.means)
    marks = marks or _unmarked(count, len(cover), surface.means.device)
    values = torch.cat(
        [surface.means, surface.colors, surface.means.new_zeros(count, 3), marks.tones[:, None],
         surface.means.new_zeros(count, 2), _one_hot(marks.parts)], -1,
    )  # fmt: skip
    raised = torch.zeros_like(shown)
    valid = rig.atlas.valid
    if len(cover):
        grid, cells = _cells(cover, marks)
        texel = torch.where(outside.reach > 0)[0]
        hit = look_in(grid, surface.means[texel], direction[texel], outside.reach[texel])
        found = hit >= 0
        raised = raised.index_put((texel[found],), torch.tensor(True, device=raised.device))
        values = values.index_put((texel[found],), cells[hit[found]])
        values, raised = _closed(valid, outside.reach > 0, values, raised)
    known = shown | raised
    mask = torch.zeros_like(valid)
    mask[valid] = known
    covered = torch.zeros_like(valid)
    covered[valid] = raised

    def chart(values: Tensor) -> Tensor:
        out = values.new_zeros(ATLAS_SIZE, ATLAS_SIZE, values.shape[-1])
        out[valid] = values * known[:, None]
        return out.permute(2, 0, 1)

    position, color, way, tones, shares = values.split([3, 3, 3, 3, len(PARTS)], -1)
    labels = UVLabels(chart(position), chart(color), mask, covered)
    if not len(marks.frames):
        return labels
    size = way.norm(dim=-1, keepdim=True)
    strands = (marks.frames.mT @ (way / size.clamp_min(1e-6))[..., None])[..., 0] * (size > ONE_WAY)
    height = ((position - surface.means) * direction).sum(-1, keepdim=True) * raised[:, None]
    return replace(
        labels,
        parts=chart(shares.argmax(-1, keepdim=True).float())[0].to(torch.uint8),
        strands=chart(strands),
        heights=chart(height)[0],
        tones=chart(tones),
    )


def _one_hot(parts: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(parts.long(), len(PARTS)).float()


def _unmarked(texels: int, splats: int, device: torch.device) -> Marks:
    zeros = lambda count, dtype: torch.zeros(count, dtype=dtype, device=device)  # noqa: E731
    nothing = torch.zeros(0, 3, 3, device=device)
    return Marks(
        nothing, zeros(texels, torch.uint8), zeros(texels, torch.float32),
        zeros(splats, torch.uint8), zeros(splats, torch.float32),
    )  # fmt: skip


def _closed(valid: Tensor, open_to_cover: Tensor, values: Tensor, raised: Tensor) -> tuple[Tensor, Tensor]:
    """Texels among hair whose look slipped between two hairs take the mean of their raised neighbours."""
    chart = values.new_zeros(values.shape[1] + 1, *valid.shape)
    chart[:, valid] = torch.cat([values, torch.ones_like(values[:, :1])], -1).T * raised
    near = torch.nn.functional.avg_pool2d(chart[None], 2 * WINDOW + 1, 1, WINDOW)[0, :, valid].T
    slipped = ~raised & open_to_cover & (near[:, -1] > SURROUNDED)
    mean = near[:, :-1] / near[:, -1:].clamp_min(1e-6)
    return torch.where(slipped[:, None], mean, values), raised | slipped


def _cells(cover: Gaussians, marks: Marks) -> tuple[Tensor, Tensor]:
    """Grid [X, Y, Z] of cell numbers (-1 empty), and the means over each cell's splats, as `uv_labels` orders them."""
    cover, marks = _spread(cover, marks)
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
    sums = np.zeros((int(parts.sum()), 12 + len(PARTS)))
    number = _fill(
        array(cover.means), array(way), array(parts), array(slim), array(cover.colors), array(marks.cover_tones),
        marks.cover_parts.long().cpu().numpy(), grid, sums,
    )  # fmt: skip
    sums = sums[:number]
    dense = sums[:, 6] >= FEWEST
    renumbered = np.where(dense, np.cumsum(dense) - 1, -1).astype(np.int32)
    grid = np.where(grid >= 0, renumbered[grid], -1).astype(np.int32)
    mean = sums[dense] / sums[dense, 6:7]
    direction, tone = mean[:, 7:10], mean[:, 10]
    along = np.zeros(len(mean))
    _along(grid, mean[:, :3].copy(), direction.copy(), tone.copy(), along)
    across = np.sqrt((mean[:, 11] - tone**2).clip(0))
    values = np.concatenate(
        [mean[:, :6], direction, np.exp(tone)[:, None], along[:, None], across[:, None], mean[:, 12:]], 1
    )
    return torch.from_numpy(grid), torch.from_numpy(values).float().to(device)


def _spread(cover: Gaussians, marks: Marks) -> tuple[Gaussians, Marks]:
    """Every flat splat as four, at the corners of what it covers: cells must not be missed where cloth is sampled."""
    first, second, _ = cover.scales.unbind(-1)
    flat = (second > SLIM * first) & (first > SLIM * second) & (first > FLAT_FROM)
    axes = rotation_matrices(cover.quats[flat])
    reach = SPREAD_BY * cover.scales[flat]
    right, up = axes[..., 0] * reach[:, :1], axes[..., 1] * reach[:, 1:2]
    corners = [cover.means[flat] + a * right + b * up for a in (-1, 1) for b in (-1, 1)]
    rest = cover.select(~flat)
    four = [replace(cover.select(flat), means=means) for means in corners]
    repeated = lambda values: torch.cat([values[~flat], *[values[flat]] * 4])  # noqa: E731
    marks = replace(marks, cover_parts=repeated(marks.cover_parts), cover_tones=repeated(marks.cover_tones))
    return Gaussians.cat([rest, *four]), marks


@nb.njit(cache=True, error_model="numpy")
def _fill(means, way, parts, slim, colors, tones, kinds, grid, sums):
    """Add all splats to the cells that they pass; a slim one counts by the share of a cell that it runs through."""
    number = 0
    for i in range(len(means)):
        count = int(parts[i])
        length = 2 * math.sqrt(way[i, 0] ** 2 + way[i, 1] ** 2 + way[i, 2] ** 2)
        weight = min(length / count / CELL, 1.0) if slim[i] > 0 else 1.0
        tone = math.log(max(tones[i], DARKEST))
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
                if slim[i] > 0:
                    own[7 + c] += weight * 2 * way[i, c] / length
            own[6] += weight
            own[10] += weight * tone
            own[11] += weight * tone * tone
            own[12 + kinds[i]] += weight
    return number


@nb.njit(cache=True, error_model="numpy")
def _along(grid, places, directions, tones, along):
    """Standard deviation of the cells' tones along the strands that pass through each cell."""
    for i in range(len(places)):
        dx, dy, dz = directions[i, 0], directions[i, 1], directions[i, 2]
        size = math.sqrt(dx * dx + dy * dy + dz * dz)
        if size < ONE_WAY:
            continue
        total, square, count = 0.0, 0.0, 0
        for k in range(-ALONG_STEPS, ALONG_STEPS + 1):
            x = int((places[i, 0] - CORNER[0]) / CELL + k * dx / size)
            y = int((places[i, 1] - CORNER[1]) / CELL + k * dy / size)
            z = int((places[i, 2] - CORNER[2]) / CELL + k * dz / size)
            if min(x, y, z) < 0 or x >= grid.shape[0] or y >= grid.shape[1] or z >= grid.shape[2]:
                continue
            cell = grid[x, y, z]
            if cell >= 0:
                total += tones[cell]
                square += tones[cell] * tones[cell]
                count += 1
        if count > 1:
            along[i] = math.sqrt(max(square / count - (total / count) ** 2, 0.0))


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
