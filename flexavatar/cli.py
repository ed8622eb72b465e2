"""The `flexavatar` command: create, render, export, info.

Exit codes: 0 done, 1 unexpected failure, 2 wrong usage, 3 an input that cannot be used, 4 an output that cannot be
written. Results go to stdout, everything else to stderr.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flexavatar import __version__
from flexavatar.errors import CannotWrite, FlexAvatarError, RendererUnavailable, SeveralFacesFound

if TYPE_CHECKING:
    from flexavatar.avatar import Avatar
    from flexavatar.expression import Expression

log = logging.getLogger(__name__)

OK, UNEXPECTED, USAGE, BAD_INPUT, NOT_WRITTEN = range(5)
EXPORT_SUFFIXES = (".ply", ".splat", ".spz", ".png", ".mp4", ".flexavatar")

Result = dict[str, Any]


class UsageError(Exception):
    """The arguments do not fit together; argparse prints it with the usage line."""


def run() -> None:
    """Entry point of the console script."""
    sys.exit(main())


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    parser = build_parser()
    try:
        args = parser.parse_args(argv)
    except SystemExit as stop:  # argparse has printed the help or the usage error already
        return int(stop.code or OK)
    logging.basicConfig(
        level=logging.INFO if args.verbose else logging.ERROR, format="%(levelname)s %(name)s: %(message)s"
    )
    _quiet_native_logs(args.verbose)
    try:
        with _only_our_stdout():
            result = args.command(args)
    except (UsageError, RendererUnavailable) as error:
        return _fail(args, USAGE, error)
    except CannotWrite as error:
        return _fail(args, NOT_WRITTEN, error)
    except FlexAvatarError as error:
        return _fail(args, BAD_INPUT, error)
    except KeyboardInterrupt:
        return _fail(args, UNEXPECTED, RuntimeError("stopped"))
    except Exception as error:
        log.info("traceback of the failure", exc_info=True)
        hint = "" if args.verbose else " Run again with --verbose to see where."
        return _fail(args, UNEXPECTED, RuntimeError(f"Unexpected {type(error).__name__}: {error}.{hint}"))
    _write(json.dumps(result) if args.json else "\n".join(_lines(result)))
    return OK


def build_parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print the result as one JSON object")
    common.add_argument("--verbose", action="store_true", help="log what happens, with tracebacks")

    parser = argparse.ArgumentParser(
        prog="flexavatar",
        description="From one photo to a 3D head that you can turn, animate and download as Gaussian splats.",
    )
    parser.add_argument("--version", action="version", version=f"flexavatar {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="create|render|export|info")

    create = commands.add_parser("create", parents=[common], help="make an avatar from a photo")
    create.add_argument("photo", type=Path)
    create.add_argument("-o", "--output", type=_path_with(".flexavatar"), required=True, metavar="OUT.flexavatar")
    create.add_argument("--face", type=_face, help="which face to take: a number from 0 (the largest), or 'largest'")
    create.add_argument("--model", default="rig", help="the model that makes the avatar (default: rig)")
    create.add_argument(
        "--export",
        type=_export_target,
        action="append",
        default=[],
        metavar="FILE",
        help=f"also write this file ({' '.join(EXPORT_SUFFIXES)}); a bare suffix stands beside OUT; may be repeated",
    )
    _add_device(create)
    create.set_defaults(command=_create)

    render = commands.add_parser("render", parents=[common], help="draw an avatar as a picture or a video")
    render.add_argument("avatar", type=Path)
    render.add_argument("-o", "--output", type=_path_with(".png", ".mp4"), required=True, metavar="OUT.png|OUT.mp4")
    render.add_argument("--yaw", type=float, default=0.0, help="degrees; 90 shows the subject's left side")
    render.add_argument("--pitch", type=float, default=0.0, help="degrees; positive looks from above")
    render.add_argument("--expression", type=_checked(_parse_expression), help=_EXPRESSION_HELP)
    render.add_argument("--size", type=_size, default=512, help="side of the square picture in pixels (default: 512)")
    render.add_argument(
        "--background", type=_checked(_parse_color), default=(1.0, 1.0, 1.0), help="white, black, grey or #rrggbb"
    )
    render.add_argument("--turntable", action="store_true", help="a video that turns once around the head")
    render.add_argument("--seconds", type=float, default=4.0, help="length of a video (default: 4)")
    _add_device(render)
    render.set_defaults(command=_render)

    export = commands.add_parser("export", parents=[common], help="write an avatar to other formats")
    export.add_argument("avatar", type=Path)
    export.add_argument(
        "-o",
        "--output",
        type=_path_with(*EXPORT_SUFFIXES),
        action="append",
        required=True,
        metavar="FILE",
        help=f"one of {' '.join(EXPORT_SUFFIXES)}; may be repeated",
    )
    export.add_argument("--expression", type=_checked(_parse_expression), help=_EXPRESSION_HELP)
    export.set_defaults(command=_export)

    fetch = commands.add_parser("fetch", parents=[common], help="download a research model from its authors")
    fetch.add_argument("model", choices=("flex-1",))
    fetch.add_argument(
        "--folder", type=Path, default=Path.home() / ".cache" / "flexavatar" / "flex-1", help="where to (%(default)s)"
    )
    fetch.add_argument("--accept-license", action="store_true", help="accept CC BY-NC 4.0 without being asked")
    fetch.set_defaults(command=_fetch)

    info = commands.add_parser("info", parents=[common], help="say what an avatar file holds")
    info.add_argument("avatar", type=Path)
    info.set_defaults(command=_info)
    return parser


def _add_device(parser: argparse.ArgumentParser) -> None:
    choices = ("auto", "cpu", "cuda")
    parser.add_argument("--device", choices=choices, default="auto", help="where to compute (default: auto)")


_EXPRESSION_HELP = "a preset (smile, 'open mouth', blink, ...) or ARKit weights such as jawOpen=0.5,mouthSmileLeft=1"


def _create(args: argparse.Namespace) -> Result:
    from flexavatar.pipeline import MODELS, FlexAvatarPipeline

    if args.model not in MODELS:
        raise UsageError(f"There is no model {args.model!r}; choose one of {', '.join(MODELS)}.")
    # "--export .ply" is pathlib's ".ply" with an empty suffix: it means OUT.ply beside OUT.flexavatar.
    exports = [args.output.with_suffix(p.name) if p.name in EXPORT_SUFFIXES else p for p in args.export]
    for path in [args.output, *exports]:
        _check_folder(path)
    start = time.perf_counter()
    with _progress_bar() as report, FlexAvatarPipeline.from_pretrained(args.model, device=args.device) as pipeline:
        avatar = pipeline.create(args.photo, face=args.face, progress=report)
    created = time.perf_counter() - start
    avatar.save(args.output)
    written = [args.output, *_write_exports(avatar, exports, None)]
    return {
        "avatar": str(args.output),
        "files": [str(p) for p in written],
        "gaussians": len(avatar.gaussians()),
        "seconds": round(created, 2),
    }


def _render(args: argparse.Namespace) -> Result:
    from flexavatar.avatar import Avatar
    from flexavatar.export import write_image
    from flexavatar.pipeline import resolve_device

    video = args.output.suffix.lower() == ".mp4"
    if args.turntable and not video:
        raise UsageError("--turntable makes a video: give -o a name that ends in .mp4.")
    if args.seconds <= 0:
        raise UsageError("--seconds must be more than 0.")
    _check_folder(args.output)
    device = resolve_device(args.device)
    avatar = Avatar.load(args.avatar)
    look: Result = {"size": args.size, "background": args.background, "device": device}
    if args.turntable:
        avatar.turntable(args.output, seconds=args.seconds, expression=args.expression, **look)
    elif video:
        avatar.animate(args.output, _there_and_back(args.expression, args.seconds), fps=_FPS, yaw=args.yaw, **look)
    else:
        picture = avatar.render(args.expression, yaw=args.yaw, pitch=args.pitch, **look)
        write_image(args.output, picture)
    return {"files": [str(args.output)]}


def _export(args: argparse.Namespace) -> Result:
    from flexavatar.avatar import Avatar

    for path in args.output:
        _check_folder(path)
    avatar = Avatar.load(args.avatar)
    return {"files": [str(p) for p in _write_exports(avatar, args.output, args.expression)]}


def _info(args: argparse.Namespace) -> Result:
    from flexavatar.avatar import Avatar

    avatar = Avatar.load(args.avatar)
    return {
        "avatar": str(args.avatar),
        "bytes": args.avatar.stat().st_size,
        "gaussians": len(avatar.gaussians()),
        **avatar.metadata,
    }


def _fetch(args: argparse.Namespace) -> Result:
    from flexavatar.fetch import LICENSE, fetch_flex1

    accepted = args.accept_license
    if not accepted and sys.stdin.isatty():
        sys.stderr.write(f"FLEX-1 is licensed under {LICENSE}. Accept? [yes/no] ")
        sys.stderr.flush()
        accepted = sys.stdin.readline().strip().lower() == "yes"
    with _progress_bar() as report:
        files = fetch_flex1(args.folder, accepted, report)
    return {"files": [str(file) for file in files]}


_FPS = 25


def _there_and_back(expression: Expression | None, seconds: float) -> list[Expression]:
    """Expressions of a video that eases from neutral into `expression` and back."""
    import math

    from flexavatar.expression import Expression

    target = (expression or Expression.of("smile")).blendshapes
    count = max(2, round(seconds * _FPS))
    shares = [0.5 - 0.5 * math.cos(2 * math.pi * i / (count - 1)) for i in range(count)]
    return [Expression(target * share, Expression.neutral().head_rotation) for share in shares]


def _write_exports(avatar: Avatar, paths: Sequence[Path], expression: Expression | None) -> list[Path]:
    from tqdm import tqdm

    for path in tqdm(paths, desc="writing files", file=sys.stderr, disable=None, leave=False):
        avatar.export(path, expression=expression)
    return list(paths)


def _check_folder(path: Path) -> None:
    """Fail before the work starts, not after it."""
    folder = path.absolute().parent
    if not folder.is_dir():
        raise CannotWrite(f"The folder {folder} does not exist. Create it first, or choose another output.")
    if not os.access(folder, os.W_OK):
        raise CannotWrite(f"The folder {folder} is read-only. Choose another output folder.")


@contextmanager
def _progress_bar() -> Iterator[Callable[[str, float], None]]:
    from tqdm import tqdm

    with tqdm(total=100, file=sys.stderr, disable=None, leave=False, bar_format="{desc:<18}{bar}{n:3.0f} %") as bar:

        def report(stage: str, fraction: float) -> None:
            bar.set_description_str(stage, refresh=False)
            bar.update(100 * fraction - bar.n)

        yield report


@contextmanager
def _only_our_stdout() -> Iterator[None]:
    """Send what libraries print to stderr, so that --json leaves one clean object on stdout."""
    ours, sys.stdout = sys.stdout, sys.stderr
    try:
        yield
    finally:
        sys.stdout = ours


def _quiet_native_logs(verbose: bool) -> None:
    if not verbose:  # MediaPipe's C++ part reads these when it is loaded
        os.environ.setdefault("GLOG_minloglevel", "3")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def _fail(args: argparse.Namespace, code: int, error: Exception) -> int:
    message = " ".join(str(error).split())
    sys.stderr.write(f"flexavatar: {message}\n")
    if args.json:
        details: Result = {"error": type(error).__name__, "message": message, "exit_code": code}
        if isinstance(error, SeveralFacesFound):
            details["boxes"] = [[float(v) for v in box] for box in error.boxes]
        _write(json.dumps(details))
    return code


def _write(text: str) -> None:
    sys.stdout.write(text + "\n")


def _lines(result: Result) -> Iterator[str]:
    for name, value in result.items():
        values = value if isinstance(value, list) else [value]
        yield from (f"{name}: {v}" for v in values)


def _path_with(*suffixes: str) -> Callable[[str], Path]:
    def parse(text: str) -> Path:
        path = Path(text)
        if path.suffix.lower() not in suffixes:
            raise argparse.ArgumentTypeError(f"{text!r} must end in {' or '.join(suffixes)}")
        return path

    return parse


def _export_target(text: str) -> Path:
    return Path(text) if text in EXPORT_SUFFIXES else _path_with(*EXPORT_SUFFIXES)(text)


def _checked(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """argparse shows the text of its own error type only."""

    def parse_argument(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse_argument


def _parse_expression(text: str) -> Expression:
    from flexavatar.parsing import parse_expression

    return parse_expression(text)


def _parse_color(text: str) -> tuple[float, float, float]:
    from flexavatar.parsing import parse_color

    return parse_color(text)


def _face(text: str) -> int | str:
    if text == "largest":
        return text
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number from 0 nor 'largest'")
    return int(text)


def _size(text: str) -> int:
    if not text.isdecimal() or not 32 <= int(text) <= 4096:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size from 32 to 4096 pixels")
    return int(text)
