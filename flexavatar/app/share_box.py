"""Sharing an avatar by a link: the same control in every tab that shows one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import gradio as gr

from flexavatar.app.controls import STATIC
from flexavatar.app.downloads import one_id
from flexavatar.app.gpu import device_outside
from flexavatar.app.messages import with_clear_errors
from flexavatar.app.routes import owner_links
from flexavatar.app.studio import Studio
from flexavatar.app.work import AT_ONCE, SHORT, teller
from flexavatar.progress import Progress
from flexavatar.sharing import Receipt, SharedStore, ShareOptions, Visibility, share
from flexavatar.templates import render_template

AUDIENCES: list[tuple[str, Visibility]] = [("Anyone with the link", "link"), ("Only me", "private")]
LIFETIMES: dict[str, float | None] = {"1 day": 1, "7 days": 7, "30 days": 30, "1 year": 365, "No end": None}
DEFAULT_LIFETIME = "30 days"


def lifetimes(store: SharedStore) -> dict[str, float | None]:
    """How long an avatar may be shared: label and days."""
    longest = store.limits.days
    if longest is None:
        return LIFETIMES
    shorter = {label: days for label, days in LIFETIMES.items() if days is not None and days < longest}
    return {**shorter, f"{longest:g} day{'s' * (longest != 1)}": longest}


@dataclass
class Sharing:
    """What the share controls of all tabs have in common. Make it within a Blocks context."""

    studio: Studio
    store: SharedStore
    receipt: gr.JSON = field(default_factory=lambda: gr.JSON(visible=False))  # {id, token} of what was shared last
    # {id: token} that this browser keeps; in the page, if unseen, since only then it tells of changes.
    tokens: gr.JSON = field(default_factory=lambda: gr.JSON(visible="hidden"))

    def box(self, tab: str, avatar: Any) -> None:
        """Lay out the control in the current context. `avatar` holds an id, alone or as a list of one."""
        choices = lifetimes(self.store)
        with gr.Accordion("Share by a link", open=False, elem_id=f"{tab}-share"):
            name = gr.Textbox(
                label="Name", placeholder="Shown above the avatar", max_length=60, elem_id=f"{tab}-share-name"
            )
            with gr.Row():
                who = gr.Radio(AUDIENCES, value="link", label="Who can open it?", elem_classes="pills", min_width=230)
                life = gr.Radio(
                    [*choices],
                    value=DEFAULT_LIFETIME if DEFAULT_LIFETIME in choices else [*choices][-1],
                    label="For how long?",
                    elem_classes="pills",
                    min_width=230,
                )
            files = gr.Checkbox(False, label="Visitors may download the avatar's files")
            button = gr.Button("Make the link", variant="primary", elem_id=f"{tab}-share-button")
            link = gr.HTML(
                "",
                js_on_load=(STATIC / "share_link.js").read_text(encoding="utf-8"),
                elem_classes="bare",
                elem_id=f"{tab}-share-link",
            )

        @with_clear_errors
        def on_share(
            chosen: str | list[str] | None,
            called: str,
            visibility: Visibility,
            days: str,
            downloads: bool,
            progress: gr.Progress = gr.Progress(),  # noqa: B008
        ) -> tuple[str, dict[str, str]]:
            options = ShareOptions(called, visibility, choices[days], downloads)
            receipt = self._share(one_id(chosen), options, progress)
            return _told(receipt), {"id": receipt.avatar.id, "token": receipt.token}

        button.click(
            on_share, [avatar, name, who, life, files], [link, self.receipt], show_progress_on=link, **SHORT
        ).success(None, self.receipt, self.tokens, js="receipt => window.flexavatarKept.keepShared(receipt)")
        # A link belongs to the avatar that it was made for.
        avatar.change(lambda: "", None, link, **AT_ONCE)

    def wire(self, page: gr.Blocks) -> None:
        """Let `page` know what this browser has shared before."""
        page.load(None, None, self.tokens, js="() => window.flexavatarKept.shared()")

    def _share(self, key: str, options: ShareOptions, progress: gr.Progress) -> Receipt:
        stored = self.studio.store.get(key)
        told = Progress(teller(progress))
        told("making the bundle", 0.0)
        bundle = Path(self.studio.bundle(key))
        device = device_outside(self.studio.pipeline.device)
        named = options if options.name.strip() else replace(options, name=stored.name)
        return share(self.store, stored.avatar, bundle, named, device, told)


def _told(receipt: Receipt) -> str:
    return render_template(
        "app/share_link.html",
        name=receipt.avatar.name,
        private=receipt.avatar.visibility == "private",
        links=owner_links(receipt.avatar, receipt.token),
    )
