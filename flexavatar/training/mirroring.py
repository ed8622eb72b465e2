"""The mirror image of a training record: a head is as likely as its reflection, so every record counts twice."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from flexavatar.expression import ARKIT_BLENDSHAPES, BLENDSHAPE_INDEX, opposite
from flexavatar.rig import Rig
from flexavatar.rig.anchors import outward_normals
from flexavatar.training.records import TrainingRecord

NORMAL_WEIGHT = 0.005  # metres that a normal's length counts: lips and gums lie close, but look different ways
TO_THE_RIGHT = torch.tensor([True, False, False])
FLIP = torch.tensor([-1.0, 1.0, 1.0])  # of the canonical head frame, and of a camera's


def mirrored(record: TrainingRecord) -> TrainingRecord:
    """The record of the same head seen in a mirror; the mirror image of that is the record again."""
    texels, signs = mirror_texels(), _shape_signs()
    swapped = [BLENDSHAPE_INDEX[opposite(name)] for name in ARKIT_BLENDSHAPES]
    valid = Rig.load().atlas.valid
    shells = torch.full_like(record.shells, 128)  # 0
    shells[:, valid] = record.shells[:, valid][:, texels]
    labels = {}
    if record.labelled:
        labels = {
            "positions": record.positions[texels] * FLIP.half(),
            "label_colors": record.label_colors[texels],
            "flags": record.flags[texels],
        }
    if record.described:
        labels |= {
            "parts": record.parts[texels],
            # The tangent to the right in the atlas points the other way; -1..1 is 1..255.
            "strands": torch.where(
                TO_THE_RIGHT, 256 - record.strands[texels].int(), record.strands[texels].int()
            ).byte(),
            "heights": record.heights[texels],
            "tones": record.tones[texels],
        }
    return replace(
        record,
        photo=record.photo.flip(-1),
        photo_camera=_mirrored_camera(record.photo_camera, record.photo.shape[-1]),
        shells=shells,
        shape=record.shape * signs,
        rest=record.rest[swapped],
        colors=record.colors[texels],
        opacities=record.opacities[texels],
        blendshapes=record.blendshapes[swapped],
        head_rotation=FLIP[:, None] * record.head_rotation * FLIP,
        cameras=_mirrored_camera(record.cameras, record.pictures.shape[-1]),
        pictures=record.pictures.flip(-1),
        weights=record.weights.flip(-1),
        **labels,
    )


@lru_cache(maxsize=1)
def mirror_texels() -> Tensor:
    """For each of the G texels the one [G] that lies where its mirror image would, and looks the same way."""
    from scipy.spatial import KDTree

    rig = Rig.load()
    frames = rig.anchors.frames(rig.mean)
    places = torch.cat([frames.means, NORMAL_WEIGHT * outward_normals(frames.quats)], -1)
    _, nearest = KDTree(places.numpy()).query((places * FLIP.repeat(2)).numpy())
    return torch.from_numpy(nearest)


@lru_cache(maxsize=1)
def _shape_signs() -> Tensor:
    """1 for shape components [K] that are symmetric, -1 for those that are antisymmetric; there are no others."""
    rig = Rig.load()
    reflected = rig.shape_basis[:, rig.mirror] * FLIP
    return (reflected * rig.shape_basis).sum((1, 2)).sign()


def _mirrored_camera(packed: Tensor, width: int) -> Tensor:
    """Cameras [..., 7, 4] as `TrainingRecord.photo_camera`, of pictures that are so many pixels wide."""
    flip = torch.cat([FLIP, torch.ones(1)])
    result = packed.clone()
    result[..., :4, :] = flip[:, None] * packed[..., :4, :] * flip
    result[..., 4, 2] = width - packed[..., 4, 2]
    return result
