"""A shared link as its receiver meets it, in headless Chromium with software WebGL and a clean profile."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from test_browser import FLAGS, chromium

from flexavatar.app.routes import routes
from flexavatar.avatar import Avatar
from flexavatar.baking import bake, write_bundle
from flexavatar.sharing import FolderStorage, Receipt, SharedStore, ShareOptions, share

FIRST_PIXELS = 3.0  # seconds from following the link, on localhost

# The drawing buffer is kept, so that it can be read at any time, and watched from the start in every frame.
WATCH = """(() => {
    const original = HTMLCanvasElement.prototype.getContext;
    HTMLCanvasElement.prototype.getContext = function (kind, options) {
        const kept = { ...options, preserveDrawingBuffer: true };
        return original.call(this, kind, kind.startsWith("webgl") ? kept : options);
    };
    const small = new OffscreenCanvas(48, 48).getContext("2d", { willReadFrequently: true });
    const watch = setInterval(() => {
        const canvas = document.querySelector("#stage canvas");
        if (!canvas || !window.flexavatar?.stats().splats) return; // reading costs software WebGL time, too
        small.clearRect(0, 0, 48, 48);
        small.drawImage(canvas, 0, 0, 48, 48);
        const { data } = small.getImageData(0, 0, 48, 48);
        let skin = 0;
        for (let i = 0; i < data.length; i += 4) skin += data[i + 3] > 128 && data[i] - data[i + 2] > 30;
        if (skin > 48 * 48 * 0.02) {
            window.firstPixels = Date.now();
            clearInterval(watch);
        }
    }, 100);
})()"""


@dataclass
class NoStudio:
    def bundle(self, key: str) -> str:
        raise NotImplementedError


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SharedStore:
    return SharedStore(FolderStorage(tmp_path_factory.mktemp("shared")))


@pytest.fixture(scope="module")
def made(avatar_file: Path, store: SharedStore, tmp_path_factory: pytest.TempPathFactory) -> Receipt:
    avatar = Avatar.load(avatar_file)
    bundle = tmp_path_factory.mktemp("bundle") / "avatar.flexbundle"
    write_bundle(bundle, bake(avatar, "quick"))
    return share(store, avatar, bundle, ShareOptions("Ada", downloads=True), "cpu")


@pytest.fixture(scope="module")
def address(store: SharedStore) -> Iterator[str]:
    with gr.Blocks(analytics_enabled=False) as blocks:
        gr.Markdown("The app itself")
    studio: Any = NoStudio()
    blocks.launch(
        server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, ssr_mode=False,
        app_kwargs={"routes": routes(studio, store)},
    )  # fmt: skip
    yield str(blocks.local_url)
    blocks.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield launched
        launched.close()


def first_pixels(page: Page, patience: float = 60) -> float:
    """When the first skin was drawn. Playwright's own waiting needs `eval`, which the viewer's policy forbids."""
    end = time.time() + patience
    while time.time() < end:
        for frame in page.frames:
            if "/viewer/" in frame.url and (drawn := frame.evaluate("window.firstPixels")):
                return drawn / 1000
        page.wait_for_timeout(50)
    raise AssertionError("The head was never drawn.")


def follow(link: str, browser: Browser, problems: list[str]) -> tuple[Page, float]:
    """Open the link in a clean profile; the page, and after how many seconds the head was seen."""
    context = browser.new_context(viewport={"width": 640, "height": 480}, reduced_motion="reduce")
    context.add_init_script(WATCH)
    page = context.new_page()
    page.set_default_timeout(60_000)
    own = (link.split("?")[0], "blob:", "data:")
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: None if request.url.startswith(own) else problems.append(request.url))
    start = time.time()
    page.goto(link, wait_until="commit")
    return page, first_pixels(page) - start


@pytest.mark.slow  # needs the machine for itself: the processor draws what a graphics card would
def test_the_head_is_seen_at_once(browser: Browser, address: str, made: Receipt) -> None:
    seconds = []
    for _ in range(3):
        page, each = follow(f"{address}?avatar={made.avatar.id}", browser, [])
        seconds.append(each)
        page.context.close()
    assert min(seconds) < FIRST_PIXELS, seconds


def test_open_a_link_delete_it_and_find_it_gone(browser: Browser, address: str, made: Receipt) -> None:
    problems: list[str] = []
    link = f"{address}?avatar={made.avatar.id}"
    page, _ = follow(link, browser, problems)
    expect(page.get_by_role("heading", name="Ada")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="Avatar (.flexavatar)").click()
    assert download.value.suggested_filename == "Ada.flexavatar"
    assert len(Avatar.load(download.value.path()).colors) > 10_000
    assert problems == []

    page.goto(f"{address}avatar/{made.avatar.id}?delete={made.token}")
    page.get_by_role("button", name="Delete for good").click()
    expect(page.get_by_role("heading", name="Deleted")).to_be_visible()
    answer = page.goto(f"{address}avatar/{made.avatar.id}")
    assert answer is not None and answer.status == 404
    expect(page.get_by_role("heading", name="gone")).to_be_visible()
    page.context.close()
