"""The whole network: encode photos into an avatar code, decode the code with an expression into Gaussians."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from flexavatar.gaussians import Gaussians
from flexavatar.model.checkpoint import load_checkpoint
from flexavatar.model.config import FLEX_1, ModelConfig
from flexavatar.model.decoder import BiasSink, Decoder
from flexavatar.model.encoder import Encoder
from flexavatar.model.heads import GaussianAttributes
from flexavatar.model.template import TemplateAnchors, read_template, template_anchors


class Flex1(nn.Module):
    """FLEX-1: B people, V views, E expressions of each, T tokens of width D, G Gaussians.

    Works in float32, or with bfloat16 attention under `torch.autocast`; the upsampler and heads stay float32.
    Frame: the template's (metres, +x subject's left, +y up, +z out of the face).
    """

    anchors: Tensor

    def __init__(self, config: ModelConfig, anchors: TemplateAnchors) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config, anchors.queries)
        self.decoder = Decoder(config, anchors.uvs)
        self.register_buffer("anchors", anchors.positions, persistent=False)

    @classmethod
    def load(cls, checkpoint: str | Path, template: str | Path, config: ModelConfig = FLEX_1) -> Flex1:
        """A frozen network from a checkpoint in the released layout and the template mesh (OBJ), on the CPU.

        Raises BadCheckpoint or BadTemplate.
        """
        anchors = template_anchors(read_template(template), config)
        with torch.device("meta"):  # the weights come from the file: do not initialise 182 M of them first
            model = cls(config, anchors)
        load_checkpoint(model, checkpoint)
        return model.freeze()

    def freeze(self) -> Flex1:
        """Prepare for inference and fitting: eval mode, no parameter gradients, styles folded into the weights."""
        self.eval().requires_grad_(False)
        self.decoder.upsampler.fold_styles()
        return self

    def encode(self, images: Tensor, cam2world: Tensor, intrinsics: Tensor, features: Tensor) -> Tensor:
        """Avatar code A [T, B, D] (Eq. 4-7).

        images [B, V, 3, H, W]: RGB 0..1 on white, sides a multiple of the patch size.
        cam2world [B, V, 4, 4]: OpenCV camera to head frame, metres.
        intrinsics [B, V, 3, 3]: divided by the image size.
        features [B, V, C, h, w]: patch features of the pretrained image network.
        """
        return self.encoder(images, cam2world, intrinsics, features)

    def attributes(
        self, code: Tensor, expression: Tensor, bias_sink: BiasSink | Sequence[BiasSink]
    ) -> GaussianAttributes:
        """Attributes [B, E, G, ...] relative to the anchors, with raw colour coefficients; inputs as in `decode`."""
        n_tokens, batch, width = code.shape
        if (n_tokens, width) != (self.config.n_tokens, self.config.width):
            raise ValueError(
                f"The avatar code is {list(code.shape)}; this model needs [{self.config.n_tokens}, people, "
                f"{self.config.width}]. Was it made by another model?"
            )
        if (
            expression.ndim != 3
            or len(expression) != batch
            or expression.shape[-1] != self.config.decoder.expression_dim
        ):
            raise ValueError(
                f"The expression is {list(expression.shape)}; this model needs [{batch} people, expressions, "
                f"{self.config.decoder.expression_dim}]."
            )
        return self.decoder(code, expression, bias_sink)

    def decode(
        self, code: Tensor, expression: Tensor, bias_sink: BiasSink | Sequence[BiasSink] = "multiview"
    ) -> Gaussians:
        """Gaussians with batch shape [B, E] (Eq. 8-14).

        code [T, B, D]; expression [B, E, Z]; bias_sink: the kind of data to imitate, for all or for each person:
        "multiview" gives complete heads.
        """
        return self.attributes(code, expression, bias_sink).gaussians(self.anchors)
