"""Driving an avatar: a motion in, a video out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flexavatar.driving.baked import playable
from flexavatar.driving.motion import Motion
from flexavatar.driving.pictures import WHITE, Color, beside, pictures
from flexavatar.driving.record import Cancel, Progress, motion_from_video
from flexavatar.driving.transfer import Transfer, transferred
from flexavatar.errors import Cancelled, CannotWrite
from flexavatar.videos import read_video_frames

if TYPE_CHECKING:
    from flexavatar.avatar import Avatar, Device
    from flexavatar.tracking import FaceTracker

_TRACKING_SHARE = 0.5  # of the time that tracking and rendering take together


@dataclass(frozen=True)
class Driven:
    """What was written."""

    path: Path
    motion: Motion  # of the driver, before the transfer to the avatar; `motion.warnings` are for the user
    fps: float
    stopped: bool = False  # `cancelled` ended it: path and motion end where it did

    @property
    def frames(self) -> int:
        return len(self.motion)


def drive(
    avatar: Avatar,
    driver: Motion | str | Path,
    path: str | Path,
    *,
    transfer: Transfer = "relative",
    head_motion: float = 1.0,
    smooth: bool | None = None,
    side_by_side: bool = False,
    background: Color | None = WHITE,
    size: int = 512,
    yaw: float = 0.0,
    sound: bool = True,
    face: int = 0,
    device: Device = "auto",
    tracker: FaceTracker | None = None,
    progress: Progress | None = None,
    cancelled: Cancel | None = None,
) -> Driven:
    """Write a video of `avatar` moving like `driver`: a Motion, a video, a motion file (.csv, .json) or a clip's name.

    `transfer` and `head_motion` as in `transferred`. `smooth` removes tracking jitter, by default from videos only.
    `side_by_side` shows the driver's video, scaled to the same height, to the left. `background` None makes a
    transparent .webm. `size` is the side of the avatar's square in pixels, `yaw` the camera's as in `Camera.orbit`.
    The frame rate is the driver's, and so is the sound, unless `sound` is false. Of several people in a video `face`
    is followed, as in `motion_from_video`.

    Memory does not grow with the length of the driver, apart from the numbers of its motion. Long motions are drawn
    from a baked avatar where that shows the same (`driving.baked.playable`). Once `cancelled` returns true, what has
    been drawn so far is kept as a video that ends there.

    Raises UnreadableVideo, NoFaceFound, BadMotionFile, CannotWrite, and Cancelled if nothing had been drawn yet.
    """
    from flexavatar.driving.files import is_video, read_driver
    from flexavatar.export import write_video

    suffix = Path(path).suffix.lower()
    if background is None and suffix != ".webm":
        raise CannotWrite(
            f"Cannot write {path}: only .webm can be transparent. Change the suffix, or give a background."
        )
    video = Path(driver) if not isinstance(driver, Motion) and is_video(driver) else None
    if side_by_side and video is None:
        raise ValueError("Only a video can be shown side by side with the avatar.")
    report = progress or (lambda stage, done: None)
    tracking = _TRACKING_SHARE if video is not None else 0.0
    if isinstance(driver, Motion):
        motion = driver
    elif video is not None:
        motion = motion_from_video(
            video, tracker, face=face, progress=lambda stage, done: report(stage, tracking * done), cancelled=cancelled
        )
    else:
        motion = read_driver(driver)
    smooth = video is not None if smooth is None else smooth
    moving = transferred(motion, avatar.rest, transfer, head_motion, smooth)
    drawn = 0

    def frames() -> Iterator[np.ndarray]:
        nonlocal drawn
        report("preparing the avatar", tracking)
        decoder = playable(avatar, moving, device)
        for frame in pictures(decoder, moving.expressions(), size, yaw, background, device):
            if cancelled is not None and cancelled():
                if not drawn:
                    raise Cancelled("Driving the avatar was cancelled before any of it was drawn.")
                return
            report("animating the avatar", tracking + (1 - tracking) * drawn / len(moving))
            yield frame
            drawn += 1

    shown: Iterable[np.ndarray] = frames()
    if side_by_side and video is not None:
        shown = beside(read_video_frames(video, motion.fps), shown, size)
    write_video(path, shown, motion.fps, video if sound else None)
    report("done", 1.0)
    stopped = drawn < len(motion)
    if stopped:
        text = f"Stopped after {drawn / motion.fps:.1f} of {motion.seconds:.1f} seconds."
        motion = replace(motion[:drawn], warnings=(*motion.warnings, text))
    return Driven(Path(path), motion, motion.fps, stopped)
