"""`flexavatar prepare`: make the records that `train` learns from."""

from __future__ import annotations

import argparse
from pathlib import Path

from flexavatar.cli.common import Commands, Result


def add_parser(commands: Commands, common: argparse.ArgumentParser) -> None:
    prepare = commands.add_parser("prepare", parents=[common], help="make records for `train`")
    prepare.add_argument("pool", type=Path, help="folder for the records; those that are there are kept")
    prepare.add_argument("--synthetic", type=int, default=0, help="heads with all views (needs FLEXAVATAR_DATA)")
    prepare.add_argument("--portraits", type=Path, metavar="FOLDER", help="photos of one face each")
    prepare.add_argument("--limit", type=int, help="take the first so many photos only")
    prepare.add_argument("--variants", type=int, default=1, help="records of each photo (default: 1)")
    prepare.add_argument("--split", choices=("train", "eval"), default="train", help="of the synthetic heads")
    prepare.add_argument("--seed", type=int, default=0)
    prepare.add_argument("--views", type=int, default=4, help="target views of a synthetic head (default: 4)")
    prepare.add_argument("--size", type=int, default=256, help="pixels of a target view (default: 256)")
    prepare.add_argument("--workers", type=int, default=1, help="processes of one thread each (default: 1)")
    prepare.add_argument("--minutes", type=float, help="stop after so many; the same command goes on later")
    prepare.set_defaults(command=_run)


def _run(args: argparse.Namespace) -> Result:
    from flexavatar.io.images import photo_files
    from flexavatar.synthetic.assets import cache_folder, data_folder
    from flexavatar.synthetic.faces import FaceLibrary
    from flexavatar.training.pool import Plan, fill_pool
    from flexavatar.training.portraits import track_portraits

    if args.synthetic:
        # Once, and not by every worker.
        FaceLibrary.of(data_folder(), cache_folder()).prepare()
    photos = [] if args.portraits is None else photo_files(args.portraits)[: args.limit]
    tracked = tuple(track_portraits(photos, cache_folder())) if photos else ()
    plan = Plan(args.pool, args.synthetic, tracked, args.variants, args.split, args.seed, args.views, args.size)
    filled = fill_pool(plan, args.workers, args.minutes)
    return {
        "pool": str(args.pool),
        "portraits": f"{len(tracked)} of {2 * len(photos)} usable, with mirror images",
        "made": filled.made,
        "there before": filled.there_before,
        "left out": len(filled.failed),
        "records a second": round(filled.made / max(filled.seconds, 1e-6), 2),
    }
