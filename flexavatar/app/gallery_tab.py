"""The My avatars tab: what this browser has shared, and what it is working on. Nobody else can list either."""

from __future__ import annotations

import time
from typing import Any

import gradio as gr

from flexavatar.app.controls import active_html
from flexavatar.app.messages import with_clear_errors
from flexavatar.app.roster import Roster
from flexavatar.app.routes import owner_links
from flexavatar.app.share_box import AUDIENCES, Sharing, lifetimes
from flexavatar.app.work import QUEUED, SHORT
from flexavatar.sharing import NotShared, SharedAvatar
from flexavatar.templates import render_template


def gallery_tab(sharing: Sharing, roster: Roster, tab: gr.Tab) -> None:
    """Build `tab`, which is the current Blocks context."""
    gr.Markdown(
        "### Shared by a link\nOnly this browser can list these: it holds their owner's tokens. Clearing its data "
        "forgets them; the avatars then stay until they expire.",
        elem_classes="explained",
    )
    gallery = active_html("gallery.js", None, _gallery(sharing, {}), elem_id="gallery", elem_classes="bare")
    gr.Markdown(
        "### In the works\nOffered in all tabs, also after reloading the page. The server keeps them for an hour after "
        "their last use: share or download what shall last.",
        elem_classes="explained",
    )
    working = active_html("working.js", None, _working([]), elem_id="working", elem_classes="bare")
    gone = gr.JSON(visible=False)

    @with_clear_errors
    def on_tokens(tokens: dict[str, str] | None) -> gr.HTML:
        return gr.HTML(value=None, markup=_gallery(sharing, tokens or {}))

    @with_clear_errors
    def on_act(asked: dict[str, str], tokens: dict[str, str]) -> tuple[gr.HTML, dict[str, str]]:
        avatar_id, action = asked["id"], asked["action"]
        token = tokens.get(avatar_id)
        try:
            if action == "delete":
                sharing.store.delete(avatar_id, token)
            elif action == "visibility":
                sharing.store.set_visibility(avatar_id, token, _visibility(asked["value"]))
            else:
                sharing.store.keep_for(avatar_id, token, lifetimes(sharing.store)[asked["value"]])
        except NotShared:  # deleted or expired since the gallery was drawn
            gr.Info("This avatar is gone already.")
        return gr.HTML(value=None, markup=_gallery(sharing, tokens)), {"id": avatar_id if action == "delete" else ""}

    def on_remove(key: str, ids: list[str]) -> tuple[list[str], dict[str, str]]:
        roster.remove(key)
        return [each for each in ids if each != key], {"id": key}

    # Also when the tab is opened: avatars expire, and other tabs of the browser share and delete.
    gr.on([sharing.tokens.change, tab.select], on_tokens, sharing.tokens, gallery, show_progress="hidden", **SHORT)
    gallery.submit(on_act, [gallery, sharing.tokens], [gallery, gone], show_progress_on=gallery, **SHORT).success(
        None, gone, sharing.tokens,
        js="({ id }) => window.flexavatarKept.dropShared(id)",
    )  # fmt: skip
    removed = working.submit(on_remove, [working, roster.ids], [roster.ids, gone], **QUEUED)
    removed.success(None, gone, None, js="({ id }) => window.flexavatarKept.dropAvatar(id)")
    roster.show_in(working, _working)


def _gallery(sharing: Sharing, tokens: dict[str, str]) -> str:
    avatars = [_card(avatar, tokens[avatar.id]) for avatar in sharing.store.list_mine(tokens)]
    return render_template("app/gallery.html", avatars=avatars, who=AUDIENCES, lifetimes=lifetimes(sharing.store))


def _working(cards: list[dict[str, str]]) -> str:
    return render_template("app/working.html", avatars=cards)


def _card(avatar: SharedAvatar, token: str) -> dict[str, Any]:
    return {
        "id": avatar.id,
        "name": avatar.name,
        "who": next(label for label, value in AUDIENCES if value == avatar.visibility),
        "until": "without end" if avatar.expires is None else f"until {_date(avatar.expires)}",
        "links": owner_links(avatar, token),
    }


def _visibility(value: str) -> Any:
    return next(each for _, each in AUDIENCES if each == value)


def _date(seconds: float) -> str:
    when = time.gmtime(seconds)
    return f"{when.tm_mday} {time.strftime('%b %Y', when)}"
