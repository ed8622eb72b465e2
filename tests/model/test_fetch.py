"""Downloads from a local server."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from flexavatar.model.fetch import FetchFailed, LicenseNotAccepted, RemoteFile, fetch_flex1

DATA = bytes(range(256)) * 4000


class _Handler(BaseHTTPRequestHandler):
    ranges: list[str | None] = []

    def do_GET(self) -> None:
        header = self.headers.get("Range")
        self.ranges.append(header)
        start = int(header.removeprefix("bytes=").rstrip("-")) if header else 0
        self.send_response(206 if header else 200)
        self.send_header("Content-Length", str(len(DATA) - start))
        self.end_headers()
        cut = self.path == "/truncated" and not header
        self.wfile.write(DATA[start : len(DATA) // 2 if cut else None])

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def address() -> Iterator[str]:
    _Handler.ranges.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def _file(url: str, sha256: str = hashlib.sha256(DATA).hexdigest()) -> list[RemoteFile]:
    return [RemoteFile(url, "weights.pt", len(DATA), sha256)]


def test_truncated_download_is_resumed(address: str, tmp_path: Path) -> None:
    seen: list[float] = []
    with pytest.raises(FetchFailed):
        fetch_flex1(tmp_path, True, files=_file(address + "/truncated"))
    assert not (tmp_path / "weights.pt").exists()
    (path,) = fetch_flex1(tmp_path, True, lambda name, f: seen.append(f), _file(address + "/truncated"))
    assert path.read_bytes() == DATA and seen[-1] == 1
    assert _Handler.ranges == [None, f"bytes={len(DATA) // 2}-"]


def test_wrong_hash_is_removed(address: str, tmp_path: Path) -> None:
    with pytest.raises(FetchFailed, match="hash"):
        fetch_flex1(tmp_path, True, files=_file(address + "/whole", "0" * 64))
    assert not list(tmp_path.iterdir())


def test_licence_and_offline(tmp_path: Path) -> None:
    with pytest.raises(LicenseNotAccepted, match="CC BY-NC 4.0"):
        fetch_flex1(tmp_path)
    with pytest.raises(FetchFailed, match="connection"):
        fetch_flex1(tmp_path, True, files=_file("http://127.0.0.1:9/weights.pt"))
