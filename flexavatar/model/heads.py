"""Feature vectors -> Gaussian attributes (Eq. 13-14): one linear layer and one activation each."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flexavatar.gaussians import SH_DC, Gaussians
from flexavatar.model.config import GaussianConfig


@dataclass(frozen=True)
class GaussianAttributes:
    """Activated attributes of G Gaussians relative to their anchors; the colour is still a raw coefficient."""

    offsets: Tensor  # [..., G, 3] metres from the anchor
    scales: Tensor  # [..., G, 3] metres
    quats: Tensor  # [..., G, 4] unit, w x y z
    opacities: Tensor  # [..., G] 0..1
    sh: Tensor  # [..., G, 3] degree-0 spherical-harmonic coefficients, any real number

    def gaussians(self, anchors: Tensor) -> Gaussians:
        """Gaussians at anchors [..., G, 3] (Eq. 14); RGB = max(0, SH_DC sh + 0.5), not cut at 1, like the release."""
        return Gaussians(
            means=anchors + self.offsets,
            quats=self.quats,
            scales=self.scales,
            opacities=self.opacities,
            colors=(SH_DC * self.sh + 0.5).clamp_min(0),
        )


class GaussianHeads(nn.Module):
    """Features [..., G, C] -> GaussianAttributes (Eq. 13)."""

    def __init__(self, config: GaussianConfig, channels: int) -> None:
        super().__init__()
        self.config = config
        sizes = {"xyz": 3, "scaling": 3, "rotation": 4, "opacity": 1, "shs": 3}
        self.out_layers = nn.ModuleDict({name: nn.Linear(channels, size) for name, size in sizes.items()})
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Every Gaussian starts small, faint and on its anchor; only colours start with random weights."""
        start = {"xyz": 0.0, "scaling": -5.0, "rotation": (1.0, 0.0, 0.0, 0.0), "opacity": math.log(0.1 / 0.9)}
        for name, bias in start.items():
            layer = self.out_layers[name]
            assert isinstance(layer, nn.Linear)
            layer.weight.zero_()
            layer.bias.copy_(torch.tensor(bias))

    def forward(self, features: Tensor) -> GaussianAttributes:
        raw = {name: layer(features) for name, layer in self.out_layers.items()}
        # Clamping before exp equals clamping after it, without an infinite gradient where exp overflows.
        scales = raw["scaling"].clamp_max(math.log(self.config.max_scale)).exp()
        return GaussianAttributes(
            offsets=2 * self.config.max_offset * (raw["xyz"].sigmoid() - 0.5),
            scales=scales,
            quats=F.normalize(raw["rotation"], dim=-1),
            opacities=raw["opacity"].sigmoid()[..., 0],
            sh=raw["shs"],
        )
