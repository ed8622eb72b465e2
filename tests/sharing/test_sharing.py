"""The rules of sharing on a plain folder, and what a shared avatar holds."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flexavatar.avatar import Avatar
from flexavatar.errors import CannotWrite
from flexavatar.sharing import (
    CannotShare,
    FolderStorage,
    Limits,
    NotShared,
    Receipt,
    SharedStore,
    ShareOptions,
    StorageUnavailable,
    open_store,
    share,
)
from flexavatar.sharing.card import poster
from flexavatar.sharing.store import DAY


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "shared"


@pytest.fixture
def store(folder: Path, clock: Clock) -> SharedStore:
    return SharedStore(FolderStorage(folder), clock=clock)


def avatars_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_what_is_put_comes_back(store: SharedStore, folder: Path, files: dict[str, Path], clock: Clock) -> None:
    made = store.put(files, "CC0", ShareOptions("  Ada \n\x00 Lovelace ", days=7, downloads=True))
    avatar = store.get(made.avatar.id)
    assert avatar == made.avatar == SharedStore(FolderStorage(folder)).get(made.avatar.id)
    assert (avatar.name, avatar.licence, avatar.downloads) == ("Ada Lovelace", "CC0", True)
    assert (avatar.created, avatar.expires) == (clock.now, clock.now + 7 * DAY)
    assert avatar.files == {"avatar.flexbundle": 600, "card.jpg": 4}
    for name, source in files.items():
        assert store.path(avatar.id, name).read_bytes() == source.read_bytes()


def test_ids_and_tokens_are_random_and_tokens_are_not_stored(
    store: SharedStore, folder: Path, files: dict[str, Path]
) -> None:
    made = [store.put(files, "") for _ in range(5)]
    secrets = {each.avatar.id for each in made} | {each.token for each in made}
    assert len(secrets) == 10
    assert all(len(each) >= 22 for each in secrets)
    stored = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert not any(each.token.encode() in stored for each in made)
    assert made[0].token not in repr(made[0])


@pytest.mark.parametrize(
    "wrong", ["", ".", "..", "x" * 22, "../shared", "/etc/passwd", "a/b", "\x00", "x" * 5000, "é" * 22, "info.json"]
)
def test_wrong_ids_all_get_the_same_answer(store: SharedStore, files: dict[str, Path], wrong: str) -> None:
    made = store.put(files, "")
    deleted = store.put(files, "")
    store.delete(deleted.avatar.id, deleted.token)
    messages = set()
    for ask in (
        lambda: store.get(wrong),
        lambda: store.path(wrong, "card.jpg"),
        lambda: store.path(made.avatar.id, wrong),
        lambda: store.path(made.avatar.id, "info.json"),
        lambda: store.owned(wrong, made.token),
        lambda: store.delete(made.avatar.id, wrong),
        lambda: store.get(deleted.avatar.id),
        lambda: store.delete(deleted.avatar.id, deleted.token),
    ):
        with pytest.raises(NotShared) as caught:
            ask()
        messages.add(str(caught.value))
    assert len(messages) == 1
    assert store.get(made.avatar.id) == made.avatar


def test_deletion_removes_every_file(store: SharedStore, folder: Path, files: dict[str, Path]) -> None:
    kept, gone = store.put(files, ""), store.put(files, "")
    with pytest.raises(NotShared):
        store.delete(gone.avatar.id, kept.token)
    with pytest.raises(NotShared):
        store.delete(gone.avatar.id, None)
    assert store.get(gone.avatar.id)
    store.delete(gone.avatar.id, gone.token)
    assert avatars_in(folder) == {kept.avatar.id}


def test_private_avatars_need_the_owner(store: SharedStore, files: dict[str, Path]) -> None:
    made = store.put(files, "", ShareOptions(visibility="private"))
    for token in (None, "", "guess", made.token[:-1]):
        with pytest.raises(NotShared):
            store.get(made.avatar.id, token)
        with pytest.raises(NotShared):
            store.path(made.avatar.id, "card.jpg", token)
    assert store.get(made.avatar.id, made.token) == made.avatar
    assert store.path(made.avatar.id, "card.jpg", made.token).read_bytes() == b"card"


def test_the_gallery_shows_what_the_tokens_open(store: SharedStore, files: dict[str, Path], clock: Clock) -> None:
    made: list[Receipt] = []
    for visibility in ("link", "private", "link", "link"):
        made.append(store.put(files, "", ShareOptions(visibility=visibility)))
        clock.now += 1
    first, private, deleted, others = made
    store.delete(deleted.avatar.id, deleted.token)
    tokens = {each.avatar.id: each.token for each in (first, private, deleted)}
    assert store.list_mine({**tokens, others.avatar.id: "guess", "..": "x"}) == [private.avatar, first.avatar]


def test_expiry(store: SharedStore, folder: Path, files: dict[str, Path], clock: Clock) -> None:
    short, long, endless = (store.put(files, "", ShareOptions(days=days)) for days in (1, 2, None))
    clock.now += DAY - 1
    assert store.sweep() == 0
    assert store.get(short.avatar.id)
    clock.now += 1
    with pytest.raises(NotShared):
        store.get(short.avatar.id)
    with pytest.raises(NotShared):
        store.owned(short.avatar.id, short.token)
    assert avatars_in(folder) == {short.avatar.id, long.avatar.id, endless.avatar.id}
    assert store.sweep() == 1
    clock.now += 1000 * DAY
    assert store.sweep() == 1
    assert avatars_in(folder) == {endless.avatar.id}


def test_the_site_can_limit_the_life_of_avatars(folder: Path, files: dict[str, Path], clock: Clock) -> None:
    store = SharedStore(FolderStorage(folder), Limits(days=3), clock)
    for days, expected in ((1, 1), (30, 3), (None, 3)):
        assert store.put(files, "", ShareOptions(days=days)).avatar.expires == clock.now + expected * DAY


def test_owners_change_visibility_and_expiry(
    store: SharedStore, folder: Path, files: dict[str, Path], clock: Clock
) -> None:
    made = store.put(files, "", ShareOptions(days=7))
    avatar_id, token = made.avatar.id, made.token
    with pytest.raises(NotShared):
        store.set_visibility(avatar_id, "guess", "private")
    with pytest.raises(NotShared):
        store.keep_for(avatar_id, None, 1)
    wrong: Any = "public"
    with pytest.raises(ValueError, match="visibility must be"):
        store.set_visibility(avatar_id, token, wrong)
    with pytest.raises(ValueError, match="more than 0 days"):
        store.keep_for(avatar_id, token, 0)
    assert store.get(avatar_id) == made.avatar

    store.set_visibility(avatar_id, token, "private")
    with pytest.raises(NotShared):
        store.get(avatar_id)
    changed = store.keep_for(avatar_id, token, None)
    assert changed == store.get(avatar_id, token)
    assert (changed.visibility, changed.expires, changed.files) == ("private", None, made.avatar.files)

    store.delete(avatar_id, token)
    with pytest.raises(NotShared):
        store.set_visibility(avatar_id, token, "link")
    assert not store.storage.replace_info(avatar_id, b"{}")
    assert list(folder.iterdir()) == []


def test_changes_do_not_outlive_the_limit_of_the_site(folder: Path, files: dict[str, Path], clock: Clock) -> None:
    store = SharedStore(FolderStorage(folder), Limits(days=10), clock)
    made = store.put(files, "", ShareOptions(days=2))
    clock.now += DAY
    for days, left in ((3, 3), (30, 9), (None, 9)):
        assert store.keep_for(made.avatar.id, made.token, days).expires == clock.now + left * DAY


def test_limits(folder: Path, files: dict[str, Path], clock: Clock) -> None:
    def with_limits(limits: Limits) -> SharedStore:
        return SharedStore(FolderStorage(folder), limits, clock)

    with pytest.raises(CannotShare, match="without downloads"):
        with_limits(Limits(avatar_bytes=600)).put(files, "")
    with pytest.raises(CannotShare, match="no room"):
        with_limits(Limits(total_bytes=603)).put(files, "")
    assert avatars_in(folder) == set()
    store = with_limits(Limits(count=2))
    first = store.put(files, "", ShareOptions(days=1))
    store.put(files, "")
    with pytest.raises(CannotShare, match="no room"):
        store.put(files, "")
    clock.now += 2 * DAY
    store.put(files, "")
    assert first.avatar.id not in avatars_in(folder), "what has expired makes room"


@pytest.mark.parametrize("options", [ShareOptions(days=0), ShareOptions(visibility="public")])  # pyright: ignore[reportArgumentType]
def test_wrong_options_are_refused(store: SharedStore, files: dict[str, Path], options: ShareOptions) -> None:
    with pytest.raises(ValueError, match="days|visibility"):
        store.put(files, "", options)


@pytest.mark.parametrize("name", ["../x", "a/b.c", ".x", "", "X.Y", "a", "info.json/.."])
def test_wrong_file_names_are_refused(store: SharedStore, files: dict[str, Path], name: str) -> None:
    with pytest.raises(ValueError, match="file name"):
        store.put({name: files["card.jpg"]}, "")


def test_a_crash_shows_no_half_avatar(
    store: SharedStore, folder: Path, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the files: nothing is cleaned up, as the process is gone."""
    seen: list[Callable[[], object]] = []

    def crash(source: Path, target: Path) -> None:
        if source == files["card.jpg"]:
            (half,) = avatars_in(folder)
            seen.append(lambda: store.get(half))
            raise KeyboardInterrupt
        target.write_bytes(source.read_bytes())

    with monkeypatch.context() as patch:
        patch.setattr("flexavatar.sharing.storage.shutil.copyfile", crash)
        patch.setattr("flexavatar.sharing.storage.shutil.rmtree", lambda *args, **options: None)
        with pytest.raises(KeyboardInterrupt):
            store.put(files, "")
    assert len(avatars_in(folder)) == 1
    with pytest.raises(NotShared):
        seen[0]()
    store.sweep()
    assert len(avatars_in(folder)) == 1, "another process may still be writing it"
    monkeypatch.setattr("flexavatar.sharing.storage.time.time", lambda: 4e9)
    store.sweep()
    assert avatars_in(folder) == set()


def test_what_else_lies_in_the_folder_is_left_alone(
    store: SharedStore, folder: Path, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "photos").mkdir()
    (folder / "photos" / "a.jpg").write_bytes(b"x" * 10_000)
    (folder / "notes.txt").write_text("mine")
    made = store.put(files, "")
    assert set(store.storage.sizes()) == {made.avatar.id}
    store.delete(made.avatar.id, made.token)
    monkeypatch.setattr("flexavatar.sharing.storage.time.time", lambda: 4e9)
    store.sweep()
    assert avatars_in(folder) == {"photos", "notes.txt"}


def test_many_at_once(store: SharedStore, folder: Path, files: dict[str, Path]) -> None:
    """Every avatar is whole or gone for whoever looks, and one of several deletions wins."""
    problems: list[str] = []
    done = threading.Event()
    shared: list[Receipt] = []

    def put_and_delete() -> None:
        for _ in range(8):
            made = store.put(files, "")
            shared.append(made)
            outcomes: list[bool] = []

            def delete(made: Receipt = made, outcomes: list[bool] = outcomes) -> None:
                try:
                    store.delete(made.avatar.id, made.token)
                    outcomes.append(True)
                except NotShared:
                    outcomes.append(False)

            pair = [threading.Thread(target=delete) for _ in range(2)]
            for thread in pair:
                thread.start()
            for thread in pair:
                thread.join()
            if True not in outcomes or len(outcomes) != 2:
                problems.append(f"deletions ended as {outcomes}")

    def look() -> None:
        while not done.is_set():
            for made in shared[-4:]:
                try:
                    if store.path(made.avatar.id, "card.jpg").read_bytes() != b"card":
                        problems.append("half a file")
                except (NotShared, FileNotFoundError):
                    continue
            store.sweep()

    workers = [threading.Thread(target=put_and_delete) for _ in range(3)]
    reader = threading.Thread(target=look)
    for thread in (*workers, reader):
        thread.start()
    for thread in workers:
        thread.join()
    done.set()
    reader.join()
    assert problems == []
    assert len(shared) == 24
    assert avatars_in(folder) == set()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CannotWrite, match="not a folder"):
        FolderStorage(tmp_path / "file" / "shared")


def test_the_environment_chooses(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    store = open_store({"FLEXAVATAR_STORE": str(tmp_path / "disk"), "FLEXAVATAR_STORE_MB": "10"})
    assert str(store.storage) == f"the folder {tmp_path / 'disk'}"
    assert store.limits.total_bytes == 10 * 1024**2
    assert str(tmp_path / "disk") in caplog.text

    caplog.clear()
    store = open_store({"XDG_DATA_HOME": str(tmp_path / "data"), "SPACE_ID": "someone/space"})
    assert str(store.storage) == f"the folder {tmp_path / 'data' / 'flexavatar' / 'shared'}"
    assert store.limits == Limits()
    assert "restarts" in caplog.text

    (tmp_path / "file").write_text("in the way")
    assert "flexavatar-shared-" in str(open_store({"XDG_DATA_HOME": str(tmp_path / "file")}).storage)

    with pytest.raises(StorageUnavailable, match="HF_TOKEN"):
        open_store({"FLEXAVATAR_STORE_REPO": "someone/avatars"})
    with pytest.raises(ValueError, match="FLEXAVATAR_STORE_AVATARS"):
        open_store({"FLEXAVATAR_STORE": str(tmp_path), "FLEXAVATAR_STORE_AVATARS": "many"})


def test_what_a_shared_avatar_holds(avatar_file: Path, store: SharedStore, files: dict[str, Path]) -> None:
    avatar = Avatar.load(avatar_file)
    stages: list[str] = []
    made = share(
        store, avatar, files["avatar.flexbundle"], ShareOptions("Ada", downloads=True), "cpu",
        lambda stage, done: stages.append(stage),
    )  # fmt: skip
    held = made.avatar.files
    assert set(held) == {
        "avatar.flexbundle", "avatar.flexavatar", "avatar.ply", "avatar.spz",
        "card.jpg", "poster.webp", "thumbnail.jpg", "turntable.mp4",
    }  # fmt: skip
    assert "storing the avatar" in stages
    again = Avatar.load(store.path(made.avatar.id, "avatar.flexavatar"))
    assert np.array_equal(again.thumbnail, avatar.thumbnail)
    assert "consent" in made.avatar.licence
    stored = json.dumps(dict(again.metadata))
    assert "astronaut" not in stored.lower(), "the name of the photo is nobody's business"

    card = np.asarray(Image.open(store.path(made.avatar.id, "card.jpg")))
    assert card.shape == (630, 1200, 3)
    background = card[5, [5, 600, 1195]].astype(int)
    for tile, colour in zip(np.split(card.astype(int), 3, axis=1), background, strict=True):
        covered = (np.abs(tile - colour).max(-1) > 30).mean()
        assert 0.3 < covered < 0.9, "each tile shows a head before its background"

    held = share(store, avatar, files["avatar.flexbundle"], ShareOptions("Ada"), "cpu").avatar.files
    assert set(held) == {"avatar.flexbundle", "card.jpg", "poster.webp", "thumbnail.jpg", "turntable.mp4"}
    assert held["poster.webp"] < 60_000


def test_the_poster_is_what_the_viewer_draws_first(avatar_file: Path) -> None:
    avatar = Avatar.load(avatar_file)
    made = poster(avatar, 128)
    assert made.getpixel((2, 2))[3] == 0  # pyright: ignore[reportOptionalSubscript,reportIndexIssue]
    white = Image.new("RGBA", made.size, "white")
    over = np.asarray(Image.alpha_composite(white, made).convert("RGB")).astype(int)
    assert np.abs(over - avatar.render(size=128, device="cpu")).mean() < 0.5
