"""Draw a contact sheet: each row a photo, its avatar from six sides, and three expressions.

With `--close`, also a sheet of close-ups of each photo: its name with "_close.png", beside OUTPUT.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from flexavatar import Avatar, Expression, FlexAvatarPipeline
from flexavatar.camera import Camera
from flexavatar.evaluation.close_up import CloseUpParams
from flexavatar.io import write_image
from flexavatar.io.images import read_image
from flexavatar.rig import Rig

YAWS = (0, 30, 60, 90, 135, 180)  # degrees
MOUTH = {"jawOpen": 0.7, "tongueOut": 0.4, "mouthLowerDownLeft": 0.3, "mouthLowerDownRight": 0.3}
NEUTRAL, SMILE, BLINK = Expression.neutral(), Expression.of("smile"), Expression.of("blink")
EXPRESSIONS = (SMILE, Expression.of(MOUTH), BLINK)

FACE_SIZE, DETAIL_SIZE = 1024, 512  # pixels
EYE_HEIGHT, MOUTH_HEIGHT = 0.05, 0.07  # metres that a detail shows from top to bottom
RIGHT_EYE, LEFT_EYE, MOUTH_MIDDLE = (468,), (473,), (13, 14)  # MediaPipe's landmarks
TURNED = 25  # degrees
LIDS = (NEUTRAL, Expression(0.5 * BLINK.blendshapes, BLINK.head_rotation), BLINK)
LIPS = (NEUTRAL, SMILE, Expression.of({"jawOpen": 0.7}))


def row(photo: Path, avatar: Avatar, size: int) -> np.ndarray:
    """Uint8 [size, 10 * size, 3]."""
    cells = [
        _square(read_image(photo), size),
        *(avatar.render(yaw=yaw, size=size) for yaw in YAWS),
        *(avatar.render(expression, size=size) for expression in EXPRESSIONS),
    ]
    return np.concatenate(cells, axis=1)


def close_ups(avatar: Avatar) -> np.ndarray:
    """Uint8 [2048, 2560, 3]: the face from two sides; on its right the eyes, and the mouth from the same two sides."""
    landmarks = Rig.load().landmarks(Rig.load().pose(avatar.shape, avatar.neutral_blendshapes))

    def detail(points: tuple[int, ...], height: float, yaw: float, expressions: tuple[Expression, ...]) -> np.ndarray:
        x, y, z = landmarks[list(points)].mean(0).tolist()
        camera = Camera.orbit(yaw, 0, DETAIL_SIZE, height, (x, y, z))
        return np.concatenate([avatar.render(expression, camera=camera) for expression in expressions], axis=1)

    cameras = [CloseUpParams(yaw=yaw, size=FACE_SIZE).camera() for yaw in (0, TURNED)]
    details = [
        detail(RIGHT_EYE, EYE_HEIGHT, 0, LIDS),
        detail(LEFT_EYE, EYE_HEIGHT, 0, LIDS),
        detail(MOUTH_MIDDLE, MOUTH_HEIGHT, 0, LIPS),
        detail(MOUTH_MIDDLE, MOUTH_HEIGHT, TURNED, LIPS),
    ]
    return np.concatenate([np.concatenate([avatar.render(camera=c) for c in cameras]), np.concatenate(details)], axis=1)


def _square(image: np.ndarray, size: int) -> np.ndarray:
    side = min(image.shape[:2])
    left = (image.shape[1] - side) // 2
    picture = Image.fromarray(image[:side, left : left + side])
    return np.asarray(picture.resize((size, size), Image.Resampling.LANCZOS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/astronaut_sheet.png"))
    parser.add_argument("--quality", default="balanced", help="as of `flexavatar create`")
    parser.add_argument("--close", action="store_true", help="also draw close-ups of face, eyes and mouth")
    parser.add_argument("--size", type=int, default=256, help="side of one cell in pixels")
    args = parser.parse_args()
    rows = []
    with FlexAvatarPipeline.from_pretrained() as pipeline:
        for photo in args.photos:
            avatar = pipeline.create(photo, "largest", quality=args.quality)
            rows.append(row(photo, avatar, args.size))
            if args.close:
                path = args.output.with_name(f"{photo.stem}_close.png")
                write_image(path, close_ups(avatar))
                print(f"wrote {path}")
    write_image(args.output, np.concatenate(rows, axis=0))
    print(f"wrote {args.output}")


if __name__ == "__main__":
    main()
