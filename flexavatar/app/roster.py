"""The avatars of one visitor: made in any tab, offered in all of them, and known to nobody else.

Their ids cannot be guessed, so whoever knows one may use the avatar. The browser keeps them (`browser.js`), which is
why a reloaded page finds its avatars again as long as the server has them.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from flexavatar.app.controls import active_html
from flexavatar.app.messages import with_clear_errors
from flexavatar.app.studio import Studio
from flexavatar.app.work import AT_ONCE, QUEUED, SHORT
from flexavatar.templates import render_template

MAX_AVATARS = 12  # avatars that a visitor can choose from, as in `browser.js`; the oldest goes first
THUMBNAIL_SIZE = 112  # pixels


class Roster:
    """The ids of a visitor's avatars, and the pickers that show them."""

    def __init__(self, studio: Studio, example: Path) -> None:
        self._studio = studio
        self._example = example
        self._pickers: list[tuple[gr.HTML, bool]] = []
        self._shown_in: list[tuple[gr.HTML, Callable[[list[dict[str, str]]], str]]] = []
        self.ids = gr.State([])
        self.restored = gr.State(None)  # the newest avatar of those that a reloaded page has found again
        self._kept = gr.JSON(visible=False)

    def picker(self, tab: str, multiple: bool = False) -> gr.HTML:
        """Cards to choose from, in the current Blocks context; its value is the list of chosen ids."""
        picker = active_html(
            "picker.js",
            [],
            _cards_html([], multiple),
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
                min_width=120,
                elem_id=f"{tab}-open",
            )
            example = gr.Button("Take the example", size="sm", min_width=120, elem_id=f"{tab}-example")

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
        for old in grown[:-MAX_AVATARS]:
            self._studio.store.discard(old)
        return grown[-MAX_AVATARS:]

    def remove(self, key: str) -> None:
        """Drop an avatar from the server at its owner's wish."""
        self._studio.store.discard(key)

    def show_in(self, view: gr.HTML, html: Callable[[list[dict[str, str]]], str]) -> None:
        """Keep `view`, an `active_html`, up to date: `html` makes its markup of the cards (id, name, picture)."""
        self._shown_in.append((view, html))

    def wire(self, page: gr.Blocks) -> None:
        """Show every change of the ids in all pickers, and find the ids again after a reload of `page`.

        Call it once, after the last `picker`.
        """

        def on_change(ids: list[str], *chosen: list[str]) -> list[Any]:
            known = self._studio.known(ids)
            cards = self._cards(known)
            shown = [
                gr.HTML(value=_still_chosen(known, was or [], multiple), markup=_cards_html(cards, multiple))
                for was, (_, multiple) in zip(chosen, self._pickers, strict=True)
            ]
            return [known, *shown, *(gr.HTML(value=None, markup=html(cards)) for _, html in self._shown_in)]

        def on_load(kept: Any) -> tuple[list[str], str | None]:
            known = self._studio.known([key for key in kept if isinstance(key, str)][-MAX_AVATARS:])
            return known, known[-1] if known else None

        pickers = [picker for picker, _ in self._pickers]
        shown_in = [view for view, _ in self._shown_in]
        self.ids.change(on_change, [self.ids, *pickers], [self._kept, *pickers, *shown_in], **AT_ONCE).then(
            None, self._kept, None, js="ids => window.flexavatarKept.keepAvatars(ids)"
        )
        page.load(
            on_load, self._kept, [self.ids, self.restored], js="() => [window.flexavatarKept.avatars()]", **QUEUED
        )
        # An open page counts as use.
        gr.Timer(self._studio.store.lifetime / 3).tick(self._touch, self.ids, None, **AT_ONCE)

    def _cards(self, ids: Sequence[str]) -> list[dict[str, str]]:
        stored = [self._studio.store.get(key) for key in ids]
        names = [each.name for each in stored]
        return [
            {
                "id": key,
                "name": names[i] if names[:i].count(names[i]) == 0 else f"{names[i]} {names[:i].count(names[i]) + 1}",
                "picture": data_url(each.avatar.thumbnail, THUMBNAIL_SIZE),
            }
            for i, (key, each) in enumerate(zip(ids, stored, strict=True))
        ]

    def _touch(self, ids: Sequence[str]) -> None:
        self._studio.known(ids)


def _cards_html(cards: list[dict[str, str]], multiple: bool) -> str:
    return render_template("app/picker.html", avatars=cards, multiple=multiple)


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
