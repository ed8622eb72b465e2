"""What a FlexAvatar network looks like, and a reader of the released `model_config.json`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flexavatar.model.checkpoint import BadCheckpoint

_TOKENS_PER_SIDE = 512  # pixels: the released model sizes its positional table for 512 px images, whatever it is given


@dataclass(frozen=True)
class EncoderConfig:
    """Image -> avatar code."""

    patch_size: int = 16  # pixels
    n_image_layers: int = 1  # causal blocks over the image tokens
    max_image_tokens: int = 1024  # length of the learned positional table
    feature_dim: int = 768  # channels of the pretrained image features
    n_layers: int = 4  # joint attention blocks


@dataclass(frozen=True)
class DecoderConfig:
    """Avatar code + expression -> UV feature map."""

    expression_dim: int = 135
    expression_hidden: int = 256
    n_expression_tokens: int = 4
    n_layers: int = 8  # joint attention blocks


@dataclass(frozen=True)
class UpsamplerConfig:
    """UV feature map -> finer UV feature map; every doubling divides the image channels by 4."""

    upscale: int = 4  # power of two
    channel_base: int = 32768  # a block whose output has side R works on min(channel_base / R, channel_max) channels
    channel_max: int = 512
    style_dim: int = 512
    styled: bool = True  # False leaves out the StyleGAN path: an ablation

    @property
    def n_blocks(self) -> int:
        return self.upscale.bit_length() - 1


@dataclass(frozen=True)
class GaussianConfig:
    """UV feature map -> Gaussians."""

    oversampling: int = 2  # samples per texel of the upsampled map, along each axis
    max_offset: float = 0.1  # metres a Gaussian may leave the template, along each axis
    max_scale: float = 0.01  # metres


@dataclass(frozen=True)
class ModelConfig:
    """The whole network."""

    width: int = 768  # D
    n_heads: int = 4
    grid: int = 32  # the avatar code has grid x grid tokens
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    upsampler: UpsamplerConfig = field(default_factory=UpsamplerConfig)
    gaussians: GaussianConfig = field(default_factory=GaussianConfig)

    @property
    def n_tokens(self) -> int:
        return self.grid**2

    @property
    def gaussian_grid(self) -> int:
        """Side of the UV grid on which Gaussians are sampled (256 for FLEX-1)."""
        return self.grid * self.upsampler.upscale * self.gaussians.oversampling


FLEX_1 = ModelConfig()

# The released configuration has many switches; only this combination of them describes the released network.
_REQUIRED: dict[str, dict[str, Any]] = {
    "": {"use_feature_projection": True, "use_plucker": True, "in_channels": 3},
    "head_transformer": {
        "head_transformer_type": "UV_TEXTURE",
        "cross_attention_type": "Q2K",
        "use_lam_transformer": True,
        "use_lam_point_embedder": True,
        "use_head_tokens": True,
        "use_dataset_ids": True,
    },
    "gaussian_decoder": {
        "n_gaussians_per_token": 1,
        "use_stylegan_pixelshuffle_upsampler": True,
        "use_norm_before_mlp": False,
        "initialize_with_image": True,
        "use_lam_gs_decoder": True,
        "sh_degree": 0,
    },
}


def read_config(path: str | Path) -> ModelConfig:
    """Read a `model_config.json` in the released key names.

    The file may hold the model's settings at the top, or under `model_config` with an optional
    `upsampler` object beside it (channel_base, channel_max, w_dim; defaults: those of FLEX-1).
    Raises BadCheckpoint if the file is damaged or describes a network that this package does not build.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
        return _parse(document.get("model_config", document), document.get("upsampler", {}))
    except OSError as error:
        raise BadCheckpoint(
            f"The model configuration {path} cannot be read ({error}). Fetch the model again."
        ) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadCheckpoint(
            f"{path} is not a FlexAvatar model configuration ({type(error).__name__}: {error}). Fetch the model again."
        ) from error


def _parse(model: dict[str, Any], upsampler: dict[str, Any]) -> ModelConfig:
    sections = {"": model, "head_transformer": model["head_transformer"], "gaussian_decoder": model["gaussian_decoder"]}
    for section, required in _REQUIRED.items():
        for key, value in required.items():
            if sections[section][key] != value:
                name = f"{section}.{key}".lstrip(".")
                raise BadCheckpoint(
                    f"The configuration asks for {name} = {sections[section][key]!r}, but only {value!r} is supported."
                )
    head, gaussians = sections["head_transformer"], sections["gaussian_decoder"]
    if not head["transformer"]["use_causal_attention"]:
        raise BadCheckpoint("The configuration asks for non-causal image attention, which is not supported.")
    patch_size = model["patch_size"]
    default = UpsamplerConfig()
    return ModelConfig(
        width=head["transformer"]["d_hidden"],
        n_heads=head["transformer"]["n_heads"],
        grid=head["res_head_tokens"],
        encoder=EncoderConfig(
            patch_size=patch_size,
            n_image_layers=model["n_layers_encoder"],
            max_image_tokens=(_TOKENS_PER_SIDE // patch_size) ** 2 * model["n_input_views"],
            feature_dim=model["feature_dim"],
            n_layers=head["transformer"]["n_layers"],
        ),
        decoder=DecoderConfig(
            expression_dim=head["d_expression_codes"],
            n_expression_tokens=head["n_expression_tokens"],
            n_layers=head["n_layers_expression_transformer"],
        ),
        upsampler=UpsamplerConfig(
            upscale=gaussians["upscale_uv_texture"],
            channel_base=upsampler.get("channel_base", default.channel_base),
            channel_max=upsampler.get("channel_max", default.channel_max),
            style_dim=upsampler.get("w_dim", default.style_dim),
        ),
        gaussians=GaussianConfig(oversampling=gaussians["oversampling_factor"]),
    )
