"""A head from all sides: a row of pictures, and a video in which the camera goes round it.

python examples/turntable.py output/astronaut.flexavatar -o output/round.mp4
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from flexavatar import Avatar, Expression


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("avatar", type=Path, help="a .flexavatar file")
    parser.add_argument("-o", "--output", type=Path, default=Path("turntable.mp4"))
    parser.add_argument("--size", type=int, default=512, help="pixels")
    parser.add_argument("--seconds", type=float, default=4.0)
    args = parser.parse_args(arguments)

    avatar = Avatar.load(args.avatar)
    sides = [avatar.render(Expression.of("smile"), yaw=yaw, size=args.size) for yaw in (-90, -45, 0, 45, 90, 180)]
    Image.fromarray(np.concatenate(sides, axis=1)).save(args.output.with_suffix(".png"))
    avatar.turntable(args.output, size=args.size, seconds=args.seconds, expression=Expression.of("smile"))


if __name__ == "__main__":
    main()
