"""The whole path from a photo to an avatar, as one object that the app, the CLI and scripts share."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from flexavatar.files import is_video
from flexavatar.progress import Progress, Tell

if TYPE_CHECKING:
    from flexavatar.avatar import Avatar
    from flexavatar.io.videos import VideoInfo
    from flexavatar.model.pretrained import NetworkSource
    from flexavatar.reconstruction import Capture, Recipe
    from flexavatar.reconstruction.capture import Compute
    from flexavatar.settings import Device, FaceChoice, Photo, Quality
    from flexavatar.tracking import FaceTracker, TrackedFace

log = logging.getLogger(__name__)

# Shares of `create` that are done when a photo is read, and when it is tracked, from timings on 2 CPU cores.
_READ, _TRACKED = 0.2, 0.5
_OF_FITTED = 0.1  # with a network, what comes before fitting is this share of what it is without
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
        self.compute: Compute | None = None  # where networks run; None: in this process
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
        from flexavatar.settings import resolve_device
        from flexavatar.tracking import FaceTracker

        target = resolve_device(device)
        if name == RIG:
            return cls(name, target, FaceTracker(matte))
        from flexavatar.model.pretrained import NetworkSource

        return cls(name, target, FaceTracker(matte), NetworkSource.of(name, revision))

    def with_matte(self, matte: str) -> FlexAvatarPipeline:
        """A pipeline like this one, but for what cuts people out; errors as of `from_pretrained`. Close it, too."""
        from flexavatar.tracking import FaceTracker

        other = copy.copy(self)
        other._tracker = FaceTracker(matte)
        return other

    @property
    def fits(self) -> bool:
        """Whether avatars are fitted to their photos, for as long as `quality` says; those of the rig are not."""
        return self._network is not None

    def create(
        self,
        source: Photo | list[Photo],
        face: FaceChoice = None,
        progress: Progress | Tell | None = None,
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
        if isinstance(source, list) or (isinstance(source, str | Path) and is_video(source)):
            return self.capture(source, quality, progress, face, device).avatar
        return self.build(self.track(source, face, progress), progress, quality, device)

    def capture(
        self,
        source: Sequence[Photo] | str | Path,
        quality: Quality = "balanced",
        progress: Progress | Tell | None = None,
        face: FaceChoice = None,
        device: Device | None = None,
        measured_on: Device | None = None,
    ) -> Capture:
        """The avatar of several photos or of a video, and how it came about; see `reconstruction.capture`.

        `measured_on` is the device that draws the held-out pictures, by default `device`.
        """
        from flexavatar.reconstruction import capture

        recipe = self.recipe(quality, device)
        return capture(source, quality, progress, self._tracker, face, recipe, measured_on or recipe.device)

    def estimate(self, source: int | VideoInfo, quality: Quality = "balanced") -> float:
        """Seconds that `capture` of so many photos, or of a video, takes on 2 idle cores."""
        from flexavatar.reconstruction import estimate_seconds

        return estimate_seconds(source, quality) + self.recipe(quality).seconds

    def recipe(self, quality: Quality = "balanced", device: Device | None = None) -> Recipe:
        """The `Recipe` by which this pipeline makes avatars of tracked views."""
        from flexavatar.reconstruction.capture import Recipe, compute_here

        return Recipe(self._network, quality, device or self.device, self.compute or compute_here)

    def track(self, photo: Photo, face: FaceChoice = None, progress: Progress | Tell | None = None) -> TrackedFace:
        """The first half of `create`: the cropped, cut out and tracked face; of a video that of its best frame."""
        from flexavatar.io.images import read_image
        from flexavatar.reconstruction import best_frame

        start = time.perf_counter()
        tracking = Progress.of(progress).part(0, self._tracked)
        if isinstance(photo, str | Path) and is_video(photo):
            found = best_frame(photo, self._tracker, tracking.part(0, _READ), face)
            tracked = self._tracker.track_crops([found], tracking.part(_READ, 1.0))[0]
        else:
            tracking("reading photo", 0.0)
            tracked = self._tracker.track_image(read_image(photo), face, tracking.part(_READ, 1.0))
        log.info("tracked a face in %.2f s, landmark error %.4f", time.perf_counter() - start, tracked.error)
        return tracked

    def build(
        self,
        tracked: TrackedFace,
        progress: Progress | Tell | None = None,
        quality: Quality = "balanced",
        device: Device | None = None,
    ) -> Avatar:
        """The second half of `create`: an avatar of a tracked face."""
        start = time.perf_counter()
        progress = Progress.of(progress)
        about = {"landmark_error": round(float(tracked.error), 5)}
        made = self.recipe(quality, device).make([tracked], 0, about, progress=progress.part(self._tracked, 1.0))
        log.info("built an avatar in %.2f s", time.perf_counter() - start)
        progress("done", 1.0)
        return made

    @property
    def _tracked(self) -> float:
        """Share of `create` that is done when a photo is tracked."""
        return _TRACKED * (1.0 if self._network is None else _OF_FITTED)

    def close(self) -> None:
        """Free the tracker's native objects; the avatars stay usable."""
        self._tracker.close()

    def __enter__(self) -> FlexAvatarPipeline:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
