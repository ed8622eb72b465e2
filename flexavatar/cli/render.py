"""`flexavatar render`: an avatar as a picture or a video."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from flexavatar.cli.common import (
    EXPRESSION_HELP,
    FPS,
    Commands,
    Result,
    UsageError,
    add_device,
    check_folder,
    checked,
    parse_color_argument,
    parse_expression_argument,
    path_with,
    size,
)

if TYPE_CHECKING:
    from flexavatar.expression import Expression


def add_parser(commands: Commands, common: argparse.ArgumentParser) -> None:
    render = commands.add_parser("render", parents=[common], help="draw an avatar as a picture or a video")
    render.add_argument("avatar", type=Path)
    render.add_argument("-o", "--output", type=path_with(".png", ".mp4"), required=True, metavar="OUT.png|OUT.mp4")
    render.add_argument("--yaw", type=float, default=0.0, help="degrees; 90 shows the subject's left side")
    render.add_argument("--pitch", type=float, default=0.0, help="degrees; positive looks from above")
    render.add_argument("--expression", type=checked(parse_expression_argument), help=EXPRESSION_HELP)
    render.add_argument("--size", type=size, default=512, help="side of the square picture in pixels (default: 512)")
    render.add_argument(
        "--background",
        type=checked(parse_color_argument),
        default=(1.0, 1.0, 1.0),
        help="white, black, grey or #rrggbb",
    )
    render.add_argument("--turntable", action="store_true", help="a video that turns once around the head")
    render.add_argument("--seconds", type=float, default=4.0, help="length of a video (default: 4)")
    add_device(render)
    render.set_defaults(command=_run)


def _run(args: argparse.Namespace) -> Result:
    from flexavatar.avatar import Avatar
    from flexavatar.io import write_image
    from flexavatar.settings import resolve_device

    video = args.output.suffix.lower() == ".mp4"
    if args.turntable and not video:
        raise UsageError("--turntable makes a video: give -o a name that ends in .mp4.")
    if args.seconds <= 0:
        raise UsageError("--seconds must be more than 0.")
    check_folder(args.output)
    device = resolve_device(args.device)
    avatar = Avatar.load(args.avatar)
    look: Result = {"size": args.size, "background": args.background, "device": device}
    if args.turntable:
        avatar.turntable(args.output, seconds=args.seconds, expression=args.expression, **look)
    elif video:
        avatar.animate(args.output, _there_and_back(args.expression, args.seconds), fps=FPS, yaw=args.yaw, **look)
    else:
        picture = avatar.render(args.expression, yaw=args.yaw, pitch=args.pitch, **look)
        write_image(args.output, picture)
    return {"files": [str(args.output)]}


def _there_and_back(expression: Expression | None, seconds: float) -> list[Expression]:
    """Expressions of a video that eases from neutral into `expression` and back."""
    from flexavatar.expression import Expression

    target = (expression or Expression.of("smile")).blendshapes
    count = max(2, round(seconds * FPS))
    shares = [0.5 - 0.5 * math.cos(2 * math.pi * i / (count - 1)) for i in range(count)]
    return [Expression(target * share, Expression.neutral().head_rotation) for share in shares]
