"""Networks on disk: written, read, refused when damaged, and downloaded from a Hub that is played by a local server."""

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from flexavatar.errors import ModelUnavailable
from flexavatar.model.checkpoint import BadCheckpoint
from flexavatar.model.config import UpsamplerConfig
from flexavatar.model.flex_s import FLEX_S, FlexS
from flexavatar.model.pretrained import from_pretrained, save_pretrained

SMALL = replace(
    FLEX_S, width=32, n_image_layers=1, n_encoder_layers=1, n_decoder_layers=1,
    upsampler=UpsamplerConfig(4, 1024, 16, 1),
)  # fmt: skip
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = FlexS(SMALL)
    torch.nn.init.normal_(model.decoder.out.weight)
    path = tmp_path_factory.mktemp("models") / "tiny"
    save_pretrained(model, path)
    return path


def copy(folder: Path, target: Path) -> Path:
    target.mkdir()
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


def test_round_trip_in_half_precision(folder: Path) -> None:
    model = from_pretrained(folder)
    assert model.config == SMALL
    again = from_pretrained(str(folder)).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in model.state_dict().items())
    assert not any(p.requires_grad for p in model.parameters()) and not model.training
    assert model.decoder.out.weight.abs().max() > 0


def test_model_that_comes_with_the_package(folder: Path) -> None:
    assert from_pretrained("tiny", embedded=folder.parent).config == SMALL


def test_unknown_name_lists_what_there_is(folder: Path) -> None:
    with pytest.raises(ModelUnavailable, match="tiny"):
        from_pretrained("huge", embedded=folder.parent)


@pytest.mark.parametrize("damage", ["weights", "hash", "config", "field", "value", "format", "no weights"])
def test_damaged_folders_are_refused(folder: Path, tmp_path: Path, damage: str) -> None:
    broken = copy(folder, tmp_path / "broken")
    config, weights = broken / "config.json", broken / "model.safetensors"
    document = json.loads(config.read_text())
    if damage == "weights":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "no weights":
        weights.unlink()
    elif damage == "config":
        config.write_text("{")
    else:
        if damage == "hash":
            document["sha256"] = "0" * 64
        elif damage == "field":
            document["config"]["colour"] = 1
        elif damage == "value":
            document["config"]["anchors"] = "elsewhere"
        else:
            document["format"] = 99
        config.write_text(json.dumps(document))
    with pytest.raises(BadCheckpoint):
        from_pretrained(broken)


class _Hub(BaseHTTPRequestHandler):
    folder: Path
    requests: list[str]

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        self.requests.append(self.path)
        prefix = f"/someone/tiny/resolve/{COMMIT}/"
        file = self.folder / self.path.removeprefix(prefix)
        if not self.path.startswith(prefix) or not file.is_file():
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.end_headers()
            return
        content = file.read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def hub(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    from huggingface_hub import constants

    _Hub.folder, _Hub.requests = folder, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    yield server
    server.shutdown()
    server.server_close()


def test_download_and_then_offline(hub: ThreadingHTTPServer) -> None:
    assert from_pretrained("someone/tiny", revision=COMMIT).config == SMALL
    assert any("model.safetensors" in path for path in _Hub.requests)
    hub.shutdown()
    hub.server_close()
    assert from_pretrained("someone/tiny", revision=COMMIT).config == SMALL


def test_hub_needs_a_commit(hub: ThreadingHTTPServer) -> None:
    for revision in (None, "main"):
        with pytest.raises(ModelUnavailable, match="commit"):
            from_pretrained("someone/tiny", revision=revision)
    assert _Hub.requests == []


def test_missing_on_the_hub(hub: ThreadingHTTPServer) -> None:
    with pytest.raises(ModelUnavailable, match="someone/absent"):
        from_pretrained("someone/absent", revision=COMMIT)


def test_offline_without_a_cache(hub: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the Hub client's attempts
    hub.shutdown()
    hub.server_close()
    with pytest.raises(ModelUnavailable, match="connection"):
        from_pretrained("someone/tiny", revision=COMMIT)
