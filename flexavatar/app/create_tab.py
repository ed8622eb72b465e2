"""The Create tab: a photo in; a 3D view, expressions, a video and files out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from flexavatar.app.controls import ExpressionControls, expression_controls, expression_of, slider_values
from flexavatar.app.messages import with_clear_errors
from flexavatar.app.overlays import detection_pictures, face_crops
from flexavatar.app.studio import Studio
from flexavatar.app.viewer import OPEN_LEVEL
from flexavatar.errors import SeveralFacesFound
from flexavatar.expression import Expression

DOWNLOADS = ("ply", "splat", "spz", "flexavatar")
COMPUTE = "compute"  # the queue that the heavy callbacks share
INTRO = "Choose a photo of one person, looking roughly into the camera."


@dataclass(frozen=True)
class _Parts:
    """The components that callbacks read and write."""

    avatar: gr.State  # id in the studio's store
    photo: gr.Image
    create: gr.Button
    saved: gr.UploadButton
    faces: gr.Gallery
    status: gr.Markdown
    viewer: gr.Model3D
    result: gr.Row
    controls: ExpressionControls
    yaw: gr.Slider
    pitch: gr.Slider
    picture: gr.Image
    apply: gr.Button
    downloads: list[gr.DownloadButton]
    film: gr.Button
    video: gr.Video
    video_file: gr.DownloadButton
    detected: gr.Gallery
    detected_box: gr.Accordion


def create_tab(studio: Studio, examples: list[str]) -> None:
    """Build the tab in the current Blocks context."""
    parts = _lay_out(studio, examples)
    _wire_making(studio, parts)
    _wire_expressions(studio, parts)
    _wire_files(studio, parts)


def _lay_out(studio: Studio, examples: list[str]) -> _Parts:
    avatar = gr.State(None, time_to_live=studio.store.lifetime, delete_callback=studio.store.discard)
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=300):
            photo = gr.Image(
                label="Photo", sources=["upload", "webcam", "clipboard"], type="filepath", height=360, elem_id="photo"
            )
            # Hand over the untouched file: the package accepts more formats than gradio, and explains what is wrong.
            photo.preprocess = lambda payload: payload and payload.path
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
            viewer = gr.Model3D(label="3D view: drag to turn, scroll to zoom", height=470, elem_id="viewer")
            status = gr.Markdown(INTRO, elem_id="status")
            with gr.Row(elem_classes="files"):
                downloads = [
                    gr.DownloadButton(f".{d}", interactive=False, size="sm", min_width=80, elem_id=f"download-{d}")
                    for d in DOWNLOADS
                ]
                video_file = gr.DownloadButton(
                    ".mp4", interactive=False, size="sm", min_width=80, elem_id="download-mp4"
                )
    with gr.Row(equal_height=False, visible=False) as result:
        with gr.Column(scale=4, min_width=300):
            picture = gr.Image(label="Picture", interactive=False, format="png", elem_id="picture")
            with gr.Row(elem_classes="sliders"):
                yaw = gr.Slider(-180, 180, value=0, step=1, label="From the side", buttons=[])
                pitch = gr.Slider(-60, 60, value=0, step=1, label="From above", buttons=[])
            film = gr.Button("Make a turntable video", elem_id="film")
            video = gr.Video(label="Turntable", interactive=False, autoplay=True, loop=True, elem_id="video")
        with gr.Column(scale=6, min_width=300):
            controls = expression_controls()
            apply = gr.Button("Use this expression in the 3D view and the files", elem_id="apply")
            with gr.Accordion("What was detected", open=True) as detected_box:
                detected = gr.Gallery(
                    columns=3, height="auto", show_label=False, object_fit="contain", buttons=[], elem_id="detected"
                )
    return _Parts(
        avatar, photo, create, saved, faces, status, viewer, result, controls, yaw, pitch, picture, apply, downloads,
        film, video, video_file, detected, detected_box,
    )  # fmt: skip


def _wire_making(studio: Studio, parts: _Parts) -> None:
    """Photo or file -> avatar, 3D view and files."""

    def shown(key: str, note: str) -> dict[Any, Any]:
        neutral = Expression.neutral()
        return {
            parts.avatar: key,
            parts.viewer: studio.view(key, neutral),
            parts.picture: studio.render(key, neutral),
            parts.status: f"{note} {studio.describe(key)['gaussians']:,} Gaussians.",
            parts.result: gr.Row(visible=True),
            parts.faces: gr.Gallery(visible=False),
            parts.video: None,
            parts.video_file: gr.DownloadButton(interactive=False),
            parts.controls.preset: "neutral",
            parts.yaw: 0,
            parts.pitch: 0,
            **dict(zip(parts.controls.sliders, slider_values("neutral"), strict=True)),
            **_download_updates(studio, parts, key, neutral),
        }

    def make(photo: str | None, old: str | None, face: int | None, progress: gr.Progress) -> dict[Any, Any]:
        if photo is None:
            raise gr.Error("Upload a photo first, take one with the webcam, or click the example.", title="No photo")

        def report(stage: str, share: float) -> None:
            progress(share, desc=stage.capitalize())

        try:
            key, tracked = studio.create(photo, face, report)
        except SeveralFacesFound as found:
            return _ask_which_face(parts, photo, found)
        studio.store.discard(old)
        return {
            **shown(key, f"Avatar made; the landmarks fit to {100 * tracked.error:.1f} % of the face height."),
            parts.detected: detection_pictures(tracked),
            parts.detected_box: gr.Accordion(visible=True),
        }

    @with_clear_errors
    def on_create(photo: str | None, old: str | None, progress: gr.Progress = gr.Progress()) -> dict[Any, Any]:  # noqa: B008
        return make(photo, old, None, progress)

    @with_clear_errors
    def on_face(
        photo: str | None,
        old: str | None,
        chosen: gr.SelectData,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> dict[Any, Any]:
        return make(photo, old, int(chosen.index), progress)

    @with_clear_errors
    def on_open(path: str, old: str | None) -> dict[Any, Any]:
        key = studio.open(path)
        studio.store.discard(old)
        return {**shown(key, f"Opened {Path(path).name}."), parts.detected_box: gr.Accordion(visible=False)}

    changed = [
        parts.avatar, parts.viewer, parts.picture, parts.status, parts.result, parts.faces, parts.video,
        parts.video_file, parts.yaw, parts.pitch, parts.detected, parts.detected_box, parts.controls.preset,
        *parts.controls.sliders, *parts.downloads,
    ]  # fmt: skip
    heavy: dict[str, Any] = {
        "outputs": changed,
        "show_progress_on": parts.viewer,
        "concurrency_id": COMPUTE,
        "concurrency_limit": 2,
        "api_visibility": "private",
    }
    parts.create.click(on_create, [parts.photo, parts.avatar], **heavy)
    parts.faces.select(on_face, [parts.photo, parts.avatar], **heavy)
    parts.saved.upload(on_open, [parts.saved, parts.avatar], **heavy)
    # A choice of faces belongs to the photo that it was offered for.
    parts.photo.change(lambda: gr.Gallery(visible=False), None, parts.faces, queue=False, api_visibility="private")
    parts.viewer.change(None, None, None, js=OPEN_LEVEL)


def _wire_expressions(studio: Studio, parts: _Parts) -> None:
    """Sliders and presets -> picture."""

    @with_clear_errors
    def on_slide(key: str, yaw: float, pitch: float, *values: float) -> Any:
        return studio.render(key, expression_of(values), yaw, pitch)

    sliders = parts.controls.sliders
    light: dict[str, Any] = {
        "concurrency_limit": 2,
        "show_progress": "hidden",
        "trigger_mode": "always_last",  # while a slider moves, draw its latest position only
        "api_visibility": "private",
    }
    draw = {"fn": on_slide, "inputs": [parts.avatar, parts.yaw, parts.pitch, *sliders], "outputs": parts.picture}
    gr.on([s.input for s in [*sliders, parts.yaw, parts.pitch]], **draw, **light)
    chosen = parts.controls.preset.input(
        slider_values, parts.controls.preset, sliders, queue=False, show_progress="hidden", api_visibility="private"
    )
    chosen.then(**draw, **light)


def _wire_files(studio: Studio, parts: _Parts) -> None:
    """Current expression -> 3D view, downloads and turntable."""
    sliders = parts.controls.sliders

    @with_clear_errors
    def on_apply(key: str, *values: float) -> dict[Any, Any]:
        expression = expression_of(values)
        return {parts.viewer: studio.view(key, expression), **_download_updates(studio, parts, key, expression)}

    @with_clear_errors
    def on_film(key: str, *values: float) -> dict[Any, Any]:
        path = studio.turntable(key, expression_of(values))
        return {parts.video: path, parts.video_file: gr.DownloadButton(value=path, interactive=True)}

    heavy: dict[str, Any] = {"concurrency_id": COMPUTE, "concurrency_limit": 2, "api_visibility": "private"}
    parts.apply.click(on_apply, [parts.avatar, *sliders], [parts.viewer, *parts.downloads], **heavy)
    parts.film.click(on_film, [parts.avatar, *sliders], [parts.video, parts.video_file], **heavy)


def _download_updates(studio: Studio, parts: _Parts, key: str, expression: Expression) -> dict[Any, Any]:
    return {
        button: gr.DownloadButton(value=studio.export(key, file_format, expression), interactive=True)
        for button, file_format in zip(parts.downloads, DOWNLOADS, strict=True)
    }


def _ask_which_face(parts: _Parts, photo: str, found: SeveralFacesFound) -> dict[Any, Any]:
    from flexavatar.images import read_image

    crops = [(crop, f"Face {i + 1}") for i, crop in enumerate(face_crops(read_image(photo), found.boxes))]
    return {
        parts.faces: gr.Gallery(value=crops, visible=True, selected_index=None),
        parts.status: f"There are {len(crops)} faces in this photo. **Click the one to take.**",
    }
