"""What the commands share: argument types, options, the progress bar and the writing of files."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flexavatar.errors import CannotWrite
from flexavatar.progress import Progress

if TYPE_CHECKING:
    from flexavatar.avatar import Avatar
    from flexavatar.expression import Expression
    from flexavatar.settings import Device

EXPORT_SUFFIXES = (".ply", ".splat", ".spz", ".png", ".mp4", ".flexavatar")
EXPRESSION_HELP = "a preset (smile, 'open mouth', blink, ...) or ARKit weights such as jawOpen=0.5,mouthSmileLeft=1"
FPS = 25

Result = dict[str, Any]
Commands = Any  # what `ArgumentParser.add_subparsers` returns has no public type


class UsageError(Exception):
    """The arguments do not fit together; argparse prints it with the usage line."""


def add_device(parser: argparse.ArgumentParser) -> None:
    choices = ("auto", "cpu", "cuda")
    parser.add_argument("--device", choices=choices, default="auto", help="where to compute (default: auto)")


def add_matte(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--matte",
        type=checked(_matte),
        default="selfie",
        help="what cuts people out: selfie (default), or rembg:MODEL with any model of rembg, which is downloaded at "
        "its first use, for instance rembg:birefnet-portrait",
    )


def add_splat_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--spz-version", type=int, choices=(2, 3, 4), default=3, help="of .spz files: 2 for older readers (default: 3)"
    )
    parser.add_argument(
        "--ply-sh",
        type=int,
        choices=(0, 1, 2, 3),
        default=0,
        metavar="0..3",
        help="degree of spherical harmonics that .ply files have (empty) columns for: 3 for older readers (default: 0)",
    )


def write_exports(
    avatar: Avatar, paths: Sequence[Path], expression: Expression | None, device: Device, args: argparse.Namespace
) -> list[Path]:
    """Write files of the avatar; `args` has what `add_splat_options` added."""
    from tqdm import tqdm

    from flexavatar.io import SplatOptions

    options = SplatOptions(args.spz_version, args.ply_sh)
    for path in tqdm(paths, desc="writing files", file=sys.stderr, disable=None, leave=False):
        avatar.export(path, expression, device, options)
    return list(paths)


def check_folder(path: Path) -> None:
    """Check, before long work, that an output can be written to `path`. Raises CannotWrite."""
    folder = path.absolute().parent
    if not folder.is_dir():
        raise CannotWrite(f"The folder {folder} does not exist. Create it first, or choose another output.")
    if not os.access(folder, os.W_OK):
        raise CannotWrite(f"The folder {folder} is read-only. Choose another output folder.")


@contextmanager
def progress_bar(stop: Callable[[], bool] | None = None) -> Iterator[Progress]:
    """A `Progress` that draws a bar on stderr and stops the work when `stop()` is true."""
    from tqdm import tqdm

    # `smoothing` 0: the remaining time is estimated from all that is done, as the stages differ in their rates.
    layout = "{desc:<22}{bar}{n:3.0f} %, {remaining} left"
    with tqdm(total=100, file=sys.stderr, disable=None, leave=False, bar_format=layout, smoothing=0) as bar:

        def report(stage: str, fraction: float) -> None:
            bar.set_description_str(stage, refresh=False)
            bar.update(100 * fraction - bar.n)

        yield Progress(report, stop)


def path_with(*suffixes: str) -> Callable[[str], Path]:
    def parse(text: str) -> Path:
        path = Path(text)
        if path.suffix.lower() not in suffixes:
            raise argparse.ArgumentTypeError(f"{text!r} must end in {' or '.join(suffixes)}")
        return path

    return parse


def export_target(text: str) -> Path:
    return Path(text) if text in EXPORT_SUFFIXES else path_with(*EXPORT_SUFFIXES)(text)


def checked(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """An argument type whose ValueErrors argparse shows: it hides the text of all but its own error type."""

    def parse_argument(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse_argument


def parse_expression_argument(text: str) -> Expression:
    from flexavatar.parsing import parse_expression

    return parse_expression(text)


def parse_color_argument(text: str) -> tuple[float, float, float]:
    from flexavatar.parsing import parse_color

    return parse_color(text)


def _matte(text: str) -> str:
    from flexavatar.tracking.segmentation import check_segmenter

    return check_segmenter(text)


def face(text: str) -> int | str:
    if text == "largest":
        return text
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number from 0 nor 'largest'")
    return int(text)


def size(text: str) -> int:
    if not text.isdecimal() or not 32 <= int(text) <= 4096:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size from 32 to 4096 pixels")
    return int(text)
