"""From tracked views to an avatar; and several photos or a video in, an avatar out, with an account of how."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flexavatar import __version__
from flexavatar.avatar import Avatar
from flexavatar.io.videos import read_video_info
from flexavatar.model.pretrained import NetworkSource
from flexavatar.progress import Progress, Tell
from flexavatar.reconstruction.frames import CaptureSettings, estimate_seconds
from flexavatar.reconstruction.held_out import likeness_to
from flexavatar.reconstruction.network_avatar import (
    create_network_avatar,
    fit_seconds,
    fit_steps,
    gpu_seconds,
    observe,
)
from flexavatar.reconstruction.rig_avatar import create_rig_avatar
from flexavatar.reconstruction.views import NothingUsable, observe_photos, observe_video
from flexavatar.settings import Device, FaceChoice, Photo, Quality, torch_device
from flexavatar.tracking import FaceTracker, TrackedFace

log = logging.getLogger(__name__)

TRACKED, MERGED = 0.85, 0.95  # shares of a capture, less the fitting, that are done by then

# (work, seconds on a GPU, progress, device) -> what work(progress=, device=) makes
Compute = Callable[[Callable[..., Any], float, Progress, Device], Any]


def compute_here(work: Callable[..., Any], seconds: float, progress: Progress, device: Device) -> Any:
    """Call `work` in this process: the `Compute` where no GPU has to be borrowed."""
    return work(progress=progress, device=device)


@dataclass(frozen=True)
class Recipe:
    """The way from tracked views to an avatar, the same for one photo as for many views."""

    network: NetworkSource | None = None  # None: the rig avatar
    quality: Quality = "balanced"
    device: Device = "cpu"  # where the network computes its part; avatars always lie on the CPU
    compute: Compute = field(default=compute_here)

    @property
    def seconds(self) -> float:
        """Seconds that making a network's avatar of several views takes on 2 idle cores; 0 for the rig avatar."""
        return 0.0 if self.network is None else fit_seconds(self.quality, views=2)

    def make(
        self,
        views: Sequence[TrackedFace],
        base: int = 0,
        settings: Mapping[str, Any] | None = None,
        texture_views: int = 24,
        progress: Progress | None = None,
    ) -> Avatar:
        """The avatar of views that share one shape; it has the light of `views[base]`. `settings` go into its file.

        Raises ModelUnavailable or BadCheckpoint.
        """
        progress = progress or Progress()
        progress.tell("unwrapping" if len(views) == 1 else "merging views", 0.0)
        about = {"flexavatar": __version__, **(settings or {})}
        rig_avatar, photo = create_rig_avatar(views, base, texture_views, about, self.network is None)
        if self.network is None:
            return rig_avatar.with_thumbnail("cpu")
        steps = fit_steps(self.quality, len(views))
        observation = observe(views[base], rig_avatar, photo)
        work = functools.partial(create_network_avatar, self.network, rig_avatar, observation, list(views), base, steps)
        return self.compute(work, gpu_seconds(steps), progress.part(0.05, 1.0), self.device)


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
    progress: Progress | Tell | None = None,
    tracker: FaceTracker | None = None,
    face: FaceChoice = None,
    recipe: Recipe = Recipe(),
    measured_on: Device = "auto",
) -> Capture:
    """The avatar of the person in several photos, or in the video at a path.

    Photos are whatever `read_image` takes; `face` says which one in photos of several people, and a number whom to
    follow in a video, by default the largest. `recipe` makes the avatar of the tracked views, by default the rig
    avatar; it is measured on the device `measured_on`. When `progress` stops the work, the avatar is made of what is
    tracked by then.

    Raises NothingUsable (with each picture's reason), DifferentPeople, NoFaceFound, UnreadableVideo, or Cancelled
    when stopped before a face was seen.
    """
    start = time.perf_counter()
    if not isinstance(settings, CaptureSettings):
        settings = CaptureSettings.of(settings)
    is_video = isinstance(source, str | Path)
    if not is_video and not source:
        raise NothingUsable("No photos were given. Give one photo or more of the same person.", {})
    estimate = estimate_seconds(read_video_info(source) if is_video else len(source), settings)
    unfitted = estimate / (estimate + recipe.seconds)  # share of the work that is not fitting
    progress = Progress.of(progress)
    with nullcontext(tracker) if tracker is not None else FaceTracker() as active:
        seeing = progress.part(0, TRACKED * unfitted)
        if is_video:
            seen = observe_video(source, settings, active, seeing, face)
        else:
            seen = observe_photos(source, active, seeing, face)
    about = {
        "base": seen.used[seen.base].source,
        "used": [view.source for view in seen.used],
        "held_out": [view.source for view in seen.held_out],
        "dropped": seen.dropped,
    }
    faces = [view.face for view in seen.used]
    made_by = MERGED * unfitted + 1 - unfitted
    making = progress.part(TRACKED * unfitted, made_by)
    avatar = recipe.make(faces, seen.base, about, settings.texture_views, making)
    progress("measuring", made_by)
    psnr, ssim = None, None
    if seen.held_out:
        psnr, ssim = likeness_to(avatar.to(torch_device(measured_on)), [view.face for view in seen.held_out])
    progress("done", 1.0)
    seconds = time.perf_counter() - start
    log.info("captured %d views in %.1f s, PSNR %s", len(seen.used), seconds, psnr)
    return Capture(
        avatar,
        tuple(view.source for view in seen.used),
        tuple(view.source for view in seen.held_out),
        seen.dropped,
        psnr,
        ssim,
        seconds,
        progress.stopped,
    )
