"""The download menu: every file of an avatar in one place, the same in all tabs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from flexavatar.app.controls import active_html
from flexavatar.app.messages import with_clear_errors
from flexavatar.app.studio import Studio
from flexavatar.app.work import SHORT
from flexavatar.expression import Expression
from flexavatar.templates import render_template

DOWNLOADS = {
    "ply": "Splats for 3D programs",
    "spz": "Splats, compressed",
    "splat": "Splats for web viewers",
    "mp4": "Turntable video",
    "html": "Interactive page, works offline",
    "flexbundle": "Animated, for the web viewer",
    "flexavatar": "Everything, to open here again",
}
AS_SHOWN, NEUTRAL = "As shown", "Neutral"

# The file comes as {url, orig_name}; a link that is clicked at once is what a download button is, too.
_SAVE = """file => {
    const link = document.createElement("a");
    link.href = file.url;
    link.download = file.orig_name;
    link.click();
}"""


@dataclass(frozen=True)
class DownloadMenu:
    """The components of one menu."""

    menu: gr.HTML
    expression: gr.Radio | None  # whether splats and video show the present expression or a neutral one
    file: gr.File

    def wire(
        self,
        studio: Studio,
        avatar: Any,
        shown: Sequence[Any] = (),
        expression_of: Callable[[tuple[Any, ...]], Expression] | None = None,
        js: str | None = None,
    ) -> None:
        """Let the menu hand out files of the avatar whose id `avatar` holds, alone or as a list of one.

        `expression_of` makes the present expression of the values of `shown`. `js` prepares the inputs: format,
        avatar, AS_SHOWN or NEUTRAL, and `shown`.
        """

        @with_clear_errors
        def on_choose(file_format: str, chosen: str | list[str], which: str, *values: Any) -> str:
            expression = expression_of(values) if expression_of and which == AS_SHOWN else Expression.neutral()
            return studio.export(one_id(chosen), file_format, expression)

        which = gr.State(NEUTRAL) if self.expression is None else self.expression
        ready = self.menu.input(
            on_choose, [self.menu, avatar, which, *shown], self.file, js=js, show_progress_on=self.menu, **SHORT
        )
        ready.success(None, self.file, None, js=_SAVE)


def download_menu(tab: str, with_expression: bool = False) -> DownloadMenu:
    """Lay out the menu in the current Blocks context."""
    expression = None
    with gr.Accordion("Download", open=False, elem_id=f"{tab}-download"):
        if with_expression:
            expression = gr.Radio(
                [AS_SHOWN, NEUTRAL],
                value=AS_SHOWN,
                label="Expression in .ply, .spz, .splat and .mp4",
                elem_classes="pills",
                elem_id=f"{tab}-download-expression",
            )
        menu = active_html(
            "downloads.js", "", render_template("app/downloads.html", tab=tab, formats=DOWNLOADS), elem_classes="bare"
        )
    return DownloadMenu(menu, expression, gr.File(visible=False))


def one_id(chosen: str | Sequence[str] | None) -> str:
    """The avatar that a panel's state or a picker holds. Raises ValueError if there is none."""
    key = chosen if isinstance(chosen, str) else next(iter(chosen or ()), None)
    if not key:
        raise ValueError("Choose an avatar first, or take the example.")
    return key
