"""The whole path from a photo to an avatar, as one object that the app, the CLI and scripts share."""

from __future__ import annotations

import copy
import functools
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from flexavatar import __version__
from flexavatar.settings import Device, FaceChoice, Photo, resolve_device

if TYPE_CHECKING:
    from flexavatar.avatar import Avatar
    from flexavatar.io.videos import VideoInfo
    from flexavatar.model.source import NetworkSource
    from flexavatar.reconstruction import Capture, CaptureSettings, Observations
    from flexavatar.reconstruction.capture import Build
    from flexavatar.reconstruction.progress import Progress as CaptureProgress
    from flexavatar.settings import Quality
    from flexavatar.tracking import FaceTracker, TrackedFace


# Share of the work that is done when a stage starts, from timings on 2 CPU cores.
_DONE_BEFORE = {
    "reading photo": 0.0,
    "finding the face": 0.1,
    "cutting out": 0.2,
    "tracking": 0.3,
    "unwrapping": 0.5,
}
SEVERAL = 2  # views, or more
_BEFORE_FITTING = 0.1  # with a network: share of the work that the stages above are

log = logging.getLogger(__name__)

Progress = Callable[[str, float], None]  # (name of the stage that starts now, share of the work that is done, 0..1)
# (work, seconds on a GPU, progress, cancelled, device) -> what work(progress=, cancelled=, device=) makes
Compute = Callable[..., Any]

VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".webm", ".mkv", ".avi", ".mpg", ".mpeg", ".3gp", ".ogv", ".wmv")
RIG = "rig"  # the model without a network: the morphable head, textured by unwrapping the photo
DEFAULT_MODEL = "flex-s2"  # comes with this package, as does flex-s, which earlier avatars were made with


class FlexAvatarPipeline:
    """Makes avatars from photos. Build one with `from_pretrained`; it may be used from several threads."""

    def __init__(
        self,
        model: str,
        device: Literal["cpu", "cuda"],
        tracker: FaceTracker,
        network: NetworkSource | None = None,
    ) -> None:
        self.model = model
        self.device: Device = device
        self.compute: Compute = _compute  # where networks run
        self._tracker = tracker
        self._network = network

    @classmethod
    def from_pretrained(
        cls,
        name: str = DEFAULT_MODEL,
        device: Device = "auto",
        revision: str | None = None,
        matte: str = "selfie",
    ) -> FlexAvatarPipeline:
        """The pipeline of the model `name`: "rig", or what `flexavatar.model.pretrained.from_pretrained` takes.

        `device` is where networks encode, fit and decode; "auto" takes a CUDA GPU where there is one. `matte` cuts
        people out: "selfie", or "rembg:" and the name of a model that rembg downloads. Raises ModelUnavailable for a
        model that cannot be had, BadCheckpoint for a damaged one, RendererUnavailable for "cuda" without a CUDA GPU,
        and ValueError for no name of a matte.
        """
        from flexavatar.tracking import FaceTracker

        target = resolve_device(device)
        if name == RIG:
            return cls(name, target, FaceTracker(matte))
        from flexavatar.model.source import NetworkSource

        return cls(name, target, FaceTracker(matte), NetworkSource.of(name, revision))

    def with_matte(self, matte: str) -> FlexAvatarPipeline:
        """A pipeline like this one, but for what cuts people out; errors as of `from_pretrained`. Close it, too."""
        from flexavatar.tracking import FaceTracker

        other = copy.copy(self)
        other._tracker = FaceTracker(matte)
        return other

    @property
    def fits(self) -> bool:
        """Whether a `quality` says for how long an avatar is fitted; the rig's avatars are not."""
        return self._network is not None

    def create(
        self,
        source: Photo | list[Photo],
        face: FaceChoice = None,
        progress: Progress | None = None,
        quality: Quality = "balanced",
        device: Device | None = None,
    ) -> Avatar:
        """The avatar of the person in a photo, in several photos, or in a video.

        A photo is a path, the bytes of an image file, a uint8 array [H, W, 3] or a PIL image; a video is a path. With
        several faces in a photo, `face` says which one: an index into the boxes of SeveralFacesFound (0 is the
        largest), or "largest". `progress` is called on this thread when a stage starts, and at last with
        ("done", 1.0). `quality` decides how long a network's avatar is fitted, and how many frames of a video are
        used; `capture` also tells what was made of several photos or a video. `device` is where the network computes
        its part, by default the pipeline's; the avatar always lies on the CPU.

        Raises UnreadableImage, NoFaceFound, FaceTooSmall or SeveralFacesFound; for several photos and videos, what
        `capture` raises.
        """
        report = progress or _ignore
        if isinstance(source, list) or (isinstance(source, str | Path) and is_video(source)):
            told = self.capture(source, quality, lambda stage, share, left: report(stage, share), None, face, device)
            report("done", 1.0)
            return told.avatar
        return self.build(self.track(source, face, progress), progress, quality, device)

    def capture(
        self,
        source: Sequence[Photo] | str | Path,
        quality: Quality = "balanced",
        progress: CaptureProgress | None = None,
        cancelled: Callable[[], bool] | None = None,
        face: FaceChoice = None,
        device: Device | None = None,
        measured_on: Device | None = None,
    ) -> Capture:
        """The avatar of several photos or of a video, and how it came about; see `flexavatar.reconstruction.capture`.

        `measured_on` is the device that draws the held-out pictures, by default `device`.
        """
        from flexavatar.reconstruction import capture

        device = device or self.device
        build = None if self._network is None else self._network_build(self._network, quality, cancelled, device)
        return capture(source, quality, progress, cancelled, self._tracker, face, build, measured_on or device)

    def estimate(self, source: int | VideoInfo, quality: Quality = "balanced") -> float:
        """Seconds that `capture` of so many photos, or of a video, takes on 2 idle cores."""
        from flexavatar.reconstruction import estimate_seconds
        from flexavatar.reconstruction.network_avatar import fit_seconds

        views = source if isinstance(source, int) else SEVERAL
        return estimate_seconds(source, quality) + (0.0 if self._network is None else fit_seconds(quality, views))

    def _network_build(
        self, network: NetworkSource, quality: Quality, cancelled: Callable[[], bool] | None, device: Device
    ) -> Build:
        from flexavatar.reconstruction.capture import Build, rig_avatar
        from flexavatar.reconstruction.network_avatar import create_network_avatar, fit_seconds, fit_steps, gpu_seconds

        def make(seen: Observations, settings: CaptureSettings, report: Callable[[float], object]) -> Avatar:
            faces = [view.face for view in seen.used]
            made = rig_avatar(seen, settings, volume=False)
            steps = fit_steps(quality, len(faces))
            work = functools.partial(create_network_avatar, network, made, faces, seen.base, steps)
            return self.compute(work, gpu_seconds(steps), progress=report, cancelled=cancelled, device=device)

        return Build(make, fit_seconds(quality, SEVERAL))

    def track(self, photo: Photo, face: FaceChoice = None, progress: Progress | None = None) -> TrackedFace:
        """The first half of `create`: the cropped, cut out and tracked face."""
        from flexavatar.io.images import read_image

        report = progress or _ignore
        start = time.perf_counter()
        report("reading photo", 0.0)
        image = read_image(photo)
        tracked = self._tracker.track_image(image, face, lambda stage: report(stage, self._done_before(stage)))
        log.info("tracked a face in %.2f s, landmark error %.4f", time.perf_counter() - start, tracked.error)
        return tracked

    def build(
        self,
        tracked: TrackedFace,
        progress: Progress | None = None,
        quality: Quality = "balanced",
        device: Device | None = None,
    ) -> Avatar:
        """The second half of `create`: an avatar of a tracked face."""
        from flexavatar.reconstruction.rig_avatar import create_rig_avatar

        report = progress or _ignore
        start = time.perf_counter()
        report("unwrapping", self._done_before("unwrapping"))
        settings = {"flexavatar": __version__, "landmark_error": round(float(tracked.error), 5)}
        avatar = create_rig_avatar(tracked, settings, volume=self._network is None)
        if self._network is not None:
            from flexavatar.reconstruction.network_avatar import create_network_avatar, fit_steps, gpu_seconds

            steps = fit_steps(quality, 1)
            avatar = self.compute(
                functools.partial(create_network_avatar, self._network, avatar, [tracked], steps=steps),
                gpu_seconds(steps),
                progress=lambda share: report("fitting", _BEFORE_FITTING + (1 - _BEFORE_FITTING) * share),
                device=device or self.device,
            )
        log.info("built an avatar in %.2f s", time.perf_counter() - start)
        report("done", 1.0)
        return avatar

    def _done_before(self, stage: str) -> float:
        return _DONE_BEFORE[stage] * (1.0 if self._network is None else _BEFORE_FITTING)

    def close(self) -> None:
        """Free the tracker's native objects; the avatars stay usable."""
        self._tracker.close()

    def __enter__(self) -> FlexAvatarPipeline:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def is_video(path: str | Path) -> bool:
    """Whether a path is that of a video, by its suffix."""
    return Path(path).suffix.lower() in VIDEO_SUFFIXES


def _compute(
    work: Callable[..., Any],
    seconds: float,
    progress: Callable[..., object] | None = None,
    cancelled: Callable[[], bool] | None = None,
    device: Device = "auto",
) -> Any:
    return work(progress=progress, cancelled=cancelled, device=device)


def _ignore(stage: str, fraction: float) -> None:
    pass
