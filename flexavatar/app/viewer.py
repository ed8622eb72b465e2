"""The splats as the app's 3D view (gr.Model3D, which draws with gsplat.js) needs them."""

from __future__ import annotations

import math
from importlib.resources import files
from pathlib import Path

import torch

from flexavatar.camera import HEAD_CENTER, VIEW_HEIGHT
from flexavatar.expression import rotation_from_angles
from flexavatar.gaussians import Gaussians

# gsplat.js looks at the origin from a distance of 5 units, 0.5 rad to the right and 0.5 rad above, with a focal length
# of 1132 pixels. None of that can be set from Python, so the head is turned to that camera; OPEN_LEVEL then lowers the
# camera to eye level as a visitor's drag would.
_START_YAW = 0.5  # radians
_UNITS_PER_METRE = 2.0 / VIEW_HEIGHT  # 2.0 units fill most of a view that is 470 pixels high

OPEN_LEVEL = (files("flexavatar.app") / "viewer.js").read_text(encoding="utf-8")


def write_view(path: Path, gaussians: Gaussians) -> Path:
    """Write `gaussians` (canonical head frame) as the .splat file that opens upright and facing the visitor."""
    from flexavatar.export import write_splats

    write_splats(path, facing_the_visitor(gaussians))
    return path


def facing_the_visitor(gaussians: Gaussians) -> Gaussians:
    """The head centred on the origin, turned about +y to the viewer's first camera, in the viewer's unit."""
    rotation = rotation_from_angles(yaw=math.degrees(_START_YAW))
    w, y = math.cos(_START_YAW / 2), math.sin(_START_YAW / 2)
    qw, qx, qy, qz = gaussians.quats.cpu().unbind(-1)
    return Gaussians(
        means=(gaussians.means.cpu() - torch.tensor(HEAD_CENTER)) @ rotation.T * _UNITS_PER_METRE,
        # Hamilton product of the turn (w, 0, y, 0) and each quaternion.
        quats=torch.stack([w * qw - y * qy, w * qx + y * qz, w * qy + y * qw, w * qz - y * qx], -1),
        scales=gaussians.scales.cpu() * _UNITS_PER_METRE,
        opacities=gaussians.opacities.cpu(),
        colors=gaussians.colors.cpu(),
    )
