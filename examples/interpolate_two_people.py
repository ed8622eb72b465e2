"""The people between two: one of them in the middle as an avatar of its own, and a video from the first to the second.

python examples/interpolate_two_people.py a.flexavatar b.flexavatar -o output
"""

import argparse
from pathlib import Path

from flexavatar import Avatar, Expression
from flexavatar.driving.interpolation import interpolate, morph


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=Path, help="a .flexavatar file")
    parser.add_argument("second", type=Path, help="another, made with the same model")
    parser.add_argument("-o", "--output", type=Path, default=Path("output"), help="a folder")
    parser.add_argument("--size", type=int, default=512, help="pixels")
    parser.add_argument("--seconds", type=float, default=3.0)
    args = parser.parse_args(arguments)
    args.output.mkdir(parents=True, exist_ok=True)

    people = [Avatar.load(args.first), Avatar.load(args.second)]
    interpolate(people, [0.5, 0.5]).save(args.output / "between.flexavatar")
    faces = [Expression.of("neutral"), Expression.of("smile")]
    morph(args.output / "morph.mp4", people, args.seconds, expressions=faces, turn=60, size=args.size)


if __name__ == "__main__":
    main()
