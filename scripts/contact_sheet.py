"""Draw a contact sheet: each row a photo, its avatar from five sides, and three expressions."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from flexavatar import Avatar, Expression, FlexAvatarPipeline
from flexavatar.export import write_image
from flexavatar.images import read_image

YAWS = (0, 30, 60, 90, 180)  # degrees
MOUTH = {"jawOpen": 0.7, "tongueOut": 0.4, "mouthLowerDownLeft": 0.3, "mouthLowerDownRight": 0.3}
EXPRESSIONS = (Expression.of("smile"), Expression.of(MOUTH), Expression.of("blink"))


def row(photo: Path, avatar: Avatar, size: int) -> np.ndarray:
    """Uint8 [size, 9 * size, 3]."""
    cells = [
        _square(read_image(photo), size),
        *(avatar.render(yaw=yaw, size=size) for yaw in YAWS),
        *(avatar.render(expression, size=size) for expression in EXPRESSIONS),
    ]
    return np.concatenate(cells, axis=1)


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
    parser.add_argument("--size", type=int, default=256, help="side of one cell in pixels")
    args = parser.parse_args()
    with FlexAvatarPipeline.from_pretrained() as pipeline:
        rows = [row(photo, pipeline.create(photo, "largest", quality=args.quality), args.size) for photo in args.photos]
    write_image(args.output, np.concatenate(rows, axis=0))
    print(f"wrote {args.output}")


if __name__ == "__main__":
    main()
