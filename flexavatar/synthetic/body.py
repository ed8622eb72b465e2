"""The space around the mean head: how far it is to the skin, and how it moves with a head's shape."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numba as nb
import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter, label, zoom
from scipy.spatial import KDTree

from flexavatar.render.numba_support import prepare_cache
from flexavatar.rig import REGION_NAMES, Rig
from flexavatar.rig.anchors import outward_normals

prepare_cache()

CELL = 0.004  # metres between the nodes of the distance
CORNER = (-0.28, -0.28, -0.36)  # metres, canonical head frame: the first node of both grids
COARSE = 4  # cells of the distance to one of the carrying grid
NODES = (35, 37, 35)  # of the carrying grid
WALL, HOLLOW = 0.005, 0.009  # metres: what opens this little to the outside, nostrils, is inside
NEIGHBOURS, SOFT = 12, (0.010, 0.35)  # vertices that carry a node; metres and share of the distance they blend over


@dataclass(frozen=True)
class Body:
    """The mean head and bust as fields over a box of the canonical head frame."""

    distance: np.ndarray  # [X, Y, Z] float32 metres to the skin, negative inside
    references: np.ndarray  # [nodes, NEIGHBOURS] rig vertices
    weights: np.ndarray  # [nodes, NEIGHBOURS] float32, sum 1
    mean: np.ndarray  # [V, 3] metres

    @staticmethod
    @lru_cache(maxsize=1)
    def load() -> Body:
        """Of the bundled rig; made once per process, in seconds."""
        rig = Rig.load()
        nodes = _places(NODES, CELL * COARSE)
        vertices = np.unique(rig.part_triangles("skin").numpy())
        mean = rig.mean.numpy()
        far, nearest = KDTree(mean[vertices]).query(nodes, NEIGHBOURS)
        width = SOFT[0] + SOFT[1] * far[:, :1]
        weights = np.exp(-0.5 * ((far - far[:, :1]) / width) ** 2)
        weights = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
        return Body(_distance(rig), vertices[nearest], weights, mean)

    def carrier(self, vertices: np.ndarray) -> np.ndarray:
        """Displacements [*NODES, 3] in metres that take points around the mean head to those around a head's vertices.

        `vertices` [V, 3] in metres, at rest.
        """
        return self._blended(vertices - self.mean)

    def torso_weights(self, rig: Rig, points: np.ndarray) -> np.ndarray:
        """[N] as Rig.torso_weights, for points [N, 3] around the mean head."""
        return carry(self._blended(rig.torso_weights.cpu().numpy()[:, None]), points)[:, 0]

    def _blended(self, values: np.ndarray) -> np.ndarray:
        moved = np.einsum("nk,nkc->nc", self.weights, values.astype(np.float32)[self.references])
        return np.ascontiguousarray(moved.reshape(*NODES, -1))


def carry(grid: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Values [N, C] of a carrying grid [*NODES, C] at points [N, 3] in metres."""
    values = np.empty((len(points), grid.shape[-1]), np.float32)
    _interpolate(grid, np.ascontiguousarray(points, np.float32), values)
    return values


def _places(shape: tuple[int, ...], cell: float) -> np.ndarray:
    return np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1).reshape(-1, 3) * cell + CORNER


def _distance(rig: Rig) -> np.ndarray:
    frames = rig.anchors.frames(rig.mean)
    region = rig.atlas.region[rig.atlas.valid].numpy()
    outside = np.isin(region, [REGION_NAMES.index(name) for name in ("head", "eye_left", "eye_right")])
    at, normal = frames.means.numpy()[outside], outward_normals(frames.quats).numpy()[outside]
    tree = KDTree(at)

    def signed(points: np.ndarray) -> np.ndarray:
        # Near ears and lids the nearest normal alone can look the wrong way.
        far, near = tree.query(points, 4)
        inside = (((points[:, None] - at[near]) * normal[near]).sum(-1) / (far + 1e-4)).mean(1)
        return far[:, 0] * np.sign(inside)

    coarse = signed(_places(NODES, CELL * COARSE)).reshape(NODES)
    shape = tuple(COARSE * (n - 1) + 1 for n in NODES)
    finer = [s / n for s, n in zip(shape, NODES, strict=True)]
    distance = np.asarray(zoom(coarse, finer, order=1, grid_mode=False))
    close = np.abs(distance) < 0.03  # metres within which distances are exact
    distance[close] = signed(_places(shape, CELL)[close.ravel()])
    parts = np.asarray(label(distance > WALL)[0])  # pyright: ignore[reportIndexIssue]
    hidden = CELL * np.asarray(distance_transform_edt(parts != parts[0, -1, 0])) > HOLLOW
    distance = np.where(hidden, -np.abs(distance), distance)
    return np.asarray(gaussian_filter(distance, 0.6), np.float32)


@nb.njit(cache=True, error_model="numpy")
def _interpolate(grid, points, values):
    cell = np.float32(CELL * COARSE)
    for i in range(len(points)):
        x = min(max((points[i, 0] - CORNER[0]) / cell, 0.0), grid.shape[0] - 1.001)
        y = min(max((points[i, 1] - CORNER[1]) / cell, 0.0), grid.shape[1] - 1.001)
        z = min(max((points[i, 2] - CORNER[2]) / cell, 0.0), grid.shape[2] - 1.001)
        a, b, c = int(x), int(y), int(z)
        fx, fy, fz = x - a, y - b, z - c
        for k in range(grid.shape[3]):
            low = (grid[a, b, c, k] * (1 - fz) + grid[a, b, c + 1, k] * fz) * (1 - fy) + (
                grid[a, b + 1, c, k] * (1 - fz) + grid[a, b + 1, c + 1, k] * fz
            ) * fy
            high = (grid[a + 1, b, c, k] * (1 - fz) + grid[a + 1, b, c + 1, k] * fz) * (1 - fy) + (
                grid[a + 1, b + 1, c, k] * (1 - fz) + grid[a + 1, b + 1, c + 1, k] * fz
            ) * fy
            values[i, k] = low * (1 - fx) + high * fx
