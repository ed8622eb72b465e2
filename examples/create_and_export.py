"""A head from a photo, and files of it for other programs.

python examples/create_and_export.py examples/astronaut.png -o output
"""

import argparse
from pathlib import Path

from flexavatar import Expression, FlexAvatarPipeline
from flexavatar.baking import bake, write_bundle


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("output"), help="a folder")
    parser.add_argument("--model", default="flex-s2")
    parser.add_argument("--quality", choices=("instant", "fast", "balanced", "best"), default="fast")
    args = parser.parse_args(arguments)
    args.output.mkdir(parents=True, exist_ok=True)

    with FlexAvatarPipeline.from_pretrained(args.model) as pipeline:
        avatar = pipeline.create(args.photo, face="largest", quality=args.quality)

    path = args.output / args.photo.stem
    avatar.save(path.with_suffix(".flexavatar"))  # everything, to open it again with Avatar.load
    avatar.export(path.with_suffix(".ply"))  # the neutral head as Gaussian splats
    smiling = Expression.of({"mouthSmileLeft": 0.8, "mouthSmileRight": 0.8, "jawOpen": 0.1})
    avatar.export(path.with_suffix(".spz"), smiling)  # splats, compressed
    avatar.export(path.with_suffix(".png"), smiling)
    write_bundle(path.with_suffix(".flexbundle"), bake(avatar, "quick"))  # moves in the browser (docs/bundle.md)


if __name__ == "__main__":
    main()
