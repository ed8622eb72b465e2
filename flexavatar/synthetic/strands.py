"""Painted strands for hair meshes that come without a texture of their own."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from flexavatar.synthetic.meshes import BoundMesh

LOCK, HAIR = 0.005, 0.0012  # metres across a lock and across one painted hair
MEAN, CONTRAST = 0.5, 0.30  # of the painted brightness


def shared_textures(folder: Path) -> set[str]:
    """Names of the `.png` in a folder that are copies of one another: no more than one mesh can own such a texture."""
    by_content: dict[bytes, list[str]] = {}
    for path in sorted(folder.glob("*.png")):
        by_content.setdefault(hashlib.sha256(path.read_bytes()).digest(), []).append(path.stem)
    return {name for names in by_content.values() if len(names) > 1 for name in names}


def paint_strands(mesh: BoundMesh, corners: Tensor, triangle: Tensor, barycentric: Tensor) -> np.ndarray:
    """RGBA [S, 4] at places on a hair mesh with triangle corners [F, 3, 3].

    Hair runs along the texture's v axis, from the root above to the tip below; each connected piece of the
    mesh is one card, whose locks end at different lengths.
    """
    card = _components(mesh)
    along, across = _lengths(mesh, corners)
    uv = (mesh.triangle_uv[triangle] * barycentric[..., None]).sum(-2).numpy()
    own = card[triangle.numpy()]
    low = np.full(card.max() + 1, np.inf)
    high = np.full(card.max() + 1, -np.inf)
    v = mesh.triangle_uv[..., 1].numpy()
    np.minimum.at(low, card, v.min(1))
    np.maximum.at(high, card, v.max(1))
    height = (uv[:, 1] - low[own]) / np.maximum(high[own] - low[own], 1e-6)
    side = uv[:, 0] * across[own] + 7.31 * own
    along_card = uv[:, 1] * along[own]
    # Share of a card's length over which its locks end; of a style that is one sheet, and of others.
    least, most = (0.0, 0.06) if card.max() == 0 else (0.02, 0.14)
    end = least + (most - least) * _noise(side / LOCK, 1)
    fine = _noise(side / HAIR + 0.7 * _noise(along_card / 0.03, 2), 3)
    bright = MEAN + CONTRAST * (_noise(side / LOCK + 0.5 * _noise(along_card / 0.05, 4), 5) + fine - 1)
    alpha = (height > end * (0.7 + 0.6 * fine)).astype(np.float32)
    return np.concatenate([np.repeat(bright[:, None], 3, 1), alpha[:, None]], 1).astype(np.float32).clip(0.05, 1)


def _components(mesh: BoundMesh) -> np.ndarray:
    """Number of the connected piece [F] of every triangle."""
    triangles = mesh.triangles.numpy()
    edges = np.concatenate([triangles[:, :2], triangles[:, 1:]])
    count = int(triangles.max()) + 1
    labels = connected_components(sp.coo_matrix((np.ones(len(edges)), edges.T), (count, count)))[1]
    return np.unique(labels[triangles[:, 0]], return_inverse=True)[1]


def _lengths(mesh: BoundMesh, corners: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Metres per unit of v and of u for each card, median over its triangles."""
    edges = (corners[:, 1:] - corners[:, :1]).numpy()
    flat = (mesh.triangle_uv[:, 1:] - mesh.triangle_uv[:, :1]).numpy()
    size = flat[:, 0, 0] * flat[:, 1, 1] - flat[:, 0, 1] * flat[:, 1, 0]
    size = np.where(np.abs(size) < 1e-9, 1e-9, size)
    by_v = np.linalg.norm(flat[:, 0, :1] * edges[:, 1] - flat[:, 1, :1] * edges[:, 0], axis=1) / np.abs(size)
    by_u = np.linalg.norm(flat[:, 1, 1:] * edges[:, 0] - flat[:, 0, 1:] * edges[:, 1], axis=1) / np.abs(size)
    card = _components(mesh)
    members = [card == k for k in range(card.max() + 1)]
    return np.array([np.median(by_v[own]) for own in members]), np.array([np.median(by_u[own]) for own in members])


def _noise(x: np.ndarray, seed: int) -> np.ndarray:
    """Smooth random values in 0..1 along x, uncorrelated over distances beyond 1."""
    table = np.random.default_rng(seed).random(4096)
    cell = np.floor(x).astype(int)
    t = x - cell
    t = t * t * (3 - 2 * t)
    return table[cell % 4096] * (1 - t) + table[(cell + 1) % 4096] * t
