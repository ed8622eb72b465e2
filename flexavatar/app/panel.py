"""An avatar in 3D with its files: the same in every tab."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from flexavatar.app.controls import expression_of
from flexavatar.app.messages import with_clear_errors
from flexavatar.app.roster import data_url
from flexavatar.app.routes import viewer_url
from flexavatar.app.studio import Studio
from flexavatar.app.work import SHORT
from flexavatar.expression import Expression

DOWNLOADS = {
    "ply": "Gaussian splats for 3D programs, with this expression",
    "spz": "Gaussian splats, compressed, with this expression",
    "splat": "Gaussian splats for web viewers, with this expression",
    "flexbundle": "All expressions, for the browser viewer",
    "html": "A page of its own: opens from a file, without a network",
    "mp4": "A video that turns once around the head",
    "flexavatar": "Everything, to open it here again",
}
POSTER = 384  # pixels

# The poster stays until the viewer in the frame has drawn, and for good where there is no WebGL.
_STAGE = """<div class="stage ${kind}">${value ? `
<div class="poster" style="background-image: url(${value.poster})"></div>
<iframe src="${value.viewer}" title="The avatar in 3D"
 allow="camera; fullscreen"></iframe>` : `<p>${hint}</p>`}</div>"""
_SHOW = """window.addEventListener("message", event => {
    const frame = element.querySelector("iframe");
    if (!frame || event.source !== frame.contentWindow || event.data?.source !== "flexavatar") return;
    if (event.data.type === "loaded") frame.classList.add("drawn");
});"""
# The file comes as {url, orig_name}; a link that is clicked at once is what a download button is, too.
_SAVE = """file => {
    const link = document.createElement("a");
    link.href = file.url;
    link.download = file.orig_name;
    link.click();
}"""


def stage(elem_id: str, hint: str, whole: bool = False) -> gr.HTML:
    """The viewer; its value is what `staged` gives, or None. `whole` shows its sliders, clips and webcam."""
    return gr.HTML(
        None,
        html_template=_STAGE,
        js_on_load=_SHOW,
        hint=hint,
        kind="whole" if whole else "small",
        elem_id=elem_id,
        elem_classes="bare",
    )


def staged(studio: Studio, key: str, whole: bool = False) -> dict[str, str]:
    """The value with which a `stage` shows an avatar."""
    viewer = viewer_url(f"session/{key}/bundle", {} if whole else {"ui": "minimal"})
    return {"viewer": viewer, "poster": data_url(studio.store.get(key).avatar.thumbnail, POSTER)}


@dataclass(frozen=True)
class AvatarPanel:
    """The components of one tab that show an avatar."""

    avatar: gr.State  # its id in the studio's store
    view: gr.HTML
    status: gr.Markdown
    buttons: dict[str, gr.Button]  # by format
    row: gr.Row
    file: gr.File

    @property
    def outputs(self) -> list[Any]:
        """What `shown` changes."""
        return [self.avatar, self.view, self.status, self.row]

    def shown(self, studio: Studio, key: str, note: str) -> dict[Any, Any]:
        return {
            self.avatar: key,
            self.view: staged(studio, key),
            self.status: f"{note} {studio.describe(key)['gaussians']:,} Gaussians.",
            self.row: gr.Row(visible=True),
        }

    def wire(self, studio: Studio, sliders: Sequence[gr.Slider] = ()) -> None:
        """Let the buttons hand out files, with the expression of the sliders or a neutral one."""
        for file_format, button in self.buttons.items():

            @with_clear_errors
            def on_download(key: str, *values: float, file_format: str = file_format) -> str:
                expression = expression_of(values) if values else Expression.neutral()
                return studio.export(key, file_format, expression)

            ready = button.click(on_download, [self.avatar, *sliders], self.file, show_progress_on=button, **SHORT)
            ready.success(None, self.file, None, js=_SAVE)


def avatar_panel(tab: str, hint: str) -> AvatarPanel:
    """Lay out the panel in the current Blocks context."""
    avatar = gr.State(None)
    view = stage(f"{tab}-view", hint)
    status = gr.Markdown(elem_id=f"{tab}-status", elem_classes="status")
    with gr.Row(elem_classes="files", visible=False) as row:
        buttons = {
            name: gr.Button(f".{name}", size="sm", min_width=70, elem_id=f"{tab}-{name}", elem_classes="download")
            for name in DOWNLOADS
        }
    return AvatarPanel(avatar, view, status, buttons, row, gr.File(visible=False))
