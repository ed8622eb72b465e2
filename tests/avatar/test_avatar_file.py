"""The .flexavatar file: what is written comes back, and nothing else is taken for one."""

from __future__ import annotations

import json
import pickle
import struct
import zipfile

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save, save_file

from flexavatar.avatar.avatar_file import FORMAT_VERSION, read_avatar_file, write_avatar_file
from flexavatar.errors import BadAvatarFile, CannotWrite

METADATA = {"model": "rig", "photo": "née.jpg", "seed": 3, "nested": {"list": [1.5, None, True]}}


@pytest.fixture
def thumbnail() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (48, 40, 3), dtype=np.uint8)


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(64, 3, generator=generator)
    return {
        "texture": torch.randint(0, 255, (16, 16, 3), generator=generator, dtype=torch.uint8),
        "shape": weights.half(),
        "weights": weights.t(),  # not contiguous
        "same": weights,  # shares its memory
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
    }


@pytest.fixture
def avatar(tmp_path, tensors, thumbnail):
    path = tmp_path / "me.flexavatar"
    write_avatar_file(path, tensors, METADATA, thumbnail)
    return path


def rewritten(path, change) -> None:
    """Change the JSON header of a safetensors file."""
    content = path.read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    change(header)
    encoded = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + content[8 + length :])


def test_round_trip(avatar, tensors, thumbnail):
    read = read_avatar_file(avatar)
    assert read.metadata == METADATA
    np.testing.assert_array_equal(read.thumbnail, thumbnail)
    assert read.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read.tensors[name].dtype == tensor.dtype
        assert torch.equal(read.tensors[name], tensor), name


def test_plain_safetensors_with_its_metadata(avatar):
    with safe_open(avatar, "pt") as file:
        metadata = file.metadata()
        assert "texture" in file.keys()  # noqa: SIM118
    assert metadata["format"] == "flexavatar"
    assert metadata["format_version"] == str(FORMAT_VERSION)
    assert metadata["model"] == "rig"
    assert json.loads(metadata["settings"]) == METADATA


def test_same_avatar_same_bytes(avatar, tensors, thumbnail, tmp_path):
    write_avatar_file(tmp_path / "again.flexavatar", tensors, METADATA, thumbnail)
    assert (tmp_path / "again.flexavatar").read_bytes() == avatar.read_bytes()


def test_metadata_must_be_sound(tmp_path, tensors, thumbnail):
    path = tmp_path / "x.flexavatar"
    with pytest.raises(ValueError, match="model"):
        write_avatar_file(path, tensors, {}, thumbnail)
    with pytest.raises(TypeError):
        write_avatar_file(path, tensors, {"model": "rig", "bad": object()}, thumbnail)
    assert not list(tmp_path.iterdir())


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(BadAvatarFile, match="no file"):
        read_avatar_file(tmp_path / "missing.flexavatar")
    with pytest.raises(BadAvatarFile, match="Cannot read"):
        read_avatar_file(tmp_path)


def test_every_truncation(avatar):
    content = avatar.read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    for size in {1, 7, 8, 9, 8 + length // 2, 8 + length, 9 + length, len(content) // 2, len(content) - 1}:
        avatar.write_bytes(content[:size])
        with pytest.raises(BadAvatarFile, match="cut off"):
            read_avatar_file(avatar)
    avatar.write_bytes(b"")
    with pytest.raises(BadAvatarFile, match="empty"):
        read_avatar_file(avatar)


def test_every_flipped_byte(avatar):
    content = avatar.read_bytes()
    for position in np.random.default_rng(0).integers(0, len(content), 300):
        damaged = bytearray(content)
        damaged[position] ^= 0x55
        avatar.write_bytes(damaged)
        with pytest.raises(BadAvatarFile):
            read_avatar_file(avatar)


def test_damaged_data_are_noticed(avatar):
    content = bytearray(avatar.read_bytes())
    content[-3] ^= 1
    avatar.write_bytes(content)
    with pytest.raises(BadAvatarFile, match="damaged"):
        read_avatar_file(avatar)
    avatar.write_bytes(avatar.read_bytes() + b"more")
    with pytest.raises(BadAvatarFile, match="damaged"):
        read_avatar_file(avatar)


def test_newer_version(avatar):
    rewritten(avatar, lambda header: header["__metadata__"].update(format_version=str(FORMAT_VERSION + 1)))
    with pytest.raises(BadAvatarFile, match="newer FlexAvatar.*Update"):
        read_avatar_file(avatar)


@pytest.mark.parametrize("key", ["settings", "thumbnail", "sha256", "format_version"])
def test_missing_metadata(avatar, key):
    rewritten(avatar, lambda header: header["__metadata__"].pop(key))
    with pytest.raises(BadAvatarFile, match="damaged"):
        read_avatar_file(avatar)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"format": "other", "format_version": "9"}])
def test_foreign_safetensors(tmp_path, metadata):
    path = tmp_path / "model.flexavatar"
    save_file({"weight": torch.zeros(3)}, path, metadata)
    with pytest.raises(BadAvatarFile, match="not a FlexAvatar avatar"):
        read_avatar_file(path)


def test_other_files(tmp_path):
    path = tmp_path / "x.flexavatar"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl", pickle.dumps({"a": 1}))
    contents = [path.read_bytes(), pickle.dumps([1] * 99), b"ply\nformat ascii 1.0\n", bytes(range(256)), b"{}" * 99]
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(BadAvatarFile, match="not a FlexAvatar avatar"):
            read_avatar_file(path)


@pytest.mark.parametrize(
    "header", [b"[1, 2]", b"{", b'{"a": 3}', b'{"__metadata__": 3}', b'{"a": {"data_offsets": "x"}}', b'{"a":' * 9999]
)
def test_headers_that_make_no_sense(tmp_path, header):
    path = tmp_path / "x.flexavatar"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(BadAvatarFile):
        read_avatar_file(path)


def test_failed_save_keeps_the_old_file(avatar, tensors, thumbnail, monkeypatch):
    before = avatar.read_bytes()

    def full_disk(self, data):
        self.open("wb").write(data[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full_disk)
    with pytest.raises(CannotWrite, match="disk is full"):
        write_avatar_file(avatar, tensors, {"model": "new"}, thumbnail)
    monkeypatch.undo()
    assert avatar.read_bytes() == before
    assert list(avatar.parent.iterdir()) == [avatar]


def test_pickles_are_never_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(pickle, "Unpickler", lambda *_: pytest.fail("unpickled"))
    path = tmp_path / "x.flexavatar"
    torch.save({"a": torch.zeros(3)}, path)
    with pytest.raises(BadAvatarFile, match="not a FlexAvatar avatar"):
        read_avatar_file(path)
    path.write_bytes(save({"a": torch.zeros(3)}))
    with pytest.raises(BadAvatarFile, match="not a FlexAvatar avatar"):
        read_avatar_file(path)
