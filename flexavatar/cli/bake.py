"""`flexavatar bake`: an avatar as a bundle for the browser viewer."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from flexavatar.cli.common import Commands, Result, add_device, check_folder, path_with


def add_parser(commands: Commands, common: argparse.ArgumentParser) -> None:
    bake = commands.add_parser("bake", parents=[common], help="write an avatar as a bundle for the browser viewer")
    bake.add_argument("avatar", type=Path)
    bake.add_argument("-o", "--output", type=path_with(".flexbundle"), required=True, metavar="FILE")
    bake.add_argument("--quick", action="store_true", help="take the simplest deltas and do not measure their error")
    add_device(bake)
    bake.set_defaults(command=_run)


def _run(args: argparse.Namespace) -> Result:
    from flexavatar.avatar import Avatar
    from flexavatar.baking import bake, read_bundle, write_bundle
    from flexavatar.baking.bake import visible_splats
    from flexavatar.baking.error import bake_error, true_decodes
    from flexavatar.baking.samples import driving_expressions
    from flexavatar.settings import resolve_device

    check_folder(args.output)
    device = resolve_device(args.device)
    avatar = Avatar.load(args.avatar).to(device)
    baked = bake(avatar, "quick" if args.quick else "measured", device)
    write_bundle(args.output, baked)
    result: Result = {
        "bundle": str(args.output),
        "bytes": args.output.stat().st_size,
        "splats": len(baked.neutral),
        "deltas": {group: len(deltas.splats) for group, deltas in baked.deltas.items()},
        "correctives": [" * ".join(factors) for factors in baked.correctives],
    }
    if baked.report:
        truth = true_decodes(avatar, driving_expressions(), visible_splats(avatar))
        written = asdict(bake_error(read_bundle(args.output), truth))
        result["baked"] = asdict(baked.report)
        # What the viewer shows, after quantisation; which deltas were chosen is said above.
        result["written"] = {name: value for name, value in written.items() if name not in ("deltas", "candidates")}
    return result
