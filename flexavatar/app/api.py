"""Named endpoints with plain inputs and outputs, for gradio_client and other programs.

They stand beside the page's own callbacks, which exchange whole screens of components and are private.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from flexavatar.app.create_tab import COMPUTE
from flexavatar.app.messages import with_clear_errors
from flexavatar.app.studio import FORMATS, Studio
from flexavatar.parsing import parse_expression

LARGEST_PICTURE = 1024  # pixels
LONGEST_VIDEO = 10.0  # seconds

Component = Any  # gradio's components share no public base type with `visible`


def add_endpoints(studio: Studio) -> None:
    """Add /create, /open, /render, /turntable and /export to the current Blocks."""

    def create(photo: str, face: float | None) -> dict[str, Any]:
        """Make an avatar of the person in a photo. `face` picks one of several, 0 is the largest."""
        if photo is None:
            raise ValueError("Send a photo.")
        key, tracked = studio.create(photo, None if face is None else int(face))
        left, top, size = (float(v) for v in tracked.crop)
        return {"avatar": key, "crop": [left, top, size], "error": float(tracked.error), **studio.describe(key)}

    def open_file(avatar_file: str) -> dict[str, Any]:
        """Open a .flexavatar file."""
        if avatar_file is None:
            raise ValueError("Send a .flexavatar file.")
        key = studio.open(avatar_file)
        return {"avatar": key, **studio.describe(key)}

    def render(avatar: str, expression: str, yaw: float, pitch: float, size: float) -> Any:
        """Draw an avatar. `expression` is a preset such as "smile", or "jawOpen=0.5, mouthSmileLeft=1"."""
        side = _within(size, 32, LARGEST_PICTURE, "size")
        return studio.render(avatar, parse_expression(expression), yaw, pitch, int(side))

    def turntable(avatar: str, expression: str, seconds: float, size: float) -> str:
        """A video (MP4) that turns once around the head."""
        side = _within(size, 32, LARGEST_PICTURE, "size")
        return studio.turntable(
            avatar, parse_expression(expression), _within(seconds, 0.5, LONGEST_VIDEO, "seconds"), int(side)
        )

    def export(avatar: str, file_format: str, expression: str) -> str:
        """Write an avatar to a file: ply, splat, spz, flexavatar or png."""
        return studio.export(avatar, file_format, parse_expression(expression))

    with gr.Column(visible=False):
        avatar = gr.Textbox(label="avatar")
        expression = gr.Textbox("neutral", label="expression")
        size = gr.Number(512, label="size", precision=0)
        photo, face = gr.File(label="photo"), gr.Number(None, label="face", precision=0)
        _endpoint("create", create, [photo, face], gr.JSON(label="result"))
        _endpoint("open", open_file, [gr.File(label="avatar_file")], gr.JSON(label="result"))
        yaw, pitch = gr.Number(0, label="yaw"), gr.Number(0, label="pitch")
        _endpoint("render", render, [avatar, expression, yaw, pitch, size], gr.Image(label="picture", format="png"))
        seconds = gr.Number(4, label="seconds")
        _endpoint("turntable", turntable, [avatar, expression, seconds, size], gr.File(label="video"))
        file_format = gr.Dropdown([*FORMATS], value="ply", label="file_format")
        _endpoint("export", export, [avatar, file_format, expression], gr.File(label="file"))


def _endpoint(name: str, function: Callable[..., Any], inputs: Sequence[Component], output: Component) -> None:
    """Endpoints hang on an event, so each gets a button that nobody sees."""
    gr.Button(name).click(
        with_clear_errors(function),
        [*inputs],
        output,
        api_name=name,
        api_description=function.__doc__,
        concurrency_id=COMPUTE,
        concurrency_limit=2,
    )


def _within(value: float, low: float, high: float, name: str) -> float:
    if not low <= value <= high:
        raise ValueError(f"{name} must be from {low} to {high}, not {value}.")
    return value
