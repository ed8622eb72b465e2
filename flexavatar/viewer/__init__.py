"""The browser viewer: where its build lies, and avatars as one self-contained page."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from pathlib import Path

from flexavatar.expression import ARKIT_BLENDSHAPES, PRESETS

__all__ = ["DIST", "expressions_json", "viewer_files", "viewer_html"]

DIST = Path(str(files("flexavatar") / "viewer" / "dist"))
_LANDMARKER = Path(str(files("flexavatar") / "assets" / "models" / "face_landmarker.task"))


def viewer_files() -> Mapping[str, Path]:
    """What a server must offer in one folder for the whole viewer: names (with "/") and the files behind them."""
    names = {path.relative_to(DIST).as_posix(): path for path in sorted(DIST.rglob("*")) if path.is_file()}
    return {**names, "face_landmarker.task": _LANDMARKER}


def viewer_html(bundle: bytes, title: str = "FlexAvatar") -> str:
    """One page with viewer and avatar inside; it needs no server and no network, so it opens from a file.

    `bundle` is the content of a .flexbundle file (docs/bundle.md). Driving by webcam needs further files, so this page
    leaves it out and says so.
    """
    page = (DIST / "index.html").read_text(encoding="utf-8")
    script = (DIST / "viewer.js").read_text(encoding="utf-8")
    style = (DIST / "viewer.css").read_text(encoding="utf-8")
    data = base64.b64encode(bundle).decode("ascii")
    # A script ends at "</script" and changes its meaning at "<!--", wherever they stand, also within a string.
    script = re.sub(r"<(?=/script|!--|script)", r"\\x3c", script, flags=re.IGNORECASE)
    inlined = {
        r"<title>[^<]*</title>": f"<title>{escape(title, quote=False)}</title>",
        r'<link rel="stylesheet"[^>]*>': f"<style>{style}</style>",
        r'<script type="module"[^>]*></script>': f'<script type="module">{script}</script>',
        r"</body>": f'<script type="application/octet-stream" id="embedded-bundle">{data}</script></body>',
    }
    for pattern, replacement in inlined.items():
        page, count = re.subn(pattern, lambda _, text=replacement: text, page)
        if count != 1:
            raise RuntimeError(f"The viewer's index.html holds {pattern} {count} times; build the viewer again.")
    return page


def expressions_json() -> str:
    """The blendshapes and presets as the viewer's source holds them (`src/expressions.json`)."""
    presets = {name: dict(weights) for name, weights in PRESETS.items()}
    return json.dumps({"blendshapes": ARKIT_BLENDSHAPES, "presets": presets}, indent=2) + "\n"
