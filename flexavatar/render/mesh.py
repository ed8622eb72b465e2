"""A small z-buffer for triangle meshes: visibility for unwrapping photos, overlays and atlases."""

from __future__ import annotations

import numba as nb
import numpy as np

from flexavatar.render.numba_support import prepare_cache

prepare_cache()


@nb.njit(cache=True, error_model="numpy")
def _fill(points, triangles, ids, barycentrics, depth):
    height, width = ids.shape
    for f in range(triangles.shape[0]):
        a, b, c = points[triangles[f, 0]], points[triangles[f, 1]], points[triangles[f, 2]]
        area = (b[1] - c[1]) * (a[0] - c[0]) + (c[0] - b[0]) * (a[1] - c[1])
        if abs(area) < 1e-12:
            continue
        x0 = max(0, int(np.floor(min(a[0], b[0], c[0]) - 0.5)))
        x1 = min(width - 1, int(np.ceil(max(a[0], b[0], c[0]) - 0.5)))
        y0 = max(0, int(np.floor(min(a[1], b[1], c[1]) - 0.5)))
        y1 = min(height - 1, int(np.ceil(max(a[1], b[1], c[1]) - 0.5)))
        for y in range(y0, y1 + 1):
            for x in range(x0, x1 + 1):
                px, py = x + 0.5, y + 0.5
                u = ((b[1] - c[1]) * (px - c[0]) + (c[0] - b[0]) * (py - c[1])) / area
                v = ((c[1] - a[1]) * (px - c[0]) + (a[0] - c[0]) * (py - c[1])) / area
                w = 1.0 - u - v
                if u < -1e-6 or v < -1e-6 or w < -1e-6:
                    continue
                z = u * a[2] + v * b[2] + w * c[2]
                if z < depth[y, x]:
                    depth[y, x] = z
                    ids[y, x] = f
                    barycentrics[y, x, 0] = u
                    barycentrics[y, x, 1] = v
                    barycentrics[y, x, 2] = w


def rasterize_mesh(
    points: np.ndarray, triangles: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nearest triangle of every pixel centre.

    `points` [V, 3] are (pixel x, pixel y, depth), `triangles` [F, 3]. Returns triangle ids [H, W] int32
    (-1 where nothing was hit), barycentric coordinates [H, W, 3] interpolated in the image plane
    (affine, good enough for the narrow fields of view used here) and depths [H, W] (inf where empty).
    """
    ids = np.full((height, width), -1, np.int32)
    barycentrics = np.zeros((height, width, 3), np.float32)
    depth = np.full((height, width), np.inf, np.float32)
    _fill(np.ascontiguousarray(points, np.float64), np.ascontiguousarray(triangles, np.int64), ids, barycentrics, depth)
    return ids, barycentrics, depth


def vertex_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Area-weighted unit normals [V, 3] of a mesh whose triangles run counter-clockwise seen from outside."""
    corners = vertices[triangles]
    face = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(normals, triangles[:, corner], face)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
