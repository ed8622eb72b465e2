"""How many frames of a clip an avatar is made of, which those are, and how long that takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from flexavatar.expression import BLENDSHAPE_INDEX
from flexavatar.io.videos import VideoInfo
from flexavatar.settings import Quality
from flexavatar.tracking.crop import HeadCrop
from flexavatar.tracking.fit import LandmarkModel, affine_start
from flexavatar.tracking.landmarks import Face
from flexavatar.tracking.tracker import CROP, MIN_FACE_SIZE, FaceCrop


@dataclass(frozen=True)
class FrameParams:
    """Which frames of a clip are chosen, held out and left out."""

    max_frames: int = 900
    held_out_every: int = 8
    min_held_out: int = 2
    blurred: float = 0.35  # of the clip's median sharpness
    tracked_badly: float = 2.0  # times the clip's median distance of the landmarks from the rig ...
    tracked_well: float = 0.035  # ... but never below this share of the face height
    far_turned: float = 80.0  # degrees from which landmarks are guesses
    repeated: float = 0.02  # distance, in the space that frames are spread over, of frames that show the same
    pose_unit: float = 30.0  # degrees of head rotation that count as much as one full blendshape
    closed_eyes: float = 0.45  # score of a blink


@dataclass(frozen=True)
class CaptureCosts:
    """Seconds of one thread's CPU that captures take.

    Measured, models loaded: 2 and 8 photos of 512 px, and a clip of 150 frames of 640 x 480 with "fast" and "balanced"
    (7.2 and 14.2 s in all, before cutting out took 0.2 s a picture). Other sizes are extrapolated; `start` is a guess.
    """

    start: float = 1.5  # models load
    picture: float = 0.32  # per picture: find the face, compare it, cut it out (0.2 of it), fit the rig
    decode: float = 8e-9  # per pixel of the clip
    frame: float = 0.017  # per frame that is looked at
    view: float = 0.13  # per view of the texture, 0.03 of it for the hair displacement
    held_out: float = 0.06  # per held-out frame
    build: float = 0.8


@dataclass(frozen=True)
class FrameNote:
    """Position, landmarks and sharpness of the face in one frame, without its pixels."""

    index: int  # of the frame
    crop: HeadCrop
    face: Face  # in source pixels
    sharpness: float  # variance of the Laplacian of the face box, scaled to one size

    @property
    def landmarks(self) -> np.ndarray:
        """[478, 2] crop pixels."""
        return self.crop.to_crop(self.face.landmarks[:, :2])

    @property
    def scores(self) -> np.ndarray:
        """[52] blendshape scores."""
        return self.face.scores

    @property
    def face_size(self) -> float:
        """Longer side of the face's box, source pixels."""
        left, top, right, bottom = self.face.box
        return max(right - left, bottom - top)


@dataclass(frozen=True)
class FrameChoice:
    """Indices into the notes that `choose_frames` was given."""

    base: int  # the frame to start from: frontal, sharp, neutral, open eyes
    used: tuple[int, ...]  # in order, with the base
    held_out: tuple[int, ...]  # chosen likewise, but kept for measuring
    dropped: dict[int, str]  # reasons


def note_frame(index: int, found: FaceCrop) -> FrameNote:
    """The note of the face `found` in frame `index` of a video."""
    return FrameNote(index, found.crop, found.face, sharpness(found.pixels, found.landmarks))


def sharpness(image: np.ndarray, landmarks: np.ndarray) -> float:
    """Variance of the Laplacian of the box of landmarks [478, 2] in an image uint8 [H, W, 3], scaled to 192 pixels."""
    low = np.floor(landmarks.min(0)).astype(int).clip(0, np.array(image.shape[1::-1]) - 2)
    high = np.ceil(landmarks.max(0)).astype(int).clip(low + 2, image.shape[1::-1])
    face = image[low[1] : high[1], low[0] : high[0]]
    grey = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY)
    grey = cv2.resize(grey, (192, 192), interpolation=cv2.INTER_AREA).astype(np.float32)
    # Bright faces are no sharper ones.
    return float(cv2.Laplacian(grey / max(float(grey.mean()), 1.0), cv2.CV_32F).var())


def choose_frames(
    notes: Sequence[FrameNote], model: LandmarkModel, count: int = 60, params: FrameParams = FrameParams()
) -> FrameChoice:
    """Up to `count` (at most 900) of the frames, spread over head pose and blendshapes by farthest-point sampling.

    Every eighth of them, at least two if four others remain, is held out. Raises ValueError for no notes.
    """
    if not notes:
        raise ValueError("There are no frames to choose from.")
    start = affine_start(
        model,
        torch.from_numpy(np.stack([n.landmarks for n in notes])),
        torch.from_numpy(np.stack([n.scores for n in notes])),
        CROP,
    )
    yaw, pitch = head_angles(start.head_rotation)
    dropped = _unusable(notes, start.error.numpy(), yaw, params)
    usable = [i for i in range(len(notes)) if i not in dropped]
    if not usable:
        return FrameChoice(-1, (), (), dropped)
    base = min(usable, key=lambda i: base_cost(notes[i].scores, yaw[i], pitch[i], notes[i].sharpness, params))
    places = np.stack([np.r_[np.array([yaw[i], pitch[i]]) / params.pose_unit, notes[i].scores] for i in usable])
    picked, repeated = _farthest(places, usable.index(base), min(count, params.max_frames), params.repeated)
    dropped |= {usable[i]: "shows what a chosen frame shows" for i in repeated}
    order = sorted(usable[i] for i in picked)
    held_out = _held_out(order, base, params)
    used = tuple(i for i in order if i not in held_out)
    return FrameChoice(base, used, held_out, dropped)


def base_cost(
    scores: np.ndarray, yaw: float, pitch: float, sharp: float = 1.0, params: FrameParams = FrameParams()
) -> float:
    """Cost of starting from a frame: it grows with head turns, expressions, closed eyes and blur."""
    blink = max(scores[BLENDSHAPE_INDEX["eyeBlinkLeft"]], scores[BLENDSHAPE_INDEX["eyeBlinkRight"]])
    turned = np.hypot(yaw, pitch) / params.pose_unit
    closed = blink > params.closed_eyes
    return float(turned + 0.3 * np.abs(scores).sum() / 4 + 3.0 * closed - 0.3 * np.log(max(sharp, 1e-4)))


def head_angles(rotation: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Yaw and pitch [N] in degrees, signs as in `rotation_from_angles`, of head rotations [N, 3, 3]."""
    forward = rotation[..., :, 2]
    yaw = torch.rad2deg(torch.atan2(forward[..., 0], forward[..., 2]))
    pitch = torch.rad2deg(torch.asin((-forward[..., 1]).clamp(-1, 1)))
    return yaw.numpy(), pitch.numpy()


def _unusable(notes: Sequence[FrameNote], errors: np.ndarray, yaw: np.ndarray, params: FrameParams) -> dict[int, str]:
    sharp = np.median([n.sharpness for n in notes])
    limit = max(params.tracked_badly * float(np.median(errors)), params.tracked_well)
    reasons = {}
    for i, note in enumerate(notes):
        if note.face_size < MIN_FACE_SIZE:
            reasons[i] = "face too small"
        elif abs(yaw[i]) > params.far_turned:
            reasons[i] = "face turned away too far"
        elif errors[i] > limit:
            reasons[i] = "landmarks do not fit a head"
        elif note.sharpness < params.blurred * sharp:
            reasons[i] = "blurred"
    return reasons


def _farthest(places: np.ndarray, first: int, count: int, repeated: float) -> tuple[list[int], list[int]]:
    """Farthest-point sampling of places [N, D] from `first` on; and those left out because they repeat a chosen one."""
    distance = np.linalg.norm(places - places[first], axis=1)
    picked = [first]
    while len(picked) < min(count, len(places)):
        nearest = int(distance.argmax())
        if distance[nearest] < repeated:
            break
        picked.append(nearest)
        distance = np.minimum(distance, np.linalg.norm(places - places[nearest], axis=1))
    taken = set(picked)
    return picked, [i for i in range(len(places)) if i not in taken and distance[i] < repeated]


def _held_out(order: list[int], base: int, params: FrameParams) -> tuple[int, ...]:
    candidates = [i for i in order if i != base]
    wanted = max(len(order) // params.held_out_every, params.min_held_out)
    if len(order) < params.min_held_out + 4:
        return ()
    return tuple(candidates[i] for i in np.linspace(0, len(candidates) - 1, wanted + 2).round().astype(int)[1:-1])


@dataclass(frozen=True)
class CaptureSettings:
    """How many frames and views a capture uses; `of` gives the preset of a quality."""

    frames: int = 60  # of a video, at most 900; with those held out
    looked_at: int = 600  # frames of a video that frames are chosen from
    texture_views: int = 24  # views that the texture is merged from

    @staticmethod
    def of(quality: Quality) -> CaptureSettings:
        """The preset of a quality. Raises ValueError for an unknown one."""
        if quality not in PRESETS:
            raise ValueError(f"There is no quality {quality!r}. Choose one of: {', '.join(PRESETS)}.")
        return PRESETS[quality]


PRESETS: dict[Quality, CaptureSettings] = {
    "instant": CaptureSettings(frames=16, looked_at=150, texture_views=8),  # as fast; a network's avatar is not fitted
    "fast": CaptureSettings(frames=16, looked_at=150, texture_views=8),
    "balanced": CaptureSettings(),
    "best": CaptureSettings(frames=240, looked_at=1500, texture_views=48),
}


def estimate_seconds(
    source: int | VideoInfo, settings: CaptureSettings | Quality = "balanced", costs: CaptureCosts = CaptureCosts()
) -> float:
    """Seconds that a capture of so many photos, or of a video, takes on 2 idle cores; longer on a busy machine."""
    if not isinstance(settings, CaptureSettings):
        settings = CaptureSettings.of(settings)
    if isinstance(source, int):
        count, looking = source, 0.0
    else:
        total = source.duration * source.fps
        looked_at = min(settings.looked_at, total)
        count = int(min(settings.frames, looked_at))
        looking = 2 * total * source.width * source.height * costs.decode + looked_at * costs.frame
    texture = min(count, settings.texture_views) * costs.view
    held_out = 0 if isinstance(source, int) else count / 8
    return costs.start + looking + count * costs.picture + texture + held_out * costs.held_out + costs.build
