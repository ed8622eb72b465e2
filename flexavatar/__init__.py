"""FlexAvatar: from one photo to a head that you can turn, animate and download as Gaussian splats."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flexavatar.avatar import Avatar
    from flexavatar.camera import Camera
    from flexavatar.expression import Expression
    from flexavatar.gaussians import Gaussians
    from flexavatar.pipeline import FlexAvatarPipeline

# Threads of torch that wait for each other by spinning are ten times slower where the cores are shared with anything.
# Read when torch is loaded, so it has to be here.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
__all__ = ["FlexAvatarPipeline", "Avatar", "Gaussians", "Camera", "Expression"]

# Resolved on first use, so that `import flexavatar` does not load torch.
_EXPORTS = {
    "FlexAvatarPipeline": "flexavatar.pipeline",
    "Avatar": "flexavatar.avatar",
    "Gaussians": "flexavatar.gaussians",
    "Camera": "flexavatar.camera",
    "Expression": "flexavatar.expression",
}


def __getattr__(name: str):
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_EXPORTS])
