"""The app as a visitor sees it, in headless Chromium with software WebGL."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Frame, Locator, Page, expect, sync_playwright
from plyfile import PlyData

import app
from flexavatar.app.studio import Studio
from flexavatar.avatar import Avatar
from flexavatar.io import write_video
from flexavatar.pipeline import FlexAvatarPipeline
from flexavatar.sharing import FolderStorage, SharedStore
from tests.conftest import EXAMPLE

CLIP = EXAMPLE.parent / "turning.mp4"
PORTRAITS = os.environ.get("FLEXAVATAR_DATA", "")

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
def page(pipeline: FlexAvatarPipeline, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    path = chromium()
    shared = SharedStore(FolderStorage(tmp_path_factory.mktemp("shared")))
    served = app.launch(Studio(pipeline), host="127.0.0.1", block=False, shared=shared)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        page = browser.new_page(viewport={"width": 900, "height": 700})
        page.set_default_timeout(100_000)
        expect.set_options(timeout=100_000)
        page.goto(str(served.local_url))
        yield page
        browser.close()
    served.close()


def tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name).click()


def viewer(page: Page, view: str) -> Frame:
    """The frame of a 3D view, once it has drawn."""
    frame = page.locator(f"#{view} iframe")
    expect(frame.content_frame.locator("#stage.loaded")).to_be_visible()
    found = frame.element_handle().content_frame()
    assert found is not None
    return found


def drawn(frame: Frame) -> np.ndarray:
    """What a 3D view shows, int [72, 96, 3] RGB 0..255."""
    read = "async () => Array.from((await flexavatar.picture(96, 72, '#0000ff')).data)"
    return np.array(frame.evaluate(read)).reshape(72, 96, 4)[..., :3]


def fresh(page: Page) -> None:
    """The app as somebody sees it who has never been here."""
    page.evaluate("localStorage.clear()")
    page.reload()


def unfold(page: Page, accordion: str) -> None:
    page.locator(f"#{accordion} > button").click()


def save(page: Page, button: str, folder: Path) -> Path:
    with page.expect_download() as download:
        page.locator(button).click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def message(page: Page) -> Locator:
    return page.get_by_test_id("toast-body").first


def test_upload_view_and_download(page: Page, tmp_path: Path) -> None:
    outside: list[str] = []
    page.on("request", lambda r: None if "127.0.0.1" in r.url or ":" not in r.url[:6] else outside.append(r.url))

    page.locator("#photo input[type=file]").first.set_input_files(EXAMPLE)
    page.get_by_role("button", name="Create avatar").click()
    expect(page.locator("#create-status")).to_contain_text("Gaussians")
    view = drawn(viewer(page, "create-view"))
    rows, columns = np.nonzero((view[..., 0] - view[..., 2] > 30)[:40])  # skin around the middle of the upper half
    assert len(rows) > 40 and abs(columns.mean() / 96 - 0.5) < 0.06

    unfold(page, "create-download")
    path = save(page, "#create-ply", tmp_path)
    assert path.name == "astronaut.ply"
    vertices = PlyData.read(str(path))["vertex"].data
    assert len(vertices) > 10_000
    assert np.isfinite(vertices["x"]).all()
    assert save(page, "#create-flexbundle", tmp_path).stat().st_size > 100_000
    assert outside == []


@pytest.mark.slow
def test_a_preset_changes_picture_and_view(page: Page) -> None:
    picture = page.locator("#picture img")
    before = picture.get_attribute("src")
    assert before is not None
    page.get_by_text("open mouth", exact=True).click()
    expect(picture).not_to_have_attribute("src", before)
    page.get_by_role("tab", name="Jaw").click()
    expect(page.get_by_label("number input for Open")).to_have_value("0.8")
    viewer(page, "create-view").wait_for_function("flexavatar.weights().jawOpen > 0.7")


@pytest.mark.slow
def test_the_avatar_is_offered_in_all_tabs(page: Page) -> None:
    for name in ("Live", "Reenact", "Interpolate"):
        tab(page, name)
        cards = page.locator(f"#{name.lower()}-avatars [data-id]")
        expect(cards).to_have_count(1)
        expect(cards).to_have_attribute("aria-pressed", "true")
    tab(page, "Live")
    frame = viewer(page, "live-view")
    frame.get_by_role("button", name="Smile").first.click()
    frame.wait_for_function("flexavatar.weights().mouthSmileLeft > 0.3")


@pytest.mark.slow
def test_video_capture(page: Page) -> None:
    tab(page, "Photos & video")
    page.locator("#capture-files input[type=file]").set_input_files(CLIP)
    expect(page.locator("#capture-estimate")).to_contain_text("seconds")
    page.locator("#quality").get_by_text("Fast").click()
    page.locator("#capture-start").click()
    expect(page.locator("#capture-status")).to_contain_text("Gaussians")
    expect(page.locator("#capture-account")).to_contain_text("PSNR")
    viewer(page, "capture-view")
    expect(page.locator("#capture-start")).to_be_enabled()


def test_capture_of_no_video_is_explained(page: Page, tmp_path: Path) -> None:
    fresh(page)
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    tab(page, "Photos & video")
    page.locator("#capture-files input[type=file]").set_input_files(text)
    expect(page.locator("#capture-estimate")).to_contain_text("no video that can be read")
    page.locator("#capture-start").click()
    expect(message(page)).to_contain_text("no video that can be read")
    expect(page.locator("#capture-start")).to_be_enabled()


@pytest.mark.slow
def test_reenactment(page: Page, tmp_path: Path) -> None:
    fresh(page)
    tab(page, "Reenact")
    page.locator("#reenact-start").click()
    expect(message(page)).to_contain_text("avatar")
    page.locator("#reenact-example").click()
    expect(page.locator("#reenact-avatars [data-id]")).to_have_count(1)
    page.locator("#reenact-start").click()
    expect(page.locator("#reenact-result video")).to_be_visible()
    assert save(page, "#save-motion", tmp_path).suffix == ".csv"
    assert save(page, "#save-video", tmp_path).name == "astronaut-wink.mp4"


@pytest.mark.slow
def test_reenactment_can_be_cancelled(page: Page) -> None:
    page.get_by_text("talk", exact=True).click()
    page.locator("#reenact-start").click()
    page.locator("#reenact-stop").click()
    # Told at once, or beside the part that had been animated by then.
    expect(page.get_by_text(re.compile("cancelled before|Stopped after"))).to_be_visible()
    expect(page.locator("#reenact-start")).to_be_enabled()
    expect(page.locator("#reenact-stop")).to_be_disabled()


@pytest.mark.slow
def test_a_driver_without_a_face_is_explained(page: Page, tmp_path: Path) -> None:
    write_video(tmp_path / "empty.mp4", [np.full((96, 96, 3), 120, np.uint8)] * 5, 10)
    page.get_by_text("Video or webcam").click()
    page.locator("#reenact-video input[type=file]").first.set_input_files(tmp_path / "empty.mp4")
    expect(page.locator("#reenact-video video")).to_be_attached()
    page.locator("#reenact-start").click()
    expect(page.get_by_test_id("toast-body").filter(has_text="shows a face")).to_be_visible()


@pytest.mark.slow
def test_two_people_in_the_driver_are_told(page: Page, tmp_path: Path) -> None:
    frame = np.asarray(Image.open(EXAMPLE).convert("RGB").crop((110, 0, 340, 230)).resize((256, 256)))
    write_video(tmp_path / "two.mp4", [np.concatenate([frame, frame[:, ::-1]], 1)] * 10, 10)
    fresh(page)
    tab(page, "Reenact")
    page.locator("#reenact-example").click()
    expect(page.locator("#reenact-avatars [data-id]")).to_have_count(1)
    page.get_by_text("Video or webcam").click()
    page.locator("#reenact-video input[type=file]").first.set_input_files(tmp_path / "two.mp4")
    expect(page.locator("#reenact-video video")).to_be_attached()
    page.locator("#reenact-start").click()
    expect(page.get_by_text("The video shows 2 people")).to_be_visible()


@pytest.mark.slow
def test_interpolation(page: Page, avatar_file: Path, tmp_path: Path) -> None:
    other = Avatar.load(avatar_file)
    replace(other, colors=1 - other.colors).save(tmp_path / "negative.flexavatar")
    fresh(page)
    tab(page, "Interpolate")
    page.locator("#interpolate-example").click()
    cards = page.locator("#interpolate-avatars [data-id]")
    expect(cards).to_have_count(1)
    page.locator("#interpolate-save").click()
    expect(message(page)).to_contain_text("two or more")
    with page.expect_file_chooser() as chooser:
        page.locator("#interpolate-open").click()
    chooser.value.set_files(tmp_path / "negative.flexavatar")
    expect(cards).to_have_count(2)
    picture = page.locator("#interpolate-picture img")
    expect(picture).to_be_visible()
    expect(page.locator("#interpolate-hint")).to_contain_text("50%")
    before = picture.get_attribute("src")
    assert before is not None
    page.get_by_label("number input for From the first to the last").fill("0.25")
    page.keyboard.press("Enter")
    expect(picture).not_to_have_attribute("src", before)
    page.locator("#interpolate-save").click()
    expect(cards).to_have_count(3)
    page.locator("#morph-start").click()
    expect(page.locator("#morph video")).to_be_visible()
    tab(page, "Reenact")
    expect(page.locator("#reenact-avatars [data-id]")).to_have_count(3)


@pytest.mark.slow
def test_nobody_else_sees_the_avatars(page: Page) -> None:
    browser = page.context.browser
    assert browser is not None
    stranger = browser.new_page()
    stranger.goto(page.url)
    tab(stranger, "Reenact")
    expect(stranger.locator("#reenact-avatars")).to_contain_text("No avatars yet")
    stranger.close()


@pytest.mark.slow
@pytest.mark.skipif(not PORTRAITS, reason="FLEXAVATAR_DATA is not set")
def test_photos_of_two_people_are_told_and_nothing_is_lost(page: Page) -> None:
    fresh(page)
    people = sorted((Path(PORTRAITS) / "portraits" / "train").glob("*.jpg"))[:2]
    tab(page, "Photos & video")
    page.locator("#capture-files input[type=file]").set_input_files([EXAMPLE, *people])
    page.locator("#quality").get_by_text("Fast").click()
    page.locator("#capture-start").click()
    expect(message(page)).to_contain_text("people")
    expect(page.locator("#capture-start")).to_be_enabled()
    for name in (EXAMPLE.name, *(path.name for path in people)):
        expect(page.locator("#capture-files")).to_contain_text(Path(name).stem)
    # Without the strangers it works at once.
    page.locator("#capture-files").get_by_label("Remove this file").last.click()
    page.locator("#capture-files").get_by_label("Remove this file").last.click()
    page.locator("#capture-start").click()
    expect(page.locator("#capture-status")).to_contain_text("Gaussians")


@pytest.mark.slow
def test_a_phone_need_not_scroll_sideways(page: Page) -> None:
    browser = page.context.browser
    assert browser is not None
    phone = browser.new_page(viewport={"width": 390, "height": 844})
    phone.goto(page.url)
    for name in ("Photos & video", "Live", "Reenact", "Interpolate", "My avatars", "Create"):
        phone.wait_for_timeout(500)  # the row of tabs arranges itself anew after each choice
        if phone.get_by_role("tab", name=name).is_visible():
            tab(phone, name)
        else:
            phone.get_by_role("button", name="More tabs").click()
            phone.locator(".overflow-dropdown button").filter(has_text=name).click()
        expect(phone.get_by_role("tab", name=name)).to_have_attribute("aria-selected", "true")
        assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    phone.close()


@pytest.mark.slow
def test_several_faces_are_offered(page: Page, photos: dict[str, Path]) -> None:
    fresh(page)
    page.locator("#photo input[type=file]").first.set_input_files(photos["two_faces"])
    page.get_by_role("button", name="Create avatar").click()
    expect(page.locator("#create-status")).to_contain_text("2 faces")
    faces = page.locator("#faces button.thumbnail-item")
    expect(faces).to_have_count(2)
    faces.nth(1).click()
    expect(page.locator("#create-status")).to_contain_text("Gaussians")


def test_a_photo_without_a_face_is_explained(page: Page, photos: dict[str, Path]) -> None:
    fresh(page)
    page.locator("#photo input[type=file]").first.set_input_files(photos["no_face"])
    page.get_by_role("button", name="Create avatar").click()
    expect(message(page)).to_contain_text("face", ignore_case=True)
