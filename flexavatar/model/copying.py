"""Colours copied from the photo: what the photo does not show usually has the colour of something that it does show."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flexavatar.model.attention import HeadNorm

KEY_WIDTH = 64


class CopiedColors(nn.Module):
    """One attention from the cells of the atlas to the patches of the photo, whose values are the patches' colours.

    The back of a head can so be as pink as the fringe without the network having learned pink.
    """

    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.to_q, self.to_k = nn.Linear(width, KEY_WIDTH), nn.Linear(width, KEY_WIDTH)
        self.norm_q, self.norm_k = HeadNorm(KEY_WIDTH, eps=1e-6), HeadNorm(KEY_WIDTH, eps=1e-6)

    def forward(self, code: Tensor, tokens: Tensor, images: Tensor) -> Tensor:
        """code [B, T, D], tokens [B, P, D] of the patches of images [B, 3, S, S] -> RGB [B, T, 3]."""
        colors = F.avg_pool2d(images, self.patch).flatten(2).mT
        q, k = self.norm_q(self.to_q(code)), self.norm_k(self.to_k(tokens))
        with torch.autocast(code.device.type, enabled=False):
            scores = q.float() @ k.float().mT / KEY_WIDTH**0.5
            return scores.softmax(-1) @ colors
