"""Several photos or a video in, an avatar out, with an account of what it was made from."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flexavatar import __version__
from flexavatar.io.videos import read_video_info
from flexavatar.reconstruction.held_out import likeness_to
from flexavatar.reconstruction.progress import FITTING, Cancel, Progress, Reporter
from flexavatar.reconstruction.rig_avatar import create_capture_avatar
from flexavatar.reconstruction.settings import CaptureSettings, estimate_seconds
from flexavatar.reconstruction.views import NothingUsable, Observations, observe_photos, observe_video
from flexavatar.settings import Quality, torch_device

if TYPE_CHECKING:
    from flexavatar.avatar import Avatar
    from flexavatar.settings import Device, FaceChoice, Photo
    from flexavatar.tracking import FaceTracker

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Build:
    """A way of making the avatar of what was observed, other than the rig's."""

    make: Callable[[Observations, CaptureSettings, Callable[[float], object]], Avatar]  # it tells the share it has done
    seconds: float  # that it takes on 2 idle cores


@dataclass(frozen=True)
class Capture:
    """An avatar and how it came about."""

    avatar: Avatar
    used: tuple[str, ...]  # pictures it was made of
    held_out: tuple[str, ...]  # pictures it was measured with
    dropped: dict[str, str]  # pictures left out, and why
    psnr: float | None  # dB over the held-out mattes; None without held-out pictures
    ssim: float | None  # of the held-out crops
    seconds: float  # that the whole work took
    stopped: bool  # the caller stopped it early; this is the best that was there then


def capture(
    source: Sequence[Photo] | str | Path,
    settings: CaptureSettings | Quality = "balanced",
    progress: Progress | None = None,
    cancelled: Cancel | None = None,
    tracker: FaceTracker | None = None,
    face: FaceChoice = None,
    build: Build | None = None,
    device: Device = "auto",
) -> Capture:
    """The avatar of the person in several photos, or in the video at a path.

    Photos are whatever `read_image` takes; `face` says which one in photos of several people. `build` makes the
    avatar of the tracked views, by default the rig avatar; it is measured on `device`. `progress` hears of the stage,
    the share of the work that is done and the seconds that remain. When `cancelled` returns true, the avatar is made
    of what is tracked by then.

    Raises NothingUsable (with each picture's reason), DifferentPeople, NoFaceFound, UnreadableVideo, or Cancelled
    when stopped before a face was seen.
    """
    from flexavatar.tracking import FaceTracker

    if not isinstance(settings, CaptureSettings):
        settings = CaptureSettings.of(settings)
    is_video = isinstance(source, str | Path)
    if not is_video and not source:
        raise NothingUsable("No photos were given. Give one photo or more of the same person.", {})
    fitting = 0.0 if build is None else build.seconds
    estimate = estimate_seconds(read_video_info(source) if is_video else len(source), settings) + fitting
    report = Reporter(progress, cancelled, estimate, fitting)
    with nullcontext(tracker) if tracker is not None else FaceTracker() as active:
        if is_video:
            seen = observe_video(source, settings, active, report)
        else:
            seen = observe_photos(source, active, report, face)
    report("merging views")
    if build is None:
        avatar = rig_avatar(seen, settings)
    else:
        avatar = build.make(seen, settings, functools.partial(report, FITTING))
    report("measuring")
    psnr, ssim = None, None
    if seen.held_out:
        psnr, ssim = likeness_to(avatar.to(torch_device(device)), [view.face for view in seen.held_out])
    report("done")
    log.info("captured %d views in %.1f s, PSNR %s", len(seen.used), report.seconds, psnr)
    return Capture(
        avatar,
        tuple(view.source for view in seen.used),
        tuple(view.source for view in seen.held_out),
        seen.dropped,
        psnr,
        ssim,
        report.seconds,
        report.stopped,
    )


def rig_avatar(seen: Observations, settings: CaptureSettings, volume: bool = True) -> Avatar:
    """The rig avatar of what was observed; `volume` as of `create_capture_avatar`."""
    about = {
        "flexavatar": __version__,
        "base": seen.used[seen.base].source,
        "used": [view.source for view in seen.used],
        "held_out": [view.source for view in seen.held_out],
        "dropped": seen.dropped,
    }
    faces = [view.face for view in seen.used]
    return create_capture_avatar(faces, seen.base, settings.texture_views, about, volume)
