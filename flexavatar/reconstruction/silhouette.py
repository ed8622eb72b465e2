"""Shape from silhouette: how far hair stands off the rig, from the mattes of several views.

Along its outward direction every vertex of the rig leaves the person's silhouette somewhere, in each view. The nearest
of these exits bounds the surface (the visual hull). Where the direction lies across the view, the exit *is* the
surface; everything between is interpolated over the mesh as smoothly as the bounds allow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import scipy.sparse as sp
import torch
from scipy.sparse.linalg import splu

from flexavatar.reconstruction.observation import above_the_rim, rig_mask
from flexavatar.rig import Rig
from flexavatar.rig.hair_displacement import joined, outward
from flexavatar.tracking import TrackedFace


@dataclass(frozen=True)
class SilhouetteParams:
    """Where silhouettes end and how the surface lies between; strengths are against the certainty of one vertex."""

    step: float = 0.002  # metres between the places at which a matte is looked up
    across: float = 0.3  # cosine between direction and view that costs an exit a factor e of its certainty
    smoothness: float = 1.5  # strength, of the raised surface
    pull: float = 0.002  # strength, to the bare rig
    tolerance: float = 0.015  # metres between the nearest exit and others that may be the same surface
    stands_off: tuple[float, float] = (0.002, 0.008)  # metres beyond the rig's silhouette: from none to full hair
    min_sure: float = 0.02  # say of a view along whose direction the silhouette tells little
    bound: float = 30.0  # strength, of the hull and of the rig's own surface as bounds
    rounds: int = 12  # in which bounds that are crossed are enforced


def hair_displacement_of(views: Sequence[TrackedFace], params: SilhouetteParams = SilhouetteParams()) -> torch.Tensor:
    """Heights [V] in metres by which hair and clothes raise the rig's vertices, from views that share one shape."""
    rig, out = Rig.load(), outward()
    free = torch.where(out.reach > 0)[0].numpy()
    exits = [_exits(view, rig, free, params) for view in views]
    distance, excess, sure = (np.stack(a) for a in zip(*exits, strict=True))
    limit, certainty = _agreed(distance, excess, sure, out.reach.numpy()[free].astype(np.float64), params)
    displacement = np.zeros(len(rig.mean))
    displacement[free] = _smooth(limit, certainty, _neighbours(rig, free), params)
    heights = torch.from_numpy(displacement.astype(np.float32))
    total, count = joined(torch.stack([heights, torch.ones_like(heights)], 1), out.place).unbind(1)
    return total / count


def _agreed(
    distance: np.ndarray, excess: np.ndarray, sure: np.ndarray, reach: np.ndarray, params: SilhouetteParams
) -> tuple[np.ndarray, np.ndarray]:
    """One height [F] at which the silhouettes [N, F] end, and how sure it is [F].

    The nearest exit alone would let one badly tracked view carve the head, the more so the more views there are.
    """
    distance = np.minimum(distance, reach)
    nearest = distance.min(0)
    vote = np.exp(-(((distance - nearest) / params.tolerance) ** 2)) * (sure + params.min_sure)
    limit = (vote * distance).sum(0) / vote.sum(0)
    certainty = (vote * sure).sum(0) / vote.sum(0)
    # Where the rig's own silhouette ends as late, as beside ears, nothing is known to stand off.
    low, high = params.stands_off
    limit = limit * np.where(nearest < reach, ((excess.max(0) - low) / (high - low)).clip(0, 1), 1.0)
    return limit, np.where(nearest < reach, certainty, 0.0)


def _exits(
    view: TrackedFace, rig: Rig, free: np.ndarray, params: SilhouetteParams
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where vertices leave the silhouette along their directions.

    Distances [F] at which they do (inf: not), by how much later than the rig's own, and how surely the surface ends
    there.
    """
    out = outward()
    vertices = rig.pose(view.shape, view.blendshapes)
    start = rig.turn_torso(vertices, view.head_rotation)[free]
    direction = rig.turn_torso(vertices + out.direction, view.head_rotation)[free] - start
    reach = out.reach[free].numpy()
    # What lies below the bust or outside of the picture is not known to be background.
    inside = np.maximum(view.matte, 1 - above_the_rim(view, view.camera)[0].numpy()).astype(np.float32)
    steps = torch.arange(0, int(reach.max() / params.step) + 1) * params.step
    places = start[:, None] + steps[:, None] * direction[:, None]
    pixel = view.camera.project(places.reshape(-1, 3))[0].numpy().reshape(*places.shape[:2], 2) - 0.5
    pixel = pixel.astype(np.float32)
    distance, own = (_exit(mask, pixel, params.step) for mask in (inside, rig_mask(view, view.camera)))
    excess = np.where(np.isfinite(distance), np.minimum(distance, reach) - np.minimum(own, reach), 0)
    matrix = view.camera.world_to_camera
    eye = -matrix[:3, :3].T @ matrix[:3, 3]
    toward = torch.nn.functional.normalize(eye - start, dim=-1)
    cosine = (toward * torch.nn.functional.normalize(direction, dim=-1)).sum(-1).numpy()
    return distance, excess, np.exp(-((cosine / params.across) ** 2))


def _exit(inside: np.ndarray, pixel: np.ndarray, step: float) -> np.ndarray:
    """Distance [F] at which rows of pixels [F, steps, 2], `step` metres apart, leave a mask [H, W]; inf: never."""
    mask = cv2.remap(
        inside, pixel[..., 0], pixel[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=1.0
    )
    outside = mask < 0.5
    first = outside.argmax(1)
    before, after = (np.take_along_axis(mask, i[:, None], 1)[:, 0] for i in (np.maximum(first - 1, 0), first))
    share = (before - 0.5) / np.maximum(before - after, 1e-6)
    distance = np.where(first > 0, (first - 1 + share) * step, 0.0)
    return np.where(outside.any(1), distance, np.inf)


def _neighbours(rig: Rig, free: np.ndarray) -> sp.csr_matrix:
    """Differences along the mesh's edges [E, F] with an end among the vertices `free`; fixed ends count as 0."""
    triangles = rig.triangles.numpy()
    edges = np.unique(
        np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), 1), axis=0
    )
    index = np.full(len(rig.mean), -1)
    index[free] = np.arange(len(free))
    ends = index[edges]
    ends = ends[(ends >= 0).any(1)]
    rows = np.repeat(np.arange(len(ends)), 2)
    columns, signs = ends.ravel(), np.tile([1.0, -1.0], len(ends))
    kept = columns >= 0
    return sp.csr_matrix((signs[kept], (rows[kept], columns[kept])), (len(ends), len(free)))


def _smooth(
    limit: np.ndarray, certainty: np.ndarray, differences: sp.csr_matrix, params: SilhouetteParams
) -> np.ndarray:
    """The smoothest heights [F] between 0 and `limit` that reach it where that is certain."""
    smoothness = params.smoothness * (differences.T @ differences)
    crossed = np.zeros(len(limit))
    target = limit
    height = np.zeros(len(limit))
    for _ in range(params.rounds):
        weight = certainty + params.bound * crossed
        height = splu((smoothness + sp.diags(weight + params.pull)).tocsc()).solve(weight * target)
        now = np.where((height > limit + 1e-4) | (height < -1e-4), 1.0, 0.0)
        if not (now > crossed).any():
            break
        crossed = np.maximum(crossed, now)
        target = np.where(height < 0, 0.0, limit)
    return height.clip(0, limit)
