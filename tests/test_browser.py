"""The app as a visitor sees it, in headless Chromium with software WebGL."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import EXAMPLE
from playwright.sync_api import Page, expect, sync_playwright
from plyfile import PlyData

import app
from flexavatar.app.studio import Studio
from flexavatar.pipeline import FlexAvatarPipeline

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def chromium() -> str:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        message = "no Chromium on this machine; install it (apt-get install chromium) to run the browser test"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    return found


@pytest.fixture(scope="module")
def page(pipeline: FlexAvatarPipeline) -> Iterator[Page]:
    path = chromium()
    served = app.launch(Studio(pipeline), host="127.0.0.1", block=False)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        page = browser.new_page(viewport={"width": 900, "height": 700})
        page.set_default_timeout(60_000)
        expect.set_options(timeout=60_000)
        page.goto(str(served.local_url))
        yield page
        browser.close()
    served.close()


# Read in a frame of its own, right after the view has drawn: a screenshot takes many seconds without a GPU.
READ_VIEW = """() => new Promise(done => requestAnimationFrame(() => {
    const small = new OffscreenCanvas(96, 72).getContext("2d");
    small.drawImage(document.querySelector("#viewer canvas"), 0, 0, 96, 72);
    done(Array.from(small.getImageData(0, 0, 96, 72).data));
}))"""


def view_pixels(page: Page) -> np.ndarray:
    """The splats of the 3D view, int [72, 96, 4] RGBA 0..255."""
    return np.array(page.evaluate(READ_VIEW)).reshape(72, 96, 4)


def wait_for_view(page: Page, ready: Callable[[np.ndarray], bool], seconds: float = 150) -> np.ndarray:
    """The first view that is `ready`; its camera needs some frames to come to rest, and software WebGL is slow."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        view = view_pixels(page)
        if ready(view):
            return view
        time.sleep(1)
    raise AssertionError(f"The 3D view never got ready; {(view[..., 3] > 128).mean():.1%} of it is covered.")


def shows_a_face(view: np.ndarray) -> bool:
    """Something is drawn, and in its upper half there is skin (red over blue) around the middle."""
    skin = (view[..., 3] > 128) & (view[..., 0] - view[..., 2] > 30)
    rows, columns = np.nonzero(skin[:40])
    return len(rows) > 40 and abs(columns.mean() / 96 - 0.5) < 0.06


def test_upload_view_and_download(page: Page, tmp_path: Path) -> None:
    outside: list[str] = []
    page.on("request", lambda r: None if "127.0.0.1" in r.url or ":" not in r.url[:6] else outside.append(r.url))

    page.locator("#photo input[type=file]").first.set_input_files(EXAMPLE)
    page.get_by_role("button", name="Create avatar").click()
    expect(page.locator("#status")).to_contain_text("Gaussians")
    expect(page.locator("#viewer canvas")).to_be_visible()
    wait_for_view(page, shows_a_face)

    with page.expect_download() as download:
        page.locator("#download-ply").click()
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    assert path.name == "astronaut.ply"
    vertices = PlyData.read(str(path))["vertex"].data
    assert len(vertices) > 10_000
    assert np.isfinite(vertices["x"]).all()
    assert outside == []


def test_a_preset_changes_the_picture(page: Page) -> None:
    picture = page.locator("#picture img")
    before = picture.get_attribute("src")
    assert before is not None
    page.get_by_text("open mouth", exact=True).click()
    expect(picture).not_to_have_attribute("src", before)
    page.get_by_role("tab", name="Jaw").click()
    expect(page.get_by_label("number input for Open")).to_have_value("0.8")


def test_several_faces_are_offered(page: Page, photos: dict[str, Path]) -> None:
    page.reload()
    page.locator("#photo input[type=file]").first.set_input_files(photos["two_faces"])
    page.get_by_role("button", name="Create avatar").click()
    expect(page.locator("#status")).to_contain_text("2 faces")
    faces = page.locator("#faces button.thumbnail-item")
    expect(faces).to_have_count(2)
    faces.nth(1).click()
    expect(page.locator("#status")).to_contain_text("Gaussians")


def test_a_photo_without_a_face_is_explained(page: Page, photos: dict[str, Path]) -> None:
    page.reload()
    page.locator("#photo input[type=file]").first.set_input_files(photos["no_face"])
    page.get_by_role("button", name="Create avatar").click()
    expect(page.get_by_test_id("toast-body").first).to_contain_text("face", ignore_case=True)
