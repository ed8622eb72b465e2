"""State how fine the lines are that an avatar still shows: a chart of lines painted on the face of a photo.

For N line pairs per face width, across and along the face at once, the avatar of the painted photo is drawn in the
photo's own view. Modulation is the contrast that it has of the chart's, in phase with it, so that an avatar's own
pattern does not count. The resolving power is the N at which modulation falls to 0.2.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from flexavatar import FlexAvatarPipeline
from flexavatar.io.images import read_image
from flexavatar.reconstruction.held_out import draw_view
from flexavatar.settings import Quality
from flexavatar.tracking import FaceTracker, TrackedFace
from flexavatar.tracking.landmarks import Face, FaceDetector

RIGHT_SIDE, LEFT_SIDE = 234, 454  # MediaPipe's landmarks that a face is as wide as
WIDTH = 600  # pixels of the photo's face, at least: the chart itself must not limit
CONTRAST = 0.22  # amplitude of either direction's lines, around grey; RGB in 0..1
CENTRAL = 0.6  # of the face's outline, about its middle: where modulation is measured
SIZE = 2048  # pixels of the picture drawn: at 1024 the renderer's blur halves 90 line pairs
RESOLVED = 0.2  # modulation


@dataclass(frozen=True)
class Chart:
    """Where the face is in a picture: what its lines are painted and measured in."""

    landmarks: np.ndarray  # [478, 2] pixels

    @property
    def width(self) -> float:
        """Pixels."""
        return float(np.linalg.norm(self.landmarks[LEFT_SIDE] - self.landmarks[RIGHT_SIDE]))

    def lines(self, pairs: int, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Sines [H, W] of so many line pairs per face width, across the face and along it."""
        axis = (self.landmarks[LEFT_SIDE] - self.landmarks[RIGHT_SIDE]) / self.width
        y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
        x, y = x - self.landmarks[RIGHT_SIDE, 0], y - self.landmarks[RIGHT_SIDE, 1]
        turn = 2 * np.pi * pairs / self.width
        return np.sin(turn * (x * axis[0] + y * axis[1])), np.sin(turn * (y * axis[0] - x * axis[1]))

    def area(self, shape: tuple[int, int], share: float = 1.0) -> np.ndarray:
        """Bool [H, W], the face's outline shrunk to a share about its middle."""
        outline = cv2.convexHull(self.landmarks.astype(np.float32))[:, 0]
        outline = outline.mean(0) + share * (outline - outline.mean(0))
        return cv2.fillConvexPoly(np.zeros(shape, np.uint8), np.round(outline).astype(np.int32), 1) > 0


class KnownFaces(FaceDetector):
    """Finds in every picture the faces that were found in another one."""

    def __init__(self, faces: list[Face]) -> None:
        super().__init__()
        self.faces = faces

    def detect(self, image: np.ndarray, thorough: bool = True) -> list[Face]:
        return self.faces


class PaintedFace:
    """A photo, uint8 [H, W, 3], whose largest face can be painted without being tracked anew."""

    def __init__(self, photo: np.ndarray) -> None:
        self._tracker = FaceTracker()
        found = self._tracker.crop_face(photo, "largest").face
        scale = max(WIDTH / Chart(found.landmarks[:, :2]).width, 1.0)
        size = (round(photo.shape[1] * scale), round(photo.shape[0] * scale))
        self._photo = cv2.resize(photo, size, interpolation=cv2.INTER_CUBIC)
        self._face = found.mapped(scale, (0.0, 0.0))
        self._tracker._detector = KnownFaces([self._face])
        self._matte = self._tracker.track_image(self._photo).matte

    def tracked(self, pairs: int) -> TrackedFace:
        """The photo with the chart of so many line pairs per face width, tracked as if it were not there."""
        chart, shape = Chart(self._face.landmarks[:, :2]), self._photo.shape[:2]
        grey = 255 * (0.5 + CONTRAST * np.add(*chart.lines(pairs, shape)))
        painted = np.where(chart.area(shape)[..., None], grey[..., None].round().astype(np.uint8), self._photo)
        return replace(self._tracker.track_image(painted), matte=self._matte)


def modulation(pipeline: FlexAvatarPipeline, tracked: TrackedFace, pairs: int, quality: Quality) -> tuple[float, float]:
    """Contrast of the avatar's lines across the face and along it, as shares of the chart's."""
    picture = draw_view(pipeline.build(tracked, quality=quality), tracked, size=SIZE).mean(0).numpy()
    chart = Chart(tracked.landmarks * (SIZE / len(tracked.image)))
    inside = chart.area(picture.shape, CENTRAL)
    across, along = (
        float(np.cov(picture[inside], lines[inside])[0, 1] / lines[inside].var())
        for lines in chart.lines(pairs, picture.shape)
    )
    return across / CONTRAST, along / CONTRAST


def resolving_power(pairs: Sequence[int], modulations: Sequence[float]) -> str:
    """Line pairs per face width at which modulation first falls to RESOLVED, between two that were measured."""
    if modulations[0] <= RESOLVED:
        return f"< {pairs[0]}"
    for (n, high), (m, low) in zip(
        zip(pairs, modulations, strict=True), zip(pairs[1:], modulations[1:], strict=True), strict=False
    ):
        if low <= RESOLVED:
            return f"{n + (m - n) * (high - RESOLVED) / (high - low):.0f}"
    return f"> {pairs[-1]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path, nargs="?", default=Path("examples/astronaut.png"))
    parser.add_argument(
        "--quality", nargs="+", default=["instant", "fast", "balanced"], help="as of `flexavatar create`"
    )
    parser.add_argument("--pairs", type=int, nargs="+", default=[10, 20, 30, 40, 60, 80, 100], help="per face width")
    args = parser.parse_args()
    face = PaintedFace(read_image(args.photo))
    pairs = sorted(args.pairs)
    names = [f"{quality}, {direction}" for quality in args.quality for direction in ("across", "along")]
    print("| line pairs | " + " | ".join(names) + " |\n| --- |" + " ---: |" * len(names))
    table = []
    with FlexAvatarPipeline.from_pretrained() as pipeline:
        for count in pairs:
            tracked = face.tracked(count)
            table.append([value for q in args.quality for value in modulation(pipeline, tracked, count, q)])
            print(f"| {count} | " + " | ".join(f"{value:.2f}" for value in table[-1]) + " |", flush=True)
    powers = [resolving_power(pairs, column) for column in zip(*table, strict=True)]
    print("| resolving power | " + " | ".join(powers) + " |")


if __name__ == "__main__":
    main()
