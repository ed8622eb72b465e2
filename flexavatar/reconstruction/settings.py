"""How much work a capture may be, and how long that takes."""

from __future__ import annotations

from dataclasses import dataclass

from flexavatar.io.videos import VideoInfo
from flexavatar.settings import Quality


@dataclass(frozen=True)
class CaptureSettings:
    """A preset is a value of this; `of` gives it by name."""

    frames: int = 60  # of a video, at most 900; with those held out
    looked_at: int = 600  # frames of a video that frames are chosen from
    texture_views: int = 24  # views that the texture is merged from

    @staticmethod
    def of(quality: Quality) -> CaptureSettings:
        """Raises ValueError for an unknown quality."""
        if quality not in PRESETS:
            raise ValueError(f"There is no quality {quality!r}. Choose one of: {', '.join(PRESETS)}.")
        return PRESETS[quality]


PRESETS: dict[Quality, CaptureSettings] = {
    "instant": CaptureSettings(frames=16, looked_at=150, texture_views=8),  # as fast; a network's avatar is not fitted
    "fast": CaptureSettings(frames=16, looked_at=150, texture_views=8),
    "balanced": CaptureSettings(),
    "best": CaptureSettings(frames=240, looked_at=1500, texture_views=48),
}

# Measured as CPU seconds of one thread, models loaded: 2 and 8 photos of 512 px, and a clip of 150 frames of 640 x 480
# with "fast" and "balanced" (7.2 and 14.2 s in all, before cutting out took 0.2 s a picture). Other sizes are
# extrapolated; START_SECONDS is a guess.
START_SECONDS = 1.5  # models load
PICTURE_SECONDS = 0.32  # per picture: find the face, compare it, cut it out (0.2 of it), fit the rig
DECODE_SECONDS = 8e-9  # per pixel of the clip
LOOK_SECONDS = 0.017  # per frame that is looked at
VIEW_SECONDS = 0.13  # per view of the texture, 0.03 of it for the volume
MEASURE_SECONDS = 0.06  # per held-out frame
BUILD_SECONDS = 0.8


def estimate_seconds(source: int | VideoInfo, settings: CaptureSettings | Quality = "balanced") -> float:
    """Seconds that a capture of so many photos, or of a video, takes on 2 idle cores; longer on a busy machine."""
    if not isinstance(settings, CaptureSettings):
        settings = CaptureSettings.of(settings)
    if isinstance(source, int):
        count, looking = source, 0.0
    else:
        total = source.duration * source.fps
        looked_at = min(settings.looked_at, total)
        count = int(min(settings.frames, looked_at))
        looking = 2 * total * source.width * source.height * DECODE_SECONDS + looked_at * LOOK_SECONDS
    texture = min(count, settings.texture_views) * VIEW_SECONDS
    held_out = 0 if isinstance(source, int) else count / 8
    return START_SECONDS + looking + count * PICTURE_SECONDS + texture + held_out * MEASURE_SECONDS + BUILD_SECONDS
