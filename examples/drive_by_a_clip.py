"""A head that moves like a driver: a built-in clip, a video of somebody, or a motion file.

python examples/drive_by_a_clip.py output/astronaut.flexavatar talk -o output/talking.mp4
"""

import argparse
from pathlib import Path

from flexavatar import Avatar
from flexavatar.driving import drive
from flexavatar.motion import write_motion


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("avatar", type=Path, help="a .flexavatar file")
    parser.add_argument("driver", help="talk, laugh, wink, surprise or look_around; a video; or a motion (.csv, .json)")
    parser.add_argument("-o", "--output", type=Path, default=Path("driven.mp4"))
    parser.add_argument("--size", type=int, default=512, help="pixels")
    args = parser.parse_args(arguments)

    driven = drive(Avatar.load(args.avatar), args.driver, args.output, head_motion=0.7, size=args.size)
    # What the driver did, in the format of Live Link Face: it can be edited, and drive again.
    write_motion(args.output.with_suffix(".csv"), driven.motion)
    print(f"{args.output}: {driven.frames} frames, {driven.frames / driven.fps:.1f} s")


if __name__ == "__main__":
    main()
