"""Checkpoints in the released layout: a flat mapping of names to tensors, loaded strictly and without pickled code."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from flexavatar.errors import FlexAvatarError

# Released prefix -> ours; below the prefix, the names are the same.
PREFIXES = {
    "_conv_patchify.": "encoder.patchify.",
    "_transformer_encoder.transformer.": "encoder.image_transformer.",
    "_feature_projection.": "encoder.feature_projection.",
    "_head_transformer._head_token_embeddings": "encoder.head_token_embeddings",
    "_head_transformer._query_point_embedder.": "encoder.point_embedding.",
    "_head_transformer._transformer.": "encoder.transformer.",
    "_head_transformer._expression_mlp.": "decoder.context.expression_mlp.",
    "_head_transformer._dataset_embedding.": "decoder.context.bias_sinks.",
    "_head_transformer._expression_transformer.": "decoder.transformer.",
    "_gaussian_decoder._stylegan_upsampler.": "decoder.upsampler.",
    "_gaussian_decoder._mlp_decoder.": "decoder.heads.",
}

_LISTED = 8  # names shown for each kind of mismatch


class BadCheckpoint(FlexAvatarError):
    """The checkpoint or its configuration is damaged, or belongs to another model."""


def released_name(name: str) -> str:
    """The name in the released layout of one entry of `Flex1.state_dict()`."""
    for released, ours in PREFIXES.items():
        if name.startswith(ours):
            return released + name[len(ours) :]
    raise KeyError(name)


def released_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """The model's weights under their released names."""
    return {released_name(name): tensor for name, tensor in model.state_dict().items()}


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """Tensors on the CPU from a `.safetensors` file or a torch file (`weights_only=True`). Raises BadCheckpoint."""
    path = Path(path)
    if not path.is_file():
        raise BadCheckpoint(f"There is no checkpoint at {path}. Fetch the model first.")
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            tensors = load_file(path, device="cpu")
        else:
            tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise BadCheckpoint(
            f"{path.name} is damaged, or holds more than tensors, and was not loaded. Fetch the model again."
        ) from error
    if not isinstance(tensors, Mapping) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise BadCheckpoint(f"{path.name} is not a flat mapping of names to tensors, as the released checkpoint is.")
    return dict(tensors)


def load_checkpoint(model: nn.Module, path: str | Path) -> None:
    """Fill the model (a `Flex1`, possibly on the meta device) from a file in the released layout, as float32.

    Raises BadCheckpoint with the missing, unexpected and misshapen entries, before anything is changed.
    """
    tensors = read_checkpoint(path)
    expected = model.state_dict()
    names = {released_name(name): name for name in expected}
    missing = [name for name in names if name not in tensors]
    unexpected = [name for name in tensors if name not in names]
    misshapen = [
        f"{released} ({list(tensors[released].shape)} instead of {list(expected[name].shape)})"
        for released, name in names.items()
        if released in tensors and tensors[released].shape != expected[name].shape
    ]
    problems = {"missing": missing, "unexpected": unexpected, "of the wrong shape": misshapen}
    if any(problems.values()):
        listed = "; ".join(f"{len(found)} {kind}: {_listing(found)}" for kind, found in problems.items() if found)
        raise BadCheckpoint(
            f"{Path(path).name} does not fit this model ({listed}). Use the checkpoint and the configuration of the "
            "same release."
        )
    on_meta = any(tensor.is_meta for tensor in expected.values())
    model.load_state_dict({name: tensors[released].float() for released, name in names.items()}, assign=on_meta)


def _listing(names: list[str]) -> str:
    rest = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")
