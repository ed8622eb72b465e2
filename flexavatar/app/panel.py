"""An avatar in 3D with its files: the same in every tab."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from flexavatar.app.downloads import DownloadMenu, download_menu
from flexavatar.app.routes import session_viewer_url
from flexavatar.app.share_box import Sharing
from flexavatar.app.studio import Studio
from flexavatar.templates import render_template


def stage(elem_id: str, hint: str, whole: bool = False) -> gr.HTML:
    """The viewer; its value is what `staged` gives. `whole` shows its sliders, clips and webcam."""
    return gr.HTML(staged(None, hint, whole), js_on_load="", elem_id=elem_id, elem_classes="bare")


def staged(key: str | None, hint: str = "", whole: bool = False) -> str:
    """The value with which a `stage` shows an avatar, or the hint where there is none."""
    address = key and session_viewer_url(key, {} if whole else {"ui": "minimal"})
    return render_template("app/stage.html", address=address, hint=hint, whole=whole)


@dataclass(frozen=True)
class AvatarPanel:
    """The components of one tab that show an avatar."""

    avatar: gr.State  # its id in the studio's store
    view: gr.HTML
    status: gr.Markdown
    actions: gr.Row  # what can be done with an avatar once there is one
    downloads: DownloadMenu

    @property
    def outputs(self) -> list[Any]:
        """The components that `shown` updates."""
        return [self.avatar, self.view, self.status, self.actions]

    def shown(self, studio: Studio, key: str, note: str) -> dict[Any, Any]:
        """Updates of the outputs that show an avatar of the studio; `note` begins the status."""
        return {
            self.avatar: key,
            self.view: staged(key),
            self.status: f"{note} {studio.describe(key)['gaussians']:,} Gaussians.",
            self.actions: gr.Row(visible=True),
        }


def avatar_panel(sharing: Sharing, tab: str, hint: str, with_expression: bool = False) -> AvatarPanel:
    """Lay out the panel in the current Blocks context.

    `with_expression` as in `download_menu`; the menu waits for its `wire`.
    """
    avatar = gr.State(None)
    view = stage(f"{tab}-view", hint)
    status = gr.Markdown(elem_id=f"{tab}-status", elem_classes="status")
    with gr.Row(visible=False, equal_height=False) as actions:
        downloads = avatar_actions(sharing, tab, avatar, with_expression)
    return AvatarPanel(avatar, view, status, actions, downloads)


def avatar_actions(sharing: Sharing, tab: str, avatar: Any, with_expression: bool = False) -> DownloadMenu:
    """Lay out the two menus of an avatar side by side, in the current row: its files, and sharing."""
    with gr.Column(min_width=300):
        downloads = download_menu(tab, with_expression)
    with gr.Column(min_width=300):
        sharing.box(tab, avatar)
    return downloads
