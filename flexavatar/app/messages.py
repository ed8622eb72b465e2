"""Exceptions as a visitor should see them."""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import gradio as gr

from flexavatar.errors import FlexAvatarError

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


# A path from the root of a file system or a drive, and the name at its end.
_PATH = re.compile(r"""(?<![\w.~:/\\-])(?:[A-Za-z]:[\\/]|/)(?:[^\s/\\:,'"]+[/\\])+(?=[^\s/\\])""")


def without_folders(text: str) -> str:
    """A message for a visitor, to whom the folders of the server are no concern: of every path the name remains."""
    return _PATH.sub("", text)


def with_clear_errors(callback: Callable[P, R]) -> Callable[P, R]:
    """Turn domain errors (and ValueError, for wrong arguments) into their own text, and log all others."""

    @functools.wraps(callback)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return callback(*args, **kwargs)
        except gr.Error:  # before ValueError, its base class
            raise
        except (FlexAvatarError, ValueError) as error:
            log.info("refused: %s", error)
            raise gr.Error(without_folders(str(error)), title=_title(error), print_exception=False) from error
        except Exception as error:
            log.exception("a callback failed")
            raise gr.Error(
                "Something went wrong on our side and has been logged. Please try again, or try another photo.",
                title="Unexpected failure",
                print_exception=False,
            ) from error

    return guarded


def _title(error: Exception) -> str:
    """ "NoFaceFound" -> "No face found"."""
    if isinstance(error, ValueError):
        return "Not possible"
    words = "".join(f" {c.lower()}" if c.isupper() else c for c in type(error).__name__).strip()
    return words.capitalize()
