"""Avatars by a network: encoded from one view (paper section 3.1), then refined to all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from flexavatar.avatar import Avatar, AvatarCode
from flexavatar.camera import Camera
from flexavatar.model.flex_s import FLEX_S, SHELL_CHANNELS, SHELLS, FlexSObservation
from flexavatar.model.pretrained import NetworkSource, load_network
from flexavatar.progress import Progress
from flexavatar.reconstruction.refine import RefineParams, refine, unrefined_residuals
from flexavatar.reconstruction.rig_avatar import spread_views
from flexavatar.rig import Rig
from flexavatar.rig.anchors import outward_normals
from flexavatar.settings import Device, Quality, to_device, torch_device
from flexavatar.texture.unwrap import Unwrapped, sample
from flexavatar.tracking import TrackedFace

# Steps of the deformation, and of single Gaussians; of one photo.
STEPS: dict[Quality, tuple[int, int]] = {"instant": (0, 0), "fast": (8, 12), "balanced": (30, 55), "best": (60, 180)}
MAX_VIEWS = 24  # that a video's avatar is refined to: every one of them is kept decoded


@dataclass(frozen=True)
class FitCosts:
    """Seconds of making a network's avatar, as measured (docs/timings.md): on 2 idle cores, and on a CUDA GPU."""

    encoding: float = 1.3
    refining: float = 1.8  # before its first step
    deform_step: float = 0.14
    step: float = 0.23
    gpu_start: float = 15.0  # of a new process; this and the next with a margin of two
    gpu_step: float = 0.03  # of either kind


def fit_steps(quality: Quality, views: int) -> tuple[int, int]:
    """Steps of the deformation and of single Gaussians. One step sees one view, so several views need more."""
    deform, steps = STEPS[quality]
    more = 2 if views > 1 else 1
    return deform * more, steps * more


def fit_seconds(quality: Quality, views: int) -> float:
    """Seconds that `create_network_avatar` takes on 2 idle cores."""
    deform, steps = fit_steps(quality, views)
    refining = FitCosts.refining + deform * FitCosts.deform_step + steps * FitCosts.step if steps else 0.0
    return FitCosts.encoding + refining


def gpu_seconds(steps: tuple[int, int]) -> float:
    """Seconds that `create_network_avatar` takes on a CUDA GPU with so many steps, in a new process."""
    return FitCosts.gpu_start + FitCosts.gpu_step * sum(steps)


def create_network_avatar(
    source: NetworkSource,
    rig_avatar: Avatar,
    observation: FlexSObservation,
    views: Sequence[TrackedFace],
    base: int = 0,
    steps: tuple[int, int] = STEPS["balanced"],
    progress: Progress | None = None,
    device: Device = "cpu",
) -> Avatar:
    """The avatar that the network makes of what was observed of `views[base]`, refined to all views in `steps`.

    Made on `device`, and returned on the CPU. `rig_avatar` is of the same views; 0 steps are no refining. When
    `progress` stops the work, the rest of the steps is skipped. Raises ModelUnavailable or BadCheckpoint.
    """
    made = rig_avatar.to(torch_device(device))
    with torch.no_grad():
        head = load_network(source, made.device).encode(to_device(observation, made.device))
    made = replace(made, network=AvatarCode(head.code[0], head.detail[0], source))
    done = 0.0

    def count(stage: str, share: float) -> None:
        nonlocal done
        done = share
        if progress is not None:
            progress.tell(stage, share)

    counted = Progress(count, None if progress is None else progress.asked_to_stop)
    if sum(steps):
        chosen = [views[i] for i in spread_views(views, base, MAX_VIEWS)]
        params = RefineParams(deform_steps=steps[0], steps=steps[1])
        residuals = refine(made, chosen, 0, params, counted)
    else:
        residuals = unrefined_residuals(made)
    metadata = {**rig_avatar.metadata, "model": source.name, "fitting_steps": round(done * sum(steps))}
    return replace(made.to("cpu"), residuals=residuals, metadata=metadata).with_thumbnail(device)


def observe(tracked: TrackedFace, avatar: Avatar, photo: Unwrapped) -> FlexSObservation:
    """The input of flex-s for one tracked photo, unwrapped onto the bare rig, and its rig avatar: a batch of one."""
    alpha = torch.from_numpy(tracked.matte)
    image = torch.from_numpy(tracked.image).permute(2, 0, 1) / 255
    image = image * alpha + (1 - alpha)
    size = (FLEX_S.image_size, FLEX_S.image_size)
    camera = tracked.camera
    return FlexSObservation(
        images=torch.nn.functional.interpolate(image[None], size, mode="bilinear", antialias=True),
        camera=Camera(camera.world_to_camera[None], camera.intrinsics[None], camera.width, camera.height),
        shells=photo_shells(tracked, photo, Rig.load())[None],
        **{name: value[None] for name, value in avatar.appearance().items()},
    )


def photo_shells(tracked: TrackedFace, photo: Unwrapped, rig: Rig) -> Tensor:
    """Features [18, 256, 256], 0 where the atlas has no surface.

    For every shell the photo's RGB times the matte, and the matte; then the trust of the unwrapped photo
    (visible, facing the camera, inside the person) and the cosine between normal and view, in -1..1.
    """
    vertices = rig.pose(tracked.shape, tracked.blendshapes, tracked.head_rotation)
    frames = rig.anchors.frames(vertices)
    normal = outward_normals(frames.quats)
    valid = rig.atlas.valid.numpy()
    cutout = np.dstack([tracked.image.astype(np.float32) / 255 * tracked.matte[..., None], tracked.matte])
    features = np.zeros((SHELL_CHANNELS, *valid.shape), np.float32)
    for i, offset in enumerate(SHELLS):
        pixel = np.full((*valid.shape, 2), -1.0, np.float32)
        pixel[valid] = tracked.camera.project(frames.means + offset * normal)[0].numpy()
        inside = ((pixel >= 0) & (pixel < tracked.camera.width)).all(-1)
        features[4 * i : 4 * i + 4] = np.moveaxis(sample(cutout, pixel) * (inside & valid)[..., None], -1, 0)
    matrix = tracked.camera.world_to_camera
    toward = torch.nn.functional.normalize(-matrix[:3, :3].T @ matrix[:3, 3] - frames.means, dim=-1)
    features[-2] = photo.weight
    features[-1][valid] = (normal * toward).sum(-1).numpy()
    return torch.from_numpy(features)
