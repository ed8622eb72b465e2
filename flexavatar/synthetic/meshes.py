"""MakeHuman's .mhclo meshes, bound to the rig and to the helper vertices beside it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from flexavatar.rig import Rig

_AXES = {"x_scale": 0, "y_scale": 1, "z_scale": 2}


@dataclass(frozen=True)
class Guides:
    """MakeHuman's vertex numbering on our rig: copies of rig vertices, and others that follow the rig's shape."""

    rig_vertices: Tensor  # [M] int64: the rig vertex that is this MakeHuman vertex, or -1
    extra_ids: Tensor  # [E] int64 MakeHuman ids of the vertices beside the rig
    extra_mean: Tensor  # [E, 3] metres, canonical head frame
    extra_basis: Tensor  # [K, E, 3] by the rig's shape coefficients
    extra_torso_weights: Tensor  # [E] as Rig.torso_weights
    skin_uv: Tensor  # [256, 256, 2] MakeHuman's texture coordinates of the atlas' skin texels, -1 elsewhere

    @staticmethod
    @lru_cache(maxsize=1)
    def load() -> Guides:
        """The bundled file, made by `python -m flexavatar.synthetic.build_guides`."""
        tensors = load_file(str(files("flexavatar") / "assets" / "makehuman_guides.safetensors"))
        integers = ("rig_vertices", "extra_ids")
        return Guides(**{k: t.long() if k in integers else t.float() for k, t in tensors.items()})

    def beside(self, shape: Tensor) -> Tensor:
        """The extra vertices [E, 3] of a head of shape [K]."""
        return self.extra_mean + (shape @ self.extra_basis.flatten(1)).view_as(self.extra_mean)


@dataclass(frozen=True)
class BoundMesh:
    """A textured mesh of N vertices that each hang on three of the V rig vertices and E extra ones."""

    name: str
    references: Tensor  # [N, 3] int64 into the rig vertices followed by the extra ones
    weights: Tensor  # [N, 3]
    offsets: Tensor  # [N, 3] in units of the head's size
    size_pairs: Tensor  # [3, 2] int64: the vertices whose distance along x, y, z is the head's size
    size_units: Tensor  # [3] that distance in the units of the offsets
    torso_weights: Tensor  # [N] 0 = moves with the head, 1 = stays with the torso
    triangles: Tensor  # [F, 3] int64
    triangle_uv: Tensor  # [F, 3, 2] texture coordinates, v up
    covered: Tensor  # [V] bool: rig vertices that the mesh hides

    def place(self, points: Tensor) -> Tensor:
        """Vertices [N, 3] on rig and extra vertices [V + E, 3] whose torso is not turned."""
        ends = points[self.size_pairs]
        size = (ends[:, 0] - ends[:, 1]).abs().diagonal() / self.size_units
        return (points[self.references] * self.weights[..., None]).sum(-2) + self.offsets * size


def load_mesh(path: Path, rig: Rig, guides: Guides) -> BoundMesh:
    """The mesh of a `.mhclo` file and the `.obj` beside it, without what hangs on vertices far below the bust."""
    binding = _read_mhclo(path)
    corners, texture_corners, uv = _read_obj(path.with_suffix(".obj"))
    lookup = guides.rig_vertices.clone()
    lookup[guides.extra_ids] = len(rig.mean) + torch.arange(len(guides.extra_ids))
    references = lookup[torch.from_numpy(binding.references)]
    known = (references >= 0).all(1)
    triangles = torch.from_numpy(corners)
    kept = known[triangles].all(1)
    references = references.clamp_min(0)
    weights = torch.from_numpy(binding.weights).float()
    torso = torch.cat([rig.torso_weights, guides.extra_torso_weights])
    hidden = torch.zeros(len(lookup), dtype=torch.bool)
    hidden[binding.deleted] = True
    covered = torch.zeros(len(rig.mean), dtype=torch.bool)
    covered[guides.rig_vertices[hidden & (guides.rig_vertices >= 0)]] = True
    # Whole suits also list parts of the head that another of their meshes replaces.
    covered &= rig.mean[:, 1] < -0.12  # metres, the throat
    return BoundMesh(
        name=path.stem,
        references=references,
        weights=weights,
        offsets=torch.from_numpy(binding.offsets).float(),
        size_pairs=lookup[torch.tensor(binding.size_pairs)],
        size_units=torch.tensor(binding.size_units),
        torso_weights=(torso[references] * weights).sum(-1).clamp(0, 1),
        triangles=triangles[kept],
        triangle_uv=torch.from_numpy(uv[texture_corners]).float()[kept],
        covered=covered,
    )


@dataclass(frozen=True)
class _Binding:
    references: np.ndarray  # [N, 3] MakeHuman ids
    weights: np.ndarray  # [N, 3]
    offsets: np.ndarray  # [N, 3] x, y, z; MakeHuman's axes are ours
    size_pairs: list[list[int]]
    size_units: list[float]
    deleted: list[int]


def _read_mhclo(path: Path) -> _Binding:
    references, weights, offsets, deleted = [], [], [], []
    pairs: list[list[int]] = [[0, 0]] * 3
    units = [1.0] * 3
    section = ""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0] in _AXES:
            pairs[_AXES[words[0]]], units[_AXES[words[0]]] = [int(words[1]), int(words[2])], float(words[3])
        elif not words[0].lstrip("-").isdigit():
            section = words[0] if words[0] in ("verts", "delete_verts", "weights") else section
        elif section == "verts":
            many = len(words) >= 9
            references.append([int(w) for w in words[:3]] if many else [int(words[0])] * 3)
            weights.append([float(w) for w in words[3:6]] if many else [1.0, 0.0, 0.0])
            offsets.append([float(w) for w in words[6:9]] if many else [0.0, 0.0, 0.0])
        elif section == "delete_verts":
            deleted += _ranges(words)
    return _Binding(np.array(references), np.array(weights), np.array(offsets), pairs, units, deleted)


def _ranges(words: list[str]) -> list[int]:
    """Numbers of a list such as `3 7 - 9`."""
    numbers: list[int] = []
    for i, word in enumerate(words):
        if word == "-":
            numbers += range(int(words[i - 1]) + 1, int(words[i + 1]))
        else:
            numbers.append(int(word))
    return numbers


def _read_obj(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertex ids [F, 3], texture ids [F, 3] and texture coordinates [T, 2] of a triangulated `.obj`."""
    coordinates, corners, texture_corners = [], [], []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] == "vt":
            coordinates.append([float(words[1]), float(words[2])])
        elif words[0] == "f":
            face = [[int(i) - 1 for i in word.split("/")[:2]] for word in words[1:]]
            for k in range(1, len(face) - 1):
                triangle = (face[0], face[k], face[k + 1])
                corners.append([corner[0] for corner in triangle])
                texture_corners.append([corner[1] for corner in triangle])
    return np.array(corners), np.array(texture_corners), np.array(coordinates)
