"""The pages behind a link, as HTML without scripts."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

from flexavatar.sharing.card import CARD_SIZE
from flexavatar.sharing.store import SharedAvatar

_STYLE = """
:root { color-scheme: light dark;
  --ink: #1c1b22; --soft: #5b5a66; --paper: #f6f6f9; --line: #d9d8e2; --accent: #5546e0; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #f1f0f6; --soft: #a9a7b8; --paper: #16151b; --line: #34323f; --accent: #a79dff; }
}
* { box-sizing: border-box; }
html, body { min-height: 100svh; margin: 0; }
body { display: flex; flex-direction: column; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
a { color: var(--accent); }
header, footer { display: flex; flex-wrap: wrap; align-items: baseline; gap: .3rem 1.2rem; padding: .7rem 1rem; }
header { border-bottom: 1px solid var(--line); justify-content: space-between; }
footer { border-top: 1px solid var(--line); font-size: .85rem; color: var(--soft); }
h1 { margin: 0; font-size: 1.15rem; overflow-wrap: anywhere; }
iframe { flex: 1; min-height: 75svh; width: 100%; border: 0; }
main.note { margin: auto; padding: 2rem 1rem; max-width: 34rem; text-align: center; }
main.note h1 { font-size: 1.5rem; margin-bottom: .6rem; }
main.note img { width: 100%; border-radius: 12px; margin: 1rem 0; }
button { font: inherit; padding: .6rem 1.2rem; border: 0; border-radius: 8px; cursor: pointer;
  background: #b3261e; color: #fff; }
:is(a, button):focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

# Spaces show an app within a page of huggingface.co.
FRAMED_BY = "frame-ancestors 'self' https://huggingface.co https://*.huggingface.co https://*.hf.space"
PAGE_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; img-src 'self'; frame-src 'self'; form-action 'self'; "
    f"base-uri 'none'; {FRAMED_BY}"
)
_DOWNLOAD_LABELS = {
    "avatar.flexavatar": "Avatar (.flexavatar)",
    "avatar.ply": "Splats (.ply)",
    "avatar.spz": "Splats (.spz)",
    "avatar.flexbundle": "Animated (.flexbundle)",
    "avatar.html": "One page (.html)",
    "turntable.mp4": "Video (.mp4)",
}
GONE_TITLE = "This avatar is gone"


@dataclass(frozen=True)
class Links:
    """Where the page of an avatar finds things; relative to the page unless said otherwise."""

    home: str
    viewer: str
    downloads: Mapping[str, str]  # by file name
    report: str | None
    page_address: str  # absolute, as are the next two
    card_address: str


def avatar_page(avatar: SharedAvatar, links: Links) -> str:
    name = escape(avatar.name)
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
    head = "".join(f'<meta property="{key}" content="{escape(value)}">\n' for key, value in properties.items())
    head += "".join(f'<meta name="{key}" content="{escape(value)}">\n' for key, value in names.items())
    downloads = " · ".join(
        f'<a href="{escape(url)}" download>{_DOWNLOAD_LABELS[file]}</a>' for file, url in links.downloads.items()
    )
    facts = [f"Made {_date(avatar.created)}"]
    if avatar.expires is not None:
        facts.append(f"here until {_date(avatar.expires)}")
    if avatar.visibility == "private":
        facts.append("private: only you can open this link")
    report = (
        f' <a href="{escape(links.report)}" rel="noopener" target="_blank">Report this avatar</a>'
        if links.report
        else ""
    )
    return _page(
        name,
        f"""<header><h1>{name}</h1><a href="{escape(links.home)}">Make your own</a></header>
<iframe src="{escape(links.viewer)}" title="3D view of {name}"
 allow="camera; fullscreen; autoplay"></iframe>
<footer>{f"<span>Download: {downloads}</span>" if downloads else ""}
<span>{"; ".join(facts)}.</span>
<span>{escape(avatar.licence)}{report}</span></footer>""",
        head,
    )


def delete_page(avatar: SharedAvatar, token: str, action: str, card: str) -> str:
    name = escape(avatar.name)
    return _note(
        f"Delete {name}?",
        f"""<img src="{escape(card)}" alt="Three views of {name}">
<p>All its files go from this site, and its link stops working. This cannot be undone.</p>
<form method="post" action="{escape(action)}"><input type="hidden" name="token" value="{escape(token)}">
<button>Delete for good</button></form>""",
    )


def deleted_page(home: str) -> str:
    return _note(
        "Deleted",
        f"""<p>The avatar and all its files are gone from this site.</p>
<p><a href="{escape(home)}">To the app</a></p>""",
    )


def gone_page(home: str) -> str:
    return _note(
        GONE_TITLE,
        f"""<p>Its link is mistyped, or the avatar has expired or was deleted by its owner.</p>
<p><a href="{escape(home)}">Make your own</a></p>""",
    )


def unavailable_page(reason: str) -> str:
    return _note("Not now", f"<p>{escape(reason)}</p>")


def _note(title: str, body: str) -> str:
    return _page(title, f'<main class="note"><h1>{title}</h1>\n{body}</main>')


def _page(title: str, body: str, head: str = "") -> str:
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{title} · FlexAvatar</title>
{head}<style>{_STYLE}</style>
</head>
<body>
{body}
</body>
</html>
"""


def _date(seconds: float) -> str:
    when = time.gmtime(seconds)
    return f"{when.tm_mday} {time.strftime('%B %Y', when)}"
