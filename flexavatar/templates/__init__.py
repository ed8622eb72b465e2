"""The HTML of the app and of shared avatars' pages: Jinja2 templates, in which every value is escaped."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

_FOLDER = Path(__file__).parent


def render_template(name: str, /, **values: Any) -> str:
    """The template `name`, a path below this folder, filled with `values`. Raises UndefinedError for missing ones."""
    return _environment().get_template(name).render(values)


def template_source(name: str) -> str:
    """The text of a file below this folder, as it stands."""
    return (_FOLDER / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
