"""What the app can do, without any user interface: every callback and API endpoint is one call of this class."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from flexavatar.app.gpu import device_outside, on_gpu
from flexavatar.app.store import AvatarStore, StoredAvatar
from flexavatar.app.viewer import write_view

if TYPE_CHECKING:
    import numpy as np

    from flexavatar.avatar import Avatar
    from flexavatar.expression import Expression
    from flexavatar.pipeline import Device, Face, FlexAvatarPipeline, Progress
    from flexavatar.tracking import TrackedFace

FORMATS = ("ply", "splat", "spz", "flexavatar", "png")


class Studio:
    """Makes avatars, keeps them under ids and writes their files. Safe to use from several threads."""

    def __init__(self, pipeline: FlexAvatarPipeline, store: AvatarStore | None = None) -> None:
        self.pipeline = pipeline
        self.store = store or AvatarStore()

    def create(self, photo: str | Path, face: Face = None, progress: Progress | None = None) -> tuple[str, TrackedFace]:
        """The id of a new avatar, and what was detected in the photo."""
        tracked = self.pipeline.track(photo, face, progress)
        avatar = self.pipeline.build(tracked, progress)
        return self.store.put(StoredAvatar(avatar, _file_stem(photo))), tracked

    def open(self, path: str | Path) -> str:
        """The id of an avatar read from a .flexavatar file."""
        from flexavatar.avatar import Avatar

        return self.store.put(StoredAvatar(Avatar.load(path), _file_stem(path)))

    def describe(self, key: str) -> dict[str, object]:
        avatar = self.store.get(key).avatar
        return {"gaussians": len(avatar.gaussians()), **avatar.metadata}

    def render(
        self, key: str, expression: Expression, yaw: float = 0.0, pitch: float = 0.0, size: int = 512
    ) -> np.ndarray:
        """Picture uint8 [size, size, 3]."""
        device = device_outside(self.pipeline.device)
        return self.store.get(key).avatar.render(expression, yaw=yaw, pitch=pitch, size=size, device=device)

    def view(self, key: str, expression: Expression) -> str:
        """Path of the file for the app's 3D view."""
        stored = self.store.get(key)
        return str(write_view(stored.path(".view.splat"), stored.avatar.gaussians(expression)))

    def export(self, key: str, file_format: str, expression: Expression) -> str:
        """Path of the avatar's file in one of FORMATS. Raises ValueError for another format."""
        if file_format not in FORMATS:
            raise ValueError(f"Unknown format {file_format!r}; choose one of {', '.join(FORMATS)}.")
        stored = self.store.get(key)
        path = stored.path(f".{file_format}")
        stored.avatar.export(path, expression=expression)
        return str(path)

    def turntable(self, key: str, expression: Expression, seconds: float = 4.0, size: int = 512) -> str:
        """Path of a video that turns once around the head."""
        stored = self.store.get(key)
        path = stored.path(".mp4")
        _turntable(stored.avatar, str(path), expression, seconds, size, self.pipeline.device)
        return str(path)


@on_gpu(seconds=60)
def _turntable(avatar: Avatar, path: str, expression: Expression, seconds: float, size: int, device: Device) -> None:
    avatar.turntable(path, size=size, seconds=seconds, expression=expression, device=device)


def _file_stem(path: str | Path) -> str:
    """A file name that every system takes, from the name of the upload."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", Path(path).stem).strip("-")[:40] or "avatar"
