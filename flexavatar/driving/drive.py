"""Driving an avatar: a motion in, a video out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flexavatar.driving.pictures import beside, pictures, playable
from flexavatar.errors import Cancelled, CannotWrite
from flexavatar.io.videos import read_video_frames
from flexavatar.motion.motion import Motion
from flexavatar.motion.record import Progress, motion_from_video
from flexavatar.motion.transfer import Transfer, transferred
from flexavatar.progress import Tell
from flexavatar.settings import WHITE, Color

if TYPE_CHECKING:
    from flexavatar.avatar import Avatar
    from flexavatar.settings import Device
    from flexavatar.tracking import FaceTracker

_TRACKING_SHARE = 0.5  # of the time that tracking and rendering take together


@dataclass(frozen=True)
class Driven:
    """A video that was written, and the motion in it."""

    path: Path
    motion: Motion  # of the driver, before the transfer to the avatar; `motion.warnings` are for the user
    fps: float
    stopped: bool = False  # the caller ended it: path and motion end where it did

    @property
    def frames(self) -> int:
        """Number of frames that were written."""
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
    progress: Progress | Tell | None = None,
) -> Driven:
    """Write a video of `avatar` moving like `driver`: a Motion, a video, a motion file (.csv, .json) or a clip's name.

    `transfer` and `head_motion` as in `transferred`. `smooth` removes tracking jitter, by default from videos only.
    `side_by_side` shows the driver's video, scaled to the same height, to the left. `background` None makes a
    transparent .webm. `size` is the side of the avatar's square in pixels, `yaw` the camera's as in `Camera.orbit`.
    The frame rate is the driver's, and so is the sound, unless `sound` is false; a sound that cannot be decoded costs
    nothing but itself, and `Driven.motion.warnings` says so. Of several people in a video `face`
    is followed, as in `motion_from_video`.

    Memory does not grow with the length of the driver, apart from the numbers of its motion. Long motions are drawn
    from a baked avatar where that shows the same (`driving.pictures.playable`). When `progress` stops the work, what
    has been drawn so far is kept as a video that ends there.

    Raises UnreadableVideo, NoFaceFound, BadMotionFile, CannotWrite, and Cancelled if nothing had been drawn yet.
    """
    from flexavatar.motion.files import is_video

    _check(path, background, side_by_side, not isinstance(driver, Motion) and is_video(driver))
    progress = Progress.of(progress)  # so that animating knows of a stop while tracking
    motion, film = driver_motion(driver, face, tracker, progress)
    return animate(
        avatar, motion, path, film, transfer=transfer, head_motion=head_motion, smooth=smooth,
        side_by_side=side_by_side, background=background, size=size, yaw=yaw, sound=sound,
        device=device, progress=progress,
    )  # fmt: skip


def driver_motion(
    driver: Motion | str | Path,
    face: int = 0,
    tracker: FaceTracker | None = None,
    progress: Progress | Tell | None = None,
) -> tuple[Motion, Path | None]:
    """The first half of `drive`: the driver's motion, and the video that it was tracked in, if any."""
    from flexavatar.motion.files import is_video, read_driver

    if isinstance(driver, Motion):
        return driver, None
    if not is_video(driver):
        return read_driver(driver), None
    tracking = Progress.of(progress).part(0, _TRACKING_SHARE)
    return motion_from_video(driver, tracker, face=face, progress=tracking), Path(driver)


def animate(
    avatar: Avatar,
    motion: Motion,
    path: str | Path,
    film: Path | None = None,
    *,
    transfer: Transfer = "relative",
    head_motion: float = 1.0,
    smooth: bool | None = None,
    side_by_side: bool = False,
    background: Color | None = WHITE,
    size: int = 512,
    yaw: float = 0.0,
    sound: bool = True,
    device: Device = "auto",
    progress: Progress | Tell | None = None,
) -> Driven:
    """The second half of `drive`: the video of an avatar with a motion, which may come from a `film`."""
    from flexavatar.io import write_video

    _check(path, background, side_by_side, film is not None)
    progress = Progress.of(progress)
    animating = progress.part(_TRACKING_SHARE if film is not None else 0.0, 1.0)
    smooth = film is not None if smooth is None else smooth
    moving = transferred(motion, avatar.neutral_blendshapes, transfer, head_motion, smooth)
    drawn = 0

    def frames() -> Iterator[np.ndarray]:
        nonlocal drawn
        animating.tell("preparing the avatar", 0.0)
        decoder = playable(avatar, moving, device)
        for frame in pictures(decoder, moving.expressions(), size, yaw, background, device):
            if not animating("animating the avatar", drawn / len(moving)):
                if not drawn:
                    raise Cancelled("Driving the avatar was cancelled before any of it was drawn.")
                return
            yield frame
            drawn += 1

    shown: Iterable[np.ndarray] = frames()
    if side_by_side and film is not None:
        shown = beside(read_video_frames(film, motion.fps), shown, size)
    motion = replace(
        motion, warnings=(*motion.warnings, *write_video(path, shown, motion.fps, film if sound else None))
    )
    progress.tell("done", 1.0)
    stopped = drawn < len(motion)
    if stopped:
        text = f"Stopped after {drawn / motion.fps:.1f} of {motion.seconds:.1f} seconds."
        motion = replace(motion[:drawn], warnings=(*motion.warnings, text))
    return Driven(Path(path), motion, motion.fps, stopped)


def _check(path: str | Path, background: Color | None, side_by_side: bool, is_film: bool) -> None:
    """Before a driver is tracked for minutes: whether its film can be written."""
    if background is None and Path(path).suffix.lower() != ".webm":
        raise CannotWrite(
            f"Cannot write {path}: only .webm can be transparent. Change the suffix, or give a background."
        )
    if side_by_side and not is_film:
        raise ValueError("Only a video can be shown side by side with the avatar.")
