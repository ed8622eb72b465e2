"""Exceptions as a visitor should see them."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import gradio as gr

from flexavatar.errors import FlexAvatarError

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


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
            raise gr.Error(str(error), title=_title(error), print_exception=False) from error
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
