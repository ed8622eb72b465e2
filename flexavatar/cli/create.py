"""`flexavatar create`: an avatar from a photo, several photos or a video."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from flexavatar.cli.common import (
    EXPORT_SUFFIXES,
    Commands,
    Result,
    UsageError,
    add_device,
    add_matte,
    add_splat_options,
    check_folder,
    export_target,
    face,
    path_with,
    progress_bar,
    write_exports,
)
from flexavatar.pipeline import DEFAULT_MODEL

if TYPE_CHECKING:
    from flexavatar.avatar import Avatar
    from flexavatar.pipeline import FlexAvatarPipeline, Progress


def add_parser(commands: Commands, common: argparse.ArgumentParser) -> None:
    create = commands.add_parser("create", parents=[common], help="make an avatar from photos or a video")
    create.add_argument("source", type=Path, nargs="+", metavar="PHOTO|VIDEO", help="a photo, several, or one video")
    create.add_argument("-o", "--output", type=path_with(".flexavatar"), required=True, metavar="OUT.flexavatar")
    create.add_argument("--face", type=face, help="which face to take: a number from 0 (the largest), or 'largest'")
    create.add_argument(
        "--quality",
        choices=("instant", "fast", "balanced", "best"),
        default="balanced",
        help="how long the avatar is fitted, and how many frames of a video are used (default: balanced)",
    )
    create.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        help=f"{DEFAULT_MODEL} (default), rig, the folder of a trained network, or its Hub id with --revision",
    )
    create.add_argument("--revision", help="commit of the Hub id, 40 hexadecimal digits")
    create.add_argument(
        "--export",
        type=export_target,
        action="append",
        default=[],
        metavar="FILE",
        help=f"also write this file ({' '.join(EXPORT_SUFFIXES)}); a bare suffix stands beside OUT; may be repeated",
    )
    add_splat_options(create)
    add_matte(create)
    add_device(create)
    create.set_defaults(command=_run)


def _run(args: argparse.Namespace) -> Result:
    from flexavatar.pipeline import FlexAvatarPipeline

    # "--export .ply" is pathlib's ".ply" with an empty suffix: it means OUT.ply beside OUT.flexavatar.
    exports = [args.output.with_suffix(p.name) if p.name in EXPORT_SUFFIXES else p for p in args.export]
    for path in [args.output, *exports]:
        check_folder(path)
    start = time.perf_counter()
    pipeline = FlexAvatarPipeline.from_pretrained(args.model, args.device, args.revision, args.matte)
    with progress_bar() as progress, pipeline:
        avatar, told = _made(pipeline, args, progress)
    created = time.perf_counter() - start
    avatar.save(args.output)
    written = [args.output, *write_exports(avatar, exports, None, pipeline.device, args)]
    return {
        "avatar": str(args.output),
        "files": [str(p) for p in written],
        "gaussians": len(avatar.gaussians()),
        "seconds": round(created, 2),
        **told,
    }


def _made(pipeline: FlexAvatarPipeline, args: argparse.Namespace, progress: Progress) -> tuple[Avatar, Result]:
    """The avatar, and for several photos or a video what it was made of."""
    from flexavatar.files import is_video

    video = is_video(args.source[0])
    if video and len(args.source) > 1:
        raise UsageError("Give one video, or photos; not a video with other files.")
    if len(args.source) == 1 and not video:
        return pipeline.create(args.source[0], args.face, progress, args.quality), {}
    source = args.source[0] if video else args.source
    made = pipeline.capture(source, args.quality, progress, args.face)
    told: Result = {"used": len(made.used), "held out": len(made.held_out)}
    if made.dropped:
        told["dropped"] = [f"{name}: {reason}" for name, reason in made.dropped.items()]
    if made.psnr is not None and made.ssim is not None:
        told |= {"psnr": round(made.psnr, 2), "ssim": round(made.ssim, 3)}
    return made.avatar, told
