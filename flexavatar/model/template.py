"""The template mesh: read from an OBJ file, rasterised in UV, sampled into query points and Gaussian anchors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from flexavatar.errors import FlexAvatarError
from flexavatar.model.config import ModelConfig


class BadTemplate(FlexAvatarError):
    """The template mesh is damaged or has no UV coordinates."""


@dataclass(frozen=True)
class Template:
    """A triangle mesh with a UV map; v is not flipped (row 0 of a map is at v = 0)."""

    vertices: np.ndarray  # [V, 3] float64, metres, head frame (+x subject's left, +y up, +z out of the face)
    uvs: np.ndarray  # [U, 2] float32
    triangles: np.ndarray  # [F, 3] int64, rows of vertices
    uv_triangles: np.ndarray  # [F, 3] int64, rows of uvs


@dataclass(frozen=True)
class PositionMap:
    """Surface positions by texel; texel (row, column) is at u = (column + 0.5) / R, v = (row + 0.5) / R."""

    positions: Tensor  # [R, R, 3] float32 metres, zero where uncovered
    covered: Tensor  # [R, R] bool


@dataclass(frozen=True)
class TemplateAnchors:
    """The points of the template that a network of one configuration uses: queries and Gaussian anchors."""

    queries: Tensor  # [T, 3] metres, one point a token in row-major order (row = v), zero where uncovered
    positions: Tensor  # [G, 3] metres, one a Gaussian
    uvs: Tensor  # [G, 2] -1..1, (u, v), where a Gaussian samples the feature map


def read_template(path: str | Path) -> Template:
    """Read an OBJ file with texture coordinates; polygons are split into fans. Raises BadTemplate."""
    vertices: list[list[float]] = []
    uvs: list[list[float]] = []
    corners: list[list[tuple[int, int]]] = []
    try:
        for line in Path(path).read_text(encoding="utf-8").splitlines():
            kind, *values = line.split() or [""]
            if kind == "v":
                vertices.append([float(value) for value in values[:3]])
            elif kind == "vt":
                uvs.append([float(value) for value in values[:2]])
            elif kind == "f":
                polygon = [(int(v) - 1, int(vt) - 1) for v, vt in (value.split("/")[:2] for value in values)]
                corners += [[polygon[0], polygon[i], polygon[i + 1]] for i in range(1, len(polygon) - 1)]
        faces = np.asarray(corners, dtype=np.int64).reshape(-1, 3, 2)
        template = Template(
            np.asarray(vertices, dtype=np.float64).reshape(-1, 3),
            np.asarray(uvs, dtype=np.float32).reshape(-1, 2),
            faces[..., 0],
            faces[..., 1],
        )
    except (OSError, ValueError) as error:
        raise BadTemplate(f"The template mesh {path} cannot be read ({error}). Fetch the model again.") from error
    in_range = all(
        rows.size and rows.min() >= 0 and rows.max() < len(table)
        for rows, table in ((template.triangles, template.vertices), (template.uv_triangles, template.uvs))
    )
    if not in_range:
        raise BadTemplate(f"The template mesh {path} is incomplete. Fetch the model again.")
    return template


def rasterise(template: Template, resolution: int) -> PositionMap:
    """Positions at the texel centres; a texel on an edge is covered, and the first triangle in the file wins."""
    triangle = np.full((resolution, resolution), -1, dtype=np.int64)
    barycentric = np.zeros((resolution, resolution, 3), dtype=np.float32)
    corners = template.uvs[template.uv_triangles].astype(np.float64)  # [F, 3, 2]
    lowest = np.clip(np.ceil(corners.min(1) * resolution - 0.5).astype(int), 0, resolution)
    highest = np.clip(np.floor(corners.max(1) * resolution - 0.5).astype(int), -1, resolution - 1)
    for index, ((ax, ay), (bx, by), (cx, cy)) in enumerate(corners):
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        (left, top), (right, bottom) = lowest[index], highest[index]
        if area == 0 or left > right or top > bottom:
            continue
        u = ((np.arange(left, right + 1) + 0.5) / resolution)[None, :]
        v = ((np.arange(top, bottom + 1) + 0.5) / resolution)[:, None]
        second = ((u - ax) * (cy - ay) - (cx - ax) * (v - ay)) / area
        third = ((bx - ax) * (v - ay) - (u - ax) * (by - ay)) / area
        weights = np.stack([1 - second - third, second, third], -1)
        window = (slice(top, bottom + 1), slice(left, right + 1))
        new = (weights >= 0).all(-1) & (triangle[window] < 0)
        triangle[window][new] = index
        barycentric[window][new] = weights[new]
    covered = triangle >= 0
    surface = template.vertices[template.triangles[triangle]]  # [R, R, 3 corners, 3]
    positions = (surface * barycentric[..., None].astype(np.float64)).sum(-2) * covered[..., None]
    return PositionMap(torch.from_numpy(positions.astype(np.float32)), torch.from_numpy(covered))


def sample_map(values: Tensor, uvs: Tensor, beyond: Literal["zeros", "border"] = "zeros") -> Tensor:
    """Bilinear samples [B, G, C] of maps [B, C, R, R] at uvs [G, 2]; -1 and 1 are the map's edges."""
    grid = uvs.to(values.dtype)[None, :, None].expand(len(values), -1, -1, -1)
    return F.grid_sample(values, grid, mode="bilinear", padding_mode=beyond, align_corners=False)[..., 0].mT


def template_anchors(template: Template, config: ModelConfig) -> TemplateAnchors:
    """Query points and Gaussian anchors (Eq. 5 and 12).

    Gaussians lie on a regular grid over [-1, 1]^2; a point survives where all four texels it is interpolated
    from are covered. Survivors keep the row-major order.
    """
    queries = rasterise(template, config.grid).positions.flatten(0, 1)
    surface = rasterise(template, config.gaussian_grid)
    steps = torch.linspace(-1, 1, config.gaussian_grid, device="cpu")
    v, u = torch.meshgrid(steps, steps, indexing="ij")
    uvs = torch.stack([u, v], dim=-1).flatten(0, 1)
    maps = torch.cat([surface.positions, surface.covered[..., None].float()], dim=-1).movedim(-1, 0)[None]
    sampled = sample_map(maps, uvs)[0]
    inside = sampled[:, 3] > 0.99
    return TemplateAnchors(queries, sampled[inside, :3].contiguous(), uvs[inside])
