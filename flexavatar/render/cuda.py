"""The CUDA renderer: gsplat."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from flexavatar.camera import Camera
from flexavatar.gaussians import Gaussians
from flexavatar.render.reference import BLUR
from flexavatar.render.rendering import Rendering


def rasterize_gsplat(
    gaussians: Gaussians, set_of_image: Sequence[int], camera: Camera, backgrounds: Tensor, near: float
) -> Rendering:
    """B images of S sets of Gaussians (batch shape [S]); `camera` has batch shape [B], `backgrounds` is [B, 3].

    `set_of_image` [B] says which set each image shows. The Gaussians lie on the CUDA device to be used.
    """
    from gsplat.rendering import rasterization

    device = gaussians.means.device
    gaussians = gaussians.to(dtype=torch.float32)
    camera = camera.to(device, torch.float32)
    backgrounds = backgrounds.to(device, torch.float32)
    matrices, lenses = camera.world_to_camera, camera.intrinsics
    if len(gaussians.means) == 1:
        gaussians = gaussians[0]  # gsplat's own form for one set and many cameras
    else:
        if list(set_of_image) != list(range(len(gaussians.means))):
            gaussians = gaussians[torch.tensor(set_of_image, device=device)]
        matrices, lenses, backgrounds = matrices[:, None], lenses[:, None], backgrounds[:, None]
    values, alpha, _ = rasterization(
        gaussians.means,
        gaussians.quats,
        gaussians.scales,
        gaussians.opacities,
        gaussians.colors,
        matrices,
        lenses,
        camera.width,
        camera.height,
        near_plane=near,
        eps2d=BLUR,
        packed=False,
        backgrounds=backgrounds,
        render_mode="RGB+ED",
        rasterize_mode="antialiased",
    )
    values = values.reshape(-1, *values.shape[-3:]).movedim(-1, 1)
    alpha = alpha.reshape(-1, *alpha.shape[-3:]).movedim(-1, 1)
    return Rendering(values[:, :3], alpha, values[:, 3:])


def try_out() -> None:
    """Draw one Gaussian; raises whatever gsplat raises where it cannot run. Compiles its kernels if need be."""
    one = torch.eye(4, device="cuda")[None]
    gaussians = Gaussians(
        means=torch.tensor([[[0.0, 0.0, 1.0]]], device="cuda"),
        quats=one[:, :1],
        scales=torch.full((1, 1, 3), 0.1, device="cuda"),
        opacities=torch.full((1, 1), 0.5, device="cuda"),
        colors=torch.full((1, 1, 3), 0.5, device="cuda"),
    )
    lens = torch.tensor([[[16.0, 0.0, 8.0], [0.0, 16.0, 8.0], [0.0, 0.0, 1.0]]], device="cuda")
    picture = rasterize_gsplat(gaussians, [0], Camera(one, lens, 16, 16), torch.ones(1, 3), near=0.01)
    if not picture.alpha[0, 0, 8, 8].item() > 0.4:
        raise RuntimeError("gsplat drew an empty picture")
