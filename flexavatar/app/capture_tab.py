"""The "Photos & video" tab: several photos, a clip or a recording in; one avatar out, and what it was made of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from flexavatar.app.controls import hand_over_untouched, matte_choice, quality_choice
from flexavatar.app.messages import without_folders
from flexavatar.app.panel import avatar_panel
from flexavatar.app.roster import Roster
from flexavatar.app.share_box import Sharing
from flexavatar.app.work import AT_ONCE, duration, stoppable
from flexavatar.errors import FlexAvatarError
from flexavatar.files import VIDEO_SUFFIXES
from flexavatar.progress import Progress
from flexavatar.templates import render_template

if TYPE_CHECKING:
    from flexavatar.reconstruction import Capture

TAB = "capture"
HINT = "More views make a better head. Add photos from several sides, or a short video, and press Start."
WAITING = "*Add photos or a video, and the time it will take is told here.*"


def capture_tab(sharing: Sharing, roster: Roster, example: str) -> None:
    """Build the tab in the current Blocks context."""
    studio = sharing.studio
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=300):
            with gr.Tabs():
                with gr.Tab("Upload"):
                    files = gr.File(
                        label="3 to 10 photos, or one video",
                        file_count="multiple",
                        file_types=["image", *VIDEO_SUFFIXES],
                        height=190,
                        elem_id="capture-files",
                    )
                with gr.Tab("Record"):
                    recording = gr.Video(
                        sources=["webcam"],
                        label="Turn your head slowly from side to side, then smile",
                        include_audio=False,
                        webcam_options=gr.WebcamOptions(mirror=False),
                        height=260,
                        elem_id="capture-recording",
                    )
                    hand_over_untouched(recording)
            quality = quality_choice(instant=studio.pipeline.fits, elem_id="quality")
            matte = matte_choice(TAB)
            estimate = gr.Markdown(WAITING, elem_id="capture-estimate")
            with gr.Row():
                start = gr.Button("Start", variant="primary", min_width=120, elem_id="capture-start")
                stop = gr.Button("Stop and keep", interactive=False, min_width=120, elem_id="capture-stop")
            gr.Examples(
                [[[example]]],
                files,
                label="Example",
                example_labels=["A short video of a turning head"],
                api_name="example_video",
                api_visibility="private",
            )
        with gr.Column(scale=6, min_width=300):
            panel = avatar_panel(sharing, TAB, HINT)
            account = gr.HTML(elem_id="capture-account", elem_classes="bare")

    def on_choose(paths: list[str] | None, recorded: str | None, chosen: Any) -> str:
        if not (paths or recorded):
            return WAITING
        source = paths or [recorded or ""]
        what = f"{len(source)} photos" if len(source) > 1 else Path(source[0]).name
        try:
            seconds = studio.estimate(source, chosen)
        except (FlexAvatarError, ValueError) as error:  # beside the files that it is about
            return f"⚠️ {without_folders(str(error))}"
        return f"About **{duration(seconds)}** for {what}; longer when many people are here."

    def on_work(
        progress: Progress,
        paths: list[str] | None,
        recorded: str | None,
        chosen: Any,
        cut_out_by: str,
        ids: list[str],
    ) -> dict[Any, Any]:
        source = paths or ([recorded] if recorded else [])
        key, made = studio.capture(source, chosen, progress, cut_out_by)
        note = "Stopped; this is the best until then." if made.stopped else f"Made in {duration(made.seconds)}."
        return {
            **panel.shown(studio, key, note),
            account: _account(made),
            roster.ids: roster.added(ids, key),
        }

    gr.on(
        [files.change, recording.change, quality.change],
        on_choose,
        [files, recording, quality],
        estimate,
        **AT_ONCE,
    )
    # The newer of the two sources counts.
    files.upload(lambda: None, None, recording, **AT_ONCE)
    recording.stop_recording(lambda: None, None, files, **AT_ONCE)
    stoppable(
        studio, TAB, start, stop, on_work,
        [files, recording, quality, matte, roster.ids], [*panel.outputs, account, roster.ids], panel.view,
    )  # fmt: skip
    panel.downloads.wire(studio, panel.avatar)


def _account(made: Capture) -> str:
    """What the avatar was made of, in figures and in a list of what was left out."""
    figures, held_out = [(str(len(made.used)), "views used"), (str(len(made.dropped)), "left out")], 0
    if made.psnr is not None and made.ssim is not None:
        figures += [(f"{made.psnr:.1f} dB", "PSNR"), (f"{made.ssim:.3f}", "SSIM")]
        held_out = len(made.held_out)
    return render_template("app/account.html", figures=figures, held_out=held_out, dropped=made.dropped, used=made.used)
