"""From photos or a video to tracked views of one person, with a reason for everything that is left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flexavatar.errors import Cancelled, FlexAvatarError, NoFaceFound, UnreadableImage
from flexavatar.io.videos import VideoInfo, read_video_frames, read_video_info
from flexavatar.progress import Progress
from flexavatar.reconstruction.frames import CaptureSettings, FrameNote, choose_frames, note_frame
from flexavatar.reconstruction.rig_avatar import best_base
from flexavatar.settings import FaceChoice
from flexavatar.tracking import FaceTracker, TrackedFace
from flexavatar.tracking.people import Followed, strangers
from flexavatar.tracking.tracker import FACE_ERRORS, FaceCrop

if TYPE_CHECKING:
    from flexavatar.settings import Photo

FEW, CLOSER = 6, 8  # frames with a face that are too few to choose from; times as many frames that are looked at then
WATCHED, COLLECTED, COMPARED = 0.53, 0.7, 0.76  # shares of the work until views are tracked


class NothingUsable(FlexAvatarError):
    """No picture can be used; `reasons` says why, for each."""

    def __init__(self, message: str, reasons: dict[str, str]) -> None:
        super().__init__(message)
        self.reasons = reasons


@dataclass(frozen=True)
class View:
    """A face that was seen, and in which picture."""

    source: str  # "photo 2 (side.jpg)" or "frame 125 (5.0 s)"
    face: TrackedFace


@dataclass(frozen=True)
class Observations:
    """Views of one person; all of them share one shape."""

    used: tuple[View, ...]
    held_out: tuple[View, ...]
    base: int  # index into `used` of the view to start from
    dropped: dict[str, str]  # source: reason


def observe_photos(
    photos: Sequence[Photo], tracker: FaceTracker, progress: Progress, face: FaceChoice = None
) -> Observations:
    """Views of the person in several photos. Raises NothingUsable, DifferentPeople, Cancelled."""
    from flexavatar.io.images import read_image

    crops: dict[str, FaceCrop] = {}
    dropped: dict[str, str] = {}
    prints: dict[bytes, str] = {}
    for i, photo in enumerate(photos):
        source = f"photo {i + 1} ({Path(photo).name})" if isinstance(photo, str | Path) else f"photo {i + 1}"
        try:
            found = tracker.crop_face(read_image(photo), face)
        except (UnreadableImage, *FACE_ERRORS) as error:
            dropped[source] = str(error)
        else:
            pixels = found.pixels.tobytes()
            if pixels in prints:
                dropped[source] = f"the same picture as {prints[pixels]}"
            else:
                prints[pixels] = source
                crops[source] = found
        if not progress("finding faces", COLLECTED * (i + 1) / len(photos)):
            break
    held_out = list(crops)[4::8] if len(crops) >= 10 else []  # of fewer photos the avatar needs all
    return _tracked(crops, held_out, dropped, tracker, progress)


def observe_video(
    path: str | Path, settings: CaptureSettings, tracker: FaceTracker, progress: Progress, face: FaceChoice = None
) -> Observations:
    """Views of one person of a clip; the clip is read twice so that memory stays bounded.

    A number `face` says whom, as of `tracking.people.Followed`; by default it is the largest face.

    Raises UnreadableVideo, NoFaceFound, DifferentPeople, Cancelled.
    """
    info = read_video_info(path)
    rate = _rate(info, settings)
    watched = _watched(path, info, rate, tracker, progress.part(0, WATCHED), face)
    rate, notes, missing = watched.rate, watched.notes, watched.missing
    # Whoever stops wants a result soon.
    frames = min(settings.frames, 8) if progress.stopped else settings.frames
    choice = choose_frames(notes, tracker.model, frames)
    name = lambda i: f"frame {round(notes[i].index * info.fps / rate)} ({notes[i].index / rate:.1f} s)"  # noqa: E731
    dropped = {name(i): reason for i, reason in choice.dropped.items()}
    if missing:
        dropped[f"{missing} frames"] = "no face found"
    if choice.base < 0:
        raise _nothing(dropped)
    noted = {notes[i].index: notes[i] for i in (*choice.used, *choice.held_out)}
    names = {notes[i].index: name(i) for i in (*choice.used, *choice.held_out)}
    crops = _collected(read_video_frames(path, rate), noted, names, progress)
    # The base first, the held-out ones last: if the work is stopped, the most useful ones are done.
    held_out = [name(i) for i in choice.held_out if name(i) in crops]
    first = [name(choice.base)] if name(choice.base) in crops else []
    order = dict.fromkeys([*first, *(n for n in crops if n not in held_out), *held_out])
    return _tracked({n: crops[n] for n in order}, held_out, dropped, tracker, progress)


def best_frame(path: str | Path, tracker: FaceTracker, progress: Progress, face: FaceChoice = None) -> FaceCrop:
    """The face of a person in the frame of a clip that shows them best; parameters as of `observe_video`.

    Raises UnreadableVideo, NoFaceFound, NothingUsable, Cancelled.
    """
    info = read_video_info(path)
    rate = _rate(info, CaptureSettings.of("instant"))
    watched = _watched(path, info, rate, tracker, progress, face)
    rate, notes = watched.rate, watched.notes
    choice = choose_frames(notes, tracker.model, 1)
    if choice.base < 0:
        raise _nothing({f"{notes[i].index / rate:.1f} s": reason for i, reason in choice.dropped.items()})
    note = notes[choice.base]
    frame = next(frame for index, frame in enumerate(read_video_frames(path, rate)) if index == note.index)
    return FaceCrop.at(frame, note.crop, note.face)


@dataclass(frozen=True)
class _Watched:
    """What was seen of a person in a clip."""

    rate: float  # frames a second that were looked at
    notes: list[FrameNote]  # of the frames with the face
    missing: int  # frames without it


def _watched(
    path: str | Path, info: VideoInfo, rate: float, tracker: FaceTracker, progress: Progress, face: FaceChoice
) -> _Watched:
    """Look at a clip at `rate`, and once more, closer, if the face is there for moments only. Errors as above."""
    seen = _look(path, info, rate, tracker, progress.part(0, 0.5), face)
    usual = _usual_rate(info)
    if len(seen.notes) < FEW and rate < usual and not progress.stopped:
        closer = _look(path, info, min(CLOSER * rate, usual), tracker, progress.part(0.5, 1), face)
        seen = closer if len(closer.notes) > len(seen.notes) else seen
    if seen.notes:
        return seen
    if progress.stopped:
        raise Cancelled("The capture was stopped before a face was seen.")
    raise NoFaceFound(
        f"None of the {seen.missing} frames of the video that were looked at shows a face. Use a clip in which the "
        "face is seen from the front, well lit."
    )


def _look(
    path: str | Path, info: VideoInfo, rate: float, tracker: FaceTracker, progress: Progress, face: FaceChoice
) -> _Watched:
    notes: list[FrameNote] = []
    count, expected = 0, max(info.duration * rate, 1.0)
    followed = Followed(face) if isinstance(face, int) else None
    for index, found in enumerate(tracker.follow(read_video_frames(path, rate), followed)):
        count = index + 1
        if found is not None:
            notes.append(note_frame(index, found))
        if not progress("watching the video", min(count / expected, 1.0)):
            break
    return _Watched(rate, notes, count - len(notes))


def _rate(info: VideoInfo, settings: CaptureSettings) -> float:
    """Frames a second to look at."""
    usual = _usual_rate(info)
    return usual if not info.duration else min(usual, settings.looked_at / info.duration)


def _usual_rate(info: VideoInfo) -> float:
    # Browsers' recordings say 1000: that is their clock, not their rate.
    return info.fps if 0 < info.fps <= 60 else 30.0


def _collected(
    frames: Iterator[np.ndarray], notes: dict[int, FrameNote], names: dict[int, str], progress: Progress
) -> dict[str, FaceCrop]:
    """The faces of the noted frames, from a second reading of the clip."""
    crops: dict[str, FaceCrop] = {}
    last = max(notes)
    stopped_before = progress.stopped
    told = progress.unstoppable() if stopped_before else progress
    for index, frame in enumerate(frames):
        if index in notes:
            note = notes[index]
            crops[names[index]] = FaceCrop.at(frame, note.crop, note.face)
        share = WATCHED + (COLLECTED - WATCHED) * index / (last + 1)
        if index >= last or not (told("collecting frames", share) or not crops):
            break
    return crops


def _tracked(
    crops: dict[str, FaceCrop],
    held_out: Sequence[str],
    dropped: dict[str, str],
    tracker: FaceTracker,
    progress: Progress,
) -> Observations:
    """Compare the people, fit the rig to all views together and drop those it does not fit."""
    if not crops:
        raise _nothing(dropped)
    # Whoever stopped before wants what there is.
    going = progress.unstoppable() if progress.stopped else progress
    going("comparing people", COLLECTED)
    names = list(crops)
    for i, likeness in strangers(list(crops.values())).items():
        dropped[names[i]] = f"shows another person (similarity {likeness:.2f})"
    names = [name for name in names if name not in dropped]

    faces = tracker.track_crops([crops[name] for name in names], going.part(COMPARED, 1.0))
    views = [View(name, face) for name, face in zip(names, faces, strict=False)]
    best = min(view.face.error for view in views)
    for view in views:
        if view.face.error > max(0.05, best):  # landmark distance / face height: it would do more harm than good
            dropped[view.source] = f"the head does not fit its landmarks (error {view.face.error:.3f})"
    views = [view for view in views if view.source not in dropped]
    used = tuple(view for view in views if view.source not in held_out) or tuple(views)
    kept = tuple(view for view in views if view not in used)
    return Observations(used, kept, best_base([view.face for view in used]), dropped)


def _nothing(dropped: dict[str, str]) -> NothingUsable:
    reasons = "\n".join(f"- {source}: {reason}" for source, reason in dropped.items())
    return NothingUsable(f"None of the pictures can be used:\n{reasons}", dropped)
