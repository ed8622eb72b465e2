"""The viewer's build: complete, fresh, free of outside addresses, and bundled into one page."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from flexavatar.motion.files import CLIP_NAMES, clip_path
from flexavatar.viewer import DIST, expressions_json, viewer_files, viewer_html


def test_the_build_is_complete() -> None:
    files = viewer_files()
    for name in ("index.html", "viewer.js", "viewer.css", "webcam.js", "face_landmarker.task", "THIRD_PARTY_LICENSES"):
        assert files[name].stat().st_size > 1000, name
    assert "mediapipe/vision_wasm_internal.wasm.gz" in files
    assert all("node_modules" not in name for name in files)


def test_only_the_webcam_needs_a_file_over_two_megabytes() -> None:
    large = [path.name for path in DIST.rglob("*") if path.is_file() and path.stat().st_size > 2_000_000]
    assert large == ["vision_wasm_internal.wasm.gz"]


def test_presets_of_the_source_are_those_of_the_package() -> None:
    source = DIST.parent / "src" / "expressions.json"
    assert source.read_text(encoding="utf-8") == expressions_json(), "run `npm run expressions` and build the viewer"


@pytest.mark.parametrize("name", CLIP_NAMES)
def test_the_build_holds_the_current_clips(name: str) -> None:
    digest = hashlib.sha256(clip_path(name).read_bytes()).hexdigest()
    assert digest in (DIST / "viewer.js").read_text(encoding="utf-8"), "build the viewer again"


def test_the_build_is_what_the_sources_give(tmp_path: Path) -> None:
    npm = shutil.which("npm")
    if npm is None or not (DIST.parent / "node_modules").is_dir():
        pytest.skip("needs Node and `npm ci` in flexavatar/viewer")
    command = [npm, "run", "build", "--", "--outDir", str(tmp_path)]
    subprocess.run(command, cwd=DIST.parent, check=True, capture_output=True, timeout=120)
    built, kept = (
        {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (tmp_path, DIST)
    )
    assert built.keys() == kept.keys()
    assert [name for name in built if built[name] != kept[name]] == [], "run `make viewer`"


def test_nothing_is_loaded_from_elsewhere() -> None:
    page = (DIST / "index.html").read_text(encoding="utf-8")
    assert re.findall(r'(?:src|href)="(?!\./|data:)', page) == []
    assert not re.search(r"@import|url\((?!data:)", (DIST / "viewer.css").read_text(encoding="utf-8"))


def test_licences_of_all_parts_are_there() -> None:
    text = (DIST / "THIRD_PARTY_LICENSES").read_text(encoding="utf-8")
    for name in ("three 0.", "@sparkjsdev/spark 2.", "fflate 0.", "@mediapipe/tasks-vision 0."):
        assert name in text
    assert "WORLD LABS" in text and "Apache License" in text


def test_one_page_holds_everything() -> None:
    bundle = bytes(range(256)) * 40
    page = viewer_html(bundle, "A & <B>")
    assert "<title>A &amp; &lt;B&gt;</title>" in page
    assert not re.search(r'<(?:script|link)[^>]*(?:src|href)="(?!data:)', page)
    embedded = re.findall(r'id="embedded-bundle">([^<]*)</script>', page)
    assert [base64.b64decode(each) for each in embedded] == [bundle]
    # Nothing in the inlined script may end it early.
    assert len(re.findall(r"<script\b", page, re.IGNORECASE)) == 2
    assert len(re.findall(r"</script", page, re.IGNORECASE)) == 2
