"""The Reenact tab: an avatar and somebody who moves in; a video of the avatar moving like that out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from flexavatar.app.controls import hand_over_untouched
from flexavatar.app.roster import Roster
from flexavatar.app.share_box import Sharing
from flexavatar.app.work import AT_ONCE, stoppable
from flexavatar.motion import CLIP_NAMES, MOTION_SUFFIXES
from flexavatar.parsing import parse_color
from flexavatar.progress import Progress

TAB = "reenact"
CLIP, VIDEO, FILE = "Built-in clip", "Video or webcam", "Motion file"
TRANSPARENT = "Transparent"
BACKGROUNDS = {"White": "#ffffff", "Grey": "#808080", "Black": "#000000", "Green": "#00b140"}
SIZES = (256, 384, 512, 768)


def reenact_tab(sharing: Sharing, roster: Roster, example: str) -> None:
    """Build the tab in the current Blocks context."""
    studio = sharing.studio
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=300):
            avatar = roster.picker(TAB)
            source = gr.Radio([CLIP, VIDEO, FILE], value=CLIP, label="Who moves it?", elem_id="reenact-source")
            clip = gr.Radio(
                [(name.replace("_", " "), name) for name in CLIP_NAMES],
                value="wink",
                label="Clip",
                elem_classes="pills",
                elem_id="reenact-clip",
            )
            video = gr.Video(
                label="A face, seen from the front; the largest is followed",
                sources=["upload", "webcam"],
                webcam_options=gr.WebcamOptions(mirror=False),
                height=260,
                visible=False,
                elem_id="reenact-video",
            )
            hand_over_untouched(video)
            with gr.Column(visible=False) as driver_example:
                gr.Examples(
                    [[example]],
                    video,
                    label="Example",
                    example_labels=["A turning head"],
                    api_name="example_driver",
                    api_visibility="private",
                )
            motion = gr.File(
                label="Live Link Face .csv or MediaPipe .json",
                file_types=[*MOTION_SUFFIXES],
                height=140,
                visible=False,
                elem_id="reenact-motion",
            )
            with gr.Accordion("Options", open=False):
                transfer = gr.Radio(
                    [("Relative to the driver's own neutral face", "relative"), ("As it is", "absolute")],
                    value="relative",
                    label="Expressions",
                    info="Relative leaves the driver's anatomy behind; a smile that is held throughout stays.",
                )
                head = gr.Slider(0, 1, 1, step=0.05, label="Head motion", info="0 keeps the head still.", buttons=[])
                background = gr.Radio(
                    [*BACKGROUNDS, TRANSPARENT], value="White", label="Background", elem_classes="pills"
                )
                size = gr.Radio([*SIZES], value=384, label="Size in pixels", elem_classes="pills")
                beside = gr.Checkbox(False, label="Show the driver's video to the left")
            with gr.Row():
                start = gr.Button("Animate", variant="primary", elem_id="reenact-start")
                stop = gr.Button("Cancel", interactive=False, elem_id="reenact-stop")
        with gr.Column(scale=6, min_width=300):
            result = gr.Video(
                label="Result", interactive=False, autoplay=True, loop=True, height=470, elem_id="reenact-result"
            )
            status = gr.Markdown(
                "*The avatar takes over expressions, gaze and the turns of the head. Cancel keeps what is done.*"
            )
            with gr.Row(elem_classes="files"):
                save_video = gr.DownloadButton("Save the video", size="sm", interactive=False, elem_id="save-video")
                save_motion = gr.DownloadButton("Save the motion", size="sm", interactive=False, elem_id="save-motion")
            sharing.box(TAB, avatar)

    def on_work(
        progress: Progress,
        chosen: list[str],
        kind: str,
        clip_name: str,
        video_path: str | None,
        motion_path: str | None,
        how: Any,
        head_motion: float,
        colour: str,
        side: int,
        side_by_side: bool,
    ) -> dict[Any, Any]:
        if not chosen:
            raise gr.Error("Choose an avatar first, or take the example.", title="No avatar")
        driver = {CLIP: clip_name, VIDEO: video_path, FILE: motion_path}[kind]
        if not driver:
            raise gr.Error("Upload or record what the avatar shall follow, or take a built-in clip.", title="No driver")
        made = studio.drive(
            chosen[0], driver, transfer=how, head_motion=head_motion,
            side_by_side=side_by_side and kind == VIDEO,
            background=None if colour == TRANSPARENT else parse_color(BACKGROUNDS[colour]),
            size=int(side), progress=progress,
        )  # fmt: skip
        told = [f"{made.frames} frames, {made.frames / made.fps:.1f} seconds.", *(f"⚠️ {w}" for w in made.warnings)]
        return {
            result: made.video,
            status: "\n\n".join(told),
            save_video: gr.DownloadButton(f"Save the video ({Path(made.video).suffix})", made.video, interactive=True),
            save_motion: gr.DownloadButton(value=made.motion, interactive=True),
        }

    def on_source(kind: str) -> list[Any]:
        return [gr.update(visible=kind == shown) for shown in (CLIP, VIDEO, VIDEO, FILE)]

    source.change(on_source, source, [clip, video, driver_example, motion], **AT_ONCE)
    stoppable(
        studio, TAB, start, stop, on_work,
        [avatar, source, clip, video, motion, transfer, head, background, size, beside],
        [result, status, save_video, save_motion], result,
    )  # fmt: skip
