"""The My avatars tab: what this browser has shared, and what it is working on. Nobody else can list either."""

from __future__ import annotations

import time
from html import escape
from typing import Any

import gradio as gr

from flexavatar.app.messages import with_clear_errors
from flexavatar.app.roster import Roster
from flexavatar.app.routes import owner_links
from flexavatar.app.share_box import WHO, Sharing, lives
from flexavatar.app.work import QUEUED, SHORT
from flexavatar.sharing import NotShared, SharedAvatar

# A second press of "Delete" deletes: windows that ask are not allowed in frames of other sites.
_GALLERY = """<div class="own" role="list" aria-label="Shared avatars">${avatars.length ? avatars.map(a => `
<article role="listitem" aria-label="${a.name}" data-id="${a.id}">
<a class="picture" href="${a.page}" target="_blank" rel="noopener" aria-label="Open ${a.name}">
<img src="${a.thumbnail}" alt="" width="256" height="256" loading="lazy"></a>
<h3>${a.name}</h3><p>${a.about}</p>
<div class="own-actions"><a href="${a.page}" target="_blank" rel="noopener">Open</a>
<button type="button" data-copy="${new URL(a.page, location)}">Copy link</button>
<button type="button" class="danger" data-action="delete">Delete</button></div>
<details><summary>Change</summary>
<label>Who can open it <select data-action="visibility">${who.map(w =>
`<option value="${w.value}" ${w.value === a.visibility ? "selected" : ""}>${w.label}</option>`).join("")}
</select></label>
<label>Keep it <select data-action="life"><option value="">${a.until}</option>${lives.map(l =>
`<option value="${l}">${l === "No end" ? "without end" : "for " + l + " from now"}</option>`).join("")}</select></label>
<button type="button" class="quiet" data-copy="${new URL(a.delete, location)}">Copy delete link</button>
</details></article>`).join("") : `<p>${hint}</p>`}</div>"""
_ACT = """const act = (target, value) => {
    const id = target.closest("[data-id]").dataset.id;
    props.value = { id, action: target.dataset.action, value };
    trigger("submit");
};
element.addEventListener("change", event => {
    const { target } = event;
    if (!target.dataset.action || !target.value) return;
    act(target, target.value);
    if (target.dataset.action === "life") target.value = ""; // the first option tells the new date
});
element.addEventListener("click", event => {
    const button = event.target.closest("button[data-action]");
    if (!button) return;
    if (button.classList.contains("sure")) return act(button, "");
    button.classList.add("sure");
    button.textContent = "Delete for good?";
    setTimeout(() => { button.classList.remove("sure"); button.textContent = "Delete"; }, 5000);
});"""
_WORKING = """<div class="own small" role="list" aria-label="Avatars being worked on">
${avatars.length ? avatars.map(a => `
<article role="listitem" aria-label="${a.name}" data-id="${a.id}">
<img src="${a.picture}" alt="" width="112" height="112">
<h3>${a.name}</h3>
<button type="button" class="quiet" aria-label="Remove ${a.name} from the server">Remove</button></article>`).join("")
: `<p>${hint}</p>`}</div>"""
_REMOVE = """element.addEventListener("click", event => {
    const button = event.target.closest("button");
    if (!button) return;
    props.value = button.closest("[data-id]").dataset.id;
    trigger("submit");
});"""
NOTHING_SHARED = "Nothing shared yet. Make an avatar, then open “Share by a link” below it."
NOTHING_MADE = "None at the moment. Make one in another tab."


def gallery_tab(sharing: Sharing, roster: Roster, tab: gr.Tab) -> None:
    """Build `tab`, which is the current Blocks context."""
    gr.Markdown(
        "### Shared by a link\nOnly this browser can list these: it holds their owner's tokens. Clearing its data "
        "forgets them; the avatars then stay until they expire.",
        elem_classes="explained",
    )
    gallery = gr.HTML(
        None, html_template=_GALLERY, js_on_load=_ACT, **_props(sharing, []), elem_id="gallery", elem_classes="bare"
    )
    gr.Markdown(
        "### In the works\nOffered in all tabs, also after reloading the page. The server keeps them for an hour after "
        "their last use: share or download what shall last.",
        elem_classes="explained",
    )
    working = gr.HTML(
        None, html_template=_WORKING, js_on_load=_REMOVE, avatars=[], hint=NOTHING_MADE, elem_id="working",
        elem_classes="bare",
    )  # fmt: skip
    gone = gr.JSON(visible=False)

    @with_clear_errors
    def on_tokens(tokens: dict[str, str] | None) -> gr.HTML:
        return gr.HTML(value=None, **_props(sharing, _mine(sharing, tokens or {})))

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
                sharing.store.keep_for(avatar_id, token, lives(sharing.store)[asked["value"]])
        except NotShared:  # deleted or expired since the gallery was drawn
            gr.Info("This avatar is gone already.")
        left = _mine(sharing, tokens)
        return gr.HTML(value=None, **_props(sharing, left)), {"id": avatar_id if action == "delete" else ""}

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
    roster.show_in(working, lambda cards: {"avatars": cards, "hint": NOTHING_MADE})


def _props(sharing: Sharing, avatars: list[dict[str, str]]) -> dict[str, Any]:
    """All values of the template: an update replaces them together."""
    return {
        "avatars": avatars,
        "who": [{"label": label, "value": value} for label, value in WHO],
        "lives": [*lives(sharing.store)],
        "hint": NOTHING_SHARED,
    }


def _mine(sharing: Sharing, tokens: dict[str, str]) -> list[dict[str, str]]:
    return [_card(avatar, tokens[avatar.id]) for avatar in sharing.store.list_mine(tokens)]


def _card(avatar: SharedAvatar, token: str) -> dict[str, str]:
    links = owner_links(avatar, token)
    until = "without end" if avatar.expires is None else f"until {_date(avatar.expires)}"
    who = next(label for label, value in WHO if value == avatar.visibility)
    return {
        "id": avatar.id,
        "name": escape(avatar.name),
        "about": f"{who}, {until}",
        "visibility": avatar.visibility,
        "until": until,
        "page": links.page,
        "delete": links.delete,
        "thumbnail": links.thumbnail,
    }


def _visibility(value: str) -> Any:
    return next(each for _, each in WHO if each == value)


def _date(seconds: float) -> str:
    when = time.gmtime(seconds)
    return f"{when.tm_mday} {time.strftime('%b %Y', when)}"
