"""Recording motion: from a tracked sequence, or straight from a video with bounded memory."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from flexavatar.camera import FIELD_OF_VIEW, intrinsics
from flexavatar.errors import Cancelled, NoFaceFound
from flexavatar.expression import ARKIT_BLENDSHAPES, BLINKS
from flexavatar.io.videos import read_video_frames, read_video_info
from flexavatar.motion.motion import Motion
from flexavatar.motion.repair import bridged
from flexavatar.progress import Progress, Tell
from flexavatar.tracking.crop import CROP_SIZE, HeadCrop
from flexavatar.tracking.fit import LandmarkFit, fit_landmarks
from flexavatar.tracking.people import Followed
from flexavatar.tracking.tracker import CROP, FaceCrop

if TYPE_CHECKING:
    from flexavatar.tracking import FaceTracker, TrackedFace

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RecordingParams:
    """How the rig is fitted to the frames of a video."""

    shape_seconds: float = 10.0  # from the first seconds with a face comes the shape that all frames share
    shape_frames: int = 24  # of them
    iterations: int = 5  # of the fit of a frame, which starts from the frame before


def motion_from_tracked(tracked: Sequence[TrackedFace | None], fps: float) -> Motion:
    """The motion of frames that were tracked one by one; None where the face was lost.

    Raises NoFaceFound if it is lost everywhere.
    """
    faces = [face for face in tracked if face is not None]
    if not faces:
        raise NoFaceFound("No frame shows a face. Use a clip in which the face is seen from the front.")
    seen = torch.tensor([face is not None for face in tracked])
    shapes, turns = torch.zeros(len(tracked), len(ARKIT_BLENDSHAPES)), torch.eye(3).repeat(len(tracked), 1, 1)
    shapes[seen] = torch.stack([_with_closed_lids(face.blendshapes, face.scores) for face in faces]).clamp(0, 1)
    turns[seen] = torch.stack([face.head_rotation for face in faces])
    return bridged(shapes, turns, seen, fps)


def motion_from_video(
    path: str | Path,
    tracker: FaceTracker | None = None,
    fps: float | None = None,
    face: int = 0,
    progress: Progress | Tell | None = None,
    params: RecordingParams = RecordingParams(),
) -> Motion:
    """The motion of one person of a video, at its own frame rate (at most 60) or at `fps`.

    Where the file's own rate varies, frames are taken by their time stamps. Frames are tracked as they are decoded, so
    the length of the video does not matter. Of several people `face` is followed, counted from 0, the largest, in the
    first frame with a face; where only others are seen the face counts as lost. `Motion.warnings` says so.

    Raises UnreadableVideo, NoFaceFound if no frame shows a face, and Cancelled.
    """
    from flexavatar.tracking import FaceTracker

    if tracker is None:
        with FaceTracker() as own:
            return motion_from_video(path, own, fps, face, progress, params)
    fps = fps or driver_fps(path)
    total = max(read_video_info(path).duration * fps, 1)
    progress = Progress.of(progress)
    person = Followed(face)

    def watched() -> Iterator[np.ndarray]:
        for number, frame in enumerate(read_video_frames(path, fps)):
            if not progress("tracking the driver", number / total):
                raise Cancelled("Tracking the driver was cancelled.")
            yield frame

    motion = _fitted(tracker, map(_observe, tracker.follow(watched(), person)), fps, params)
    if person.people > 1:
        which = "The one with the largest face" if face == 0 else f"Face number {face}"
        text = f"The video shows {person.people} people. {which} in the first frame is followed."
        log.warning("%s: %s", path, text)
        motion = replace(motion, warnings=(text, *motion.warnings))
    return motion


def driver_fps(path: str | Path) -> float:
    """The steady rate at which a driving video is read, 1 / s. Raises UnreadableVideo."""
    fps = read_video_info(path).fps
    if fps <= 0 or fps > 240:  # none, or that of a clock: browsers' recordings say 1000
        return 30.0
    return min(fps, 60.0)


@dataclass(frozen=True)
class _Observed:
    """What the fit needs of one frame."""

    crop: HeadCrop
    points: Tensor  # [1, 478, 2] crop pixels
    scores: Tensor  # [1, 52]


def _observe(found: FaceCrop | None) -> _Observed | None:
    if found is None:
        return None
    return _Observed(found.crop, torch.from_numpy(found.landmarks)[None], torch.from_numpy(found.face.scores)[None])


def _fitted(
    tracker: FaceTracker, observations: Iterator[_Observed | None], fps: float, params: RecordingParams
) -> Motion:
    """The rig fitted to every frame: one shape for all, each fit started from the one before.

    Nothing is smoothed, which `motion.smooth` does later without lag, and of a frame only expression and pose are kept.
    """
    model, steps = tracker.model, params.iterations
    first: list[_Observed | None] = []
    for each in observations:
        first.append(each)
        if len(first) >= params.shape_seconds * fps and any(first):
            break
    found = [each for each in first if each is not None]
    if not found:
        raise NoFaceFound("No frame of the video shows a face. Use a clip in which the face is seen from the front.")
    chosen = [found[i] for i in np.unique(np.linspace(0, len(found) - 1, params.shape_frames).round().astype(int))]
    points = torch.cat([each.points for each in chosen])
    scores = torch.cat([each.scores for each in chosen])
    shape = fit_landmarks(model, points, scores, CROP, shape="shared").shape[:1]

    shapes: list[Tensor] = []
    turns: list[Tensor] = []
    seen: list[bool] = []
    fit: LandmarkFit | None = None
    crop: HeadCrop | None = None
    for each in chain(first, observations):
        seen.append(each is not None)
        if each is None:
            fit = None
            shapes.append(torch.zeros(len(ARKIT_BLENDSHAPES)))
            turns.append(torch.eye(3))
            continue
        if fit is None or crop is None:
            start = replace(fit_landmarks(model, each.points, each.scores, CROP), shape=shape)
        else:
            start = replace(fit, translation=_recropped(fit.translation, crop, each.crop))
        fit = fit_landmarks(model, each.points, each.scores, CROP, shape="fixed", init=start, iterations=steps)
        crop = each.crop
        shapes.append(_with_closed_lids(fit.blendshapes[0].float(), each.scores[0]))
        turns.append(fit.head_rotation[0].float())
    return bridged(torch.stack(shapes), torch.stack(turns), torch.tensor(seen), fps)


def _recropped(translation: Tensor, old: HeadCrop, new: HeadCrop) -> Tensor:
    """Translations [B, 3] that place a head in the crop `new` where the source picture has it by `old`."""
    focal = float(intrinsics(FIELD_OF_VIEW, *CROP)[0, 0])
    middle = new.to_crop(np.array([old.left, old.top]) + old.size / 2)  # of the old crop, in the new one
    shift = torch.from_numpy((middle - CROP_SIZE / 2) / focal).to(translation)
    depth = translation[:, 2:] * (new.size / old.size)
    return torch.cat([translation[:, :2] + shift * depth, depth], -1)


def _with_closed_lids(blendshapes: Tensor, scores: Tensor) -> Tensor:
    """Fitted blendshapes [52] with the lids as far down as MediaPipe's scores [52] say.

    Landmarks of closed lids lie above the real lash line, so that the fit leaves a gap where the score sees a blink.
    """
    result = blendshapes.clone()
    result[BLINKS] = torch.maximum(result[BLINKS], scores[BLINKS].to(result))
    return result
