"""`flexavatar evaluate`: how good avatars are, on a clip, on synthetic heads or on portraits."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flexavatar.cli.common import (
    Commands,
    Result,
    UsageError,
    add_device,
    add_matte,
    check_folder,
    path_with,
    progress_bar,
)
from flexavatar.pipeline import DEFAULT_MODEL
from flexavatar.progress import Progress

if TYPE_CHECKING:
    import numpy as np

    from flexavatar.evaluation.table import Maker, Measured
    from flexavatar.tracking import FaceTracker

SHEET_WIDTH = 1152  # pixels


def add_parser(commands: Commands, common: argparse.ArgumentParser) -> None:
    evaluate = commands.add_parser("evaluate", parents=[common], help="measure how good avatars are")
    what = evaluate.add_mutually_exclusive_group(required=True)
    what.add_argument("--video", type=Path, metavar="CLIP", help="self-reenactment of a clip of one person")
    what.add_argument("--synthetic", action="store_true", help="held-out synthetic heads (needs FLEXAVATAR_DATA)")
    what.add_argument("--portraits", type=Path, metavar="FOLDER", help="a folder of portraits")
    evaluate.add_argument("--avatar", type=Path, metavar="FILE", help="of --video: this one, not one of its frame 0")
    evaluate.add_argument("--frames", type=_count, default=60, help="of --video: so many, evenly spread (default: 60)")
    evaluate.add_argument("--heads", type=_count, default=32, help="of --synthetic: the first so many (default: 32)")
    evaluate.add_argument("--count", type=_count, default=24, help="of --portraits: evenly spread (default: 24)")
    evaluate.add_argument("--model", default=DEFAULT_MODEL, help="what makes the avatars; as of `create`")
    evaluate.add_argument("--revision", help="commit of the Hub id, 40 hexadecimal digits")
    evaluate.add_argument(
        "--quality", choices=("instant", "fast", "balanced", "best"), default="balanced", help="as of `create`"
    )
    evaluate.add_argument(
        "-o", "--output", type=path_with(".json"), metavar="OUT.json",
        help="write all figures here, and beside it a .csv of every picture, a table (.md) and a picture sheet (.jpg)",
    )  # fmt: skip
    evaluate.add_argument(
        "--beside", type=path_with(".json"), action="append", default=[], metavar="OTHER.json",
        help="what -o wrote for another model: into the same table; may be repeated",
    )  # fmt: skip
    add_matte(evaluate)
    add_device(evaluate)
    evaluate.set_defaults(command=_run)


def _run(args: argparse.Namespace) -> Result:
    from flexavatar.evaluation.table import markdown, means_by, rounded, write_csv, write_text
    from flexavatar.io import write_image
    from flexavatar.pipeline import FlexAvatarPipeline
    from flexavatar.tracking import FaceTracker

    if args.avatar is not None and args.video is None:
        raise UsageError("--avatar goes with --video: synthetic heads and portraits get avatars of their own.")
    if args.beside and args.output is None:
        raise UsageError("--beside needs -o: its table is written beside that file.")
    others = {name: groups for path in args.beside for name, groups in _read_means(path).items()}
    if args.output is not None:
        check_folder(args.output)
    pipeline = FlexAvatarPipeline.from_pretrained(args.model, args.device, args.revision)
    with progress_bar() as progress, pipeline, FaceTracker(args.matte) as tracker:
        measured = _measured(args, lambda photo: pipeline.build(photo, quality=args.quality), tracker, progress)
    groups = {str(name): row for name, row in means_by(measured.rows, measured.group).items()}
    name = (args.avatar or Path(args.model)).name
    if pipeline.fits and args.avatar is None:
        name += f", {args.quality}"
    result: Result = {
        "avatars": name,
        "pictures": len(measured.rows),
        "left out": list(measured.left_out),
        "means": {group: rounded(row) for group, row in groups.items()},
    }
    if args.output is not None:
        rows = [rounded(row) for row in measured.rows]
        write_text(args.output, json.dumps({**result, "rows": rows}, indent=1) + "\n")
        write_csv(args.output.with_suffix(".csv"), rows)
        write_text(args.output.with_suffix(".md"), markdown({**others, name: groups}, measured.group))
        write_image(args.output.with_suffix(".jpg"), _smaller(measured.sheet))
        result["files"] = [str(args.output.with_suffix(suffix)) for suffix in (".json", ".csv", ".md", ".jpg")]
    return result


def _read_means(path: Path) -> dict[str, dict[str, Any]]:
    """The means by group that an evaluation wrote, by the name of the avatars."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {str(content["avatars"]): dict(content["means"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is no file that `flexavatar evaluate -o` has written ({error}).") from error


def _smaller(sheet: np.ndarray) -> np.ndarray:
    """A sheet that pages can show: [H, W, 3] with W at most SHEET_WIDTH."""
    import cv2

    height, width = sheet.shape[:2]
    if width <= SHEET_WIDTH:
        return sheet
    return cv2.resize(sheet, (SHEET_WIDTH, round(height * SHEET_WIDTH / width)), interpolation=cv2.INTER_AREA)


def _measured(args: argparse.Namespace, make: Maker, tracker: FaceTracker, progress: Progress) -> Measured:
    if args.video is not None:
        from flexavatar.avatar import Avatar
        from flexavatar.evaluation.video import self_reenactment

        avatar = Avatar.load(args.avatar) if args.avatar is not None else None
        return self_reenactment(args.video, make, tracker, avatar, args.frames, progress)
    if args.synthetic:
        from flexavatar.evaluation.synthetic import evaluate_synthetic
        from flexavatar.synthetic import HeadAssets

        return evaluate_synthetic(make, tracker, HeadAssets.load(), range(args.heads), progress)
    from flexavatar.evaluation.portraits import evaluate_portraits

    return evaluate_portraits(make, tracker, _photos(args.portraits, args.count), progress)


def _photos(folder: Path, count: int) -> list[Path]:
    """`count` pictures evenly spread over those of a folder, in the order of their names."""
    from flexavatar.io.images import PHOTO_SUFFIXES, photo_files

    found = photo_files(folder)
    if not found:
        raise UsageError(f"There are no photos ({' '.join(PHOTO_SUFFIXES)}) in the folder {folder}.")
    return [found[i * len(found) // count] for i in range(count)] if count < len(found) else found


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)
