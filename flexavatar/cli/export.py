"""`flexavatar export`: an avatar in other formats."""

from __future__ import annotations

import argparse
from pathlib import Path

from flexavatar.cli.common import (
    EXPORT_SUFFIXES,
    EXPRESSION_HELP,
    Commands,
    Result,
    add_device,
    add_splat_options,
    check_folder,
    checked,
    parse_expression_argument,
    path_with,
    write_exports,
)


def add_parser(commands: Commands, common: argparse.ArgumentParser) -> None:
    export = commands.add_parser("export", parents=[common], help="write an avatar to other formats")
    export.add_argument("avatar", type=Path)
    export.add_argument(
        "-o",
        "--output",
        type=path_with(*EXPORT_SUFFIXES),
        action="append",
        required=True,
        metavar="FILE",
        help=f"one of {' '.join(EXPORT_SUFFIXES)}; may be repeated",
    )
    export.add_argument("--expression", type=checked(parse_expression_argument), help=EXPRESSION_HELP)
    add_splat_options(export)
    add_device(export)
    export.set_defaults(command=_run)


def _run(args: argparse.Namespace) -> Result:
    from flexavatar.avatar import Avatar
    from flexavatar.settings import resolve_device

    for path in args.output:
        check_folder(path)
    device = resolve_device(args.device)
    avatar = Avatar.load(args.avatar)
    return {"files": [str(p) for p in write_exports(avatar, args.output, args.expression, device, args)]}
