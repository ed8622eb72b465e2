"""Rotations as matrices, vectors, angles, quaternions (w, x, y, z) and six numbers, and what is done with them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def rotation_exp(axis_angle: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3] of axis-angle vectors [..., 3] (radians)."""
    x, y, z = axis_angle.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).view(*axis_angle.shape[:-1], 3, 3)
    return torch.linalg.matrix_exp(cross)


def rotation_log(rotation: Tensor) -> Tensor:
    """Axis-angle vectors [..., 3] (radians, angle at most pi) of rotation matrices [..., 3, 3]."""
    return quaternion_log(quaternions(rotation))


def slerp(first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    """Rotations [..., 3, 3] on the shortest way (slerp) from `first` (share 0) to `second` (share 1); share [...]."""
    return first @ rotation_exp(rotation_log(first.mT @ second) * share[..., None])


def scaled(rotation: Tensor, factor: float) -> Tensor:
    """Rotations [..., 3, 3] by `factor` times the angle about the same axis."""
    return rotation_exp(rotation_log(rotation) * factor)


def nearest_rotation(matrix: Tensor) -> Tensor:
    """The rotations [..., 3, 3] nearest to matrices [..., 3, 3]."""
    u, _, vh = torch.linalg.svd(matrix)
    one = torch.ones_like(u[..., 0, 0])
    return u * torch.stack([one, one, torch.det(u @ vh).sign()], -1)[..., None, :] @ vh


def mean_rotation(rotations: Tensor) -> Tensor:
    """The rotation [3, 3] nearest to all of `rotations` [N, 3, 3] (chordal mean)."""
    return nearest_rotation(rotations.mean(0))


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


def rotation_from_angles(yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> Tensor:
    """Head rotation [3, 3] in the canonical head frame, from degrees.

    Positive yaw turns to the subject's left, positive pitch looks down, positive roll tilts the head
    towards the subject's right shoulder.
    """
    y, p, r = (torch.deg2rad(torch.tensor(float(a))) for a in (yaw, pitch, roll))
    zero, one = torch.zeros(()), torch.ones(())
    about_y = torch.stack([y.cos(), zero, y.sin(), zero, one, zero, -y.sin(), zero, y.cos()]).view(3, 3)
    about_x = torch.stack([one, zero, zero, zero, p.cos(), -p.sin(), zero, p.sin(), p.cos()]).view(3, 3)
    about_z = torch.stack([r.cos(), -r.sin(), zero, r.sin(), r.cos(), zero, zero, zero, one]).view(3, 3)
    return about_y @ about_x @ about_z


def decode_rotation_6d(code: Tensor) -> Tensor:
    """[..., 6] -> rotations [..., 3, 3] by Gram-Schmidt; the third row is the cross product."""
    first = F.normalize(code[..., :3], dim=-1)
    second = code[..., 3:] - (first * code[..., 3:]).sum(-1, keepdim=True) * first
    second = F.normalize(second, dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], dim=-2)


def quaternions(rotation: Tensor) -> Tensor:
    """Unit quaternions [..., 4] (w, x, y, z) of rotation matrices [..., 3, 3]."""
    return quaternions_of([list(row.unbind(-1)) for row in rotation.unbind(-2)])


def quaternions_of(m: Sequence[Sequence[Tensor]]) -> Tensor:
    """Unit quaternions [..., 4] (w, x, y, z) of rotation matrices given as 3 x 3 entries [...]."""
    x, y, z = m[0][0], m[1][1], m[2][2]
    # The four candidates of Shepperd's method; the largest is numerically safe.
    w, p, q, r = 1 + x + y + z, 1 + x - y - z, 1 - x + y - z, 1 - x - y + z
    a, b, c = m[2][1] - m[1][2], m[0][2] - m[2][0], m[1][0] - m[0][1]
    d, e, f = m[1][0] + m[0][1], m[0][2] + m[2][0], m[2][1] + m[1][2]
    best = torch.stack([w, p, q, r], -1).argmax(-1)
    one, two, low = best == 0, best == 2, best < 2
    chosen = [
        torch.where(low, torch.where(one, first, second), torch.where(two, third, fourth))
        for first, second, third, fourth in ((w, a, b, c), (a, p, d, e), (b, d, q, f), (c, e, f, r))
    ]
    return F.normalize(torch.stack(chosen, -1), dim=-1)


def rotation_matrices(quats: Tensor) -> Tensor:
    """Rotations [..., 3, 3] of quaternions [..., 4] (w, x, y, z) of any length."""
    w, x, y, z = F.normalize(quats, dim=-1).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def quaternion_product(a: Tensor, b: Tensor) -> Tensor:
    """Hamilton product of quaternions [..., 4], order w, x, y, z: first b, then a."""
    aw, ax, ay, az = a.unbind(-1)
    bw, bx, by, bz = b.unbind(-1)
    return torch.stack(
        [aw * bw - ax * bx - ay * by - az * bz, aw * bx + ax * bw + ay * bz - az * by,
         aw * by - ax * bz + ay * bw + az * bx, aw * bz + ax * by - ay * bx + az * bw], -1,
    )  # fmt: skip


def quaternion_exp(vectors: Tensor) -> Tensor:
    """Unit quaternions [..., 4] (w, x, y, z) of rotation vectors [..., 3]: axis times angle in radians."""
    half = vectors.norm(dim=-1, keepdim=True) / 2
    return torch.cat([half.cos(), torch.sinc(half / torch.pi) * vectors / 2], -1)


def quaternion_log(quats: Tensor) -> Tensor:
    """Rotation vectors [..., 3], at most pi long, of unit quaternions [..., 4]."""
    quats = torch.where(quats[..., :1] < 0, -quats, quats)
    sine = quats[..., 1:].norm(dim=-1, keepdim=True)
    angle = 2 * torch.atan2(sine, quats[..., :1])
    return torch.where(sine > 1e-9, angle / sine.clamp_min(1e-9), 2.0) * quats[..., 1:]


def conjugate(quats: Tensor) -> Tensor:
    """The inverse of unit quaternions [..., 4]."""
    return quats * quats.new_tensor([1.0, -1.0, -1.0, -1.0])
