"""The Create tab: a photo in; a 3D view, expressions, a video and files out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from flexavatar.app.controls import (
    ExpressionControls,
    expression_controls,
    expression_of,
    hand_over_untouched,
    matte_choice,
    quality_choice,
    slider_values,
)
from flexavatar.app.messages import with_clear_errors
from flexavatar.app.overlays import detection_pictures, face_crops
from flexavatar.app.panel import AvatarPanel, avatar_panel
from flexavatar.app.roster import Roster
from flexavatar.app.share_box import Sharing
from flexavatar.app.studio import Studio
from flexavatar.app.work import AT_ONCE, PREVIEW, SHORT, teller
from flexavatar.errors import SeveralFacesFound
from flexavatar.expression import Expression

HINT = "Choose a photo of one person, looking roughly into the camera. The 3D head appears here."
# Moves the head in the 3D view at once, without asking the server.
POSE = """(...values) => {
    const frame = document.querySelector("#create-view iframe");
    const [yaw, pitch, roll] = values.slice(-3);
    frame?.contentWindow.postMessage(
        { type: "expression", weights: values.slice(0, -3), head: { yaw, pitch, roll } }, window.location.origin);
}"""


@dataclass(frozen=True)
class _Parts:
    """The components that callbacks read and write."""

    photo: gr.Image
    quality: gr.Radio
    matte: gr.Dropdown
    create: gr.Button
    saved: gr.UploadButton
    faces: gr.Gallery
    panel: AvatarPanel
    result: gr.Row
    controls: ExpressionControls
    yaw: gr.Slider
    pitch: gr.Slider
    picture: gr.Image
    detected: gr.Gallery
    detected_box: gr.Accordion


def create_tab(sharing: Sharing, roster: Roster, examples: list[str]) -> None:
    """Build the tab in the current Blocks context."""
    studio = sharing.studio
    parts = _lay_out(sharing, examples)
    _wire_making(studio, roster, parts)
    _wire_expressions(studio, parts)
    parts.panel.downloads.wire(studio, parts.panel.avatar, parts.controls.sliders, expression_of)


def _lay_out(sharing: Sharing, examples: list[str]) -> _Parts:
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=300):
            photo = gr.Image(
                label="Photo", sources=["upload", "webcam", "clipboard"], type="filepath", height=340, elem_id="photo"
            )
            hand_over_untouched(photo)
            quality = quality_choice(
                instant=True,
                info="How long the head is fitted to the photo",
                visible=sharing.studio.pipeline.fits,
                elem_id="create-quality",
            )
            matte = matte_choice("create")
            create = gr.Button("Create avatar", variant="primary", elem_id="create")
            faces = gr.Gallery(
                label="Several faces: choose one",
                columns=4,
                height=180,
                visible=False,
                allow_preview=False,
                object_fit="cover",
                elem_id="faces",
            )
            gr.Examples(examples, photo, label="Example", api_name="example", api_visibility="private")
            saved = gr.UploadButton("Open a .flexavatar file", file_types=[".flexavatar"], size="sm", elem_id="saved")
        with gr.Column(scale=6, min_width=300):
            panel = avatar_panel(sharing, "create", HINT, with_expression=True)
    with gr.Row(equal_height=False, visible=False) as result:
        with gr.Column(scale=4, min_width=300):
            picture = gr.Image(label="Picture", interactive=False, format="png", elem_id="picture")
            with gr.Row(elem_classes="sliders"):
                yaw = gr.Slider(-180, 180, value=0, step=1, label="From the side", buttons=[])
                pitch = gr.Slider(-60, 60, value=0, step=1, label="From above", buttons=[])
        with gr.Column(scale=6, min_width=300):
            controls = expression_controls()
            with gr.Accordion("What was detected", open=True) as detected_box:
                detected = gr.Gallery(
                    columns=3, height="auto", show_label=False, object_fit="contain", buttons=[], elem_id="detected"
                )
    return _Parts(
        photo, quality, matte, create, saved, faces, panel, result, controls, yaw, pitch, picture, detected,
        detected_box,
    )  # fmt: skip


def _wire_making(studio: Studio, roster: Roster, parts: _Parts) -> None:
    """Photo or file -> avatar, 3D view and files."""

    def shown(key: str, note: str, ids: list[str]) -> dict[Any, Any]:
        return {
            **parts.panel.shown(studio, key, note),
            roster.ids: roster.added(ids, key),
            parts.picture: studio.render(key, Expression.neutral()),
            parts.result: gr.Row(visible=True),
            parts.faces: gr.Gallery(visible=False),
            parts.controls.preset: "neutral",
            parts.yaw: 0,
            parts.pitch: 0,
            **dict(zip(parts.controls.sliders, slider_values("neutral"), strict=True)),
        }

    def make(
        photo: str | None, quality: Any, matte: str, ids: list[str], face: int | None, progress: gr.Progress
    ) -> dict[Any, Any]:
        if photo is None:
            raise gr.Error("Upload a photo first, take one with the webcam, or click the example.", title="No photo")
        try:
            key, tracked = studio.create(photo, face, teller(progress), quality, matte)
        except SeveralFacesFound as found:
            return _ask_which_face(parts, photo, found)
        return {
            **shown(key, f"Avatar made; the landmarks fit to {100 * tracked.error:.1f} % of the face height.", ids),
            parts.detected: detection_pictures(tracked),
            parts.detected_box: gr.Accordion(visible=True),
        }

    @with_clear_errors
    def on_create(
        photo: str | None,
        quality: str,
        matte: str,
        ids: list[str],
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> dict[Any, Any]:
        return make(photo, quality, matte, ids, None, progress)

    @with_clear_errors
    def on_face(
        photo: str | None,
        quality: str,
        matte: str,
        ids: list[str],
        chosen: gr.SelectData,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> dict[Any, Any]:
        return make(photo, quality, matte, ids, int(chosen.index), progress)

    @with_clear_errors
    def on_open(path: str, ids: list[str]) -> dict[Any, Any]:
        note = f"Opened {Path(path).name}."
        return {**shown(studio.open(path), note, ids), parts.detected_box: gr.Accordion(visible=False)}

    @with_clear_errors
    def on_restored(key: str | None) -> dict[Any, Any]:
        if key is None:
            return {parts.panel.avatar: None}
        found = {
            **shown(key, "Found again after the page was loaded anew.", []),
            parts.detected_box: gr.Accordion(visible=False),
        }
        del found[roster.ids]  # which have it already
        return found

    changed = [
        *parts.panel.outputs, roster.ids, parts.picture, parts.result, parts.faces, parts.yaw, parts.pitch,
        parts.detected, parts.detected_box, parts.controls.preset, *parts.controls.sliders,
    ]  # fmt: skip
    making: dict[str, Any] = {"outputs": changed, "show_progress_on": parts.panel.view, **SHORT}
    source = [parts.photo, parts.quality, parts.matte, roster.ids]
    parts.create.click(on_create, source, **making)
    parts.faces.select(on_face, source, **making)
    parts.saved.upload(on_open, [parts.saved, roster.ids], **making)
    roster.restored.change(on_restored, roster.restored, [each for each in changed if each is not roster.ids], **SHORT)
    # A choice of faces belongs to the photo that it was offered for.
    parts.photo.change(lambda: gr.Gallery(visible=False), None, parts.faces, **AT_ONCE)


def _wire_expressions(studio: Studio, parts: _Parts) -> None:
    """Sliders and presets -> 3D view and picture."""

    @with_clear_errors
    def on_slide(key: str, yaw: float, pitch: float, *values: float) -> Any:
        return studio.render(key, expression_of(values), yaw, pitch)

    sliders = parts.controls.sliders
    draw = {
        "fn": on_slide,
        "inputs": [parts.panel.avatar, parts.yaw, parts.pitch, *sliders],
        "outputs": parts.picture,
    }
    gr.on([s.input for s in sliders], None, [*sliders], None, js=POSE)
    gr.on([s.input for s in [*sliders, parts.yaw, parts.pitch]], **draw, **PREVIEW)
    chosen = parts.controls.preset.input(slider_values, parts.controls.preset, sliders, **AT_ONCE)
    chosen.then(None, [*sliders], None, js=POSE)
    chosen.then(**draw, **PREVIEW)


def _ask_which_face(parts: _Parts, photo: str, found: SeveralFacesFound) -> dict[Any, Any]:
    from flexavatar.io.images import read_image

    crops = [(crop, f"Face {i + 1}") for i, crop in enumerate(face_crops(read_image(photo), found.boxes))]
    return {
        parts.faces: gr.Gallery(value=crops, visible=True, selected_index=None),
        parts.panel.status: f"There are {len(crops)} faces in this photo. **Click the one to take.**",
    }
