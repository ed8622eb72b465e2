"""Rotations of a whole clip at once: logarithm, interpolation, mean, scaling and angles."""

from __future__ import annotations

import torch
from torch import Tensor

from flexavatar.expression import rotation_from_angles
from flexavatar.rig.anchors import quaternions
from flexavatar.tracking.fit import rotation_exp


def rotation_log(rotation: Tensor) -> Tensor:
    """Axis-angle vectors [..., 3] (radians, angle at most pi) of rotation matrices [..., 3, 3]."""
    quats = quaternions(rotation)
    quats = torch.where(quats[..., :1] < 0, -quats, quats)
    axis = quats[..., 1:]
    sine = axis.norm(dim=-1, keepdim=True)
    angle = 2 * torch.atan2(sine, quats[..., :1])
    return torch.where(sine > 1e-9, angle / sine.clamp_min(1e-9), 2.0) * axis


def interpolate(first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    """Rotations [..., 3, 3] on the shortest way (slerp) from `first` (share 0) to `second` (share 1); share [...]."""
    return first @ rotation_exp(rotation_log(first.mT @ second) * share[..., None])


def scaled(rotation: Tensor, factor: float) -> Tensor:
    """Rotations [..., 3, 3] by `factor` times the angle about the same axis."""
    return rotation_exp(rotation_log(rotation) * factor)


def mean_rotation(rotations: Tensor) -> Tensor:
    """The rotation [3, 3] nearest to all of `rotations` [N, 3, 3] (chordal mean)."""
    u, _, vh = torch.linalg.svd(rotations.mean(0))
    return u @ torch.diag(torch.tensor([1.0, 1.0, float(torch.det(u @ vh))], dtype=u.dtype)) @ vh


def angles(rotation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Yaw, pitch and roll [...] in degrees, with the signs and the order of `rotation_from_angles`."""
    yaw = torch.atan2(rotation[..., 0, 2], rotation[..., 2, 2])
    pitch = torch.asin((-rotation[..., 1, 2]).clamp(-1, 1))
    roll = torch.atan2(rotation[..., 1, 0], rotation[..., 1, 1])
    return torch.rad2deg(yaw), torch.rad2deg(pitch), torch.rad2deg(roll)


def from_angles(yaw: Tensor, pitch: Tensor, roll: Tensor) -> Tensor:
    """Rotations [N, 3, 3] of angles [N] in degrees, by `rotation_from_angles`."""
    return torch.stack(
        [rotation_from_angles(*each) for each in zip(yaw.tolist(), pitch.tolist(), roll.tolist(), strict=True)]
    )
