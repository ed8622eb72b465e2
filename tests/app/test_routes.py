"""What the app serves beside Gradio: pages of shared avatars, their files, the viewer, and bundles of the session."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, urljoin, urlsplit

import gradio as gr
import httpx
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from flexavatar.app.routes import owner_links, routes, session_viewer_url, viewer_url
from flexavatar.app.store import AvatarGone
from flexavatar.sharing import FolderStorage, Receipt, SharedStore, ShareOptions, StorageUnavailable
from flexavatar.sharing.contents import BUNDLE, CARD, DOWNLOADS, POSTER, THUMBNAIL, VIDEO
from flexavatar.viewer import viewer_files

SITE = "http://testserver"


@dataclass
class OneAvatar:
    """As much of the studio as the routes use."""

    path: Path

    def bundle(self, key: str) -> str:
        if key != "known":
            raise AvatarGone("gone")
        return str(self.path)

    poster = still_turntable = bundle


@pytest.fixture
def store(tmp_path: Path) -> SharedStore:
    return SharedStore(FolderStorage(tmp_path / "shared"))


@pytest.fixture
def all_routes(store: SharedStore, tmp_path: Path) -> list[Any]:
    bundle = tmp_path / "session.flexbundle"
    bundle.write_bytes(b"session")
    studio: Any = OneAvatar(bundle)
    return routes(studio, store)


@pytest.fixture
def client(all_routes: list[Any]) -> Iterator[TestClient]:
    with TestClient(Starlette(routes=all_routes), base_url=SITE) as client:
        yield client


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    made = {name: tmp_path / name for name in (BUNDLE, CARD, POSTER, THUMBNAIL, VIDEO, *DOWNLOADS)}
    for name, path in made.items():
        path.write_bytes(f"content of {name}".encode())
    return made


def properties(page: str) -> dict[str, str]:
    return {
        key: unescape(value) for key, value in re.findall(r'<meta (?:property|name)="([^"]+)" content="([^"]*)"', page)
    }


def iframe(page: str, address: str) -> str:
    found = re.search(r'<iframe src="([^"]+)"', page)
    assert found
    return urljoin(address, unescape(found[1]))


def downloads(page: str, address: str) -> list[str]:
    return [urljoin(address, unescape(url)) for url in re.findall(r'<a href="([^"]+)" download>', page)]


def test_the_page_of_an_avatar(client: TestClient, store: SharedStore, files: dict[str, Path]) -> None:
    made = store.put(files, "CC0", ShareOptions('<b>Ada</b> "x"', downloads=True))
    address = f"/avatar/{made.avatar.id}"
    answer = client.get(address)
    assert answer.status_code == 200
    assert "<b>Ada" not in answer.text
    assert "noindex" in answer.headers["x-robots-tag"] and properties(answer.text)["robots"] == "noindex"
    assert answer.headers["cache-control"] == "no-store"
    assert made.token not in answer.text

    viewer = iframe(answer.text, SITE + address)
    assert client.get(viewer).status_code == 200
    bundle = urljoin(viewer, parse_qs(urlsplit(viewer).query)["bundle"][0])
    assert client.get(bundle).content == b"content of avatar.flexbundle"
    assert client.get(urljoin(viewer, parse_qs(urlsplit(viewer).query)["video"][0])).status_code == 200

    links = downloads(answer.text, SITE + address)
    assert len(links) == 6
    for link in links:
        file = client.get(link)
        assert file.status_code == 200
        assert file.headers["content-disposition"].startswith('attachment; filename="b-Ada-b-x.')
        assert file.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("headers", "site"),
    [
        ({}, SITE),
        ({"X-Forwarded-Proto": "https", "Host": "me-space.hf.space"}, "https://me-space.hf.space"),
        ({"X-Forwarded-Proto": "https,http", "X-Forwarded-Host": "a.example:8080, b"}, "https://a.example:8080"),
        ({"X-Forwarded-Proto": "javascript", "X-Forwarded-Host": 'x"><script>'}, "http://localhost"),
    ],
)
def test_link_previews_have_absolute_addresses(
    client: TestClient, store: SharedStore, files: dict[str, Path], headers: dict[str, str], site: str
) -> None:
    made = store.put(files, "", ShareOptions("Ada"))
    found = properties(client.get(f"/avatar/{made.avatar.id}", headers=headers).text)
    assert found["og:url"] == f"{site}/avatar/{made.avatar.id}"
    assert found["og:image"] == found["twitter:image"] == f"{site}/avatar/{made.avatar.id}/card.jpg"
    assert (found["og:title"], found["twitter:card"]) == ("Ada", "summary_large_image")
    assert (found["og:image:width"], found["og:image:height"]) == ("1200", "630")
    assert client.get(urlsplit(found["og:image"]).path).headers["content-type"] == "image/jpeg"


def test_the_app_below_a_path(all_routes: list[Any], store: SharedStore, files: dict[str, Path]) -> None:
    made = store.put(files, "")
    with TestClient(Starlette(routes=all_routes), base_url=SITE, root_path="/heads") as client:
        page = client.get(f"/heads/avatar/{made.avatar.id}").text
        assert properties(page)["og:url"] == f"{SITE}/heads/avatar/{made.avatar.id}"
        assert client.get(iframe(page, f"{SITE}/heads/avatar/{made.avatar.id}")).status_code == 200


def test_every_avatar_that_is_not_to_be_seen_looks_the_same(
    client: TestClient, store: SharedStore, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    deleted, private, expired, seen = (
        store.put(files, "", options)
        for options in (ShareOptions(), ShareOptions(visibility="private"), ShareOptions(days=1), ShareOptions())
    )
    store.delete(deleted.avatar.id, deleted.token)
    later = expired.avatar.created + 2 * 24 * 3600
    monkeypatch.setattr(store, "_clock", lambda: later)
    ids = [deleted.avatar.id, private.avatar.id, expired.avatar.id, "x" * 22, "short", "%00", "..%2F..%2Fetc", "é"]
    asked = [f"/avatar/{each}" for each in ids]
    asked += [f"/avatar/{private.avatar.id}?key=guess", f"/avatar/{seen.avatar.id}?delete=guess"]
    answers = {url: client.get(url) for url in asked}
    assert {each.status_code for each in answers.values()} == {404}
    bodies = {re.sub(r'href="[^"]*"', "", each.text) for each in answers.values()}
    assert len(bodies) == 1 and "gone" in bodies.pop()
    assert {client.get(f"/avatar/{each}/{CARD}").status_code for each in ids} == {404}
    assert client.get(f"/avatar/{seen.avatar.id}").status_code == 200


def test_nothing_but_the_offered_files_can_be_read(
    client: TestClient, store: SharedStore, files: dict[str, Path]
) -> None:
    closed = store.put(files, "", ShareOptions(downloads=False)).avatar.id
    names = (*DOWNLOADS, "avatar.html", "info.json", "..%2finfo.json", "delete", "..%2f..%2fx", "%00")
    for name in names:
        assert client.get(f"/avatar/{closed}/{name}").status_code == 404, name
    assert downloads(client.get(f"/avatar/{closed}").text, SITE) == []
    for name in (BUNDLE, CARD, THUMBNAIL, VIDEO):
        assert client.get(f"/avatar/{closed}/{name}").status_code == 200, name
    open_to_all = store.put(files, "", ShareOptions(downloads=True)).avatar.id
    assert client.get(f"/avatar/{open_to_all}/info.json").status_code == 404
    page = client.get(f"/avatar/{open_to_all}/avatar.html")
    assert page.headers["content-disposition"].startswith("attachment")
    assert "sandbox" in page.headers["content-security-policy"]


def test_a_private_avatar_opens_with_its_key(client: TestClient, store: SharedStore, files: dict[str, Path]) -> None:
    made = store.put(files, "", ShareOptions(visibility="private", downloads=True))
    address = f"/avatar/{made.avatar.id}?key={made.token}"
    page = client.get(address)
    assert page.status_code == 200
    assert page.headers["referrer-policy"] == "no-referrer", "the address holds the key"
    viewer = iframe(page.text, SITE + address)
    assert client.get(urljoin(viewer, parse_qs(urlsplit(viewer).query)["bundle"][0])).status_code == 200
    links = downloads(page.text, SITE + address)
    assert links and all(client.get(link).status_code == 200 for link in links)
    assert all(client.get(link.split("?")[0]).status_code == 404 for link in links)


def delete_form(client: TestClient, made: Receipt) -> tuple[str, dict[str, str]]:
    address = f"/avatar/{made.avatar.id}?delete={made.token}"
    page = client.get(address)
    assert page.status_code == 200
    action = re.search(r'<form method="post" action="([^"]+)"', page.text)
    field = re.search(r'name="(\w+)" value="([^"]+)"', page.text)
    assert action and field
    return urljoin(SITE + address, unescape(action[1])), {field[1]: unescape(field[2])}


def test_only_a_confirmed_deletion_deletes(
    client: TestClient, store: SharedStore, files: dict[str, Path], tmp_path: Path
) -> None:
    made, other = store.put(files, ""), store.put(files, "")
    action, form = delete_form(client, made)
    assert client.get(action).status_code == 404
    assert client.post(action, data={"token": other.token}).status_code == 404
    assert client.post(action).status_code == 404
    urlencoded = {"Content-Type": "application/x-www-form-urlencoded"}
    for content in (b"token=" + b"x" * 100_000, b"&".join([b"a=b"] * 100), b"token=%ff%00"):
        assert client.post(action, content=content, headers=urlencoded).status_code == 404
    assert client.post(action, files={"token": b"x"}).status_code == 404
    assert client.get(f"/avatar/{made.avatar.id}").status_code == 200, "still there"
    answer = client.post(action, data=form)
    assert answer.status_code == 200 and "Deleted" in answer.text
    assert client.get(f"/avatar/{made.avatar.id}").status_code == 404
    assert {path.name for path in (tmp_path / "shared").iterdir()} == {other.avatar.id}


def test_a_deleted_avatar_is_not_shown_from_a_cache(
    client: TestClient, store: SharedStore, files: dict[str, Path]
) -> None:
    made = store.put(files, "")
    url = f"/avatar/{made.avatar.id}/{BUNDLE}"
    first = client.get(url)
    assert "no-cache" in first.headers["cache-control"]
    known = {"If-None-Match": first.headers["etag"]}
    assert client.get(url, headers=known).status_code == 304
    store.delete(made.avatar.id, made.token)
    assert client.get(url, headers=known).status_code == 404


def test_the_app_redirects_to_the_avatar_it_names(client: TestClient) -> None:
    answer = client.get("/?avatar=some/../id", follow_redirects=False)
    assert answer.headers["location"] == "avatar/some%2F..%2Fid"
    assert client.get("/", follow_redirects=False).status_code == 404, "without a name, it is Gradio's"


def test_the_viewer(client: TestClient) -> None:
    page = client.get(f"/{session_viewer_url('known', {'ui': 'minimal'})}")
    assert page.status_code == 200
    assert "ui=minimal" in str(page.url)
    policy = page.headers["content-security-policy"]
    assert "https://huggingface.co" in policy and "'unsafe-inline'" not in policy and "'unsafe-eval'" not in policy
    assert "no-cache" in page.headers["cache-control"]
    base = page.url.path.rsplit("/", 1)[0]
    types = {".js": "text/javascript", ".css": "text/css", ".gz": "application/octet-stream", ".task": "application/"}
    for name in viewer_files():
        answer = client.get(f"{base}/{name}")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(types.get(Path(name).suffix, ""))
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "content-encoding" not in answer.headers
        assert "immutable" in answer.headers["cache-control"] or name == "index.html"
    for wrong in (f"{base}/nothing.js", f"{base}/../../app.py", "/viewer/old/index.html", f"{base}/..%2f__init__.py"):
        assert client.get(wrong).status_code == 404


def test_the_bundle_is_fetched_along_with_the_viewer(client: TestClient) -> None:
    for path, early in (("session/known/bundle", True), ("avatar/a/b.c?key=k-_", True), ("//evil.example/x", False)):
        answer = client.get(f"/{viewer_url({'bundle': path})}")
        assert (answer.headers.get("link") == f"<../../{path}>; rel=preload; as=fetch; crossorigin=anonymous") is early
    for bundle in ("https://evil.example/x", "../../avatar/a/b>;x", "../../../avatar/a/b"):
        url = viewer_url({"bundle": "x"}).split("?")[0]
        assert "link" not in client.get(f"/{url}", params={"bundle": bundle}).headers


@pytest.mark.parametrize("visibility", ["link", "private"])
def test_links_of_the_owner(
    client: TestClient, store: SharedStore, files: dict[str, Path], visibility: Literal["link", "private"]
) -> None:
    made = store.put(files, "", ShareOptions(visibility=visibility))
    links = owner_links(made.avatar, made.token)
    assert client.get(f"/{links.page}").status_code == 200
    assert client.get(f"/{links.thumbnail}").content == b"content of thumbnail.jpg"
    page = client.get(f"/{links.delete}").text
    assert "Delete for good" in page
    picture = re.search(r'<img src="([^"]+)"', page)
    assert picture and client.get(urljoin(f"{SITE}/{links.delete}", unescape(picture[1]))).status_code == 200
    assert (made.token in links.page) is (visibility == "private")


def test_bundles_of_the_session(client: TestClient) -> None:
    viewer = f"{SITE}/{session_viewer_url('known')}"
    answer = client.get(urljoin(viewer, parse_qs(urlsplit(viewer).query)["bundle"][0]))
    assert answer.content == b"session"
    assert "private" in answer.headers["cache-control"]
    for name in ("bundle", "poster", "turntable"):
        assert client.get(f"/session/known/{name}").status_code == 200
        assert client.get(f"/session/other/{name}").status_code == 404
    assert client.get("/session/known/photo").status_code == 404


def poster(page: str) -> str | None:
    found = re.search(r'<img id="poster"[^>]* src="([^"]+)"', page)
    return found and found[1]


def test_the_poster_is_in_the_page_already(client: TestClient, store: SharedStore, files: dict[str, Path]) -> None:
    for visibility in ("link", "private"):
        made = store.put(files, "", ShareOptions("Ada", visibility))
        address = f"/avatar/{made.avatar.id}" + (f"?key={made.token}" if visibility == "private" else "")
        viewer = iframe(client.get(address).text, SITE + address)
        found = poster(client.get(viewer).text)
        assert found is not None
        assert client.get(urljoin(viewer, found)).content == b"content of poster.webp"


def test_an_avatar_shared_without_a_poster_is_shown(
    client: TestClient, store: SharedStore, files: dict[str, Path]
) -> None:
    made = store.put({name: path for name, path in files.items() if name != POSTER}, "", ShareOptions("Ada"))
    page = client.get(f"/avatar/{made.avatar.id}").text
    assert "poster" not in iframe(page, SITE)


@pytest.mark.parametrize("wrong", ["//evil.example/x", '../../session/a/b"onload="x', "https://evil.example/x.webp"])
def test_only_own_pictures_become_posters(client: TestClient, wrong: str) -> None:
    url = viewer_url({"bundle": "session/known/bundle"})
    page = client.get(f"/{url}", params={"poster": wrong}).text
    assert poster(page) is None and wrong not in page


def test_a_storage_that_does_not_answer(
    client: TestClient, store: SharedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(avatar_id: str) -> None:
        raise StorageUnavailable("The Hub does not answer. Try again in a minute.")

    monkeypatch.setattr(store.storage, "info", down)
    answer = client.get(f"/avatar/{'x' * 22}")
    assert answer.status_code == 503
    assert "Try again" in answer.text


def test_reports_go_where_the_site_says(
    client: TestClient, store: SharedStore, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"/avatar/{store.put(files, '').avatar.id}"
    monkeypatch.delenv("SPACE_ID", raising=False)
    monkeypatch.delenv("FLEXAVATAR_REPORT_URL", raising=False)
    assert "Report" not in client.get(address).text
    monkeypatch.setenv("SPACE_ID", "someone/heads")
    assert "https://huggingface.co/spaces/someone/heads/discussions" in client.get(address).text
    monkeypatch.setenv("FLEXAVATAR_REPORT_URL", "mailto:help@example.org")
    assert "mailto:help@example.org" in client.get(address).text


def test_they_come_before_gradio(all_routes: list[Any], store: SharedStore, files: dict[str, Path]) -> None:
    """Attached in the way that the module describes."""
    with gr.Blocks(analytics_enabled=False) as blocks:
        gr.Markdown("The app itself")
    blocks.launch(
        server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, ssr_mode=False, app_kwargs={"routes": all_routes}
    )
    try:
        with httpx.Client(base_url=str(blocks.local_url), follow_redirects=True) as client:
            made = store.put(files, "", ShareOptions("Ada"))
            answer = client.get(f"/?avatar={made.avatar.id}")
            assert answer.url.path == f"/avatar/{made.avatar.id}"
            assert properties(answer.text)["og:title"] == "Ada"
            assert "gradio" in client.get("/").text.lower()
            assert client.get("/config").json()["components"]
            action = f"/avatar/{made.avatar.id}/delete"
            # A page without a referrer posts its form from the origin "null".
            answer = client.post(action, data={"token": made.token}, headers={"Origin": "null"})
            assert answer.status_code == 200
            assert client.get(f"/avatar/{made.avatar.id}").status_code == 404
    finally:
        blocks.close()
