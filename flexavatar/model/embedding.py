"""What the network is told about geometry: surface points of the template and camera rays of the pixels."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PointEmbedding(nn.Module):
    """Surface points -> query tokens (Eq. 5-6).

    e(p) = LN(W [sin(pi 2^k p), cos(pi 2^k p), p] + b) for k = 0..7; within a block x's octaves come first.
    """

    OCTAVES = 8

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Linear(3 * (2 * self.OCTAVES + 1), width)
        self.norm = nn.LayerNorm(width)

    def forward(self, points: Tensor) -> Tensor:
        """points [..., 3] metres -> [..., D]."""
        frequencies = math.pi * 2.0 ** torch.arange(self.OCTAVES, device=points.device, dtype=points.dtype)
        phases = (points[..., None] * frequencies).flatten(-2)
        return self.norm(self.mlp(torch.cat([phases.sin(), phases.cos(), points], dim=-1)))


def pluecker_rays(cam2world: Tensor, intrinsics: Tensor, height: int, width: int) -> Tensor:
    """Pluecker coordinates (o x d, d) of every pixel's ray: [..., 6, height, width], d of unit length.

    cam2world [..., 4, 4]: OpenCV camera (x right, y down, z forward) to the head frame, metres.
    intrinsics [..., 3, 3]: divided by the image size.
    Pixel j lies at x = j / (width - 1), with no half-pixel offset: the released model was trained that way.
    """
    like = {"device": cam2world.device, "dtype": cam2world.dtype}
    y, x = torch.meshgrid(
        torch.arange(height, **like) / (height - 1), torch.arange(width, **like) / (width - 1), indexing="ij"
    )
    fx, fy, cx, cy = (intrinsics[..., i, j, None, None] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    local = torch.stack(torch.broadcast_tensors((x - cx) / fx, (y - cy) / fy, torch.ones_like(x)), dim=-1)
    rotation = cam2world[..., None, None, :3, :3]
    # A sum of products, since autocast would round a matrix product.
    direction = F.normalize((rotation * local[..., None, :]).sum(-1), dim=-1)
    origin = cam2world[..., None, None, :3, 3].expand_as(direction)
    return torch.cat([torch.linalg.cross(origin, direction), direction], dim=-1).movedim(-1, -3)
