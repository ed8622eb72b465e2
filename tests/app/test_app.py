"""The app without a browser: its store, and its API as gradio_client sees it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
import torch
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from plyfile import PlyData

import app
from flexavatar.app.controls import GROUPS, HEAD_TURNS, expression_of, slider_values
from flexavatar.app.messages import with_clear_errors
from flexavatar.app.store import AvatarGone, AvatarStore, StoredAvatar
from flexavatar.app.studio import Studio
from flexavatar.errors import BadMotionFile, Cancelled, NoFaceFound
from flexavatar.expression import ARKIT_BLENDSHAPES, PRESETS
from flexavatar.pipeline import FlexAvatarPipeline
from flexavatar.sharing import FolderStorage, SharedStore
from tests.conftest import EXAMPLE


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


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/tmp/gradio/0a1b/m.csv, line 22: this is no number.", "m.csv, line 22: this is no number."),
        ("Cannot write /srv/app/x.ply: the disk is full.", "Cannot write x.ply: the disk is full."),
        ("There is no file 'C:\\Users\\me\\a.mp4'.", "There is no file 'a.mp4'."),
        ("See https://huggingface.co/docs/hub, 3/4 or and/or /render.",) * 2,
    ],
)
def test_folders_of_the_server_are_not_told(text: str, shown: str) -> None:
    def refuse() -> None:
        raise BadMotionFile(text)

    with pytest.raises(gr.Error) as caught:
        with_clear_errors(refuse)()
    assert caught.value.message == shown


@pytest.fixture(scope="module")
def studio(pipeline: FlexAvatarPipeline) -> Studio:
    return Studio(pipeline)


@pytest.fixture(scope="module")
def address(studio: Studio, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    shared = SharedStore(FolderStorage(tmp_path_factory.mktemp("shared")))
    page = app.launch(studio, host="127.0.0.1", block=False, shared=shared)
    yield str(page.local_url)
    page.close()


@pytest.fixture(scope="module")
def client(address: str) -> Client:
    return Client(address, verbose=False)


@pytest.fixture(scope="module")
def avatar_id(client: Client) -> str:
    made = client.predict(handle_file(EXAMPLE), None, "instant", api_name="/create")
    assert made["gaussians"] > 10_000
    assert made["error"] < 0.02
    return made["avatar"]


def test_only_plain_endpoints_are_public(client: Client) -> None:
    endpoints = client.view_api(return_format="dict", print_info=False)
    assert isinstance(endpoints, dict)
    assert set(endpoints["named_endpoints"]) == {
        "/create", "/capture", "/open", "/render", "/turntable", "/export", "/drive", "/mix", "/morph",
    }  # fmt: skip
    assert not endpoints["unnamed_endpoints"]


def test_endpoints_take_what_cuts_the_person_out(
    client: Client, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def create(*_: Any, matte: str, **__: Any) -> None:
        asked.append(matte)
        raise Cancelled("asked")

    monkeypatch.setattr(studio, "create", create)
    monkeypatch.setattr(studio, "capture", create)
    photo = handle_file(EXAMPLE)
    calls = [("/create", (photo, None, "instant")), ("/capture", ([photo], "fast"))]
    for name, arguments in calls:  # earlier callers name no matte
        for matte in ([], ["rembg:birefnet-portrait"]):
            with pytest.raises(AppError, match="asked"):
                client.predict(*arguments, *matte, api_name=name)
    with pytest.raises(AppError, match="matte must be one of"):
        client.predict(photo, None, "instant", "rembg:sam", api_name="/create")
    assert asked == ["selfie", "rembg:birefnet-portrait"] * 2


def test_render_endpoint(client: Client, avatar_id: str) -> None:
    def picture(expression: str, yaw: float) -> np.ndarray:
        path = client.predict(avatar_id, expression, yaw, 0, 128, api_name="/render")
        return np.asarray(Image.open(path).convert("RGB")).astype(int)

    front = picture("neutral", 0)
    assert front.shape == (128, 128, 3)
    assert np.abs(front - picture("neutral", 45)).mean() > 3
    assert np.abs(front - picture("jawOpen=1", 0)).max() > 40


@pytest.mark.parametrize("file_format", ["ply", "splat", "spz", "png", "flexbundle"])
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


def test_capture_endpoint(client: Client, photos: dict[str, Path]) -> None:
    files = [handle_file(path) for path in (EXAMPLE, photos["no_face"])]
    made = client.predict(files, "fast", "selfie", api_name="/capture")
    assert made["avatar"] and len(made["used"]) == 1
    assert ["face" in reason.lower() for reason in made["dropped"].values()] == [True]
    with pytest.raises(AppError, match="quality"):
        client.predict(files, "superb", api_name="/capture")


def test_drive_mix_and_morph_endpoints(client: Client, avatar_id: str, tmp_path: Path) -> None:
    options = {"head_motion": 0.5, "size": 64, "api_name": "/drive"}
    video, motion, about = client.predict(avatar_id, "wink", None, background="#00ff00", **options)
    assert b"ftyp" in Path(video).read_bytes()[:16]
    assert about["frames"] == len(Path(motion).read_text().splitlines()) - 1
    with pytest.raises(AppError, match="clip must be one of"):
        client.predict(avatar_id, "dance", None, **options)
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    with pytest.raises(AppError, match="no video"):
        client.predict(avatar_id, "", handle_file(text), **options)
    mixed = client.predict(f"{avatar_id}, {avatar_id}", "0.5, 0.5", api_name="/mix")
    assert mixed["avatar"] != avatar_id
    with pytest.raises(AppError, match="sum to 1"):
        client.predict(f"{avatar_id}, {avatar_id}", "0.5, 0.1", api_name="/mix")
    path = client.predict(f"{avatar_id}, {mixed['avatar']}", "neutral", 0.5, 0, 64, api_name="/morph")
    assert b"ftyp" in Path(path).read_bytes()[:16]


def test_long_work_does_not_block_short_work(
    address: str, client: Client, studio: Studio, avatar_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many long drives run as may, and more wait; a visitor's new avatar is made all the same."""
    started, release = threading.Semaphore(0), threading.Event()

    def drive(*_: Any, **__: Any) -> None:
        started.release()
        release.wait(60)
        raise Cancelled("done")

    monkeypatch.setattr(studio, "drive", drive)
    jobs = [client.submit(avatar_id, "talk", None, api_name="/drive") for _ in range(4)]
    try:
        assert all(started.acquire(timeout=20) for _ in range(2))
        other = Client(address, verbose=False)
        assert other.predict(handle_file(EXAMPLE), None, api_name="/create")["gaussians"] > 10_000
        assert not any(job.done() for job in jobs)
    finally:
        release.set()
    for job in jobs:
        with pytest.raises(AppError, match="done"):
            job.result(timeout=30)


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
