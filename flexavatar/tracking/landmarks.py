"""Face detection and landmarks: MediaPipe's FaceLandmarker on the views of a photo where it can see the face.

Its detector expects a face between about a fifth and three quarters of the picture. Photos are not made
that way, so a photo without a result is looked at again with a margin (the face fills the frame) and in
overlapping tiles (the face is small in a large photo).
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from importlib import resources
from typing import Any

import cv2
import numpy as np

from flexavatar.expression import ARKIT_BLENDSHAPES
from flexavatar.tracking.crop import CROP_SIZE, cut, head_crop
from flexavatar.tracking.native_logs import quiet_native_logs


@dataclass(frozen=True)
class SearchParams:
    """Where a photo is searched for faces; shares are of its longest side."""

    view_size: int = 768  # pixels, longest side of what the detector is given; it works at 128 itself
    margins: tuple[float, ...] = (1.7, 2.8)  # windows of this share, for faces that fill the frame
    tiles: tuple[float, ...] = (2 / 3, 1 / 2, 1 / 4, 1 / 8, 1 / 16)  # shares
    smallest_tile: int = 160  # source pixels; a face that needs a smaller one is too small anyway
    comfortable: float = 0.22  # a face of this share is surely detected in the whole photo


@dataclass(frozen=True)
class Face:
    """One detected face, in pixels of the image it was detected in."""

    landmarks: np.ndarray  # [478, 3] float64; z in pixels too, negative towards the camera
    scores: np.ndarray  # [52] float32, 0..1, ARKit order

    @property
    def box(self) -> tuple[float, float, float, float]:
        """(left, top, right, bottom) of the landmarks."""
        low, high = self.landmarks[:, :2].min(0), self.landmarks[:, :2].max(0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])

    @property
    def area(self) -> float:
        """Of the box, in square pixels."""
        left, top, right, bottom = self.box
        return (right - left) * (bottom - top)

    def mapped(self, scale: float, offset: tuple[float, float]) -> Face:
        """The face in an image where pixel p is found at p * scale + offset."""
        return Face(self.landmarks * scale + np.array([*offset, 0.0]), self.scores)


def model_path(name: str) -> str:
    """Path of a bundled model."""
    return str(resources.files("flexavatar") / "assets" / "models" / name)


class FaceDetector:
    """Owns MediaPipe's FaceLandmarker, created at the first use. Safe to share between threads."""

    def __init__(self, params: SearchParams = SearchParams()) -> None:
        self._params = params
        self._lock = threading.Lock()
        self._landmarker: Any = None
        self._finalizer: weakref.finalize | None = None

    def close(self) -> None:
        """Free the network; a later call loads it again."""
        with self._lock:
            if self._finalizer is not None:
                self._finalizer()
            self._landmarker = None
            self._finalizer = None

    def detect(self, image: np.ndarray, thorough: bool = True) -> list[Face]:
        """Every face of `image` uint8 [H, W, 3] that can be found, largest first; see the module's text.

        Without `thorough` the small tiles are left out: a tenth of the time where there is no face.
        """
        side, params = max(image.shape[:2]), self._params
        faces = self._refined(image, self._found_in(image, _whole(image, 1.0)), keep=True)
        for margin in params.margins:
            if not faces:
                faces = self._refined(image, self._found_in(image, _whole(image, margin)), keep=True)
        shares = params.tiles if thorough else params.tiles[:2]
        sizes = [round(side * share) for share in shares if side * share >= params.smallest_tile]
        if sizes and faces and max(_side(f) for f in faces) < params.comfortable * side:
            # Its neighbours may just have been missed at this scale.
            faces = self._search_tiles(image, round(side / 2), faces)
        for size in sizes:
            if not faces:
                faces = self._search_tiles(image, size, faces)
        return sorted(faces, key=lambda f: -f.area)

    def detect_everyone(self, image: np.ndarray) -> list[Face]:
        """As `detect`, and the faces beside a larger one, down to about a third of its size; takes 0.3 s."""
        faces = self.detect(image)
        side = max(image.shape[:2])
        if faces:
            tile = round(max(2 * _side(faces[0]), side / 4))
            faces = self._search_tiles(image, tile, faces) if tile < side else faces
        return sorted(faces, key=lambda f: -f.area)

    def detect_once(self, image: np.ndarray) -> list[Face]:
        """The faces of one head crop or frame, without the search of `detect`, largest first."""
        return sorted(self._run(image), key=lambda f: -f.area)

    def _search_tiles(self, image: np.ndarray, size: int, known: list[Face]) -> list[Face]:
        found = [face for tile in _tiles(image, size) for face in self._found_in(image, tile)]
        return _distinct(known + self._refined(image, _distinct(found), keep=False))

    def _refined(self, image: np.ndarray, faces: list[Face], keep: bool) -> list[Face]:
        """Faces detected once more in their own head crop; those not found again stay only if `keep`."""
        refined = []
        for face in faces:
            crop = head_crop(face.landmarks)
            again = self._run(cut(image, crop)[0])
            again = [f.mapped(crop.size / CROP_SIZE, (crop.left, crop.top)) for f in again]
            # A second, tighter view, for faces that a wide one hides; a false find of a tile passes neither.
            again = [f for f in again or self._found_in(image, _around(face)) if same_face(f, face)]
            refined += again[:1] if again else [face] * keep
        return _distinct(refined)

    def _found_in(self, image: np.ndarray, window: tuple[int, int, int, int]) -> list[Face]:
        """Faces in a window (left, top, width, height) of the image, which may reach beyond it."""
        left, top, width, height = window
        x0, y0 = max(left, 0), max(top, 0)
        x1, y1 = min(left + width, image.shape[1]), min(top + height, image.shape[0])
        view = image[y0:y1, x0:x1]
        scale = min(1.0, self._params.view_size / max(width, height))
        if scale < 1:
            small = (max(1, round(view.shape[1] * scale)), max(1, round(view.shape[0] * scale)))
            view = cv2.resize(view, small, interpolation=cv2.INTER_AREA)
        margins = [round(m * scale) for m in (y0 - top, top + height - y1, x0 - left, left + width - x1)]
        if any(margins):
            view = cv2.copyMakeBorder(view, *margins, borderType=cv2.BORDER_CONSTANT, value=(255, 255, 255))
        return [face.mapped(1 / scale, (left, top)) for face in self._run(view)]

    def _run(self, image: np.ndarray) -> list[Face]:
        import mediapipe

        with self._lock, quiet_native_logs() if self._landmarker is None else nullcontext():
            if self._landmarker is None:
                self._landmarker = _create_landmarker()
                self._finalizer = weakref.finalize(self, self._landmarker.close)
            result = self._landmarker.detect(
                mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(image))
            )
        # MediaPipe normalises x and z by the width, y by the height.
        size = np.array([image.shape[1], image.shape[0], image.shape[1]], np.float64)
        faces = []
        for points, categories in zip(result.face_landmarks, result.face_blendshapes, strict=True):
            by_name = {c.category_name: c.score for c in categories}
            scores = np.array([by_name.get(name, 0.0) for name in ARKIT_BLENDSHAPES], np.float32)
            faces.append(Face(np.array([[p.x, p.y, p.z] for p in points]) * size, scores))
        return _distinct(faces)


def _create_landmarker() -> Any:
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.FaceLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=model_path("face_landmarker.task")),
        num_faces=8,
        output_face_blendshapes=True,
    )
    return vision.FaceLandmarker.create_from_options(options)


def _whole(image: np.ndarray, margin: float) -> tuple[int, int, int, int]:
    height, width = image.shape[:2]
    if margin == 1.0:
        return 0, 0, width, height
    side = round(max(height, width) * margin)
    return (width - side) // 2, (height - side) // 2, side, side


def _around(face: Face) -> tuple[int, int, int, int]:
    """The square window of twice the face's size."""
    left, top, right, bottom = face.box
    side = 2 * _side(face)
    return round((left + right - side) / 2), round((top + bottom - side) / 2), round(side), round(side)


def _tiles(image: np.ndarray, size: int) -> Iterator[tuple[int, int, int, int]]:
    """Square windows of one size that overlap by half and cover the image."""
    height, width = image.shape[:2]

    def starts(length: int) -> list[int]:
        if length <= size:
            return [(length - size) // 2]
        count = int(np.ceil((length - size) / (size / 2))) + 1
        return [round(s) for s in np.linspace(0, length - size, count)]

    for top in starts(height):
        for left in starts(width):
            yield left, top, size, size


def _side(face: Face) -> float:
    left, top, right, bottom = face.box
    return max(right - left, bottom - top)


def same_face(a: Face, b: Face) -> bool:
    """Whether two detections are one face: their boxes overlap by more than a third of the smaller one."""
    (l1, t1, r1, b1), (l2, t2, r2, b2) = a.box, b.box
    overlap = max(0.0, min(r1, r2) - max(l1, l2)) * max(0.0, min(b1, b2) - max(t1, t2))
    return overlap > min(a.area, b.area) / 3


def _distinct(faces: list[Face]) -> list[Face]:
    """The faces without repetitions; of several detections of one face the largest stays."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda f: -f.area):
        if not any(same_face(face, other) for other in kept):
            kept.append(face)
    return kept
