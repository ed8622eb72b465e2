"""How alike two pictures are: figures, and losses between a rendering and a photo (Eq. 22-24)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F


class PerceptualTerm(Protocol):
    """A distance of deep features; whoever has such a network on the machine passes one of these."""

    def __call__(self, rendered: Tensor, target: Tensor, /) -> Tensor:
        """rendered, target [B, 3, H, W] RGB in 0..1 -> scalar."""
        ...


@dataclass(frozen=True)
class PhotometricWeights:
    """Weights of L = l1 * L1 + ssim * (1 - SSIM) + perceptual * sum of perceptual terms."""

    l1: float = 0.8
    ssim: float = 0.2
    perceptual: float = 1.0


def l1(rendered: Tensor, target: Tensor) -> Tensor:
    """Mean |x - y| of two [B, 3, H, W] images -> scalar."""
    return (rendered - target).abs().mean()


def ssim_map(rendered: Tensor, target: Tensor) -> Tensor:
    """Structural similarity [B, C, H, W] at every pixel of two [B, C, H, W] images in 0..1.

    (2 mx my + C1)(2 sxy + C2) / ((mx^2 + my^2 + C1)(sx^2 + sy^2 + C2)), C1 = 1e-4, C2 = 9e-4, under an
    11 x 11 Gaussian window (sigma 1.5 px), zero padded.
    """
    channels = rendered.shape[1]
    offsets = torch.arange(11, device=rendered.device, dtype=rendered.dtype) - 5
    window = torch.softmax(-(offsets**2) / (2 * 1.5**2), dim=0)
    rows = window.view(1, 1, 11, 1).expand(channels, 1, 11, 1)
    columns = window.view(1, 1, 1, 11).expand(channels, 1, 1, 11)

    def blur(image: Tensor) -> Tensor:
        return F.conv2d(
            F.conv2d(image, rows, padding=(5, 0), groups=channels), columns, padding=(0, 5), groups=channels
        )

    mx, my = blur(rendered), blur(target)
    sxx, syy = blur(rendered**2) - mx**2, blur(target**2) - my**2
    sxy = blur(rendered * target) - mx * my
    c1, c2 = 1e-4, 9e-4
    return (2 * mx * my + c1) * (2 * sxy + c2) / ((mx**2 + my**2 + c1) * (sxx + syy + c2))


def psnr(rendered: Tensor, target: Tensor, mask: Tensor | None = None) -> float:
    """dB between two pictures [3, H, W] in 0..1; with a mask [H, W] of weights 0..1, over its pixels only."""
    squared = (rendered - target).square().mean(0)
    return decibels(masked_mean(squared, mask))


def decibels(mean_square: float) -> float:
    """PSNR of a mean squared error of values in 0..1; 100 dB where pictures are equal."""
    return -10 * math.log10(max(mean_square, 1e-10))


def ssim(rendered: Tensor, target: Tensor, mask: Tensor | None = None) -> float:
    """Structural similarity, 1 when equal, of two pictures [3, H, W] in 0..1; with a mask [H, W], over its pixels."""
    return masked_mean(ssim_map(rendered[None], target[None])[0].mean(0), mask)


def masked_mean(values: Tensor, mask: Tensor | None) -> float:
    """Mean of values [H, W], weighted by a mask [H, W] if there is one."""
    if mask is None:
        return float(values.mean())
    return float((values * mask).sum() / mask.sum().clamp_min(1))


def photometric_loss(
    rendered: Tensor,
    target: Tensor,
    weights: PhotometricWeights = PhotometricWeights(),
    perceptual: Sequence[PerceptualTerm] = (),
) -> Tensor:
    """rendered, target [B, 3, H, W] RGB in 0..1 on the same background -> scalar."""
    loss = weights.l1 * l1(rendered, target) + weights.ssim * (1 - ssim_map(rendered, target).mean())
    for term in perceptual:
        loss = loss + weights.perceptual * term(rendered, target)
    return loss
