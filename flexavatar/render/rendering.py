"""What a renderer returns."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Rendering:
    """Images of Gaussians; leading dimensions are the broadcast batch of Gaussians and cameras."""

    rgb: Tensor  # [..., 3, H, W] composited over the background
    alpha: Tensor  # [..., 1, H, W] 0..1
    depth: Tensor  # [..., 1, H, W] metres along the camera's z, the mean over what a pixel sees; 0 where empty
