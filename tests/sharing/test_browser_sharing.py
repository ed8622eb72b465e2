"""Sharing from the app and the gallery of one's own avatars, in headless Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

import app
from flexavatar.app.studio import Studio
from flexavatar.pipeline import FlexAvatarPipeline
from flexavatar.sharing import FolderStorage, SharedStore
from tests.app.test_browser import FLAGS, chromium, tab, unfold

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def studio(pipeline: FlexAvatarPipeline) -> Studio:
    return Studio(pipeline)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def address(studio: Studio, folder: Path) -> Iterator[str]:
    served = app.launch(studio, host="127.0.0.1", block=False, shared=SharedStore(FolderStorage(folder)))
    yield str(served.local_url)
    served.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # Pictures of the heads are tested elsewhere; without 3D there is time for everything else.
        launched = playwright.chromium.launch(executable_path=chromium(), args=[*FLAGS, "--disable-3d-apis"])
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1100, "height": 800})
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.set_default_timeout(60_000)
    expect.set_options(timeout=60_000)
    page.goto(address)
    yield page
    context.close()


def open_avatar(page: Page, avatar_file: Path) -> None:
    with page.expect_file_chooser() as chooser:
        page.locator("#saved").click()
    chooser.value.set_files(avatar_file)
    expect(page.locator("#create-status")).to_contain_text("Gaussians")


def shared_from(page: Page, where: str, name: str) -> str:
    unfold(page, f"{where}-share")
    page.locator(f"#{where}-share").get_by_label("Name").fill(name)
    page.locator(f"#{where}-share-button").click()
    link = page.get_by_label("Link to the avatar")
    expect(link).to_be_visible()
    return link.input_value()


def clipboard(page: Page) -> str:
    return page.evaluate("navigator.clipboard.readText()")


def test_share_change_and_delete(page: Page, browser: Browser, avatar_file: Path, folder: Path) -> None:
    open_avatar(page, avatar_file)
    link = shared_from(page, "create", "Ada <b>Lovelace</b>")
    page.locator("#create-share-link").get_by_role("button", name="Copy link").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert clipboard(page) == link

    stranger = browser.new_context().new_page()
    stranger.goto(link)
    expect(stranger.get_by_role("heading", name="Ada <b>Lovelace</b>")).to_be_visible()
    stranger.goto(page.url)
    tab(stranger, "My avatars")
    expect(stranger.locator("#gallery")).to_contain_text("Nothing shared yet")
    expect(stranger.locator("#working")).to_contain_text("None at the moment")

    tab(page, "My avatars")
    card = page.get_by_role("listitem", name="Ada <b>Lovelace</b>")
    expect(card.get_by_role("link", name="Open Ada")).to_have_attribute("href", link.split("/", 3)[3])
    page.wait_for_function("document.querySelector('#gallery img').naturalWidth > 100")
    card.get_by_text("Change").click()
    card.get_by_label("Who can open it").select_option("Only me")
    expect(card).to_contain_text("Only me, until")
    answer = stranger.goto(link)
    assert answer is not None and answer.status == 404
    card.get_by_role("button", name="Copy link").click()
    expect(card.get_by_role("button", name="Copied")).to_be_visible()
    answer = page.request.get(clipboard(page))
    assert answer.status == 200, "the owner's own link holds the key"

    card.get_by_text("Change").click()
    card.get_by_label("Keep it").select_option("without end")
    expect(card).to_contain_text("Only me, without end")

    card.get_by_role("button", name="Delete").click()
    assert len(list(folder.iterdir())) == 1, "it asks first"
    card.get_by_role("button", name="Delete for good?").click()
    expect(page.locator("#gallery")).to_contain_text("Nothing shared yet")
    assert list(folder.iterdir()) == []
    stranger.goto(link)
    expect(stranger.get_by_role("heading", name="gone")).to_be_visible()
    assert page.evaluate("localStorage['flexavatar-shared']") == "{}"


def test_avatars_outlive_a_reload_but_not_their_removal(page: Page, studio: Studio, avatar_file: Path) -> None:
    open_avatar(page, avatar_file)
    shared_from(page, "create", "Ada")
    page.reload()
    expect(page.locator("#create-status")).to_contain_text("Found again")
    tab(page, "Live")
    expect(page.locator("#live-avatars [data-id]")).to_have_attribute("aria-pressed", "true")
    tab(page, "My avatars")
    expect(page.get_by_role("listitem", name="Ada")).to_be_visible()

    before = len(studio.store)
    page.locator("#working").get_by_role("button", name="Remove").click()
    expect(page.locator("#working")).to_contain_text("None at the moment")
    assert len(studio.store) == before - 1
    page.reload()
    tab(page, "Live")
    expect(page.locator("#live-avatars")).to_contain_text("No avatars yet")


def test_two_tabs_of_one_browser_lose_nothing(page: Page, avatar_file: Path) -> None:
    other = page.context.new_page()
    other.goto(page.url)
    for number, each in enumerate((page, other)):
        open_avatar(each, avatar_file)
        shared_from(each, "create", f"Number {number}")
    page.reload()
    tab(page, "My avatars")
    expect(page.locator("#gallery [data-id]")).to_have_count(2)
    expect(page.locator("#working [data-id]")).to_have_count(2)


@pytest.mark.parametrize("where", ["Live", "Reenact"])
def test_share_from_other_tabs(page: Page, where: str) -> None:
    tab(page, where)
    page.locator(f"#{where.lower()}-example").click()
    expect(page.locator(f"#{where.lower()}-avatars [data-id]")).to_have_count(1)
    link = shared_from(page, where.lower(), "")
    page.goto(link)
    expect(page.get_by_role("heading", name="astronaut")).to_be_visible()


def test_sharing_nothing_is_explained(page: Page) -> None:
    tab(page, "Reenact")
    unfold(page, "reenact-share")
    page.locator("#reenact-share-button").click()
    expect(page.get_by_test_id("toast-body").first).to_contain_text("Choose an avatar first")


def test_a_gallery_can_be_used_by_keyboard(page: Page, avatar_file: Path, folder: Path) -> None:
    open_avatar(page, avatar_file)
    shared_from(page, "create", "Keys")
    tab(page, "My avatars")
    card = page.get_by_role("listitem", name="Keys")
    card.get_by_role("link", name="Open Keys").focus()
    seen = []
    for _ in range(4):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.textContent.trim()"))
    assert seen == ["Open", "Copy link", "Delete", "Change"]
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    expect(card).to_have_count(0)


def test_without_3d_the_tabs_show_the_video(page: Page, avatar_file: Path) -> None:
    open_avatar(page, avatar_file)
    video = page.frame_locator("#create-view iframe").locator("video")
    expect(video).to_be_visible()
    video.evaluate("video => new Promise(done => video.readyState > 1 ? done() : video.onloadeddata = done)")
    tab(page, "Live")
    expect(page.frame_locator("#live-view iframe").locator("#toast")).to_contain_text("cannot show 3D")
