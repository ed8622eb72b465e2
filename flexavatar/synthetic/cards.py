"""Textured meshes as splats: small flat Gaussians on the triangles, where the texture is opaque."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.spatial import KDTree
from torch import Tensor

from flexavatar.rig import Rig
from flexavatar.rig.anchors import SPREAD, outward_normals
from flexavatar.rotations import quaternions
from flexavatar.settings import to_device
from flexavatar.synthetic.meshes import BoundMesh, Guides, load_mesh
from flexavatar.synthetic.strands import paint_strands

# Metres in the frame of the mean head: the bust is cut where the view ends, and so is all that hangs on it.
BUST_BOTTOM, BUST_SIDE = -0.232, 0.230
FLAT = 0.35  # thickness over the smaller deviation
FULL_COVER = 0.62  # deviation over spacing that leaves no gaps


@dataclass(frozen=True)
class Cards:
    """S splats at fixed places of a mesh."""

    mesh: BoundMesh
    triangle: Tensor  # [S] int64
    barycentric: Tensor  # [S, 3]
    color: Tensor  # [S, 3] RGB 0..1 of the texture
    places: Tensor  # [S, 3] metres, on the mean head
    scales: Tensor  # [3] metres: along the texture's v, along u, thickness

    def __len__(self) -> int:
        return len(self.triangle)

    def select(self, kept: Tensor) -> Cards:
        """The splats of a mask [S]."""
        return replace(
            self,
            triangle=self.triangle[kept],
            barycentric=self.barycentric[kept],
            color=self.color[kept],
            places=self.places[kept],
        )

    def to(self, device: torch.device | str) -> Cards:
        """The same cards on another device."""
        return to_device(self, device)

    def layers(self, rig: Rig) -> Tensor:
        """How many of the splats lie over each of the rig's G texels [G], on the mean head."""
        frames = rig.anchors.frames(rig.mean)
        seat = KDTree(frames.means.cpu().numpy()).query(self.places.cpu().numpy())[1]
        seat = torch.from_numpy(seat).to(self.places.device)
        height = ((self.places - frames.means[seat]) * outward_normals(frames.quats)[seat]).sum(-1)
        area = 2 * math.pi * self.scales[0] * self.scales[1]
        count = torch.bincount(seat[height > 0], minlength=len(rig.anchors))
        return count * area / (frames.scales[:, :2].prod(-1) / SPREAD**2)

    def frames(self, vertices: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Means [S, 3], quaternions [S, 4], unit normals [S, 3] and unit strand directions [S, 3] on vertices [N, 3].

        The strand direction is that of the texture's v axis: hair is painted along it.
        """
        corners = vertices[self.mesh.triangles]
        edges = corners[:, 1:] - corners[:, :1]
        flat = self.mesh.triangle_uv[:, 1:] - self.mesh.triangle_uv[:, :1]
        along_v = flat[:, 0, :1] * edges[:, 1] - flat[:, 1, :1] * edges[:, 0]
        sign = flat[:, 0, 0] * flat[:, 1, 1] - flat[:, 0, 1] * flat[:, 1, 0]
        normal = torch.nn.functional.normalize(torch.linalg.cross(edges[:, 0], edges[:, 1]), dim=-1)
        strand = torch.nn.functional.normalize(along_v * torch.where(sign < 0, -1.0, 1.0)[:, None], dim=-1)
        across = torch.linalg.cross(normal, strand)
        rotation = torch.stack([strand, across, normal], -1)
        means = (corners[self.triangle] * self.barycentric[..., None]).sum(-2)
        return means, quaternions(rotation)[self.triangle], normal[self.triangle], strand[self.triangle]


def load_cards(path: Path, rig: Rig, guides: Guides, count: int, stretch: float = 1.0, painted: bool = False) -> Cards:
    """About `count` splats (before transparency) of a `.mhclo` mesh with its texture `.png`.

    `stretch` is how much longer than wide a splat is: 1 for cloth, more for hair, whose texture runs along v.
    `painted` paints strands of hair instead of reading the texture.
    """
    mesh = load_mesh(path, rig, guides)
    corners = mesh.place(torch.cat([rig.mean, guides.extra_mean]))[mesh.triangles]
    generator = np.random.default_rng(0)
    inside = _on_bust(corners).any(-1)
    area = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=-1).numpy() / 2
    area *= inside.numpy()
    # Systematic sampling: every triangle gets its share to within one splat.
    steps = np.cumsum(area, dtype=np.float64) / area.sum(dtype=np.float64) * count
    triangle = np.searchsorted(steps, np.arange(count) + generator.random()).clip(0, len(area) - 1)
    barycentric = torch.from_numpy(_spread(triangle, generator)).float()
    triangle = torch.from_numpy(triangle)
    if painted:
        rgba = paint_strands(mesh, corners, triangle, barycentric)
    else:
        rgba = _read_texture(path.with_suffix(".png"), (mesh.triangle_uv[triangle] * barycentric[..., None]).sum(-2))
    places = (corners[triangle] * barycentric[..., None]).sum(-2)
    shown = torch.from_numpy(generator.random(count) < rgba[:, 3]) & _on_bust(places)
    deviation = FULL_COVER * float(np.sqrt(area.sum() / count))
    scales = torch.tensor([deviation * stretch**0.5, deviation / stretch**0.5, FLAT * deviation / stretch**0.5])
    color = torch.from_numpy(np.ascontiguousarray(rgba[:, :3]))
    return Cards(mesh, triangle[shown], barycentric[shown], color[shown], places[shown], scales)


def _read_texture(path: Path, uv: Tensor) -> np.ndarray:
    """RGBA [S, 4] of a picture at texture coordinates [S, 2], v up."""
    texture = np.asarray(Image.open(path).convert("RGBA"), np.float32) / 255
    height, width = texture.shape[:2]
    column, row = (uv.numpy() % 1.0 * [1, -1] + [0, 1]).T * np.array([[width], [height]])
    return texture[row.astype(int).clip(0, height - 1), column.astype(int).clip(0, width - 1)]


def _on_bust(points: Tensor) -> Tensor:
    return (points[..., 1] > BUST_BOTTOM) & (points[..., 0].abs() < BUST_SIDE)


def _spread(triangle: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Barycentric coordinates [S, 3] that fill each triangle evenly (the R2 sequence, folded into the triangle)."""
    first = np.searchsorted(triangle, triangle)  # triangles come sorted
    rank = np.arange(len(triangle)) - first
    start = generator.random((triangle.max() + 1, 2))[triangle]
    u = (start + rank[:, None] * [0.7548776662466927, 0.5698402909980532]) % 1.0
    u = np.where(u.sum(1, keepdims=True) > 1, 1 - u, u)
    return np.stack([1 - u.sum(1), u[:, 0], u[:, 1]], 1)
