"""The photo as the atlas sees it, on the rig and at some distance around it: what the network's queries read."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from flexavatar.rig import Rig
from flexavatar.rig.anchors import outward_normals
from flexavatar.texture.unwrap import sample, unwrap
from flexavatar.tracking import TrackedFace

# Metres outside the rig. Hair stands off the head, so the surface alone would never see it.
SHELLS = (0.0, 0.012, 0.035, 0.075)
SHELL_CHANNELS = 4 * len(SHELLS) + 2


def photo_shells(tracked: TrackedFace, rig: Rig) -> Tensor:
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
    features[-2] = unwrap(tracked, rig).weight
    features[-1][valid] = (normal * toward).sum(-1).numpy()
    return torch.from_numpy(features)
