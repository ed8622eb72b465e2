"""DINOv2 patch features, which the encoder of FLEX-1 reads beside the photo. Needs the extra `flexavatar[dino]`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from flexavatar.errors import ModelUnavailable

DINO_ENCODER = "facebook/dinov2-with-registers-base"  # ViT-B/14 with 4 registers
SIZE = 224  # pixels of the image that FLEX-1's features are taken from
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class DinoFeatures:
    """Final-layer patch features of a DINOv2 with registers: [N, 3, H, W] -> [N, C, 16, 16]."""

    def __init__(self, network: torch.nn.Module) -> None:
        """network: a `transformers.Dinov2WithRegistersModel`."""
        self.network = network.eval().requires_grad_(False)

    @classmethod
    def load(cls, source: str = DINO_ENCODER) -> DinoFeatures:
        """From the Hugging Face cache, a local folder, or else the Hub. Raises ModelUnavailable."""
        return cls(load_transformer("Dinov2WithRegistersModel", source))

    def __call__(self, images: Tensor) -> Tensor:
        """images [N, 3, H, W]: RGB 0..1 on white."""
        images = F.interpolate(images, (SIZE, SIZE), mode="bilinear", antialias=True, align_corners=False)
        tokens = self.network(normalise(images)).last_hidden_state
        config: Any = self.network.config
        side = SIZE // config.patch_size
        # Before the patches stand the class token and the registers.
        return tokens[:, 1 + config.num_register_tokens :].mT.unflatten(-1, (side, side))


def normalise(images: Tensor) -> Tensor:
    """RGB [N, 3, H, W] 0..1 -> ImageNet's mean 0 and deviation 1."""
    mean, std = (images.new_tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (images - mean) / std


def load_transformer(class_name: str, source: str, local_only: bool = False) -> Any:
    """A pretrained model of `transformers`; what is in the local cache needs no network. Raises ModelUnavailable."""
    try:
        import transformers
    except ImportError as error:
        raise ModelUnavailable(
            f"{source} needs the package transformers, which is not installed: pip install 'flexavatar[dino]'."
        ) from error
    model = getattr(transformers, class_name)
    try:
        return model.from_pretrained(source, local_files_only=True, use_safetensors=True)
    except OSError as not_cached:
        if local_only:
            raise ModelUnavailable(f"{source} is not on this machine.") from not_cached
    try:
        return model.from_pretrained(source, use_safetensors=True)
    except OSError as error:
        raise ModelUnavailable(
            f"{source} is not on this machine and could not be downloaded. Connect to the internet once, or pass the "
            "folder of a copy."
        ) from error
