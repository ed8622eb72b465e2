"""The viewer within the Live tab: webcam, keyboard and phones, in headless Chromium with software WebGL."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Frame, Page, expect, sync_playwright
from plyfile import PlyData

import app
from flexavatar.app.studio import Studio
from flexavatar.avatar import Avatar
from flexavatar.expression import Expression
from flexavatar.pipeline import FlexAvatarPipeline
from flexavatar.sharing import FolderStorage, SharedStore
from tests.app.test_browser import FLAGS, chromium, save, tab, unfold, viewer
from tests.viewer.test_viewer_browser import jpeg

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address(pipeline: FlexAvatarPipeline, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    shared = SharedStore(FolderStorage(tmp_path_factory.mktemp("shared")))
    served = app.launch(Studio(pipeline), host="127.0.0.1", block=False, shared=shared)
    yield str(served.local_url)
    served.close()


@pytest.fixture(scope="module")
def browser(avatar_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """With a webcam that films a face whose mouth opens and closes."""
    avatar = Avatar.load(avatar_file)
    faces = [avatar.render(Expression.of({"jawOpen": weight}), size=480) for weight in (0.0, 1.0)]
    video = tmp_path_factory.mktemp("webcam") / "face.mjpeg"
    video.write_bytes(b"".join(jpeg(face) * 60 for face in faces))  # Chromium plays it in a loop
    camera = [
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-video-capture={video}",
    ]
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium(), args=[*FLAGS, *camera])
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1000, "height": 760}, reduced_motion="reduce")
    page = context.new_page()
    page.set_default_timeout(120_000)
    expect.set_options(timeout=120_000)
    page.goto(address)
    yield page
    context.close()


def live(page: Page, avatar_file: Path) -> Frame:
    tab(page, "Live")
    with page.expect_file_chooser() as chooser:
        page.locator("#live-open").click()
    chooser.value.set_files(avatar_file)
    return viewer(page, "live-view")


def wait_for(frame: Frame, script: str, holds: Callable[[float], bool], patience: float = 120) -> None:
    """Playwright's own waiting needs `eval`, which the viewer's policy forbids."""
    end = time.monotonic() + patience
    while not holds(value := frame.evaluate(script)):
        assert time.monotonic() < end, f"{script} stays {value}"
        frame.wait_for_timeout(100)


def test_the_mouth_follows_the_webcam_within_the_tab(page: Page, avatar_file: Path) -> None:
    problems: list[str] = []
    own = (page.url, "blob:", "data:")
    page.on("request", lambda request: None if request.url.startswith(own) else problems.append(request.url))
    page.on("request", lambda request: problems.append(request.url) if request.method != "GET" else None)
    frame = live(page, avatar_file)
    problems.clear()  # the app's own questions and answers until here
    start = frame.get_by_role("button", name="Drive with your webcam")
    start.focus()
    page.keyboard.press("Enter")
    expect(frame.locator("#webcam-state")).to_have_text("Following your face")
    jaw = "flexavatar.weights().jawOpen"
    wait_for(frame, jaw, lambda weight: weight > 0.3)
    wait_for(frame, jaw, lambda weight: weight < 0.1)
    wait_for(frame, jaw, lambda weight: weight > 0.3)
    frame.get_by_role("button", name="Stop the webcam").press("Enter")
    wait_for(frame, jaw, lambda weight: weight < 0.05)
    assert problems == [], "frames never leave the page"


def test_the_file_shows_what_the_viewer_shows(page: Page, avatar_file: Path, tmp_path: Path) -> None:
    frame = live(page, avatar_file)
    frame.get_by_role("button", name="Open mouth").press("Enter")
    wait_for(frame, "flexavatar.weights().jawOpen", lambda weight: weight > 0.79)
    unfold(page, "live-download")
    shown = PlyData.read(str(save(page, "#live-ply", tmp_path)))["vertex"].data["y"].copy()
    page.locator("#live-download").get_by_text("Neutral").click()
    neutral = PlyData.read(str(save(page, "#live-ply", tmp_path)))["vertex"].data["y"]
    assert np.abs(shown - neutral).max() > 0.01  # metres
    avatar = Avatar.load(avatar_file)
    np.testing.assert_allclose(-neutral, avatar.gaussians().means[:, 1], atol=1e-5)


def test_the_view_can_be_turned_by_keyboard(page: Page, avatar_file: Path) -> None:
    frame = live(page, avatar_file)
    canvas = frame.get_by_role("img", name="The avatar in 3D")
    canvas.focus()
    for key in ("ArrowLeft", "ArrowUp", "+", "0"):
        before = frame.evaluate("flexavatar.renderedFrames")
        page.keyboard.press(key)
        wait_for(frame, "flexavatar.renderedFrames", lambda count, before=before: count > before)
    nameless = frame.locator("button, input, select, a").evaluate_all(
        "all => all.filter(e => !(e.ariaLabel || e.textContent.trim() || e.labels?.length)).map(e => e.outerHTML)"
    )
    assert nameless == []


def test_on_a_phone(page: Page, avatar_file: Path) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.get_by_role("button", name="More tabs").wait_for()
    frame = live(page, avatar_file)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert frame.evaluate("document.documentElement.scrollWidth <= innerWidth")
    stage, panel = (frame.locator(each).bounding_box() for each in ("#stage", "#panel"))
    assert stage and panel and stage["y"] + stage["height"] <= panel["y"] + 1, "the controls lie below the head"
    frame.get_by_role("button", name="Show or hide the controls").click()
    expect(frame.locator("#panel-body")).to_be_hidden()
    for button in frame.locator("#toolbar button:visible").all():
        box = button.bounding_box()
        assert box and min(box["width"], box["height"]) >= 40, "large enough for a thumb"
