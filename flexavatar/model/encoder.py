"""The encoder E: posed images -> avatar code (paper section 3.1, Eq. 4-7)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flexavatar.model.attention import CausalTransformer, JointTransformer
from flexavatar.model.config import ModelConfig
from flexavatar.model.embedding import PointEmbedding, pluecker_rays


class Encoder(nn.Module):
    """A = MMDiT(queries of the template surface, tokens of the images). B people, V views each, T tokens of D."""

    queries: Tensor

    def __init__(self, config: ModelConfig, queries: Tensor) -> None:
        """queries [T, 3]: points of the template surface, metres."""
        super().__init__()
        width, encoder = config.width, config.encoder
        self.max_image_tokens = encoder.max_image_tokens
        patch = encoder.patch_size
        self.patchify = nn.Conv2d(3 + 6, width, kernel_size=patch, stride=patch, bias=False)
        self.image_transformer = CausalTransformer(
            width, config.n_heads, encoder.n_image_layers, encoder.max_image_tokens
        )
        self.feature_projection = nn.Linear(width + encoder.feature_dim, width)
        # Stands in the released checkpoint and has no effect: the point embedding took its place.
        self.head_token_embeddings = nn.Parameter(torch.zeros(config.n_tokens, 1, width))
        self.point_embedding = PointEmbedding(width)
        self.transformer = JointTransformer(width, config.n_heads, encoder.n_layers)
        self.register_buffer("queries", queries, persistent=False)

    def forward(self, images: Tensor, cam2world: Tensor, intrinsics: Tensor, features: Tensor) -> Tensor:
        """Avatar code [T, B, D] of posed images; see `Flex1.encode` for the inputs."""
        context = self.image_tokens(images, cam2world, intrinsics, features)
        queries = self.point_embedding(self.queries[None]).expand(len(images), -1, -1)
        return self.transformer(queries, context).transpose(0, 1)

    def image_tokens(self, images: Tensor, cam2world: Tensor, intrinsics: Tensor, features: Tensor) -> Tensor:
        """Tokens [B, V h w, D] in the order view, row, column (Eq. 4)."""
        batch, views = images.shape[:2]
        rays = pluecker_rays(cam2world, intrinsics, *images.shape[-2:])
        patches = self.patchify(torch.cat([images, rays], dim=2).flatten(0, 1))  # [B V, D, h, w]
        n_tokens = views * patches.shape[-2] * patches.shape[-1]
        if n_tokens > self.max_image_tokens:
            raise ValueError(
                f"{views} view(s) of {images.shape[-1]} x {images.shape[-2]} pixels make {n_tokens} tokens; this model "
                f"takes at most {self.max_image_tokens}. Pass fewer or smaller images."
            )
        tokens = self.image_transformer(_tokens(patches, batch))
        features = resample_features(features.flatten(0, 1), patches.shape[-2], patches.shape[-1])
        return self.feature_projection(torch.cat([tokens, _tokens(features, batch).to(tokens.dtype)], dim=-1))


def _tokens(maps: Tensor, batch: int) -> Tensor:
    """[B V, C, h, w] -> [B, V h w, C]."""
    return maps.flatten(2).mT.reshape(batch, -1, maps.shape[1])


def resample_features(features: Tensor, height: int, width: int) -> Tensor:
    """Bilinear resampling of [N, C, h, w] to [N, C, height, width] at linspace(-1, 1), zero outside.

    These points are not the token centres: the outermost fall on the edge of the map, where half of the weight is
    outside, so they come out halved. The released model was trained with exactly that.
    """
    if features.shape[-2:] == (height, width):
        return features
    like = {"device": features.device, "dtype": features.dtype}
    v, u = torch.meshgrid(torch.linspace(-1, 1, height, **like), torch.linspace(-1, 1, width, **like), indexing="ij")
    grid = torch.stack([u, v], dim=-1).expand(len(features), -1, -1, -1)
    return F.grid_sample(features, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
