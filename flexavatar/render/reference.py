"""The reference renderer: slow, obvious, any float type, derivatives by autograd. The oracle of the fast ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from flexavatar.camera import Camera
from flexavatar.gaussians import Gaussians
from flexavatar.render.rendering import Rendering
from flexavatar.rotations import rotation_matrices

BLUR = 0.1  # px^2, added to the covariance of every ellipse


@dataclass(frozen=True)
class CutoffParams:
    """Where values are cut, as in gsplat; opacities and transmittances in 0..1."""

    ray_margin: float = 0.15  # of the image side: the Jacobian is evaluated at most so far outside the image
    max_alpha: float = 0.999
    min_alpha: float = 1 / 255  # fainter ones do not count
    min_transmittance: float = 1e-4  # at which a pixel is finished
    min_area: float = 1e-12  # of an ellipse's squared area that the blur leaves; keeps its root differentiable


# The fast kernels repeat these: whether compiled code is out of date Numba sees by the kernel's own file alone.
CUTOFFS = CutoffParams()


def rasterize_reference(
    gaussians: Gaussians,
    set_of_image: Sequence[int],
    camera: Camera,
    backgrounds: Tensor,
    near: float,
    cutoffs: bool = True,
) -> Rendering:
    """B images of S sets of Gaussians (batch shape [S]); `camera` has batch shape [B], `backgrounds` is [B, 3].

    `set_of_image` [B] says which set each image shows. Memory grows with Gaussians x pixels. Without
    `cutoffs` faint and hidden Gaussians count as well, which makes the image a smooth function.
    """
    camera = camera.to(gaussians.means.device, gaussians.means.dtype)
    images = [_draw(gaussians[s], camera[i], backgrounds[i], near, cutoffs) for i, s in enumerate(set_of_image)]
    rgb, alpha, depth = (torch.stack(parts) for parts in zip(*images, strict=True))
    return Rendering(rgb, alpha, depth)


def _draw(
    gaussians: Gaussians, camera: Camera, background: Tensor, near: float, cutoffs: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """rgb [3, H, W], alpha [1, H, W] and depth [1, H, W] of one set [G] and one camera."""
    rotation = camera.world_to_camera[:3, :3]
    seen = gaussians.means @ rotation.mT + camera.world_to_camera[:3, 3]
    in_front = (seen[:, 2] > near).nonzero()[:, 0]
    order = in_front[seen[in_front, 2].argsort(stable=True)]
    gaussians, (x, y, z) = gaussians.select(order), seen[order].unbind(-1)

    fx, fy, cx, cy = (camera.intrinsics[i, j] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    width, height = camera.width, camera.height
    margin = CUTOFFS.ray_margin
    ray_x = (x / z).clamp(-(cx + margin * width) / fx, (width - cx + margin * width) / fx)
    ray_y = (y / z).clamp(-(cy + margin * height) / fy, (height - cy + margin * height) / fy)
    zero = torch.zeros_like(z)
    jacobian = torch.stack([fx / z, zero, -fx * ray_x / z, zero, fy / z, -fy * ray_y / z], -1).unflatten(-1, (2, 3))
    axes = jacobian @ rotation @ (rotation_matrices(gaussians.quats) * gaussians.scales[:, None, :])  # [G, 2, 3]
    sharp = axes @ axes.mT
    blurred = sharp + BLUR * torch.eye(2).to(axes)
    shares = (torch.linalg.det(sharp) / torch.linalg.det(blurred)).clamp(min=CUTOFFS.min_area)
    opacities = gaussians.opacities * shares.sqrt()
    conics = torch.linalg.inv(blurred)
    centers = torch.stack([fx * x / z + cx, fy * y / z + cy], -1)

    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = torch.stack([columns, rows], -1).reshape(-1, 2).to(centers) + 0.5
    offsets = pixels - centers[:, None]  # [G, H*W, 2]
    alphas = opacities[:, None] * torch.exp(-0.5 * ((offsets @ conics) * offsets).sum(-1))
    alphas = alphas.clamp(max=CUTOFFS.max_alpha)
    if cutoffs:
        alphas = torch.where(alphas >= CUTOFFS.min_alpha, alphas, 0)
    after = torch.cumprod(1 - alphas, 0)
    weights = alphas * torch.cat([torch.ones_like(after[:1]), after])[: len(after)]
    if cutoffs:
        weights = torch.where(after > CUTOFFS.min_transmittance, weights, 0)

    alpha = weights.sum(0)
    rgb = gaussians.colors.mT @ weights + (1 - alpha) * background[:, None]
    depth = (z @ weights) / alpha.clamp(min=1e-10)
    return rgb.reshape(3, height, width), alpha.reshape(1, height, width), depth.reshape(1, height, width)
