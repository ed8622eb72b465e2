"""What a renderer returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Rendering:
    """Images of Gaussians; leading dimensions are the broadcast batch of Gaussians and cameras."""

    rgb: Tensor  # [..., 3, H, W] composited over the background
    alpha: Tensor  # [..., 1, H, W] 0..1
    depth: Tensor  # [..., 1, H, W] metres along the camera's z, the mean over what a pixel sees; 0 where empty

    def own_colors(self, least: float) -> Tensor:
        """RGB [..., 3, H, W] of what is drawn, without the background, which has to be black.

        Fades to black where less than `least` of a pixel is covered.
        """
        return self.rgb / self.alpha.clamp_min(least)  # over black a colour is premultiplied

    def pixels(self, transparent: bool = False) -> np.ndarray:
        """One image as uint8 [H, W, 3]; `transparent`, if it is drawn over black: [H, W, 4] without the background."""
        layers = self.rgb
        if transparent:
            layers = torch.cat([self.own_colors(1e-3), self.alpha])
        return (layers.clamp(0, 1) * 255 + 0.5).to(torch.uint8).permute(1, 2, 0).cpu().numpy()
