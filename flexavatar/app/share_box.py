"""Sharing an avatar by a link: the same control in every tab that shows one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from flexavatar.app.downloads import one_id
from flexavatar.app.gpu import device_outside
from flexavatar.app.messages import with_clear_errors
from flexavatar.app.routes import owner_links
from flexavatar.app.studio import Studio
from flexavatar.app.work import AT_ONCE, SHORT, teller
from flexavatar.sharing import Receipt, SharedStore, ShareOptions, Visibility, share

WHO: list[tuple[str, Visibility]] = [("Anyone with the link", "link"), ("Only me", "private")]
LIVES: dict[str, float | None] = {"1 day": 1, "7 days": 7, "30 days": 30, "1 year": 365, "No end": None}
USUAL = "30 days"

_LINK = """${value ? `<div class="share-result" role="status">
<p><b>${value.title}</b></p>
<div class="share-link">
<input type="text" readonly aria-label="Link to the avatar" value="${new URL(value.page, location)}">
<button type="button" data-copy="${new URL(value.page, location)}">Copy link</button>
<a href="${value.page}" target="_blank" rel="noopener">Open</a></div>
<p class="soft">${value.note} This browser remembers it under <b>My avatars</b>, where you can change or delete it. To
delete it from elsewhere, keep its <a href="${value.delete}" target="_blank" rel="noopener">delete link</a>
<button type="button" class="quiet" data-copy="${new URL(value.delete, location)}">Copy delete link</button></p>
</div>` : ""}"""


def lives(store: SharedStore) -> dict[str, float | None]:
    """How long an avatar may be shared: label and days."""
    longest = store.limits.days
    if longest is None:
        return LIVES
    shorter = {label: days for label, days in LIVES.items() if days is not None and days < longest}
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
        choices = lives(self.store)
        with gr.Accordion("Share by a link", open=False, elem_id=f"{tab}-share"):
            name = gr.Textbox(
                label="Name", placeholder="Shown above the avatar", max_length=60, elem_id=f"{tab}-share-name"
            )
            with gr.Row():
                who = gr.Radio(WHO, value="link", label="Who can open it?", elem_classes="pills", min_width=230)
                life = gr.Radio(
                    [*choices],
                    value=USUAL if USUAL in choices else [*choices][-1],
                    label="For how long?",
                    elem_classes="pills",
                    min_width=230,
                )
            files = gr.Checkbox(False, label="Visitors may download the avatar's files")
            button = gr.Button("Make the link", variant="primary", elem_id=f"{tab}-share-button")
            link = gr.HTML(None, html_template=_LINK, elem_classes="bare", elem_id=f"{tab}-share-link", js_on_load="")

        @with_clear_errors
        def on_share(
            chosen: str | list[str] | None,
            called: str,
            visibility: Visibility,
            days: str,
            downloads: bool,
            progress: gr.Progress = gr.Progress(),  # noqa: B008
        ) -> tuple[dict[str, str], dict[str, str]]:
            options = ShareOptions(called, visibility, choices[days], downloads)
            receipt = self._share(one_id(chosen), options, progress)
            return _told(receipt), {"id": receipt.avatar.id, "token": receipt.token}

        button.click(
            on_share, [avatar, name, who, life, files], [link, self.receipt], show_progress_on=link, **SHORT
        ).success(None, self.receipt, self.tokens, js="receipt => window.flexavatarKept.keepShared(receipt)")
        # A link belongs to the avatar that it was made for.
        avatar.change(lambda: None, None, link, **AT_ONCE)

    def wire(self, page: gr.Blocks) -> None:
        """Let `page` know what this browser has shared before."""
        page.load(None, None, self.tokens, js="() => window.flexavatarKept.shared()")

    def _share(self, key: str, options: ShareOptions, progress: gr.Progress) -> Receipt:
        stored = self.studio.store.get(key)
        tell = teller(progress)
        tell("making the bundle", 0.0)
        bundle = Path(self.studio.bundle(key))
        device = device_outside(self.studio.pipeline.device)
        named = options if options.name.strip() else replace(options, name=stored.name)
        return share(self.store, stored.avatar, bundle, named, device, tell)


def _told(receipt: Receipt) -> dict[str, str]:
    links = owner_links(receipt.avatar, receipt.token)
    private = receipt.avatar.visibility == "private"
    return {
        "title": f"{escape(receipt.avatar.name)} has a link{' of your own' if private else ''}.",
        "page": links.page,
        "delete": links.delete,
        "note": "Only you can open it: do not pass this link on, it can also delete the avatar." if private else "",
    }
