"""Driving an avatar: a motion in, a video out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

from flexavatar.driving.motion import Motion
from flexavatar.driving.record import Cancel, Progress, motion_from_video
from flexavatar.driving.transfer import Transfer, transferred
from flexavatar.errors import Cancelled, CannotWrite
from flexavatar.videos import read_video_frames

if TYPE_CHECKING:
    from flexavatar.avatar import Avatar, Device
    from flexavatar.tracking import FaceTracker

Color = tuple[float, float, float]  # RGB 0..1
WHITE: Color = (1.0, 1.0, 1.0)
_TRACKING_SHARE = 0.6  # of the time that tracking and rendering take together


@dataclass(frozen=True)
class Driven:
    """What was written."""

    path: Path
    motion: Motion  # of the driver, before the transfer to the avatar; `motion.warnings` are for the user
    fps: float

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
    device: Device = "auto",
    tracker: FaceTracker | None = None,
    progress: Progress | None = None,
    cancelled: Cancel | None = None,
) -> Driven:
    """Write a video of `avatar` moving like `driver`: a Motion, a video, a motion file (.csv, .json) or a clip's name.

    `transfer` and `head_motion` as in `transferred`. `smooth` removes tracking jitter, by default from videos only.
    `side_by_side` shows the driver's video, scaled to the same height, to the left. `background` None makes a
    transparent .webm. `size` is the side of the avatar's square in pixels, `yaw` the camera's as in `Camera.orbit`.
    The frame rate is the driver's, and so is the sound, unless `sound` is false.

    Memory does not grow with the length of the driver, apart from the numbers of its motion.

    Raises UnreadableVideo, NoFaceFound, BadMotionFile, CannotWrite, and Cancelled once `cancelled` returns true, after
    which no file is left.
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
            video, tracker, progress=lambda stage, done: report(stage, tracking * done), cancelled=cancelled
        )
    else:
        motion = read_driver(driver)
    smooth = video is not None if smooth is None else smooth
    moving = transferred(motion, avatar.rest, transfer, head_motion, smooth)

    def frames() -> Iterator[np.ndarray]:
        for number, frame in enumerate(avatar_frames(avatar, moving, size, yaw, background, device)):
            if cancelled is not None and cancelled():
                raise Cancelled("Driving the avatar was cancelled.")
            report("animating the avatar", tracking + (1 - tracking) * number / len(moving))
            yield frame

    pictures: Iterable[np.ndarray] = frames()
    if side_by_side and video is not None:
        pictures = beside(read_video_frames(video, motion.fps), pictures, size)
    write_video(path, pictures, motion.fps, video if sound else None)
    report("done", 1.0)
    return Driven(Path(path), motion, motion.fps)


def avatar_frames(
    avatar: Avatar, motion: Motion, size: int, yaw: float, background: Color | None, device: Device
) -> Iterator[np.ndarray]:
    """A picture of the avatar for every frame of a motion made for it: uint8 [size, size, 3], or 4 without background.

    One at a time: the renderer gains nothing from batches, and memory stays small.
    """
    from flexavatar.avatar import head_motion, torch_device
    from flexavatar.camera import Camera
    from flexavatar.render import render

    target = torch_device(device)
    camera = Camera.orbit(yaw, 0, size)
    for expression in motion.expressions():
        if background is not None:
            yield avatar.render(expression, camera=camera, background=background, device=device)
            continue
        seen_from = camera.moved(head_motion(expression.head_rotation)).to(target)
        with torch.inference_mode():
            picture = render(avatar.gaussians(expression).to(target), seen_from, (0.0, 0.0, 0.0))
            color = picture.rgb / picture.alpha.clamp_min(1e-3)  # over black: premultiplied
            layers = torch.cat([color, picture.alpha]).clamp(0, 1)
        yield (layers * 255 + 0.5).to(torch.uint8).permute(1, 2, 0).cpu().numpy()


def beside(left: Iterable[np.ndarray], right: Iterable[np.ndarray], height: int) -> Iterator[np.ndarray]:
    """Frames of `left` uint8 [H, W, 3], scaled to `height`, beside those of `right` [height, W, 3 or 4].

    As many as `right` has; a `left` that ends earlier repeats its last frame.
    """
    source = iter(left)
    shown: np.ndarray | None = None
    for picture in right:
        frame = next(source, None)
        if frame is not None:
            width = max(round(frame.shape[1] * height / frame.shape[0]), 1)
            method = cv2.INTER_AREA if height < frame.shape[0] else cv2.INTER_CUBIC
            shown = cv2.resize(frame, (width, height), interpolation=method)
            if picture.shape[2] == 4:
                shown = np.dstack([shown, np.full(shown.shape[:2], 255, np.uint8)])
        assert shown is not None
        yield np.concatenate([shown, picture], axis=1)
