"""`flexavatar fetch`: a research model from its authors."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from flexavatar.cli.common import Commands, Result, progress_bar
from flexavatar.files import user_folder


def add_parser(commands: Commands, common: argparse.ArgumentParser) -> None:
    fetch = commands.add_parser("fetch", parents=[common], help="download a research model from its authors")
    fetch.add_argument("model", choices=("flex-1",))
    folder = user_folder(os.environ.get("XDG_CACHE_HOME"), ".cache") / "flexavatar" / "flex-1"
    fetch.add_argument("--folder", type=Path, default=folder, help="where to (%(default)s)")
    fetch.add_argument("--accept-license", action="store_true", help="accept CC BY-NC 4.0 without being asked")
    fetch.set_defaults(command=_run)


def _run(args: argparse.Namespace) -> Result:
    from flexavatar.model.fetch import LICENSE, fetch_flex1

    accepted = args.accept_license
    if not accepted and sys.stdin.isatty():
        sys.stderr.write(f"FLEX-1 is licensed under {LICENSE}. Accept? [yes/no] ")
        sys.stderr.flush()
        accepted = sys.stdin.readline().strip().lower() == "yes"
    with progress_bar() as progress:
        files = fetch_flex1(args.folder, accepted, progress)
    return {"files": [str(file) for file in files]}
