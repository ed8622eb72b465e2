"""What the app can do, without any user interface: every callback and API endpoint is one call of this class."""

from __future__ import annotations

import functools
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flexavatar.app.gpu import borrowed, device_outside
from flexavatar.app.jobs import Jobs
from flexavatar.app.store import AvatarGone, AvatarStore, StoredAvatar
from flexavatar.progress import Tell

if TYPE_CHECKING:
    import numpy as np

    from flexavatar.avatar import Avatar
    from flexavatar.baking import BakedAvatar
    from flexavatar.expression import Expression
    from flexavatar.motion import Transfer
    from flexavatar.pipeline import FlexAvatarPipeline, Progress
    from flexavatar.reconstruction import Capture
    from flexavatar.settings import Color, FaceChoice, Quality
    from flexavatar.tracking import TrackedFace


SMALL_VIDEO = 384  # pixels
VIDEO_FPS = 25  # of turntables and morphs
FORMATS = ("ply", "spz", "splat", "flexbundle", "html", "mp4", "flexavatar", "png")


@dataclass(frozen=True)
class GpuCosts:
    """Seconds to ask a borrowed GPU for: as measured, with a margin of two (docs/timings.md)."""

    start: float = 15.0  # what a process begins with, at most
    frame: float = 0.04  # of 512 px, drawn and encoded
    bake: float = 20.0


@dataclass(frozen=True)
class Reenactment:
    """The files that driving an avatar wrote, and facts about them."""

    video: str  # path of an .mp4, or a .webm if transparent
    motion: str  # path of the driver's motion as a Live Link Face .csv
    frames: int
    fps: float
    warnings: tuple[str, ...]  # sentences for the visitor


class Studio:
    """Makes avatars, keeps them under ids and writes their files. Safe to use from several threads."""

    def __init__(self, pipeline: FlexAvatarPipeline, store: AvatarStore | None = None) -> None:
        pipeline.compute = borrowed
        self.pipeline = pipeline
        self._cutting: tuple[str, FlexAvatarPipeline] = ("selfie", pipeline)  # the latest matte that was asked for
        self.store = store or AvatarStore()
        self.jobs = Jobs()

    def create(
        self,
        photo: str | Path,
        face: FaceChoice = None,
        progress: Progress | Tell | None = None,
        quality: Quality = "balanced",
        matte: str = "selfie",
    ) -> tuple[str, TrackedFace]:
        """The id of a new avatar, and what was detected in the photo; `matte` as of `from_pretrained`."""
        tracked = self._pipeline(matte).track(photo, face, progress)
        avatar = self.pipeline.build(tracked, progress, quality)
        return self.store.put(StoredAvatar(avatar, _file_stem(photo))), tracked

    def estimate(self, files: Sequence[str | Path], quality: Quality = "balanced") -> float:
        """Seconds that `capture` will take. Raises UnreadableVideo, and ValueError as `capture` does."""
        from flexavatar.io.videos import read_video_info

        source = _capture_source(files)
        return self.pipeline.estimate(len(source) if isinstance(source, list) else read_video_info(source), quality)

    def capture(
        self,
        files: Sequence[str | Path],
        quality: Quality = "balanced",
        progress: Progress | Tell | None = None,
        matte: str = "selfie",
    ) -> tuple[str, Capture]:
        """The id of a new avatar made of photos or of one video, and how it came about.

        Raises ValueError for no files, several videos, or a video among photos; else what `pipeline.capture` raises.
        """
        source = _capture_source(files)
        made = self._pipeline(matte).capture(
            source, quality, progress, measured_on=device_outside(self.pipeline.device)
        )
        return self.store.put(StoredAvatar(made.avatar, _file_stem(files[0]))), made

    def open(self, path: str | Path) -> str:
        """The id of an avatar read from a .flexavatar file."""
        from flexavatar.avatar import Avatar

        return self.store.put(StoredAvatar(Avatar.load(path), _file_stem(path)))

    def known(self, keys: Sequence[str]) -> list[str]:
        """Those of the ids that are still on the server."""
        found = []
        for key in keys:
            try:
                self.store.get(key)
            except AvatarGone:
                continue
            found.append(key)
        return found

    def describe(self, key: str) -> dict[str, object]:
        """What is known of an avatar: the number of its Gaussians, and its metadata. Raises AvatarGone."""
        avatar = self.store.get(key).avatar
        told = {"gaussians": len(avatar.gaussians()), **avatar.metadata}
        model = Path(str(told.get("model", "")))
        if model.is_absolute():  # a folder of the server
            told["model"] = model.name
        return told

    def render(
        self, key: str, expression: Expression, yaw: float = 0.0, pitch: float = 0.0, size: int = 512
    ) -> np.ndarray:
        """Picture uint8 [size, size, 3]."""
        device = device_outside(self.pipeline.device)
        return self.store.get(key).avatar.render(expression, yaw=yaw, pitch=pitch, size=size, device=device)

    def export(self, key: str, file_format: str, expression: Expression) -> str:
        """Path of the avatar's file in one of FORMATS. Raises ValueError for another format.

        A .flexbundle, .html or .flexavatar has all expressions; the other formats show `expression`.
        """
        if file_format not in FORMATS:
            raise ValueError(f"Unknown format {file_format!r}; choose one of {', '.join(FORMATS)}.")
        if file_format == "flexbundle":
            return self.bundle(key)
        if file_format == "mp4":
            return self.turntable(key, expression)
        stored = self.store.get(key)
        path = stored.path(f".{file_format}")
        if file_format == "html":
            from flexavatar.viewer import viewer_html

            path.write_text(viewer_html(Path(self.bundle(key)).read_bytes(), stored.name), encoding="utf-8")
        else:
            stored.avatar.export(path, expression, device_outside(self.pipeline.device))
        return str(path)

    def bundle(self, key: str) -> str:
        """Path of the .flexbundle that the browser's viewer loads. Baked at the first call, which takes seconds."""
        from flexavatar.baking import write_bundle

        stored = self.store.get(key)
        path = stored.path(".flexbundle")
        with stored.baking:
            if not path.exists():
                baking = functools.partial(_bake, stored.avatar)
                write_bundle(path, borrowed(baking, GpuCosts.bake, device=self.pipeline.device))
        return str(path)

    def poster(self, key: str) -> str:
        """Path of a still of what the viewer draws first (WebP). Made at the first call."""
        from flexavatar.sharing.card import save_poster

        stored = self.store.get(key)
        path = stored.path(".webp")
        if not path.exists():  # not locked: it must not wait for the bundle, and is soon made twice
            save_poster(stored.avatar, path)
        return str(path)

    def still_turntable(self, key: str) -> str:
        """Path of a small neutral video for browsers without WebGL 2. Made at the first call, which takes seconds."""
        stored = self.store.get(key)
        path = stored.path("-turntable.mp4")
        with stored.baking:
            if not path.exists():
                stored.avatar.turntable(path, SMALL_VIDEO, fps=15, device=device_outside(self.pipeline.device))
        return str(path)

    def turntable(self, key: str, expression: Expression, seconds: float = 4.0, size: int = 512) -> str:
        """Path of a video that turns once around the head."""
        stored = self.store.get(key)
        path = stored.path(".mp4")
        work = functools.partial(_turntable, stored.avatar, path, size, seconds, expression)
        borrowed(work, GpuCosts.start + GpuCosts.frame * VIDEO_FPS * seconds, device=self.pipeline.device)
        return str(path)

    def drive(
        self,
        key: str,
        driver: str | Path,
        *,
        transfer: Transfer = "relative",
        head_motion: float = 1.0,
        side_by_side: bool = False,
        background: Color | None = (1.0, 1.0, 1.0),
        size: int = 512,
        progress: Progress | Tell | None = None,
    ) -> Reenactment:
        """Let an avatar move like `driver`: a video, a motion file or a clip's name; options as in `driving.drive`."""
        from flexavatar.driving import animate, driver_motion
        from flexavatar.motion import write_motion

        stored = self.store.get(key)
        stem = _new_folder(stored) / f"{stored.name}-{_file_stem(driver)}"
        video = stem.with_suffix(".webm" if background is None else ".mp4")
        motion, film = driver_motion(driver, progress=progress)
        work = functools.partial(
            animate, stored.avatar, motion, video, film, transfer=transfer, head_motion=head_motion,
            side_by_side=side_by_side, background=background, size=size,
        )  # fmt: skip
        driven = borrowed(work, GpuCosts.start + GpuCosts.frame * len(motion), progress, self.pipeline.device)
        write_motion(stem.with_suffix(".csv"), driven.motion)
        return Reenactment(str(video), str(stem.with_suffix(".csv")), driven.frames, driven.fps, driven.motion.warnings)

    def mixed_picture(
        self, keys: Sequence[str], weights: Sequence[float], expression: Expression, size: int = 512
    ) -> np.ndarray:
        """Picture uint8 [size, size, 3] of a mix of avatars; `weights` as in `interpolate`."""
        from flexavatar.driving.interpolation import interpolate

        avatar = interpolate(self._avatars(keys), weights)
        return avatar.render(expression, size=size, device=device_outside(self.pipeline.device))

    def mix(self, keys: Sequence[str], weights: Sequence[float]) -> str:
        """The id of a new avatar between others; `weights` as in `interpolate`."""
        from flexavatar.driving.interpolation import interpolate

        avatar = interpolate(self._avatars(keys), weights)
        name = "-".join(dict.fromkeys(self.store.get(key).name for key in keys))
        return self.store.put(StoredAvatar(avatar, _file_stem(f"mix-{name}")))

    def morph(
        self,
        keys: Sequence[str],
        expression: Expression,
        seconds: float = 3.0,
        turn: float = 0.0,
        size: int = 512,
        progress: Progress | Tell | None = None,
    ) -> str:
        """Path of a video from each avatar to the next, `seconds` for each step; `turn` degrees around the head."""
        from flexavatar.driving.interpolation import morph

        avatars = self._avatars(keys)
        path = _new_folder(self.store.get(keys[0])) / "morph.mp4"
        work = functools.partial(
            morph, path, avatars, seconds, fps=VIDEO_FPS, expressions=[expression] * len(avatars), turn=turn, size=size
        )
        frames = VIDEO_FPS * seconds * (len(avatars) - 1)
        borrowed(work, GpuCosts.start + GpuCosts.frame * frames, progress, self.pipeline.device)
        return str(path)

    def _pipeline(self, matte: str) -> FlexAvatarPipeline:
        """The pipeline that cuts people out by `matte`. One of them is kept besides the usual one: they are large."""
        if matte == "selfie":
            return self.pipeline
        latest, pipeline = self._cutting
        if latest != matte:
            pipeline = self.pipeline.with_matte(matte)
            self._cutting = (matte, pipeline)
        return pipeline

    def _avatars(self, keys: Sequence[str]) -> list[Avatar]:
        if len(keys) < 2:
            raise ValueError("Choose two or more avatars to mix.")
        return [self.store.get(key).avatar for key in keys]


def _turntable(avatar: Avatar, path: Path, size: int, seconds: float, expression: Expression, **where: Any) -> None:
    avatar.turntable(path, size, seconds, VIDEO_FPS, expression, device=where["device"])


def _bake(avatar: Avatar, **where: Any) -> BakedAvatar:
    from flexavatar.baking import bake

    return bake(avatar, "quick", where["device"])


def _capture_source(files: Sequence[str | Path]) -> list[str | Path] | str | Path:
    """The photos, or the one video."""
    from flexavatar.files import is_video

    if not files:
        raise ValueError("Add some photos or a video first.")
    videos = [file for file in files if is_video(file)]
    if not videos:
        return list(files)
    if len(files) > 1:
        raise ValueError("Give either photos or a single video, not both and not several videos.")
    return videos[0]


def _new_folder(stored: StoredAvatar) -> Path:
    """A folder of its own for a result, so that no other run overwrites what a visitor is looking at."""
    return Path(tempfile.mkdtemp(dir=stored.folder.name))


def _file_stem(path: str | Path) -> str:
    """A file name that every system takes, from the name of the upload."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", Path(path).stem).strip("-")[:40] or "avatar"
