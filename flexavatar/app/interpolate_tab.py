"""The Interpolate tab: avatars in; the people between them, as pictures, a video and new avatars out."""

from __future__ import annotations

from typing import Any

import gradio as gr

from flexavatar.app.messages import with_clear_errors
from flexavatar.app.panel import avatar_panel
from flexavatar.app.roster import Roster
from flexavatar.app.share_box import Sharing
from flexavatar.app.work import PREVIEW, SHORT, stoppable
from flexavatar.expression import PRESETS, Expression
from flexavatar.progress import Progress

TAB = "interpolate"
ALONG, ALL = "Along the slider", "All in equal parts"
MORPH_SIZE = 384  # pixels


def interpolate_tab(sharing: Sharing, roster: Roster) -> None:
    """Build the tab in the current Blocks context."""
    studio = sharing.studio
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=300):
            avatars = roster.picker(TAB, multiple=True)
            share = gr.Slider(
                0, 1, 0.5, step=0.01, label="From the first to the last", buttons=[], elem_id="interpolate-share"
            )
            mixing = gr.Radio([ALONG, ALL], value=ALONG, label="Mix", elem_classes="pills")
            preset = gr.Radio([*PRESETS], value="neutral", label="Expression", elem_classes="pills")
            save = gr.Button("Keep this mix as a new avatar", variant="primary", elem_id="interpolate-save")
            with gr.Accordion("Morph video", open=True):
                with gr.Row():
                    seconds = gr.Slider(1, 6, 2, step=0.5, label="Seconds for each step", buttons=[])
                    turn = gr.Slider(0, 360, 0, step=15, label="Turn of the camera (degrees)", buttons=[])
                with gr.Row():
                    start = gr.Button("Make the video", min_width=120, elem_id="morph-start")
                    stop = gr.Button("Cancel", interactive=False, min_width=120, elem_id="morph-stop")
        with gr.Column(scale=6, min_width=300):
            picture = gr.Image(label="Mix", interactive=False, format="png", height=420, elem_id="interpolate-picture")
            hint = gr.Markdown(HINT, elem_id="interpolate-hint")
            video = gr.Video(label="Morph", interactive=False, autoplay=True, loop=True, visible=False, elem_id="morph")
            with gr.Column(visible=False) as kept:
                panel = avatar_panel(sharing, TAB, "")

    def on_change(chosen: list[str], at: float, how: str, expression: str) -> tuple[Any, str]:
        if len(chosen) < 2:
            return None, HINT
        weights = _weights(len(chosen), at, how)
        parts = " + ".join(f"{weight:.0%} of avatar {i + 1}" for i, weight in enumerate(weights) if weight)
        return studio.mixed_picture(chosen, weights, Expression.of(expression)), parts

    @with_clear_errors
    def on_save(chosen: list[str], at: float, how: str, ids: list[str]) -> dict[Any, Any]:
        key = studio.mix(chosen, _weights(len(chosen), at, how))
        return {
            kept: gr.Column(visible=True),
            **panel.shown(studio, key, "Kept; it can be chosen in all tabs."),
            roster.ids: roster.added(ids, key),
        }

    def on_work(
        progress: Progress,
        chosen: list[str],
        expression: str,
        step: float,
        degrees: float,
    ) -> Any:
        path = studio.morph(
            chosen, Expression.of(expression), step, degrees, MORPH_SIZE,
            progress,
        )  # fmt: skip
        return gr.Video(path, visible=True)

    inputs = [avatars, share, mixing, preset]
    gr.on(
        [avatars.change, share.input, mixing.input, preset.input],
        with_clear_errors(on_change),
        inputs,
        [picture, hint],
        **PREVIEW,
    )
    save.click(
        on_save, [avatars, share, mixing, roster.ids], [kept, *panel.outputs, roster.ids],
        show_progress_on=picture, **SHORT,
    )  # fmt: skip
    stoppable(studio, "morph", start, stop, on_work, [avatars, preset, seconds, turn], [video], picture)
    panel.downloads.wire(studio, panel.avatar)


HINT = "*Click two or more avatars, in the order in which they shall be mixed; then move the slider.*"


def _weights(count: int, at: float, how: str) -> list[float]:
    """Shares of `count` avatars: equal, or at a place 0..1 on the way from each to the next."""
    if how == ALL or count < 2:
        return [1 / max(count, 1)] * count
    place = at * (count - 1)
    return [max(0.0, 1 - abs(place - i)) for i in range(count)]
