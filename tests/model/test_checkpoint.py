"""Checkpoints load strictly and without code, and errors say what does not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from flexavatar.model import BadCheckpoint, BadTemplate, Flex1, read_config, read_template
from flexavatar.model.checkpoint import load_checkpoint, released_state_dict
from tests.model.flex1_reference import GOLDEN

TINY = GOLDEN / "tiny_state_dict.safetensors"


def drop(tensors: dict[str, Tensor]) -> None:
    del tensors["_conv_patchify.weight"]


def add(tensors: dict[str, Tensor]) -> None:
    tensors["module.extra"] = torch.zeros(1)


def reshape(tensors: dict[str, Tensor]) -> None:
    tensors["_head_transformer._dataset_embedding.weight"] = torch.zeros(3, 64)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_round_trip_in_the_released_layout(trainable: Flex1, tmp_path: Path, suffix: str):
    path = tmp_path / f"weights{suffix}"
    tensors = {name: tensor.half() for name, tensor in released_state_dict(trainable).items()}
    assert tensors.keys() == load_file(TINY).keys()
    if suffix == ".pt":
        torch.save(tensors, path)
    else:
        save_file(tensors, path)
    load_checkpoint(trainable, path)
    for name, tensor in released_state_dict(trainable).items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, tensors[name].float())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (drop, r"1 missing: _conv_patchify\.weight"),
        (add, r"1 unexpected: module\.extra"),
        (
            reshape,
            r"1 of the wrong shape: _head_transformer\._dataset_embedding\.weight \(\[3, 64\] instead of \[2, 64\]",
        ),
    ],
)
def test_what_does_not_fit_is_listed(
    trainable: Flex1, tmp_path: Path, spoil: Callable[[dict[str, Tensor]], None], message: str
):
    tensors = load_file(TINY)
    before = released_state_dict(trainable)["_feature_projection.weight"].clone()
    tensors["_feature_projection.weight"] = before + 1
    spoil(tensors)
    save_file(tensors, tmp_path / "weights.safetensors")
    with pytest.raises(BadCheckpoint, match=message):
        load_checkpoint(trainable, tmp_path / "weights.safetensors")
    assert torch.equal(released_state_dict(trainable)["_feature_projection.weight"], before)


def test_long_lists_are_cut(trainable: Flex1, tmp_path: Path):
    save_file({"other": torch.zeros(1)}, tmp_path / "weights.safetensors")
    with pytest.raises(BadCheckpoint, match=r"and \d+ more; 1 unexpected: other"):
        load_checkpoint(trainable, tmp_path / "weights.safetensors")


class Harmful:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("harm"),))


def test_unusable_files_are_refused(trainable: Flex1, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"a": Harmful()}, "code.pt")
    torch.save({"model": load_file(TINY)}, "nested.pt")
    torch.save([1, 2], "list.pt")
    content = TINY.read_bytes()
    Path("short.safetensors").write_bytes(content[:1000])
    Path("short.pt").write_bytes(content[:1000])
    Path("empty.pt").write_bytes(b"")
    for name, message in {
        "code.pt": "more than tensors",
        "nested.pt": "flat mapping",
        "list.pt": "flat mapping",
        "short.safetensors": "damaged",
        "short.pt": "damaged",
        "empty.pt": "damaged",
        "absent.pt": "no checkpoint",
    }.items():
        with pytest.raises(BadCheckpoint, match=message):
            load_checkpoint(trainable, name)
    assert not Path("harm").exists()


def test_unusable_configurations_are_refused(tmp_path: Path):
    path = tmp_path / "model_config.json"
    with pytest.raises(BadCheckpoint, match="cannot be read"):
        read_config(path)
    path.write_text("{")
    with pytest.raises(BadCheckpoint, match="not a FlexAvatar model configuration"):
        read_config(path)
    document = json.loads((GOLDEN / "tiny_config.json").read_text())
    path.write_text(json.dumps(document["model_config"]))
    assert read_config(path).upsampler.channel_max == 512
    document["model_config"]["gaussian_decoder"]["sh_degree"] = 1
    path.write_text(json.dumps(document))
    with pytest.raises(BadCheckpoint, match=r"gaussian_decoder\.sh_degree = 1, but only 0"):
        read_config(path)


def test_unusable_templates_are_refused(tmp_path: Path):
    path = tmp_path / "mesh.obj"
    with pytest.raises(BadTemplate, match="cannot be read"):
        read_template(path)
    path.write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    with pytest.raises(BadTemplate, match="cannot be read"):
        read_template(path)
    path.write_text("v 0 0 0\nvt 0 0\nf 1/1 2/1 3/1\n")
    with pytest.raises(BadTemplate, match="incomplete"):
        read_template(path)
