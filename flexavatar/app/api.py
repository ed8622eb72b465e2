"""Named endpoints with plain inputs and outputs, for gradio_client and other programs.

They stand beside the page's own callbacks, which exchange whole screens of components and are private.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from flexavatar.app.controls import MATTE_CHOICES
from flexavatar.app.messages import with_clear_errors
from flexavatar.app.studio import FORMATS, Studio
from flexavatar.app.work import LONG, SHORT
from flexavatar.motion import CLIP_NAMES
from flexavatar.parsing import parse_color, parse_expression

MAX_PICTURE_SIZE = 1024  # pixels
MAX_VIDEO_SECONDS = 10.0  # seconds
TRANSPARENT = "transparent"
QUALITIES = ("instant", "fast", "balanced", "best")
TRANSFERS = ("relative", "absolute")
MATTES = tuple(MATTE_CHOICES.values())  # a server downloads no other model because a caller names it

Component = Any  # gradio's components share no public base type with `visible`


def add_endpoints(studio: Studio) -> None:
    """Add /create, /capture, /open, /render, /turntable, /export, /drive, /mix and /morph to the current Blocks."""

    def create(photo: str, face: float | None, quality: str, matte: str) -> dict[str, Any]:
        """Make an avatar of the person in a photo. `face` picks one of several, 0 is the largest.

        `quality`, how long the avatar is fitted to the photo: instant (not at all), fast, balanced or best.
        `matte`, what cuts the person out: selfie, or rembg:birefnet-portrait and the like, as the page offers them.
        """
        if photo is None:
            raise ValueError("Send a photo.")
        chosen = _one_of(quality, QUALITIES, "quality")
        cut_out_by = _one_of(matte, MATTES, "matte")
        key, tracked = studio.create(photo, None if face is None else int(face), quality=chosen, matte=cut_out_by)
        left, top, size = (float(v) for v in tracked.crop)
        return {"avatar": key, "crop": [left, top, size], "error": float(tracked.error), **studio.describe(key)}

    def capture(files: list[str], quality: str, matte: str) -> dict[str, Any]:
        """Make an avatar of several photos of one person, or of one video. `quality` and `matte`: as of /create."""
        chosen, cut_out_by = _one_of(quality, QUALITIES, "quality"), _one_of(matte, MATTES, "matte")
        key, made = studio.capture(files or [], chosen, matte=cut_out_by)
        return {
            "avatar": key, "used": made.used, "held_out": made.held_out, "dropped": made.dropped,
            "psnr": made.psnr, "ssim": made.ssim, "seconds": made.seconds, **studio.describe(key),
        }  # fmt: skip

    def open_file(avatar_file: str) -> dict[str, Any]:
        """Open a .flexavatar file."""
        if avatar_file is None:
            raise ValueError("Send a .flexavatar file.")
        key = studio.open(avatar_file)
        return {"avatar": key, **studio.describe(key)}

    def render(avatar: str, expression: str, yaw: float, pitch: float, size: float) -> Any:
        """Draw an avatar. `expression` is a preset such as "smile", or "jawOpen=0.5, mouthSmileLeft=1"."""
        side = _within(size, 32, MAX_PICTURE_SIZE, "size")
        return studio.render(avatar, parse_expression(expression), yaw, pitch, int(side))

    def turntable(avatar: str, expression: str, seconds: float, size: float) -> str:
        """A video (MP4) that turns once around the head."""
        side = _within(size, 32, MAX_PICTURE_SIZE, "size")
        return studio.turntable(
            avatar, parse_expression(expression), _within(seconds, 0.5, MAX_VIDEO_SECONDS, "seconds"), int(side)
        )

    def export(avatar: str, file_format: str, expression: str) -> str:
        """Write an avatar to a file: ply, splat, spz, flexbundle, html, mp4, flexavatar or png."""
        return studio.export(avatar, file_format, parse_expression(expression))

    def drive(
        avatar: str,
        clip: str | None,
        driver: str | None,
        transfer: str,
        head_motion: float,
        side_by_side: bool,
        background: str,
        size: float,
    ) -> tuple[str, str, dict[str, Any]]:
        """Let an avatar move like a driver: a built-in clip's name, or a file (a video, or a motion as .csv or .json).

        Gives the video (MP4; WebM if `background` is "transparent"), the driver's motion and what to know of it.
        """
        if not (driver or clip):
            raise ValueError(f"Send a driver, or name a clip: {', '.join(CLIP_NAMES)}.")
        made = studio.drive(
            avatar, driver or _one_of(clip, CLIP_NAMES, "clip"),
            transfer=_one_of(transfer, TRANSFERS, "transfer"),
            head_motion=_within(head_motion, 0, 1, "head_motion"),
            side_by_side=side_by_side,
            background=None if background == TRANSPARENT else parse_color(background),
            size=int(_within(size, 32, MAX_PICTURE_SIZE, "size")),
        )  # fmt: skip
        return made.video, made.motion, {"frames": made.frames, "fps": made.fps, "warnings": made.warnings}

    def mix(avatars: str, weights: str) -> dict[str, Any]:
        """Make an avatar between others. Ids and weights (which sum to 1) are separated by commas."""
        key = studio.mix(_listed(avatars), [float(weight) for weight in _listed(weights)])
        return {"avatar": key, **studio.describe(key)}

    def morph(avatars: str, expression: str, seconds: float, turn: float, size: float) -> str:
        """A video (MP4) from each avatar to the next, `seconds` a step; `turn` degrees around the head."""
        return studio.morph(
            _listed(avatars), parse_expression(expression), _within(seconds, 0.5, MAX_VIDEO_SECONDS, "seconds"),
            _within(turn, -360, 360, "turn"), int(_within(size, 32, MAX_PICTURE_SIZE, "size")),
        )  # fmt: skip

    with gr.Column(visible=False):
        avatar = gr.Textbox(label="avatar")
        expression = gr.Textbox("neutral", label="expression")
        size = gr.Number(512, label="size", precision=0)
        photo, face = gr.File(label="photo"), gr.Number(None, label="face", precision=0)
        quality = gr.Textbox("balanced", label="quality")
        matte = gr.Textbox("selfie", label="matte")
        _endpoint("create", create, [photo, face, quality, matte], gr.JSON(label="result"))
        files = gr.File(label="files", file_count="multiple")
        _endpoint("capture", capture, [files, quality, matte], gr.JSON(label="result"), LONG)
        _endpoint("open", open_file, [gr.File(label="avatar_file")], gr.JSON(label="result"))
        yaw, pitch = gr.Number(0, label="yaw"), gr.Number(0, label="pitch")
        _endpoint("render", render, [avatar, expression, yaw, pitch, size], gr.Image(label="picture", format="png"))
        seconds = gr.Number(4, label="seconds")
        _endpoint("turntable", turntable, [avatar, expression, seconds, size], gr.File(label="video"))
        file_format = gr.Dropdown([*FORMATS], value="ply", label="file_format")
        _endpoint("export", export, [avatar, file_format, expression], gr.File(label="file"))
        clip, driver = gr.Textbox(None, label="clip"), gr.File(label="driver")
        transfer, head_motion = gr.Textbox("relative", label="transfer"), gr.Number(1, label="head_motion")
        beside, background = gr.Checkbox(False, label="side_by_side"), gr.Textbox("white", label="background")
        written = [gr.File(label="video"), gr.File(label="motion"), gr.JSON(label="about")]
        _endpoint(
            "drive", drive, [avatar, clip, driver, transfer, head_motion, beside, background, size], written, LONG
        )
        avatars, weights = gr.Textbox(label="avatars"), gr.Textbox("0.5, 0.5", label="weights")
        _endpoint("mix", mix, [avatars, weights], gr.JSON(label="result"))
        turn = gr.Number(0, label="turn")
        _endpoint("morph", morph, [avatars, expression, seconds, turn, size], gr.File(label="video"), LONG)


def _endpoint(
    name: str,
    function: Callable[..., Any],
    inputs: Sequence[Component],
    output: Component | list[Component],
    queue: dict[str, Any] = SHORT,
) -> None:
    """Add an endpoint to the current Blocks: a click on a hidden button, as gradio's endpoints are events."""
    gr.Button(name).click(
        with_clear_errors(function),
        [*inputs],
        output,
        api_name=name,
        api_description=function.__doc__,
        **{**queue, "api_visibility": "public"},
    )


def _within(value: float, low: float, high: float, name: str) -> float:
    if not low <= value <= high:
        raise ValueError(f"{name} must be from {low} to {high}, not {value}.")
    return value


def _one_of(value: Any, allowed: Sequence[str], name: str) -> Any:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {value!r}.")
    return value


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
