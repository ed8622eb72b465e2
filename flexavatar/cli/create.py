"""`flexavatar create`: an avatar from a photo."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from flexavatar.cli.common import (
    EXPORT_SUFFIXES,
    Commands,
    Result,
    UsageError,
    add_device,
    check_folder,
    export_target,
    face,
    path_with,
    progress_bar,
    write_exports,
)


def add_parser(commands: Commands, common: argparse.ArgumentParser) -> None:
    create = commands.add_parser("create", parents=[common], help="make an avatar from a photo")
    create.add_argument("photo", type=Path)
    create.add_argument("-o", "--output", type=path_with(".flexavatar"), required=True, metavar="OUT.flexavatar")
    create.add_argument("--face", type=face, help="which face to take: a number from 0 (the largest), or 'largest'")
    create.add_argument("--model", default="rig", help="the model that makes the avatar (default: rig)")
    create.add_argument(
        "--export",
        type=export_target,
        action="append",
        default=[],
        metavar="FILE",
        help=f"also write this file ({' '.join(EXPORT_SUFFIXES)}); a bare suffix stands beside OUT; may be repeated",
    )
    add_device(create)
    create.set_defaults(command=_run)


def _run(args: argparse.Namespace) -> Result:
    from flexavatar.pipeline import MODELS, FlexAvatarPipeline

    if args.model not in MODELS:
        raise UsageError(f"There is no model {args.model!r}; choose one of {', '.join(MODELS)}.")
    # "--export .ply" is pathlib's ".ply" with an empty suffix: it means OUT.ply beside OUT.flexavatar.
    exports = [args.output.with_suffix(p.name) if p.name in EXPORT_SUFFIXES else p for p in args.export]
    for path in [args.output, *exports]:
        check_folder(path)
    start = time.perf_counter()
    with progress_bar() as report, FlexAvatarPipeline.from_pretrained(args.model, device=args.device) as pipeline:
        avatar = pipeline.create(args.photo, face=args.face, progress=report)
    created = time.perf_counter() - start
    avatar.save(args.output)
    written = [args.output, *write_exports(avatar, exports, None)]
    return {
        "avatar": str(args.output),
        "files": [str(p) for p in written],
        "gaussians": len(avatar.gaussians()),
        "seconds": round(created, 2),
    }
