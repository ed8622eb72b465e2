"""StyleGAN-PixelShuffle upsampler (Eq. 10-11): modulated convolutions beside a pixel-shuffled skip image.

The style vector of every layer is constant (the latent is zero, so only the bias of its affine map counts).
Modulation and demodulation therefore act on the weights alone and can be folded once for inference.
Always float32: the demodulated features reach values where half precision is too coarse.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flexavatar.model.config import UpsamplerConfig

CLAMP = 256.0


class ModulatedWeight(nn.Module):
    """A convolution weight [out, in, k, k] scaled per input channel by its constant style."""

    folded: Tensor | None

    def __init__(self, in_channels: int, out_channels: int, kernel: int, style_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.affine = nn.Linear(style_dim, in_channels)  # its weight meets a latent of zero; the file holds it
        nn.init.ones_(self.affine.bias)
        self.register_buffer("folded", None, persistent=False)

    def modulated(self) -> Tensor:
        """The effective weight [out, in, k, k]."""
        raise NotImplementedError

    def effective_weight(self) -> Tensor:
        return self.modulated() if self.folded is None else self.folded

    def train(self, mode: bool = True) -> ModulatedWeight:
        if mode:
            self.folded = None
        return super().train(mode)

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        self.folded = None  # it belonged to the weights that are being replaced
        super()._load_from_state_dict(*args, **kwargs)


class StyledConv(ModulatedWeight):
    """3x3 convolution, W' = W s, W'' = W' / sqrt(sum W'^2 + 1e-8) per output channel; optionally doubles the side.

    Followed by bias, leaky ReLU times sqrt(2), and a clamp.
    """

    resample_filter: Tensor

    def __init__(self, in_channels: int, out_channels: int, style_dim: int, doubles: bool) -> None:
        super().__init__(in_channels, out_channels, 3, style_dim)
        self.doubles = doubles
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
        self.register_buffer("resample_filter", torch.outer(taps, taps) / 64)

    def modulated(self) -> Tensor:
        weight = self.weight * self.affine.bias[:, None, None]
        return weight * (weight.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).rsqrt()

    def forward(self, x: Tensor) -> Tensor:
        """[B, in, H, W] -> [B, out, H, W] or [B, out, 2H, 2W]."""
        weight = self.effective_weight()
        if self.doubles:
            x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
            # Zeros between the samples took three quarters of the energy: the factor 4 gives it back.
            low_pass = (4 * self.resample_filter).expand(x.shape[1], 1, -1, -1)
            x = F.conv2d(x, low_pass, padding=1, groups=x.shape[1])
        else:
            x = F.conv2d(x, weight, padding=1)
        x = x + self.bias[:, None, None]
        return (F.leaky_relu(x, 0.2) * math.sqrt(2)).clamp(-CLAMP, CLAMP)


class ToImage(ModulatedWeight):
    """1x1 convolution without demodulation, style / sqrt(in): features -> this block's share of the image."""

    def __init__(self, in_channels: int, out_channels: int, style_dim: int) -> None:
        super().__init__(in_channels, out_channels, 1, style_dim)

    def modulated(self) -> Tensor:
        return self.weight * (self.affine.bias / math.sqrt(self.weight.shape[1]))[:, None, None]

    def forward(self, x: Tensor) -> Tensor:
        """[B, in, H, W] -> [B, out, H, W]."""
        return F.conv2d(x, self.effective_weight(), self.bias).clamp(-CLAMP, CLAMP)


class UpsamplerBlock(nn.Module):
    """x' = conv1(conv0(x)), doubling the side; image' = PixelShuffle(image) + to_image(x')."""

    def __init__(self, in_channels: int, channels: int, image_channels: int, style_dim: int) -> None:
        super().__init__()
        self.conv0 = StyledConv(in_channels, channels, style_dim, doubles=True)
        self.conv1 = StyledConv(channels, channels, style_dim, doubles=False)
        self.torgb = ToImage(channels, image_channels, style_dim)

    def forward(self, x: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, C, H, W], image [B, I, H, W] -> x [B, C', 2H, 2W], image [B, I / 4, 2H, 2W]."""
        x = self.conv1(self.conv0(x))
        return x, F.pixel_shuffle(image, 2) + self.torgb(x)


class Upsampler(nn.Module):
    """[B, D, R, R] -> [B, D / upscale^2, upscale R, upscale R]; the image starts as the feature map itself."""

    def __init__(self, config: UpsamplerConfig, width: int, grid: int) -> None:
        super().__init__()
        self.upscale = config.upscale
        blocks, channels = [], width
        for index in range(1, config.n_blocks + 1 if config.styled else 1):
            in_channels, channels = channels, min(config.channel_base // (grid * 2**index), config.channel_max)
            blocks.append(UpsamplerBlock(in_channels, channels, width // 4**index, config.style_dim))
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        if not self.blocks:
            return F.pixel_shuffle(x, self.upscale)
        image = x
        for block in self.blocks:
            x, image = block(x, image)
        return image

    @torch.no_grad()
    def fold_styles(self) -> None:
        """Compute the modulated weights once, until the next `train()` or load; the weights must not change."""
        for module in self.modules():
            if isinstance(module, ModulatedWeight):
                module.folded = module.modulated()
