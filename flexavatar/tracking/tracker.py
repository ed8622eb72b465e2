"""The tracker: owns the networks and turns pictures into `TrackedFace` values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from flexavatar.camera import Camera
from flexavatar.errors import FaceTooSmall, NoFaceFound, SeveralFacesFound
from flexavatar.expression import Expression
from flexavatar.progress import Progress
from flexavatar.rig import Rig
from flexavatar.settings import FaceChoice
from flexavatar.tracking.crop import (
    CROP_SIZE,
    HeadCrop,
    close_crop,
    close_resolution,
    cut,
    head_crop,
    steady_crop,
)
from flexavatar.tracking.fit import LandmarkFit, LandmarkModel, fit_landmarks
from flexavatar.tracking.joint import fit_person
from flexavatar.tracking.landmarks import Face, FaceDetector, same_face
from flexavatar.tracking.matte import PersonMatting

MIN_FACE_SIZE = 40  # pixels of the source photo, chin to forehead
CROP = (CROP_SIZE, CROP_SIZE)
# Part of the names of caches of tracked photos: raise it when crops, mattes or fits change in a way that who reads the
# caches should see. 2: a second opinion on mattes.
TRACKING_VERSION = 2

FACE_ERRORS = (NoFaceFound, SeveralFacesFound, FaceTooSmall)  # what a photo can be unusable for

Choose = Callable[[np.ndarray, list[Face]], Face | None]  # of the faces in a frame uint8 [H, W, 3], largest first


@dataclass(frozen=True)
class FollowParams:
    """When a face is searched for in the frames of a video; numbers of frames."""

    search_every: int = 25  # without the face, between two searches of the whole picture for a small one
    everyone_every: int = 100  # between two searches for everyone else in the picture, of who is told apart
    jump: float = 0.05  # of the size of the head's crop, from one frame to the next: a cut


@dataclass(frozen=True)
class CloseUp:
    """The face alone, where the photo has more pixels of it than the head's crop."""

    image: np.ndarray  # uint8 [R, R, 3], as photographed
    known: np.ndarray  # float32 [R, R] 1 where it shows the photo
    camera: Camera  # of an R x R image


@dataclass(frozen=True)
class TrackedFace:
    """A head in a photo: its crop, matte, and the rig that fits it.

    `camera` sees the canonical head as the crop shows it (OpenCV, field of view 20 degrees).
    """

    image: np.ndarray  # uint8 [S, S, 3], white outside the photo; along the outline the person's colours alone
    matte: np.ndarray  # float32 [S, S] 0..1, the person
    crop: tuple[float, float, float]  # left, top, size in source pixels
    landmarks: np.ndarray  # [478, 2] crop pixels, as detected
    scores: Tensor  # [52] MediaPipe's blendshape scores
    shape: Tensor  # [K] standard deviations of the rig's shape space
    blendshapes: Tensor  # [52] 0..1, fitted
    head_rotation: Tensor  # [3, 3] identity when the head looks straight into the camera
    camera: Camera
    error: float  # median landmark distance / face height
    known: np.ndarray | None = None  # float32 [S, S] 1 where the crop shows the photo, 0 beyond its border; None: 1
    close: CloseUp | None = None

    def expression(self) -> Expression:
        """The fitted expression."""
        return Expression(self.blendshapes, self.head_rotation)


class FaceTracker:
    """Tracks heads in photos and videos. Networks load at the first use; safe to share between threads."""

    def __init__(self, matte: str = "selfie", following: FollowParams = FollowParams()) -> None:
        """`matte` names what cuts people out, with the names and errors of `PersonMatting`."""
        self._detector = FaceDetector()
        self._matting = PersonMatting(matte)
        self._following = following

    def __enter__(self) -> FaceTracker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the networks; a later call loads them again."""
        self._detector.close()
        self._matting.close()

    @cached_property
    def model(self) -> LandmarkModel:
        """The rig's landmarks, loaded at the first use."""
        return LandmarkModel.of(Rig.load())

    def track_image(self, image: np.ndarray, face: FaceChoice = None, progress: Progress | None = None) -> TrackedFace:
        """Track the head in a photo, uint8 [H, W, 3], upright.

        With several faces, `face` picks one by its index in `SeveralFacesFound.boxes` (0 is the largest) or
        says "largest".

        Raises NoFaceFound, SeveralFacesFound or FaceTooSmall.
        """
        report = progress or Progress()
        report("finding the face", 0.0)
        found = self.crop_face(image, face)
        report("cutting out", 0.25)
        cut_out = self._cut_out(found)
        report("tracking", 0.5)
        fit = fit_landmarks(
            self.model, torch.from_numpy(found.landmarks)[None], torch.from_numpy(found.face.scores)[None], CROP
        )
        return _tracked(found, *cut_out, fit)

    def crop_face(self, image: np.ndarray, face: FaceChoice = None) -> FaceCrop:
        """The face in a photo, uint8 [H, W, 3], before the fit; parameters and errors as of `track_image`."""
        chosen = _choose(self._detector.detect(image), face)
        left, top, right, bottom = chosen.box
        if max(right - left, bottom - top) < MIN_FACE_SIZE:
            raise FaceTooSmall(
                f"The face is only {round(right - left)} x {round(bottom - top)} pixels; at least {MIN_FACE_SIZE} are "
                "needed. Use a larger photo, or one taken from nearer."
            )
        return FaceCrop.at(image, head_crop(chosen.landmarks), chosen)

    def track_crops(
        self, crops: Sequence[FaceCrop], progress: Progress | None = None, shape: Tensor | None = None
    ) -> list[TrackedFace]:
        """Faces of *one person*, with one shape that all of them share; cut out, each with its camera and expression.

        A `shape` [K] that is known, as an avatar's, is kept. When `progress` stops the work, the faces that are not
        cut out yet are left out. Raises ValueError for no crops.
        """
        people: list[tuple[np.ndarray, np.ndarray]] = []
        for found in crops:
            people.append(self._cut_out(found))
            if progress is not None and not progress("cutting out", len(people) / len(crops)):
                break
        done = crops[: len(people)]
        landmarks = torch.from_numpy(np.stack([found.landmarks for found in done]))
        scores = torch.from_numpy(np.stack([found.face.scores for found in done]))
        fit = fit_person(self.model, landmarks, scores, CROP, shape)
        return [_tracked(found, *person, fit[[i]]) for i, (found, person) in enumerate(zip(done, people, strict=True))]

    def follow(self, frames: Iterable[np.ndarray], choose: Choose | None = None) -> Iterator[FaceCrop | None]:
        """One person frame by frame, None where they are not seen; the whole picture is searched only for who is lost.

        `choose` decides whom to follow, by default the largest face: it is given a frame with the faces found there,
        largest first, and returns one of them or None. It is asked whenever the person has to be found, and with the
        followed face among others every 25 frames and after a jump, to judge whether this is still the same
        person.
        """
        found: FaceCrop | None = None
        params, lost = self._following, 0  # frames since the face was last seen
        for number, frame in enumerate(frames):
            before, found = found, self._near(frame, found) if found is not None else None
            due = number % params.search_every == 0
            doubted = before is not None and found is not None and (due or _jumped(before, found, params.jump))
            if choose is not None and found is not None and doubted:
                found = self._reconsidered(frame, found, number % params.everyone_every == 0, choose)
            found = found or self._found(frame, lost % params.search_every == 0, choose)
            lost = 0 if found is not None else lost + 1
            yield found

    def _near(self, frame: np.ndarray, previous: FaceCrop) -> FaceCrop | None:
        """The face nearest to where one was in the frame before."""
        crop = previous.crop
        pixels, known = cut(frame, crop)
        near = self._detector.detect_once(pixels)
        if not near:
            return None
        middle = crop.to_crop(previous.face.landmarks[:, :2]).mean(0)
        face = min(near, key=lambda f: float(np.linalg.norm(f.landmarks[:, :2].mean(0) - middle)))
        face = face.mapped(crop.size / CROP_SIZE, (crop.left, crop.top))
        wanted = steady_crop(crop, face.landmarks)
        return FaceCrop(crop, face, pixels, known) if wanted == crop else FaceCrop(wanted, face, *cut(frame, wanted))

    def _reconsidered(self, frame: np.ndarray, found: FaceCrop, everyone: bool, choose: Choose) -> FaceCrop | None:
        """The same face, or another one of the frame if `choose` prefers it, or None if it wants neither."""
        around = self._detector.detect_everyone(frame) if everyone else self._detector.detect_once(frame)
        others = [face for face in around if not same_face(face, found.face)]
        chosen = choose(frame, sorted([found.face, *others], key=lambda f: -f.area))
        return found if chosen is found.face else _cropped(frame, chosen)

    def _found(self, frame: np.ndarray, thorough: bool, choose: Choose | None) -> FaceCrop | None:
        """The face that `choose` takes of those in the whole picture."""
        if choose is None:
            return _cropped(frame, next(iter(self._detector.detect(frame, thorough)), None))
        faces = self._detector.detect_everyone(frame) if thorough else self._detector.detect(frame, False)
        return _cropped(frame, choose(frame, faces) if faces else None)

    def _cut_out(self, found: FaceCrop) -> tuple[np.ndarray, np.ndarray]:
        return self._matting.cut_out(found.pixels, found.known, found.landmarks)


@dataclass(frozen=True)
class FaceCrop:
    """A face in a picture, before the fit."""

    crop: HeadCrop
    face: Face  # in source pixels
    pixels: np.ndarray  # uint8 [S, S, 3] of the crop
    known: np.ndarray  # float32 [S, S], 1 where the crop shows the picture
    close: tuple[HeadCrop, np.ndarray, np.ndarray] | None = None  # crop, pixels and known of the face alone

    @staticmethod
    def at(image: np.ndarray, crop: HeadCrop, face: Face) -> FaceCrop:
        """The face cut out, with a close-up where the picture uint8 [H, W, 3] has more pixels than the crop."""
        close = close_crop(face.landmarks)
        resolution = close_resolution(close, crop)
        near = None if resolution is None else (close, *cut(image, close, resolution))
        return FaceCrop(crop, face, *cut(image, crop), near)

    @property
    def landmarks(self) -> np.ndarray:
        """[478, 2] crop pixels."""
        return self.crop.to_crop(self.face.landmarks[:, :2])


def _choose(faces: list[Face], face: FaceChoice) -> Face:
    if not faces:
        raise NoFaceFound(
            "No face was found. Use a photo that shows one face from the front, well lit and not covered."
        )
    if face == "largest":
        return faces[0]
    if isinstance(face, int):
        if not 0 <= face < len(faces):
            raise NoFaceFound(f"There is no face number {face}; the photo shows {len(faces)}, counted from 0.")
        return faces[face]
    rivals = [f for f in faces if f.area >= 0.25 * faces[0].area]  # smaller ones are in the background
    if len(rivals) > 1:
        raise SeveralFacesFound(
            f"The photo shows {len(rivals)} faces. Choose one of them, or crop the photo to one person.",
            [f.box for f in rivals],
        )
    return faces[0]


def _cropped(image: np.ndarray, face: Face | None) -> FaceCrop | None:
    if face is None:
        return None
    crop = head_crop(face.landmarks)
    return FaceCrop(crop, face, *cut(image, crop))


def _jumped(before: FaceCrop, after: FaceCrop, limit: float) -> bool:
    """Whether a face moves farther from one frame to the next than heads do, as it does where a film is cut."""
    apart = np.abs(before.face.landmarks[:, :2] - after.face.landmarks[:, :2]).mean()
    return float(apart) > limit * before.crop.size


def _tracked(found: FaceCrop, image: np.ndarray, matte: np.ndarray, fit: LandmarkFit) -> TrackedFace:
    camera = fit.camera(CROP_SIZE, CROP_SIZE)[0]
    return TrackedFace(
        image=image,
        matte=matte,
        known=found.known,
        crop=(float(found.crop.left), float(found.crop.top), float(found.crop.size)),
        landmarks=found.landmarks,
        scores=torch.from_numpy(found.face.scores),
        shape=fit.shape[0].float(),
        blendshapes=fit.blendshapes[0].float(),
        head_rotation=fit.head_rotation[0].float(),
        camera=camera,
        error=float(fit.error[0]),
        close=_close_up(found, camera),
    )


def _close_up(found: FaceCrop, camera: Camera) -> CloseUp | None:
    """`camera` is the crop's."""
    if found.close is None:
        return None
    close, image, known = found.close
    resolution = len(image)
    scale = found.crop.size / CROP_SIZE * resolution / close.size
    moved = camera.intrinsics.new_tensor([found.crop.left - close.left, found.crop.top - close.top])
    lens = camera.intrinsics.clone()
    lens[:2] *= scale
    lens[:2, 2] += moved * (resolution / close.size)
    return CloseUp(image, known, Camera(camera.world_to_camera, lens, resolution, resolution))
