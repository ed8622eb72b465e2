"""Templates: whatever names people give to avatars and files, the HTML stays the app's own."""

from __future__ import annotations

from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import jinja2
import pytest

from flexavatar.sharing import SharedAvatar
from flexavatar.sharing.pages import Links, avatar_page, delete_page, unavailable_page
from flexavatar.templates import render_template

HOSTILE = """<script>alert(1)</script>"><img src=x onerror='alert(2)'>${alert(3)}{{alert(4)}}`"""


class Elements(HTMLParser):
    """What a browser makes of a page, as far as it matters here."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}


def pages(text: str) -> dict[str, str]:
    """Every template that holds what people write, or what comes from an address."""
    owner = SimpleNamespace(page=text, thumbnail=text, delete=text)
    card = {"id": text, "name": text, "picture": text, "who": text, "until": text, "links": owner}
    avatar = SharedAvatar(text, text, 0.0, 1.0, "private", True, text, {})
    links = Links(text, text, {"avatar.ply": text}, text, text, text)
    values: dict[str, dict[str, Any]] = {
        "account": {"figures": [(text, text)], "held_out": 2, "dropped": {text: text}, "used": [text]},
        "stage": {"address": text, "hint": text, "whole": True},
        "picker": {"avatars": [card], "multiple": True},
        "gallery": {"avatars": [card], "who": [(text, text)], "lifetimes": {text: 1}},
        "working": {"avatars": [card]},
        "share_link": {"name": text, "private": True, "links": owner},
        "downloads": {"tab": text, "formats": {text: text}},
    }
    return {
        **{name: render_template(f"app/{name}.html", **each) for name, each in values.items()},
        "avatar": avatar_page(avatar, links),
        "delete": delete_page(avatar, text, text, text),
        "unavailable": unavailable_page(text),
    }


@pytest.mark.parametrize("name", [*pages("plain")])
def test_hostile_text_adds_neither_elements_nor_attributes(name: str) -> None:
    plain, hostile = Elements(pages("plain")[name]), Elements(pages(HOSTILE)[name])
    assert hostile.tags == plain.tags and hostile.attributes == plain.attributes
    assert "script" not in hostile.tags and "onerror" not in hostile.attributes


def test_a_forgotten_value_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError, match="hint"):
        render_template("app/stage.html", address=None, whole=False)
