"""The pages behind a link, as HTML without scripts."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from markupsafe import Markup

from flexavatar.sharing.card import CARD_SIZE
from flexavatar.sharing.store import SharedAvatar
from flexavatar.templates import render_template, template_source

# Spaces show an app within a page of huggingface.co.
FRAMED_BY = "frame-ancestors 'self' https://huggingface.co https://*.huggingface.co https://*.hf.space"
_DOWNLOAD_LABELS = {
    "avatar.flexavatar": "Avatar (.flexavatar)",
    "avatar.ply": "Splats (.ply)",
    "avatar.spz": "Splats (.spz)",
    "avatar.flexbundle": "Animated (.flexbundle)",
    "avatar.html": "One page (.html)",
    "turntable.mp4": "Video (.mp4)",
}


@dataclass(frozen=True)
class Links:
    """Addresses in the page of an avatar; relative to the page unless said otherwise."""

    home: str
    viewer: str
    downloads: Mapping[str, str]  # by file name
    report: str | None
    page_address: str  # absolute, as are the next two
    card_address: str


@cache
def page_policy() -> str:
    """The Content-Security-Policy of these pages: their own style and pictures, the viewer, and no script."""
    style = base64.b64encode(hashlib.sha256(_style().encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{style}'; img-src 'self'; frame-src 'self'; form-action 'self'; "
        f"base-uri 'none'; {FRAMED_BY}"
    )


def avatar_page(avatar: SharedAvatar, links: Links) -> str:
    """The page of a shared avatar: the viewer, downloads where they are allowed, and tags for previews of the link."""
    about = "A 3D head, live in your browser: turn it, and drive it with your webcam."
    width, height = CARD_SIZE
    properties = {
        "og:type": "website",
        "og:site_name": "FlexAvatar",
        "og:title": avatar.name,
        "og:description": about,
        "og:url": links.page_address,
        "og:image": links.card_address,
        "og:image:type": "image/jpeg",
        "og:image:width": str(width),
        "og:image:height": str(height),
        "og:image:alt": f"Three views of {avatar.name}",
    }
    names = {
        "description": about,
        "twitter:card": "summary_large_image",
        "twitter:title": avatar.name,
        "twitter:description": about,
        "twitter:image": links.card_address,
    }
    return _page(
        "avatar",
        avatar=avatar,
        links=links,
        properties=properties,
        names=names,
        downloads={_DOWNLOAD_LABELS[file]: url for file, url in links.downloads.items()},
        made=_date(avatar.created),
        until=None if avatar.expires is None else _date(avatar.expires),
    )


def delete_page(avatar: SharedAvatar, token: str, action: str, card: str) -> str:
    """The page that asks its owner whether an avatar shall be deleted. `action` and `card` are relative addresses."""
    return _page("delete", avatar=avatar, token=token, action=action, card=card)


def deleted_page(home: str) -> str:
    """The page that says that an avatar is deleted; `home` leads to the app."""
    return _page("deleted", home=home)


def gone_page(home: str) -> str:
    """The page for every avatar that cannot be shown, whatever the reason."""
    return _page("gone", home=home)


def unavailable_page(reason: str) -> str:
    """The page for a failure that may pass."""
    return _page("unavailable", reason=reason)


def _page(name: str, **values: Any) -> str:
    return render_template(f"sharing/{name}.html", style=Markup(_style()), **values)


def _style() -> str:
    return template_source("sharing/style.css")


def _date(seconds: float) -> str:
    when = time.gmtime(seconds)
    return f"{when.tm_mday} {time.strftime('%B %Y', when)}"
