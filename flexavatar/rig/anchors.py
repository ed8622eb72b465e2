"""The rig's surface over its atlas: one Gaussian anchor per valid texel, whose frame follows pose and expression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from flexavatar.expression import BLINKS
from flexavatar.rotations import quaternions_of

# Atlas regions. "mouth" and "sockets" are the parts of the skin chart that are hidden while the mouth is
# closed and the eyes are in place; -1 in the map means that no surface is there.
REGION_NAMES = ("head", "mouth", "sockets", "eye_left", "eye_right", "teeth_upper", "teeth_lower", "tongue")
ATLAS_SIZE = 256
SPREAD = 0.62  # standard deviation of a surface Gaussian in texels: the least that shows no gaps


@dataclass(frozen=True)
class AnchorParams:
    """How large the Gaussian of a texel may be; standard deviations in metres."""

    limits: tuple[float, float] = (2e-4, 4e-3)  # sheared triangles must not turn into plates
    stretch: float = 1.6  # times the size at rest: else the corners of an open mouth grow whiskers
    max_unstretched: float = 2.5e-3  # up to this size any stretch is allowed
    max_lid: float = 6e-3  # lids lie folded at rest and must close without gaps
    lid_travel: float = 1e-3  # metres that skin moves as an eye closes: more is a lid
    max_cavity: float = 2.7e-3  # larger, and the walls of the mouth's cavity stick out between the lips
    max_raised: float = 0.012  # where hair stands off, a texel covers more
    aspect: float = 5.0  # long to short side at most: no needles
    thickness: float = 0.35  # along the normal, of the smaller tangential deviation


ANCHOR_PARAMS = AnchorParams()  # anchors are part of every avatar's meaning: there is one choice for all


@dataclass(frozen=True)
class Atlas:
    """256 x 256 sampling of the rig's surface; row 0 is the top, column 0 the subject's right side.

    The skin is one chart without any seam: the face is enlarged around its centre, the back of the head lies
    towards the top edge and the bust's rim is the border. The strip at the bottom holds eyes, tongue, teeth.
    """

    triangle: Tensor  # [256, 256] int64, -1 where no surface is
    barycentric: Tensor  # [256, 256, 3]
    region: Tensor  # [256, 256] int64 index into REGION_NAMES, -1 where no surface is
    uv: Tensor  # [V, 2] texel coordinates of the vertices, in 0..1 of the square

    @cached_property
    def valid(self) -> Tensor:
        """Texels with surface [256, 256]; G of them are true, and that order is the order of the Gaussians."""
        return self.triangle >= 0


@dataclass(frozen=True)
class AnchorFrames:
    """Where the G anchors are, in the canonical head frame."""

    means: Tensor  # [..., G, 3] metres
    quats: Tensor  # [..., G, 4] unit, w x y z; local axes: long tangent, short tangent, outward normal
    scales: Tensor  # [..., G, 3] metres


@dataclass(frozen=True)
class SurfaceAnchors:
    """G anchors in the order of `rig.atlas.valid` (row-major)."""

    corners: Tensor  # [G, 3] vertex ids
    weights: Tensor  # [G, 3 (position, along u, along v), 3 corners]
    longest: Tensor  # [G] metres, the largest deviation that an expression may stretch the Gaussian to

    def __len__(self) -> int:
        return len(self.corners)

    def positions(self, vertices: Tensor) -> Tensor:
        """Anchor positions [..., G, 3] on vertices [..., V, 3]."""
        return self.interpolate(vertices)

    def interpolate(self, values: Tensor) -> Tensor:
        """Per-vertex values [..., V, C] at the anchors [..., G, C]."""
        return (values[..., self.corners, :] * self.weights[:, 0, :, None]).sum(-2)

    def areas(self, vertices: Tensor) -> Tensor:
        """Square metres [..., G] of the texels on vertices [..., V, 3]."""
        u, v = self.steps(vertices).unbind(-1)
        return torch.linalg.cross(u, v).norm(dim=-1)

    def steps(self, vertices: Tensor) -> Tensor:
        """Steps [..., G, 3, 2] of one texel along u and v on vertices [..., V, 3], in their unit."""
        return (self.weights[:, 1:] @ vertices[..., self.corners, :]).mT

    def stretched(self, vertices: Tensor, raised: Tensor) -> SurfaceAnchors:
        """These anchors with the size limits of a head whose vertices at rest are [V, 3] metres.

        Where vertices are `raised` [V] bool off the mean head, Gaussians may be as large as they are at rest.
        """
        anywhere = torch.full_like(self.longest, ANCHOR_PARAMS.max_raised)
        at_rest = SurfaceAnchors(self.corners, self.weights, anywhere).frames(vertices).scales[:, 0]
        # Only there: walls of the mouth that may grow hide the teeth.
        longest = torch.where(raised[self.corners].any(-1), torch.maximum(self.longest, at_rest), self.longest)
        return SurfaceAnchors(self.corners, self.weights, longest)

    def frames(self, vertices: Tensor) -> AnchorFrames:
        """Anchors on posed vertices [..., V, 3]: the covariance is the texel's footprint on the surface."""
        # Coordinate by coordinate: sums over three numbers each cost twice as much.
        corners = vertices.index_select(-2, self.corners.flatten()).unflatten(-2, self.corners.shape)
        mean, *steps = (self.weights @ corners).unbind(-2)
        u, v = (step.unbind(-1) for step in steps)
        e, f, g = _dot(u, u), _dot(u, v), _dot(v, v)
        root = ((e - g).square() + 4 * f.square()).sqrt()
        angle = 0.5 * torch.atan2(2 * f, e - g)
        cos, sin = angle.cos(), angle.sin()
        first = _unit([cos * a + sin * b for a, b in zip(u, v, strict=True)])
        across = [cos * b - sin * a for a, b in zip(u, v, strict=True)]
        along = _dot(across, first)
        second = _unit([a - along * b for a, b in zip(across, first, strict=True)])
        normal = [second[i - 2] * first[i - 1] - second[i - 1] * first[i - 2] for i in range(3)]
        large = ((e + g + root) / 2).clamp_min(0).sqrt()
        small = ((e + g - root) / 2).clamp_min(0).sqrt()
        params = ANCHOR_PARAMS
        large = torch.minimum((SPREAD * large).clamp_min(params.limits[0]), self.longest)
        small = torch.maximum((SPREAD * small).clamp(*params.limits), large / params.aspect)
        rotation = [[a, -b, c] for a, b, c in zip(first, second, normal, strict=True)]
        return AnchorFrames(mean, quaternions_of(rotation), torch.stack([large, small, params.thickness * small], -1))


def _dot(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _unit(a: Sequence[Tensor]) -> list[Tensor]:
    length = _dot(a, a).sqrt().clamp_min(1e-12)
    return [each / length for each in a]


def surface_anchors(mean: Tensor, triangles: Tensor, expression_deltas: Tensor, atlas: Atlas) -> SurfaceAnchors:
    """The anchors of the atlas' valid texels on a rig.

    The arguments are fields of `Rig`: mean head [V, 3] and blendshapes [52, V, 3] in metres, triangles [F, 3].
    """
    params, valid = ANCHOR_PARAMS, atlas.valid
    corners = triangles[atlas.triangle[valid]]
    uv = atlas.uv[corners] * ATLAS_SIZE
    a, b = uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]
    area = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    area = torch.where(area.abs() < 1e-6, torch.full_like(area, 1e-6), area)
    du = torch.stack([a[:, 1] - b[:, 1], b[:, 1], -a[:, 1]], -1) / area[:, None]
    dv = torch.stack([b[:, 0] - a[:, 0], -b[:, 0], a[:, 0]], -1) / area[:, None]
    weights = torch.stack([atlas.barycentric[valid], du, dv], 1)
    anywhere = torch.full((len(corners),), params.limits[1])
    unlimited = SurfaceAnchors(corners, weights, anywhere)
    at_rest = unlimited.frames(mean).scales[:, 0]
    cavity = atlas.region[valid] == REGION_NAMES.index("mouth")
    longest = (params.stretch * at_rest).clamp_min(params.max_unstretched)
    longest[cavity] = longest[cavity].clamp_max(params.max_cavity)
    longest = longest.clamp_max(params.limits[1])
    travel = unlimited.interpolate(expression_deltas[BLINKS]).norm(dim=-1).amax(0)
    lid = (travel > params.lid_travel) & (atlas.region[valid] == REGION_NAMES.index("head"))
    return SurfaceAnchors(corners, weights, torch.where(lid, params.max_lid, longest))


def outward_normals(quats: Tensor) -> Tensor:
    """The third axis [..., G, 3] of anchor frames given as quaternions [..., G, 4]."""
    w, x, y, z = quats.unbind(-1)
    return torch.stack([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)], -1)
