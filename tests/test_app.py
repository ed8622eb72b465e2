"""The app without a browser: its store, its 3D view's file, and its API as gradio_client sees it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
import torch
from conftest import EXAMPLE
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from plyfile import PlyData

import app
from flexavatar.app.controls import GROUPS, HEAD_TURNS, expression_of, slider_values
from flexavatar.app.messages import with_clear_errors
from flexavatar.app.store import AvatarGone, AvatarStore, StoredAvatar
from flexavatar.app.studio import Studio
from flexavatar.app.viewer import facing_the_visitor
from flexavatar.camera import HEAD_CENTER
from flexavatar.errors import NoFaceFound
from flexavatar.expression import ARKIT_BLENDSHAPES, PRESETS
from flexavatar.gaussians import Gaussians
from flexavatar.pipeline import FlexAvatarPipeline


def stored(name: str = "a") -> StoredAvatar:
    anything: Any = object()
    return StoredAvatar(anything, name)


def test_store_drops_the_longest_unused() -> None:
    store = AvatarStore(capacity=2)
    first, second = store.put(stored()), store.put(stored())
    store.get(first)
    third = store.put(stored())
    assert len(store) == 2
    assert store.get(first) is not store.get(third)
    with pytest.raises(AvatarGone, match="Create it again"):
        store.get(second)


def test_store_forgets_after_the_lifetime_and_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("flexavatar.app.store.time.monotonic", lambda: now[0])
    store = AvatarStore(lifetime=10)
    kept, gone = store.put(stored()), store.put(stored())
    store.discard(gone)
    store.discard(None)
    now[0] = 9
    store.get(kept)
    now[0] = 18
    store.get(kept)
    now[0] = 29
    for key in (kept, gone, None, "guess"):
        with pytest.raises(AvatarGone):
            store.get(key)


def test_files_go_with_the_avatar() -> None:
    store = AvatarStore()
    key = store.put(stored())
    path = store.get(key).path(".ply")
    path.write_bytes(b"x")
    store.discard(key)
    assert not path.parent.exists()


def test_the_view_opens_on_the_face() -> None:
    """gsplat.js starts 0.5 rad to the right of its axis and looks at the origin."""
    # The nose's tip and the top of the head, as seen from the centre of the view.
    means = torch.tensor(HEAD_CENTER) + torch.tensor([[0.0, 0.0, 0.1], [0.0, 0.1, 0.0]])
    quat = torch.tensor([[1.0, 0.0, 0.0, 0.0]]).expand(2, 4)
    view = facing_the_visitor(Gaussians(means, quat, torch.ones(2, 3), torch.ones(2), torch.ones(2, 3)))
    nose, top = view.means
    assert math.atan2(float(nose[0]), float(nose[2])) == pytest.approx(0.5, abs=1e-4)
    assert float(nose[1]) == pytest.approx(0, abs=1e-6)
    assert float(top[1]) > 0
    assert float(top[[0, 2]].norm()) == pytest.approx(0, abs=1e-6)
    torch.testing.assert_close(view.quats[0], torch.tensor([math.cos(0.25), 0.0, math.sin(0.25), 0.0]))


def test_every_blendshape_has_one_group() -> None:
    homes = [[g for g, prefixes in GROUPS.items() if name.startswith(prefixes)] for name in ARKIT_BLENDSHAPES]
    assert all(len(found) == 1 for found in homes)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_reach_the_sliders_and_come_back(preset: str) -> None:
    values = slider_values(preset)
    assert len(values) == len(ARKIT_BLENDSHAPES) + len(HEAD_TURNS)
    expression = expression_of(tuple(values))
    wanted = torch.tensor([PRESETS[preset].get(name, 0.0) for name in ARKIT_BLENDSHAPES])
    torch.testing.assert_close(expression.blendshapes, wanted)
    torch.testing.assert_close(expression.head_rotation, torch.eye(3))


def test_errors_become_messages(caplog: pytest.LogCaptureFixture) -> None:
    def refuse() -> None:
        raise NoFaceFound("No face. Take another photo.")

    def break_down() -> None:
        raise KeyError("secret detail")

    with pytest.raises(gr.Error) as caught:
        with_clear_errors(refuse)()
    assert (caught.value.message, caught.value.title) == ("No face. Take another photo.", "No face found")
    with pytest.raises(gr.Error) as caught:
        with_clear_errors(break_down)()
    assert "secret" not in str(caught.value.message)
    assert "secret detail" in caplog.text


@pytest.fixture(scope="module")
def client(pipeline: FlexAvatarPipeline) -> Iterator[Client]:
    page = app.launch(Studio(pipeline), host="127.0.0.1", block=False)
    yield Client(str(page.local_url), verbose=False)
    page.close()


@pytest.fixture(scope="module")
def avatar_id(client: Client) -> str:
    made = client.predict(handle_file(EXAMPLE), None, api_name="/create")
    assert made["gaussians"] > 10_000
    assert made["error"] < 0.02
    return made["avatar"]


def test_only_plain_endpoints_are_public(client: Client) -> None:
    endpoints = client.view_api(return_format="dict", print_info=False)
    assert isinstance(endpoints, dict)
    assert set(endpoints["named_endpoints"]) == {"/create", "/open", "/render", "/turntable", "/export"}
    assert not endpoints["unnamed_endpoints"]


def test_render_endpoint(client: Client, avatar_id: str) -> None:
    def picture(expression: str, yaw: float) -> np.ndarray:
        path = client.predict(avatar_id, expression, yaw, 0, 128, api_name="/render")
        return np.asarray(Image.open(path).convert("RGB")).astype(int)

    front = picture("neutral", 0)
    assert front.shape == (128, 128, 3)
    assert np.abs(front - picture("neutral", 45)).mean() > 3
    assert np.abs(front - picture("jawOpen=1", 0)).max() > 40


@pytest.mark.parametrize("file_format", ["ply", "splat", "spz", "png"])
def test_export_endpoint(client: Client, avatar_id: str, file_format: str) -> None:
    path = Path(client.predict(avatar_id, file_format, "neutral", api_name="/export"))
    assert path.name == f"astronaut.{file_format}"
    assert path.stat().st_size > 1000
    if file_format == "ply":
        assert "f_dc_0" in PlyData.read(str(path))["vertex"].data.dtype.names


def test_turntable_endpoint(client: Client, avatar_id: str) -> None:
    path = Path(client.predict(avatar_id, "smile", 0.5, 96, api_name="/turntable"))
    assert path.suffix == ".mp4"
    assert b"ftyp" in path.read_bytes()[:16]


def test_saved_avatar_opens_again(client: Client, avatar_id: str) -> None:
    path = client.predict(avatar_id, "flexavatar", "neutral", api_name="/export")
    again = client.predict(handle_file(path), api_name="/open")
    assert again["avatar"] != avatar_id
    assert again["model"] == "rig"


@pytest.mark.parametrize(
    ("name", "message"),
    [("no_face", "face"), ("two_faces", "faces"), ("empty", "empty"), ("text", "image"), ("bomb", "large")],
)
def test_unusable_photos_are_explained(client: Client, photos: dict[str, Path], name: str, message: str) -> None:
    with pytest.raises(AppError, match=message):
        client.predict(handle_file(photos[name]), None, api_name="/create")


def test_wrong_arguments_are_explained(client: Client, avatar_id: str, tmp_path: Path) -> None:
    junk = tmp_path / "junk.flexavatar"
    junk.write_bytes(b"junk" * 100)
    with pytest.raises(AppError, match="not on the server"):
        client.predict("guess", "neutral", 0, 0, 128, api_name="/render")
    with pytest.raises(AppError, match="smile"):
        client.predict(avatar_id, "grin", 0, 0, 128, api_name="/render")
    with pytest.raises(AppError, match="size must be"):
        client.predict(avatar_id, "neutral", 0, 0, 100_000, api_name="/render")
    with pytest.raises(AppError):
        client.predict(handle_file(junk), api_name="/open")
