"""The avatars of one visitor: made in any tab, offered in all of them, and known to nobody else."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from flexavatar.app.messages import with_clear_errors
from flexavatar.app.studio import Studio
from flexavatar.app.work import AT_ONCE, SHORT

MOST = 12  # avatars that a visitor can choose from; the oldest goes first
CARD = 112  # pixels

_CARDS = """<div class="cards" role="group" aria-label="Your avatars">${avatars.length ? avatars.map(a => `
<button type="button" data-id="${a.id}" aria-pressed="${value.includes(a.id)}" title="${a.name}">
<img src="${a.picture}" alt=""><span>${a.name}</span>
${multiple && value.includes(a.id) ? `<b>${value.indexOf(a.id) + 1}</b>` : ""}</button>`).join("")
: `<p>${hint}</p>`}</div>"""
_CHOOSE = """element.addEventListener("click", event => {
    const card = event.target.closest("[data-id]");
    if (!card) return;
    const id = card.dataset.id, chosen = props.value ?? [];
    const others = chosen.filter(other => other !== id);
    props.value = !props.multiple ? [id] : others.length < chosen.length ? others : [...chosen, id];
    trigger("input");
});"""


class Roster:
    """The ids of a visitor's avatars, and the pickers that show them."""

    def __init__(self, studio: Studio, example: Path) -> None:
        self._studio = studio
        self._example = example
        self._pickers: list[tuple[gr.HTML, bool]] = []
        self.ids = gr.State([], time_to_live=studio.store.lifetime, delete_callback=self._forget)

    def picker(self, tab: str, multiple: bool = False) -> gr.HTML:
        """Cards to choose from, in the current Blocks context; its value is the list of chosen ids."""
        picker = gr.HTML(
            [],
            html_template=_CARDS,
            js_on_load=_CHOOSE,
            **_props([], multiple),
            elem_id=f"{tab}-avatars",
            label="Avatars" if multiple else "Avatar",
            show_label=True,
            container=True,
        )
        with gr.Row(elem_classes="files"):
            saved = gr.UploadButton(
                "Open .flexavatar files",
                file_types=[".flexavatar"],
                file_count="multiple",
                size="sm",
                elem_id=f"{tab}-open",
            )
            example = gr.Button("Take the example", size="sm", elem_id=f"{tab}-example")

        @with_clear_errors
        def on_open(ids: list[str], paths: list[str]) -> list[str]:
            for path in paths:
                ids = self.added(ids, self._studio.open(path))
            return ids

        @with_clear_errors
        def on_example(ids: list[str]) -> list[str]:
            return self.added(ids, self._studio.create(self._example)[0])

        saved.upload(on_open, [self.ids, saved], self.ids, show_progress_on=picker, **SHORT)
        example.click(on_example, self.ids, self.ids, show_progress_on=picker, **SHORT)
        self._pickers.append((picker, multiple))
        return picker

    def added(self, ids: Sequence[str], key: str) -> list[str]:
        """The ids with one more; the oldest is dropped from the server when there are too many."""
        grown = [*ids, key]
        for old in grown[:-MOST]:
            self._studio.store.discard(old)
        return grown[-MOST:]

    def wire(self) -> None:
        """Show every change of the ids in all pickers. Call it once, after the last `picker`."""

        def on_change(ids: list[str], *chosen: list[str]) -> list[Any]:
            known = self._studio.known(ids)
            cards = self._cards(known)
            return [
                gr.HTML(value=_still_chosen(known, was or [], multiple), **_props(cards, multiple))
                for was, (_, multiple) in zip(chosen, self._pickers, strict=True)
            ]

        pickers = [picker for picker, _ in self._pickers]
        self.ids.change(on_change, [self.ids, *pickers], pickers, **AT_ONCE)

    def _cards(self, ids: Sequence[str]) -> list[dict[str, str]]:
        stored = [self._studio.store.get(key) for key in ids]
        names = [each.name for each in stored]
        return [
            {
                "id": key,
                "name": names[i] if names[:i].count(names[i]) == 0 else f"{names[i]} {names[:i].count(names[i]) + 1}",
                "picture": data_url(each.avatar.thumbnail, CARD),
            }
            for i, (key, each) in enumerate(zip(ids, stored, strict=True))
        ]

    def _forget(self, ids: Sequence[str]) -> None:
        for key in ids:
            self._studio.store.discard(key)


def _props(cards: list[dict[str, str]], multiple: bool) -> dict[str, Any]:
    """All values of the template: an update replaces them together."""
    return {
        "avatars": cards,
        "multiple": multiple,
        "hint": "No avatars yet. Make one in another tab, open a saved one, or take the example.",
    }


def _still_chosen(known: list[str], was: list[str], multiple: bool) -> list[str]:
    """The newest avatar; where several are chosen, it joins until there are two."""
    if not multiple:
        return known[-1:]
    kept = [key for key in was if key in known]
    return kept + [key for key in known[-1:] if len(kept) < 2 and key not in kept]


def data_url(image: np.ndarray, size: int) -> str:
    """A picture uint8 [H, W, 3] as a small JPEG within a URL."""
    buffer = io.BytesIO()
    Image.fromarray(image).resize((size, size), Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
