"""Pictures of Gaussians: one function, three renderers that agree (gsplat on CUDA, Numba on the CPU, a slow reference).

Conventions are those of gsplat 1.5 "antialiased" with the blur of Mip-Splatting: 0.1 px^2 on each ellipse, about what
a pixel averages over, with the opacity lowered by as much as the ellipse grew, so that heads seen small neither thicken
nor thin. Alphas are at most 0.999 and count from 1/255, a pixel is finished when its transmittance would fall to 1e-4.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from flexavatar.camera import Camera
from flexavatar.gaussians import Gaussians
from flexavatar.render.backends import (
    Backend,
    Renderer,
    RendererStatus,
    available_backends,
    choose_backend,
    renderer_status,
)
from flexavatar.render.rendering import Rendering
from flexavatar.render.threads import set_threads, thread_count

__all__ = [
    "Backend",
    "Renderer",
    "RendererStatus",
    "Rendering",
    "available_backends",
    "render",
    "renderer_status",
    "set_threads",
    "thread_count",
    "warm_up",
]

_TRAILING_DIMS = {"means": 2, "quats": 2, "scales": 2, "opacities": 1, "colors": 2}


def render(
    gaussians: Gaussians,
    camera: Camera,
    background: Sequence[float] | Tensor = (1.0, 1.0, 1.0),
    backend: Backend = "auto",
    near: float = 0.01,
) -> Rendering:
    """Draw Gaussians as seen by a camera, over a background colour.

    The batch dimensions of `gaussians`, `camera` and `background` (RGB, [3] or [..., 3]) broadcast against
    each other: matching batches, one set with many cameras, many sets with one camera; nothing is copied
    per image. Gaussians nearer than `near` metres (camera z) are left out.

    `rgb`, `alpha` and `depth` are differentiable with respect to every field of `gaussians` and to
    `background`; cameras are constants. "auto" takes gsplat for Gaussians on a CUDA device if it works
    there, else the CPU renderer. The result lies on the device of the Gaussians, in float32 (the
    reference keeps their type). Raises RendererUnavailable for `backend="gsplat"` without a working gsplat.
    """
    _check(gaussians)
    device = gaussians.means.device
    background = torch.as_tensor(background, dtype=gaussians.means.dtype).to(device)
    if background.shape[-1:] != (3,):
        raise ValueError(f"A background has 3 values (RGB), got shape {tuple(background.shape)}.")
    matrices, lenses = camera.world_to_camera.detach(), camera.intrinsics.detach()
    sets = gaussians.batch_shape
    batch = torch.broadcast_shapes(sets, matrices.shape[:-2], lenses.shape[:-2], background.shape[:-1])
    size = (camera.height, camera.width)
    if batch.numel() == 0:
        return Rendering(*(gaussians.means.new_zeros(*batch, channels, *size) for channels in (3, 1, 1)))

    flat_sets = Gaussians(
        **{
            name: getattr(gaussians, name).reshape(sets.numel(), *getattr(gaussians, name).shape[-dims:])
            for name, dims in _TRAILING_DIMS.items()
        }
    )
    set_of_image = torch.arange(sets.numel()).reshape(sets).expand(batch).flatten().tolist()
    flat_camera = Camera(
        matrices.expand(*batch, 4, 4).reshape(-1, 4, 4),
        lenses.expand(*batch, 3, 3).reshape(-1, 3, 3),
        camera.width,
        camera.height,
    )
    flat_background = background.expand(*batch, 3).reshape(-1, 3)
    renderer = choose_backend(backend, device, len(gaussians))
    if renderer == "gsplat" and device.type != "cuda":
        flat_sets = flat_sets.to("cuda")
    flat = _rasterizer(renderer)(flat_sets, set_of_image, flat_camera, flat_background, near)
    return Rendering(*(image.reshape(*batch, -1, *size).to(device) for image in (flat.rgb, flat.alpha, flat.depth)))


def warm_up() -> None:
    """Compile the CPU kernels (seconds, once per machine) or load them from the cache (a moment)."""
    from flexavatar.render.cpu import warm_up as warm_up_cpu

    warm_up_cpu()


def _rasterizer(renderer: Renderer):
    # Imported here because each of them loads something heavy.
    if renderer == "gsplat":
        from flexavatar.render.cuda import rasterize_gsplat

        return rasterize_gsplat
    if renderer == "reference":
        from flexavatar.render.reference import rasterize_reference

        return rasterize_reference
    from flexavatar.render.cpu import rasterize_cpu

    return rasterize_cpu


def _check(gaussians: Gaussians) -> None:
    leading = (*gaussians.batch_shape, len(gaussians))
    for name, values in (("means", 3), ("quats", 4), ("scales", 3), ("colors", 3), ("opacities", None)):
        expected = leading if values is None else (*leading, values)
        shape = tuple(getattr(gaussians, name).shape)
        if shape != expected:
            raise ValueError(f"Gaussians.{name} has shape {shape}; with these means it must be {expected}.")
