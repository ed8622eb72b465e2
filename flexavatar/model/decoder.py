"""The decoder D: avatar code + expression + bias sink -> Gaussian attributes (paper sections 3.2-3.3, Eq. 8-13, 16)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from flexavatar.model.attention import JointTransformer
from flexavatar.model.config import ModelConfig
from flexavatar.model.heads import GaussianAttributes, GaussianHeads
from flexavatar.model.template import sample_map
from flexavatar.model.upsampler import Upsampler

BiasSink = Literal["monocular", "multiview"]  # in the order of the rows of the learned table


def expression_mlp(n_inputs: int, hidden: int, n_outputs: int) -> nn.Sequential:
    """Three linear layers with ReLU; the identities keep the released layer numbers (0, 3, 6)."""
    first, second, last = nn.Linear(n_inputs, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, n_outputs)
    return nn.Sequential(first, nn.ReLU(), nn.Identity(), second, nn.ReLU(), nn.Identity(), last)


class ExpressionContext(nn.Module):
    """What the decoder attends to: the bias sink of each person, then the tokens of an expression (Eq. 8, 16)."""

    def __init__(self, expression_dim: int, hidden: int, n_tokens: int, width: int) -> None:
        super().__init__()
        self.n_tokens = n_tokens
        self.expression_mlp = expression_mlp(expression_dim, hidden, n_tokens * width)
        self.bias_sinks = nn.Embedding(len(get_args(BiasSink)), width)
        nn.init.normal_(self.bias_sinks.weight, std=0.02)

    def forward(self, expression: Tensor, bias_sink: BiasSink | Sequence[BiasSink]) -> Tensor:
        """expression [B, E, Z] -> [B E, 1 + n_tokens, D]; one bias sink, or one a person."""
        batch, n_expressions = expression.shape[:2]
        sinks = [bias_sink] * batch if isinstance(bias_sink, str) else list(bias_sink)
        rows = torch.tensor([get_args(BiasSink).index(sink) for sink in sinks], device=expression.device)
        sink = self.bias_sinks(rows)[:, None, None].expand(-1, n_expressions, -1, -1)
        tokens = self.expression_mlp(expression).unflatten(-1, (self.n_tokens, -1))
        return torch.cat([sink.to(tokens.dtype), tokens], dim=2).flatten(0, 1)


class Decoder(nn.Module):
    """B people, E expressions of each, T tokens of D, G Gaussians."""

    uvs: Tensor

    def __init__(self, config: ModelConfig, uvs: Tensor) -> None:
        """uvs [G, 2]: where each Gaussian samples the feature map, (u, v) in -1..1."""
        super().__init__()
        width, decoder = config.width, config.decoder
        self.grid = config.grid
        self.context = ExpressionContext(
            decoder.expression_dim, decoder.expression_hidden, decoder.n_expression_tokens, width
        )
        self.transformer = JointTransformer(width, config.n_heads, decoder.n_layers)
        self.upsampler = Upsampler(config.upsampler, width, config.grid)
        self.heads = GaussianHeads(config.gaussians, width // config.upsampler.upscale**2)
        self.register_buffer("uvs", uvs, persistent=False)

    def forward(self, code: Tensor, expression: Tensor, bias_sink: BiasSink | Sequence[BiasSink]) -> GaussianAttributes:
        """code [T, B, D], expression [B, E, Z] -> attributes [B, E, G, ...]; one bias sink, or one a person."""
        batch, n_expressions = expression.shape[:2]
        context = self.context(expression, bias_sink)
        people = code.transpose(0, 1).repeat_interleave(n_expressions, dim=0)
        tokens = self.transformer(people, context)  # [B E, T, D]
        with torch.autocast(tokens.device.type, enabled=False):
            features = self.upsampler(tokens.float().mT.unflatten(-1, (self.grid, self.grid)))
            sampled = sample_map(features, self.uvs)  # Eq. 12
            return self.heads(sampled.unflatten(0, (batch, n_expressions)))
