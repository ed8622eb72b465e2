"""Shared avatars on the Hub, which is played by a local server that keeps a history and large files."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from flexavatar.errors import CannotWrite
from flexavatar.sharing import HubStorage, NotShared, SharedStore, ShareOptions, StorageUnavailable
from flexavatar.sharing.store import DAY

REPO, TOKEN = "someone/avatars", "hf_secret"
API = f"/api/datasets/{REPO}"
LARGE = ".flexbundle"  # what the Hub's .gitattributes would send to large file storage


@dataclass
class Hub:
    """What the server holds."""

    history: list[dict[str, bytes]] = field(default_factory=lambda: [{".gitattributes": b"", "README.md": b"mine"}])
    large: dict[str, bytes] = field(default_factory=dict)  # by SHA-256; the history then has b"lfs:SHA-256"
    uploaded: dict[str, bytes] = field(default_factory=dict)
    made: list[dict[str, Any]] = field(default_factory=list)
    commits: int = 0

    @property
    def head(self) -> dict[str, bytes]:
        return self.history[-1]

    def content(self, path: str) -> bytes | None:
        stored = self.head.get(path)
        return self.large.get(stored[4:].decode()) if stored and stored.startswith(b"lfs:") else stored

    def commit(self, lines: list[dict[str, Any]]) -> None:
        files = dict(self.head)
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.large[value["oid"]] = self.uploaded[value["oid"]]
                files[value["path"]] = b"lfs:" + value["oid"].encode()
            elif line["key"] == "deletedFolder":
                files = {path: each for path, each in files.items() if not path.startswith(value["path"])}
        self.history.append(files)
        self.commits += 1

    def oid(self) -> str:
        return hashlib.sha1(str(self.commits).encode()).hexdigest()


class Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.answer({"error": "Repository not found"}, 401)
        elif path == f"{API}/tree/main":
            self.answer([self.entry(name) for name in self.hub.head])
        elif path == f"{API}/lfs-files":
            pushed = {"oid": "x", "pushedAt": "2026-01-01T00:00:00.000Z", "filename": "", "ref": None}
            self.answer([{"fileOid": sha, "size": len(each), **pushed} for sha, each in self.hub.large.items()])
        elif path.startswith(f"/datasets/{REPO}/resolve/main/"):
            content = self.hub.content(path.split("/resolve/main/")[1])
            if content is None:
                self.answer({}, 404, {"X-Error-Code": "EntryNotFound"})
            else:
                etag = hashlib.sha256(content).hexdigest()
                self.answer(content, headers={"ETag": f'"{etag}"', "X-Repo-Commit": self.hub.oid()})
        else:
            self.answer({}, 404)

    def do_PUT(self) -> None:
        body = self.body()
        self.hub.uploaded[hashlib.sha256(body).hexdigest()] = body
        self.answer({})

    def do_POST(self) -> None:
        path, body = unquote(urlsplit(self.path).path), self.body()
        address = f"http://{self.headers['Host']}"
        if path == "/api/repos/create":
            self.hub.made.append(json.loads(body))
            self.answer({"url": f"{address}/datasets/{REPO}"})
        elif path == f"{API}/preupload/main":
            modes = [
                {
                    "path": f["path"],
                    "uploadMode": "lfs" if f["path"].endswith(LARGE) else "regular",
                    "shouldIgnore": False,
                }
                for f in json.loads(body)["files"]
            ]
            self.answer({"files": modes})
        elif path == f"/datasets/{REPO}.git/info/lfs/objects/batch":
            objects = [
                {**each, "actions": {"upload": {"href": f"{address}/upload/{each['oid']}"}}}
                for each in json.loads(body)["objects"]
            ]
            self.answer({"transfer": "basic", "objects": objects})
        elif path == f"{API}/commit/main":
            self.hub.commit([json.loads(line) for line in body.splitlines()])
            oid = self.hub.oid()
            self.answer({"success": True, "commitOid": oid, "commitUrl": f"{address}/datasets/{REPO}/commit/{oid}"})
        elif path == f"{API}/super-squash/main":
            self.hub.history = [self.hub.head]
            self.answer({})
        elif path == f"{API}/lfs-files/batch":
            for sha in json.loads(body)["deletions"]["sha"]:
                del self.hub.large[sha]
            self.answer({})
        else:
            self.answer({}, 404)

    def entry(self, name: str) -> dict[str, Any]:
        content = self.hub.content(name) or b""
        sha = hashlib.sha256(content).hexdigest()
        entry = {"type": "file", "path": name, "size": len(content), "oid": sha[:40]}
        large = {"lfs": {"oid": sha, "size": len(content), "pointerSize": 130}} if name.endswith(LARGE) else {}
        return entry | large

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def answer(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def hub() -> Hub:
    return Hub()


@pytest.fixture
def server(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # Xet is a protocol of its own, in native code
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("HubHandler", (Handler,), {"hub": hub}))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def storage(server: ThreadingHTTPServer) -> HubStorage:
    return HubStorage(REPO, TOKEN, endpoint=f"http://127.0.0.1:{server.server_port}")


def mirrored(storage: HubStorage) -> list[Path]:
    """Copies on this machine."""
    root = Path(storage._mirror.name)
    return [path for path in root.rglob("*") if path.is_file() and path.name not in (".gitignore", "CACHEDIR.TAG")]


def test_an_avatar_goes_to_the_hub_and_comes_back(storage: HubStorage, hub: Hub, files: dict[str, Path]) -> None:
    store = SharedStore(storage)
    receipt = store.put(files, "CC0", ShareOptions("Ada"))
    avatar_id = receipt.avatar.id
    assert hub.commits == 1, "one commit, so that no visitor can meet half of an avatar"
    assert {path for path in hub.head if avatar_id in path} == {
        f"avatars/{avatar_id}/{name}" for name in (*files, "info.json")
    }
    assert len(hub.large) == 1
    assert receipt.token.encode() not in b"".join(hub.head.values())
    assert hub.made[0]["type"] == "dataset"
    assert hub.made[0].get("private") is True or hub.made[0].get("visibility") == "private"
    assert SharedStore(storage).get(avatar_id) == receipt.avatar
    assert store.path(avatar_id, "avatar.flexbundle").read_bytes() == files["avatar.flexbundle"].read_bytes()
    assert store.list_mine({avatar_id: receipt.token}) == [receipt.avatar]


def test_deletion_leaves_nothing_behind(storage: HubStorage, hub: Hub, files: dict[str, Path]) -> None:
    store = SharedStore(storage)
    receipt, other = store.put(files, ""), store.put(files, "")  # both hold the same large file
    for name in files:
        store.path(receipt.avatar.id, name)
    with pytest.raises(NotShared):
        store.delete(receipt.avatar.id, other.token)
    store.delete(receipt.avatar.id, receipt.token)
    with pytest.raises(NotShared):
        store.get(receipt.avatar.id)
    assert len(hub.history) == 1, "an earlier commit still has the files"
    assert not any(receipt.avatar.id in path for path in hub.head)
    assert not any(receipt.avatar.id in str(path) for path in mirrored(storage))
    assert store.path(other.avatar.id, "avatar.flexbundle").stat().st_size == 600, "another avatar lost its file"
    store.delete(other.avatar.id, other.token)
    assert hub.large == {}
    assert hub.head == {".gitattributes": b"", "README.md": b"mine"}
    assert mirrored(storage) == []


def test_an_avatar_removed_elsewhere_is_gone_here(storage: HubStorage, hub: Hub, files: dict[str, Path]) -> None:
    store = SharedStore(storage)
    first, second = store.put(files, ""), store.put(files, "")
    for receipt in (first, second):
        store.path(receipt.avatar.id, "card.jpg")
    hub.history.append({})
    with pytest.raises(NotShared):
        store.path(first.avatar.id, "card.jpg")
    assert {path.parent.name for path in mirrored(storage)} == {second.avatar.id}
    store.sweep()
    assert mirrored(storage) == []


def test_expired_avatars_leave_the_hub(storage: HubStorage, hub: Hub, files: dict[str, Path]) -> None:
    now = [0.0]
    store = SharedStore(storage, clock=lambda: now[0])
    short, long = (store.put(files, "", ShareOptions(days=days)) for days in (1, 2))
    now[0] = 1.5 * DAY
    assert store.sweep() == 1
    assert {path.split("/")[1] for path in hub.head if path.startswith("avatars/")} == {long.avatar.id}
    with pytest.raises(NotShared):
        store.get(short.avatar.id)


def test_a_hub_that_does_not_answer(
    storage: HubStorage, server: ThreadingHTTPServer, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SharedStore(storage)
    receipt = store.put(files, "")
    server.shutdown()
    server.server_close()
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the client's own attempts
    with pytest.raises(StorageUnavailable, match="again"):
        store.get(receipt.avatar.id)
    with pytest.raises((StorageUnavailable, CannotWrite), match="again"):
        store.put(files, "")


def test_a_wrong_token_is_explained(server: ThreadingHTTPServer, hub: Hub, files: dict[str, Path]) -> None:
    storage = HubStorage(REPO, "hf_wrong", endpoint=f"http://127.0.0.1:{server.server_port}")
    with pytest.raises(StorageUnavailable, match="again"):
        SharedStore(storage).put(files, "")
    assert not any(re.match("avatars/", path) for path in hub.head)


def test_a_change_reaches_the_hub_and_other_copies_of_the_app(
    storage: HubStorage, server: ThreadingHTTPServer, hub: Hub, files: dict[str, Path]
) -> None:
    store = SharedStore(storage)
    other = SharedStore(HubStorage(REPO, TOKEN, endpoint=f"http://127.0.0.1:{server.server_port}"))
    made = store.put(files, "CC0", ShareOptions("Ada"))
    assert other.get(made.avatar.id).visibility == "link"
    store.set_visibility(made.avatar.id, made.token, "private")
    assert hub.commits == 2
    for each in (store, other):
        with pytest.raises(NotShared):
            each.get(made.avatar.id)
        assert each.get(made.avatar.id, made.token).files == made.avatar.files
    store.delete(made.avatar.id, made.token)
    assert not storage.replace_info(made.avatar.id, b"{}")
