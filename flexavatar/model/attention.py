"""The two kinds of transformer block: causal self-attention over image tokens, and joint attention (Eq. 7-9).

Shapes: B batch, L tokens, D width, H heads of D / H channels. Blocks are residual and pre-norm.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EXPANSION = 4  # hidden width of every feed-forward layer, in units of D
KEY_WIDTH = 64


def split_heads(x: Tensor, n_heads: int) -> Tensor:
    """[B, L, D] -> [B, H, L, D / H]."""
    return x.unflatten(-1, (n_heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """[B, H, L, D / H] -> [B, L, D]."""
    return x.transpose(1, 2).flatten(2)


class CausalAttention(nn.Module):
    """softmax(q k^T / sqrt(D / H) + causal mask) v on [B, L, D], one fused q, k, v projection."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.c_attn = nn.Linear(width, 3 * width)
        self.c_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (split_heads(part, self.n_heads) for part in self.c_attn(x).chunk(3, dim=-1))
        return self.c_proj(merge_heads(F.scaled_dot_product_attention(q, k, v, is_causal=True)))


class GeluMlp(nn.Module):
    """Linear, exact GELU, Linear on [B, L, D]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, EXPANSION * width)
        self.c_proj = nn.Linear(EXPANSION * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(F.gelu(self.c_fc(x)))


class CausalBlock(nn.Module):
    """x += attention(LN(x)); x += mlp(LN(x)) on [B, L, D]."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = CausalAttention(width, n_heads)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = GeluMlp(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class CausalTransformer(nn.Module):
    """The shallow ViT over image tokens (Eq. 4): learned positions, causal blocks in raster order, LayerNorm."""

    def __init__(self, width: int, n_heads: int, n_layers: int, max_tokens: int) -> None:
        super().__init__()
        self.wpe = nn.Embedding(max_tokens, width)
        nn.init.normal_(self.wpe.weight, std=0.02)
        self.h = nn.ModuleList(CausalBlock(width, n_heads) for _ in range(n_layers))
        self.ln_f = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, L, D] -> [B, L, D], L at most `max_tokens`."""
        x = x + self.wpe.weight[: x.shape[1]]
        for block in self.h:
            x = block(x)
        return self.ln_f(x)


class HeadNorm(nn.RMSNorm):
    """x / rms(x) * weight over a head's channels, in the dtype of x: autocast leaves x in bfloat16 here."""

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


class JointAttention(nn.Module):
    """One attention over the concatenation of two streams with their own projections (Eq. 7).

    Queries and keys are RMS-normalised per head. With `context_output=False` the context is only attended to;
    its query projection still exists, because the released checkpoint holds one, and has no effect.
    """

    def __init__(self, width: int, n_heads: int, context_output: bool) -> None:
        super().__init__()
        self.n_heads = n_heads
        head = width // n_heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.add_q_proj, self.add_k_proj, self.add_v_proj = (nn.Linear(width, width) for _ in range(3))
        self.norm_q, self.norm_k, self.norm_added_q, self.norm_added_k = (HeadNorm(head, eps=1e-6) for _ in range(4))
        self.to_out = nn.Sequential(nn.Linear(width, width))
        self.to_add_out = nn.Linear(width, width) if context_output else None

    def forward(self, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor | None]:
        """x [B, L, D], context [B, C, D] -> updates of the same shapes; no context update in the last block."""
        q = self.norm_q(split_heads(self.to_q(x), self.n_heads))
        k = self.norm_k(split_heads(self.to_k(x), self.n_heads))
        v = split_heads(self.to_v(x), self.n_heads)
        added_k = self.norm_added_k(split_heads(self.add_k_proj(context), self.n_heads))
        added_v = split_heads(self.add_v_proj(context), self.n_heads)
        k, v = torch.cat([k, added_k], dim=2), torch.cat([v, added_v], dim=2)
        if self.to_add_out is None:
            return self.to_out(merge_heads(F.scaled_dot_product_attention(q, k, v))), None
        added_q = self.norm_added_q(split_heads(self.add_q_proj(context), self.n_heads))
        joint = merge_heads(F.scaled_dot_product_attention(torch.cat([q, added_q], dim=2), k, v))
        update, context_update = joint.split([x.shape[1], context.shape[1]], dim=1)
        return self.to_out(update), self.to_add_out(context_update)


class TanhGeluProjection(nn.Module):
    """GELU (tanh approximation) of a Linear."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.proj(x), approximate="tanh")


class FeedForward(nn.Module):
    """LayerNorm without parameters, Linear, tanh GELU, Linear on [B, L, D]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = EXPANSION * width
        # The identity keeps the released layer numbers (0 and 2).
        self.net = nn.Sequential(TanhGeluProjection(width, hidden), nn.Identity(), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(F.layer_norm(x, x.shape[-1:], eps=1e-6))


class JointBlock(nn.Module):
    """MMDiT block: joint attention, then a feed-forward layer per stream, all residual."""

    def __init__(self, width: int, n_heads: int, context_output: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.norm1_context = nn.LayerNorm(width)
        self.attn = JointAttention(width, n_heads, context_output)
        self.ff = FeedForward(width)
        self.ff_context = FeedForward(width) if context_output else None

    def forward(self, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor | None]:
        """x [B, L, D], context [B, C, D] -> the same, the context None if nothing follows that reads it."""
        update, context_update = self.attn(self.norm1(x), self.norm1_context(context))
        x = x + update
        x = x + self.ff(x)
        if context_update is None or self.ff_context is None:
            return x, None
        context = context + context_update
        return x, context + self.ff_context(context)


class JointTransformer(nn.Module):
    """Joint blocks (Eq. 7 in the encoder, Eq. 8-9 in the decoder): x reads the context and both evolve."""

    def __init__(self, width: int, n_heads: int, n_layers: int) -> None:
        super().__init__()
        self.linear_cond_proj = nn.Linear(width, width)
        self.layers = nn.ModuleList(JointBlock(width, n_heads, index < n_layers - 1) for index in range(n_layers))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """x [B, L, D], context [B, C, D] -> x [B, L, D]."""
        context = self.linear_cond_proj(context)
        for block in self.layers:
            x, context = block(x, context)
        return self.norm(x)


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
