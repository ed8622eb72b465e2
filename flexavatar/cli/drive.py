"""`flexavatar drive`: an avatar that moves like a video, a recorded motion or a built-in clip."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from flexavatar.cli.common import (
    Commands,
    Result,
    UsageError,
    add_device,
    check_folder,
    checked,
    parse_color_argument,
    path_with,
    progress_bar,
    size,
)

TRANSPARENT = "transparent"


def add_parser(commands: Commands, common: argparse.ArgumentParser) -> None:
    drive = commands.add_parser("drive", parents=[common], help="animate an avatar by a video, a motion or a clip")
    drive.add_argument("avatar", type=Path)
    drive.add_argument(
        "driver", help="a video, a Live Link Face .csv, a MediaPipe .json, or talk, laugh, surprise, look_around, wink"
    )
    drive.add_argument("-o", "--output", type=path_with(".mp4", ".webm"), required=True, metavar="OUT.mp4|OUT.webm")
    drive.add_argument("--side-by-side", action="store_true", help="show the driver's video to the left")
    drive.add_argument(
        "--face", type=_number, default=0, help="of several people in a video, counted from 0, the largest (default: 0)"
    )
    drive.add_argument(
        "--absolute",
        action="store_true",
        help="take the driver's face as it is; by default only what it does beyond their own face at rest",
    )
    drive.add_argument(
        "--head-motion", type=_share, default=1.0, metavar="0..1", help="share of the head's rotation (default: 1)"
    )
    drive.add_argument(
        "--background",
        type=checked(_background),
        default=(1.0, 1.0, 1.0),
        help="white, black, grey or #rrggbb; transparent for .webm (default: white)",
    )
    drive.add_argument("--size", type=size, default=512, help="side of the avatar's picture in pixels (default: 512)")
    drive.add_argument(
        "--save-motion",
        type=path_with(".csv", ".json"),
        metavar="OUT.csv|OUT.json",
        help="keep the driver's motion too",
    )
    add_device(drive)
    drive.set_defaults(command=_run)


def _run(args: argparse.Namespace) -> Result:
    from flexavatar.avatar import Avatar
    from flexavatar.driving import drive
    from flexavatar.motion import write_motion
    from flexavatar.motion.files import is_video
    from flexavatar.settings import resolve_device

    if args.side_by_side and not is_video(args.driver):
        raise UsageError("--side-by-side needs a driver that is a video.")
    if args.background == TRANSPARENT and args.output.suffix.lower() != ".webm":
        raise UsageError("--background transparent needs an output that ends in .webm.")
    for path in filter(None, (args.output, args.save_motion)):
        check_folder(path)
    device = resolve_device(args.device)
    avatar = Avatar.load(args.avatar)
    with _interruptible() as stopped, progress_bar(stopped) as progress:
        driven = drive(
            avatar,
            args.driver,
            args.output,
            transfer="absolute" if args.absolute else "relative",
            head_motion=args.head_motion,
            side_by_side=args.side_by_side,
            background=None if args.background == TRANSPARENT else args.background,
            size=args.size,
            face=args.face,
            device=device,
            progress=progress,
        )
    for warning in driven.motion.warnings:
        sys.stderr.write(f"flexavatar: {warning}\n")
    files = [args.output]
    if args.save_motion is not None:
        write_motion(args.save_motion, driven.motion)
        files.append(args.save_motion)
    result: Result = {"files": [str(path) for path in files], "frames": driven.frames, "fps": round(driven.fps, 3)}
    return result | ({"warnings": list(driven.motion.warnings)} if driven.motion.warnings else {})


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed, which so leaves a video of what is done; a second time it ends all at once."""
    pressed = threading.Event()

    def on_interrupt(*_: object) -> None:
        if pressed.is_set():
            raise KeyboardInterrupt
        pressed.set()

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, before)


def _number(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0")
    return int(text)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return value


def _background(text: str) -> tuple[float, float, float] | str:
    return TRANSPARENT if text.strip().lower() == TRANSPARENT else parse_color_argument(text)
