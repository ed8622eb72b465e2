"""The `flexavatar` command; each subcommand is a module of this package.

Exit codes: 0 done, 1 unexpected failure, 2 wrong usage, 3 an input that cannot be used, 4 an output that cannot be
written. Results go to stdout, everything else to stderr.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from flexavatar import __version__
from flexavatar.cli import bake, benchmark, create, drive, evaluate, export, fetch, info, prepare, render, train
from flexavatar.cli.common import Result, UsageError
from flexavatar.errors import CannotWrite, FlexAvatarError, ModelUnavailable, RendererUnavailable, SeveralFacesFound

log = logging.getLogger(__name__)

OK, UNEXPECTED, USAGE, BAD_INPUT, NOT_WRITTEN = range(5)
COMMANDS = (create, render, export, info, fetch, drive, bake, benchmark, evaluate, prepare, train)


def run() -> None:
    """Entry point of the console script."""
    sys.exit(main())


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    _write_what_terminals_cannot_show()
    parser = build_parser()
    try:
        args = parser.parse_args(argv)
    except SystemExit as stop:  # argparse has printed the help or the usage error already
        return int(stop.code or OK)
    logging.basicConfig(
        level=logging.INFO if args.verbose else logging.ERROR, format="%(levelname)s %(name)s: %(message)s"
    )
    try:
        with _only_our_stdout():
            result = args.command(args)
    except (UsageError, ModelUnavailable, RendererUnavailable) as error:
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
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(commands, common)
    return parser


def _write_what_terminals_cannot_show() -> None:
    """Let letters that the terminal's encoding lacks come out escaped, rather than end a command that did its work."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def _only_our_stdout() -> Iterator[None]:
    """Send what libraries print to stderr, so that --json leaves one clean object on stdout."""
    ours, sys.stdout = sys.stdout, sys.stderr
    try:
        yield
    finally:
        sys.stdout = ours


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
