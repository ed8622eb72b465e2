"""Runs a network and collects every value that the reference files name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from flexavatar.model import Flex1, read_config, read_template, template_anchors
from flexavatar.model.checkpoint import load_checkpoint

GOLDEN = Path(__file__).parent / "golden"

# Name of the reference value -> module whose output it is.
RECORDED = {
    "enc.patchify": "encoder.patchify",
    "enc.gpt.block0": "encoder.image_transformer.h.0",
    "enc.gpt.block1": "encoder.image_transformer.h.1",
    "enc.gpt.out": "encoder.image_transformer",
    "enc.feature_projection.out": "encoder.feature_projection",
    "head.queries": "encoder.point_embedding",
    "head.create.ctx_proj": "encoder.transformer.linear_cond_proj",
    "head.create.layer0": "encoder.transformer.layers.0",
    "head.create.layer1": "encoder.transformer.layers.1",
    "head.expression_mlp": "decoder.context.expression_mlp",
    "head.dataset_embedding": "decoder.context.bias_sinks",
    "head.expr.ctx_proj": "decoder.transformer.linear_cond_proj",
    "head.expr.layer0": "decoder.transformer.layers.0",
    "head.expr.layer1": "decoder.transformer.layers.1",
    "head.expr.layer2": "decoder.transformer.layers.2",
    "decoder_tokens": "decoder.transformer",
    "up.block0": "decoder.upsampler.blocks.0",
    "up.block0.conv0": "decoder.upsampler.blocks.0.conv0",
    "up.block0.conv1": "decoder.upsampler.blocks.0.conv1",
    "up.block0.torgb": "decoder.upsampler.blocks.0.torgb",
    "up.block1.conv0": "decoder.upsampler.blocks.1.conv0",
    "up.block1.conv1": "decoder.upsampler.blocks.1.conv1",
    "up.block1.torgb": "decoder.upsampler.blocks.1.torgb",
    "upsampled_features": "decoder.upsampler",
    "gs.raw.rotation": "decoder.heads.out_layers.rotation",
    "gs.raw.scaling": "decoder.heads.out_layers.scaling",
}
TOKEN_FIRST = {"enc.gpt.out", "enc.feature_projection.out", "enc.feature_projection.out.in", "decoder_tokens"}


@dataclass(frozen=True)
class Inputs:
    """What the network takes, under the names of `Flex1.encode` and `Flex1.decode`."""

    views: dict[str, Tensor]
    expression: Tensor
    bias_sink: list

    @staticmethod
    def of(raw: dict[str, Tensor]) -> Inputs:
        views = {
            "images": raw["image"],
            "cam2world": raw["cam2world"],
            "intrinsics": raw["intrinsics"],
            "features": raw["features"],
        }
        sinks = [("monocular", "multiview")[int(row)] for row in raw["dataset_ids"].flatten()]
        return Inputs(views, raw["expression_codes"], sinks)


def recorded_run(model: Flex1, inputs: Inputs) -> dict[str, Tensor]:
    """Every value of one encode and decode that the references name, in their layouts."""
    values: dict[str, Tensor] = {}

    def record(name: str):
        def hook(module: nn.Module, given: tuple, output) -> None:
            if name == "enc.feature_projection.out":
                values[f"{name}.in"] = given[0]
            if name == "decoder_tokens":
                values["upsampler_input"] = output.mT.unflatten(-1, (model.config.grid, model.config.grid))
            if name.startswith("gs."):
                values[name] = output.flatten(0, 1)
            elif not isinstance(output, tuple):
                values[name] = output
            elif name.startswith("up."):
                values[f"{name}.img"] = output[1]
            else:
                values[f"{name}.x"] = output[0]
                if output[1] is not None:
                    values[f"{name}.ctx"] = output[1]

        return hook

    modules = dict(model.named_modules())
    hooks = [modules[path].register_forward_hook(record(name)) for name, path in RECORDED.items() if path in modules]
    with torch.no_grad():
        values["avatar_code"] = model.encode(**inputs.views)
        attributes = model.attributes(values["avatar_code"], inputs.expression, inputs.bias_sink)
    for hook in hooks:
        hook.remove()
    values["gaussians.positions"] = attributes.gaussians(model.anchors).means.flatten(0, 1)
    values["gaussians.position_offsets"] = attributes.offsets.flatten(0, 1)
    values["gaussians.scales"] = attributes.scales.flatten(0, 1)
    values["gaussians.rotations"] = attributes.quats.flatten(0, 1)
    values["gaussians.opacities"] = attributes.opacities.flatten(0, 1)[..., None]
    values["gaussians.colors"] = attributes.sh.flatten(0, 1)
    values["head.dataset_embedding"] = values["head.dataset_embedding"][:, None]
    return {name: value.transpose(0, 1) if name in TOKEN_FIRST else value for name, value in values.items()}


def new_tiny() -> Flex1:
    """The small network with the reference weights, ready to learn."""
    config = read_config(GOLDEN / "tiny_config.json")
    model = Flex1(config, template_anchors(read_template(GOLDEN / "tiny_template.obj"), config))
    load_checkpoint(model, GOLDEN / "tiny_state_dict.safetensors")
    return model
