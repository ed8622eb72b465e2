"""The CPU renderer: tile-based Gaussian splatting in Numba with an analytic backward pass, float32."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from flexavatar.camera import Camera
from flexavatar.gaussians import Gaussians
from flexavatar.render.kernels_projection import CHUNK, SPLAT_SIZE, project, project_backward
from flexavatar.render.kernels_raster import TILE, bin_and_sort, rasterize, rasterize_backward
from flexavatar.render.rendering import Rendering
from flexavatar.render.threads import run_on_threads


@dataclass(frozen=True)
class _View:
    """One image to make."""

    set_index: int  # which set of Gaussians it shows
    matrix: np.ndarray  # [4, 4] world to camera
    lens: np.ndarray  # [4] fx, fy, cx, cy
    width: int
    height: int
    near: np.float32

    @property
    def tile_columns(self) -> int:
        return -(-self.width // TILE)

    @property
    def tiles(self) -> int:
        return self.tile_columns * -(-self.height // TILE)


@dataclass(frozen=True)
class _Drawn:
    """What the backward pass needs to know about one drawn image."""

    splats: np.ndarray  # [G, 10]
    boxes: np.ndarray  # [G, 4]
    offsets: np.ndarray  # [tiles + 1]
    ids: np.ndarray  # [P]
    places: np.ndarray  # [P]
    starts: np.ndarray  # [G + 1]


_buffers = threading.local()


def _pair_buffer(rows: int) -> np.ndarray:
    """Uninitialised memory [>= rows, 10] that the calling thread keeps: fresh pages cost more than the gradients."""
    buffer = getattr(_buffers, "pairs", None)
    if buffer is None or len(buffer) < rows:
        buffer = _buffers.pairs = np.empty((rows + rows // 4, SPLAT_SIZE), np.float32)
    return buffer


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().numpy()


def _zeros(like: Tensor) -> np.ndarray:
    # NumPy's, because PyTorch's would wake its own threads, which then compete with the kernels.
    return np.zeros(tuple(like.shape), np.float32)


def _draw(
    sets: Sequence[np.ndarray], view: _View, background: np.ndarray, images: Sequence[np.ndarray], record: bool
) -> _Drawn:
    """Fill `images` (rgb [3, H, W], alpha [H, W], depth [H, W]) with one view."""
    means, quats, scales, opacities, colors = (values[view.set_index] for values in sets)
    splats = np.empty((len(means), SPLAT_SIZE), np.float32)
    boxes = np.empty((len(means), 4), np.int32)
    run_on_threads(
        project, -(-len(means) // CHUNK),
        means, quats, scales, opacities, colors, view.matrix, view.lens, view.width, view.height, view.near,
        splats, boxes,
    )  # fmt: skip
    offsets, ids, places, starts = bin_and_sort(splats.view(np.uint32), boxes, view.tile_columns, view.tiles, record)
    run_on_threads(rasterize, view.tiles, view.tile_columns, offsets, ids, splats, boxes, background, *images)
    return _Drawn(splats, boxes, offsets, ids, places, starts)


def _draw_all(
    sets: Sequence[Tensor], views: Sequence[_View], backgrounds: Tensor, record: bool
) -> tuple[Tensor, Tensor, Tensor, list[_Drawn]]:
    """rgb [B, 3, H, W], alpha and depth [B, 1, H, W], and what the backward pass needs if that is to be recorded."""
    size = (views[0].height, views[0].width)
    rgb, alpha, depth = (torch.empty(len(views), channels, *size, dtype=torch.float32) for channels in (3, 1, 1))
    arrays, colors = [_array(values) for values in sets], _array(backgrounds)
    images = rgb.numpy(), alpha.numpy()[:, 0], depth.numpy()[:, 0]
    records = []
    for i, view in enumerate(views):
        drawn = _draw(arrays, view, colors[i], [image[i] for image in images], record)
        if record:
            records.append(drawn)
    return rgb, alpha, depth, records


class _Draw(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, views: Sequence[_View], backgrounds: Tensor, *sets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rgb, alpha, depth, drawn = _draw_all(sets, views, backgrounds, record=True)
        ctx.save_for_backward(rgb, alpha, depth, *sets)
        ctx.views, ctx.drawn = views, drawn
        ctx.set_materialize_grads(False)
        return rgb, alpha, depth

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *image_grads: Tensor | None) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        rgb, alpha, depth, *sets = ctx.saved_tensors
        g_rgb, g_alpha, g_depth = (
            _zeros(image) if grad is None else _array(grad)
            for grad, image in zip(image_grads, (rgb, alpha, depth), strict=True)
        )
        outputs = [_zeros(values) for values in sets]
        if any(ctx.needs_input_grad[2:]):
            arrays = [_array(values) for values in sets[:4]]
            images = (rgb.numpy(), alpha.numpy()[:, 0], depth.numpy()[:, 0], g_rgb, g_alpha[:, 0], g_depth[:, 0])
            pair_grads = _pair_buffer(max(len(drawn.ids) for drawn in ctx.drawn))
            for i, (view, drawn) in enumerate(zip(ctx.views, ctx.drawn, strict=True)):
                run_on_threads(
                    rasterize_backward, view.tiles,
                    view.tile_columns, drawn.offsets, drawn.ids, drawn.splats, drawn.boxes,
                    *(image[i] for image in images), pair_grads,
                )  # fmt: skip
                run_on_threads(
                    project_backward, -(-len(drawn.boxes) // CHUNK),
                    *(values[view.set_index] for values in arrays), view.matrix, view.lens, view.width,
                    view.height, drawn.splats, drawn.starts, drawn.places, pair_grads,
                    *(values[view.set_index] for values in outputs),
                )  # fmt: skip
        g_backgrounds = None
        if ctx.needs_input_grad[1]:
            g_backgrounds = (torch.from_numpy(g_rgb) * (1 - alpha)).sum((-2, -1))
        return None, g_backgrounds, *(torch.from_numpy(values) for values in outputs)


def rasterize_cpu(
    gaussians: Gaussians, set_of_image: Sequence[int], camera: Camera, backgrounds: Tensor, near: float
) -> Rendering:
    """B images of S sets of Gaussians (batch shape [S]); `camera` has batch shape [B], `backgrounds` is [B, 3].

    `set_of_image` [B] says which set each image shows. Values of other types and devices are converted.
    """
    gaussians = gaussians.to("cpu", torch.float32)
    matrices = _array(camera.world_to_camera.to("cpu", torch.float32))
    lenses = camera.intrinsics.to("cpu", torch.float32)
    lenses = _array(torch.stack([lenses[:, 0, 0], lenses[:, 1, 1], lenses[:, 0, 2], lenses[:, 1, 2]], -1))
    views = [
        _View(set_index, matrices[i], lenses[i], camera.width, camera.height, np.float32(near))
        for i, set_index in enumerate(set_of_image)
    ]
    backgrounds = backgrounds.to("cpu", torch.float32)
    sets = (gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, gaussians.colors)
    if torch.is_grad_enabled() and any(values.requires_grad for values in (*sets, backgrounds)):
        return Rendering(*_Draw.apply(views, backgrounds, *sets))  # pyright: ignore[reportArgumentType]
    return Rendering(*_draw_all(sets, views, backgrounds, record=False)[:3])


def warm_up() -> None:
    """Compile the kernels, or load them from the cache, so that the first picture is not slow."""
    one = torch.eye(4)[None]
    gaussians = Gaussians(
        means=torch.tensor([[[0.0, 0.0, 1.0]]], requires_grad=True),
        quats=one[:, :1],
        scales=torch.full((1, 1, 3), 0.1),
        opacities=torch.full((1, 1), 0.5),
        colors=torch.full((1, 1, 3), 0.5),
    )
    lens = torch.tensor([[[TILE, 0.0, TILE / 2], [0.0, TILE, TILE / 2], [0.0, 0.0, 1.0]]])
    with torch.enable_grad():
        picture = rasterize_cpu(gaussians, [0], Camera(one, lens, TILE, TILE), torch.ones(1, 3), near=0.01)
        picture.rgb.sum().backward()
