"""`flexavatar info`: what an avatar file holds."""

from __future__ import annotations

import argparse
from pathlib import Path

from flexavatar.cli.common import Commands, Result


def add_parser(commands: Commands, common: argparse.ArgumentParser) -> None:
    info = commands.add_parser("info", parents=[common], help="say what an avatar file holds")
    info.add_argument("avatar", type=Path)
    info.set_defaults(command=_run)


def _run(args: argparse.Namespace) -> Result:
    from flexavatar.avatar import Avatar

    avatar = Avatar.load(args.avatar)
    return {
        "avatar": str(args.avatar),
        "bytes": args.avatar.stat().st_size,
        "gaussians": len(avatar.gaussians()),
        **avatar.metadata,
    }
