"""flex-s: the small network that runs on a CPU, its Gaussians anchored to the posed rig.

It keeps the paper's parts (joint-attention encoder and decoder, bias sinks, StyleGAN-PixelShuffle upsampler) and
differs in four declared ways, each a field of `FlexSConfig`: anchors on the rig posed by shape and expression,
queries that read the photo unwrapped around the rig, the same features as a skip into the upsampled map, and colours
copied from the photo for what it does not show. Output layers start at zero, so the untrained network is exactly the
rig avatar.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flexavatar.camera import Camera
from flexavatar.expression import Expression, with_neutral
from flexavatar.gaussians import Gaussians
from flexavatar.model.attention import CausalTransformer, CopiedColors, JointTransformer
from flexavatar.model.config import UpsamplerConfig
from flexavatar.model.decoder import BiasSink, ExpressionContext
from flexavatar.model.embedding import PointEmbedding, pluecker_rays
from flexavatar.model.template import sample_map
from flexavatar.model.upsampler import Upsampler
from flexavatar.rig import Appearance, Rig
from flexavatar.rig.anchors import ATLAS_SIZE, AnchorFrames
from flexavatar.rig.hair_displacement import outward
from flexavatar.rig.maps import averaged, covering
from flexavatar.rotations import quaternion_product

# Metres outside the rig. Hair stands off the head, so the surface alone would never see it.
SHELLS = (0.0, 0.012, 0.035, 0.075)
SHELL_CHANNELS = 4 * len(SHELLS) + 2
MIN_MATTE = 0.3  # of a matte: less of a colour is mostly background
BASE_CHANNELS = 3 + 1  # colour and opacity of the rig avatar, which the network corrects and so has to know
ATLAS_CHANNELS = SHELL_CHANNELS + BASE_CHANNELS
RAISED = (0.001, 0.004)  # metres off the rig between which a Gaussian begins to count as hair or clothes
GAPS = (1.0, 1.5)  # distances of neighbours, in its own lengths, between which a Gaussian begins to grow to meet them
N_COPIES = len(SHELLS)  # colours that a texel may take over: what its cell found in the photo, and the outer shells'
ATTRIBUTES = (3, 1, 3, 4, 1, 3, N_COPIES)  # offset, offset outward, log scale, turn, opacity, colour, shares of copies


@dataclass(frozen=True)
class FlexSConfig:
    """The sizes of the network; those of FLEX_S are released."""

    width: int = 256  # D
    n_heads: int = 4
    grid: int = 32  # the avatar code has grid x grid tokens over the atlas
    image_size: int = 256  # pixels of the head crop that the encoder reads
    patch_size: int = 16  # pixels
    n_image_layers: int = 2
    n_encoder_layers: int = 3
    n_decoder_layers: int = 3
    n_expression_tokens: int = 4
    expression_dim: int = 58  # 52 ARKit blendshapes and the head rotation (6D)
    upsampler: UpsamplerConfig = field(default_factory=lambda: UpsamplerConfig(4, 8192, 128, 1))
    head_hidden: int = 64
    max_offset: float = 0.15  # metres a Gaussian may leave its anchor, along each axis: long hair
    max_log_scale: float = 2.0
    anchors: Literal["posed", "rest"] = "posed"  # the rig posed by shape and expression, or its mean at rest
    queries: Literal["unwrapped", "points"] = "unwrapped"
    detail_channels: int = 16  # features of the unwrapped photo that skip the avatar code; 0 for none
    copies_colors: bool = True  # texels may take over colours of the photo

    @property
    def n_detail(self) -> int:
        """Channels of `EncodedHead.detail`."""
        return self.detail_channels + 3 * N_COPIES


FLEX_S = FlexSConfig()


@dataclass(frozen=True)
class FlexSObservation(Appearance):
    """The network's input for B people: a tracked photo of each, and the appearance of their rig avatars."""

    images: Tensor  # [B, 3, S, S] the matted head crop on white, 0..1
    camera: Camera  # [B] of the crop, any size; the canonical head frame is its world
    shells: Tensor  # [B, 18, 256, 256] the photo as the atlas sees it, on `SHELLS` and around


@dataclass(frozen=True)
class EncodedHead(Appearance):
    """All that decoding needs of B people: the rig avatar's appearance, too. Fitting changes the code, nothing else."""

    code: Tensor  # [B, T, D] the avatar code A
    detail: Tensor  # [B, G, C + 12] what skips the avatar code: the photo's features at the texels, and copied colours

    @property
    def copied(self) -> Tensor:
        """The colours [B, G, 4, 3] of the photo that a texel may take over; the first is what its cell looked for."""
        return self.detail[..., -3 * N_COPIES :].float().unflatten(-1, (N_COPIES, 3))

    def repeated(self, code: Tensor, times: int) -> EncodedHead:
        """One person (B = 1) with the avatar code [1, T, D], `times` times; nothing is copied."""
        others = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "code"}
        return EncodedHead(code=code, **others)._map(lambda tensor: tensor.expand(times, *tensor.shape[1:]))

    def _map(self, change: Callable[[Tensor], Tensor]) -> EncodedHead:
        return EncodedHead(**{f.name: change(getattr(self, f.name)) for f in fields(self)})


class FlexSEncoder(nn.Module):
    """A = MMDiT(queries of the rig's atlas, tokens of the image) (Eq. 4-7)."""

    points: Tensor

    def __init__(self, config: FlexSConfig, points: Tensor) -> None:
        """points [T, 3]: where the atlas cells lie on the mean head, metres."""
        super().__init__()
        self.config = config
        width, patch = config.width, config.patch_size
        self.patchify = nn.Conv2d(3 + 6, width, patch, patch, bias=False)
        n_tokens = (config.image_size // patch) ** 2
        self.image_transformer = CausalTransformer(width, config.n_heads, config.n_image_layers, n_tokens)
        self.point_embedding = PointEmbedding(width)
        cell = ATLAS_SIZE // config.grid
        self.unwrapped = nn.Conv2d(ATLAS_CHANNELS, width, cell, cell) if config.queries == "unwrapped" else None
        self.transformer = JointTransformer(width, config.n_heads, config.n_encoder_layers)
        self.copied = CopiedColors(width, patch) if config.copies_colors else None
        self.register_buffer("points", points, persistent=False)

    def forward(self, observation: FlexSObservation, atlas: Tensor) -> tuple[Tensor, Tensor | None]:
        """Avatar codes [B, T, D] and copied colours [B, T, 3], if any. atlas [B, 22, 256, 256]: `FlexS.atlas`."""
        images, camera = observation.images, observation.camera
        size = torch.tensor([camera.width, camera.height, 1.0], device=images.device)
        world = torch.linalg.inv(camera.world_to_camera)
        rays = pluecker_rays(world, camera.intrinsics / size[:, None], *images.shape[-2:])
        tokens = self.image_transformer(self.patchify(torch.cat([images, rays], 1)).flatten(2).mT)
        queries = self.point_embedding(self.points).expand(len(images), -1, -1)
        if self.unwrapped is not None:
            queries = queries + self.unwrapped(atlas).flatten(2).mT
        code = self.transformer(queries, tokens)
        return code, self.copied(code, tokens, images) if self.copied is not None else None


class FlexSDecoder(nn.Module):
    """Avatar code + expression + bias sink -> attributes [B, G, 19] relative to the rig avatar (Eq. 8-14, 16)."""

    uvs: Tensor

    def __init__(self, config: FlexSConfig, uvs: Tensor) -> None:
        """uvs [G, 2]: the texels in -1..1."""
        super().__init__()
        self.config = config
        width = config.width
        self.context = ExpressionContext(config.expression_dim, width, config.n_expression_tokens, width)
        self.transformer = JointTransformer(width, config.n_heads, config.n_decoder_layers)
        self.upsampler = Upsampler(config.upsampler, width, config.grid)
        channels = width // config.upsampler.upscale**2
        self.hidden = nn.Linear(channels + config.n_detail + BASE_CHANNELS, config.head_hidden)
        self.out = nn.Linear(config.head_hidden, sum(ATTRIBUTES))
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        self.register_buffer("uvs", uvs, persistent=False)

    def forward(
        self,
        code: Tensor,
        detail: Tensor,
        base: Tensor,
        expression: Tensor,
        bias_sink: BiasSink | Sequence[BiasSink],
    ) -> Tensor:
        """code [B, T, D], detail [B, G, C + 12], base [B, G, 4], expression [B, 58]; one bias sink, or one a person."""
        config = self.config
        features = self.transformer(code, self.context(expression[:, None], bias_sink))
        with torch.autocast(code.device.type, enabled=False):
            features = self.upsampler(features.float().mT.unflatten(-1, (config.grid, config.grid)))
            sampled = sample_map(features, self.uvs, beyond="border")  # Eq. 12
            return self.out(F.gelu(self.hidden(torch.cat([sampled, detail.float(), base], -1))))


class FlexS(nn.Module):
    """The whole network over one rig. `decode` may be called for many expressions of one code."""

    def __init__(self, config: FlexSConfig = FLEX_S, rig: Rig | None = None) -> None:
        super().__init__()
        self.config = config
        self.rig = rig or Rig.load()
        valid = self.rig.atlas.valid
        row, column = valid.nonzero().unbind(-1)
        uvs = (torch.stack([column, row], -1) + 0.5) / ATLAS_SIZE * 2 - 1
        self.encoder = FlexSEncoder(config, _cell_points(self.rig, config.grid))
        self.decoder = FlexSDecoder(config, uvs)
        channels = config.detail_channels
        self.skip = None
        if channels:
            first = nn.Conv2d(ATLAS_CHANNELS, 2 * channels, 3, padding=1)
            self.skip = nn.Sequential(first, nn.GELU(), nn.Conv2d(2 * channels, channels, 1))
        torso = self.rig.anchors.interpolate(self.rig.torso_weights[:, None])
        self.register_buffer("torso", torso, persistent=False)
        self.register_buffer("outward", self.rig.anchors.interpolate(outward().direction), persistent=False)

    torso: Tensor  # [G, 1]
    outward: Tensor  # [G, 3] where hair and clothes stand off to

    def _apply(self, *args, **kwargs) -> FlexS:
        super()._apply(*args, **kwargs)
        if self.rig.mean.device != self.torso.device:
            self.rig = self.rig.to(self.torso.device)
        return self

    def freeze(self) -> FlexS:
        """Prepare for inference and fitting: eval mode, no parameter gradients, styles folded into the weights."""
        self.eval().requires_grad_(False)
        self.decoder.upsampler.fold_styles()
        return self

    def encode(self, observation: FlexSObservation) -> EncodedHead:
        """The avatar codes of B people, with what else decoding needs of them."""
        seen, atlas = observation, self.atlas(observation)
        code, copied = self.encoder(seen, atlas)
        if copied is None:
            copies = seen.colors.repeat(1, 1, N_COPIES)
        else:
            cells = copied.mT.unflatten(-1, (self.config.grid, self.config.grid))
            found = sample_map(cells, self.decoder.uvs, beyond="border")
            copies = torch.cat([found, self._shell_colors(seen)], -1)
        detail = torch.cat([self.details(atlas), copies], -1)
        return EncodedHead(**seen.appearance(), code=code, detail=detail)

    def atlas(self, observation: FlexSObservation) -> Tensor:
        """The unwrapped photo and the rig avatar [B, 22, 256, 256], 0 where the atlas has no surface."""
        valid = self.rig.atlas.valid
        base = observation.colors.new_zeros(len(observation.colors), *valid.shape, BASE_CHANNELS)
        base[:, valid] = observation.base
        return torch.cat([observation.shells, base.permute(0, 3, 1, 2)], 1)

    def _shell_colors(self, seen: FlexSObservation) -> Tensor:
        """RGB [B, G, 9] of the photo where the outer shells meet it; beyond the person the rig avatar's own."""
        shells = seen.shells[:, :, self.rig.atlas.valid].mT
        colors = []
        for first in range(4, 4 * len(SHELLS), 4):
            color, matte = shells[..., first : first + 3], shells[..., first + 3, None]
            colors.append(torch.where(matte > MIN_MATTE, color / matte.clamp_min(MIN_MATTE), seen.colors))
        return torch.cat(colors, -1)

    def details(self, atlas: Tensor) -> Tensor:
        """Features [B, G, C] of `atlas` at the texels."""
        if self.skip is None:
            return atlas.new_zeros(len(atlas), len(self.decoder.uvs), 0)
        return sample_map(self.skip(atlas), self.decoder.uvs, beyond="border")

    def decode(
        self,
        head: EncodedHead,
        expression: Expression,
        bias_sink: BiasSink | Sequence[BiasSink] = "multiview",
    ) -> Gaussians:
        """Gaussians [B, G] in the canonical head frame for B people and as many expressions."""
        return self.decode_on_anchors(head, expression, bias_sink)[0]

    def decode_on_anchors(
        self, head: EncodedHead, expression: Expression, bias_sink: BiasSink | Sequence[BiasSink]
    ) -> tuple[Gaussians, AnchorFrames]:
        """`decode`, and the anchors [B, G] that the Gaussians are relative to."""
        out = self.decoder(head.code, head.detail, head.base, expression.code(), bias_sink)
        # Half a millimetre would be lost in half precision.
        with torch.autocast(out.device.type, enabled=False):
            frames = self.anchors(head, expression)
            return self._gaussians(head, expression, out, frames), frames

    def _gaussians(self, head: EncodedHead, expression: Expression, out: Tensor, frames: AnchorFrames) -> Gaussians:
        offset, away, scale, turn, opacity, color, shares = out.split(ATTRIBUTES, -1)
        offset = self.config.max_offset * torch.tanh(offset + away * self.outward)
        copied = (torch.tanh(shares)[..., None] * (head.copied - head.colors[..., None, :])).sum(-2)
        offset = self._without_ripples(offset)
        # What hangs on the torso turns with it.
        torso_turn = offset @ expression.head_rotation
        offset = offset + self.torso * (torso_turn - offset)
        identity = torch.tensor([1.0, 0.0, 0.0, 0.0], device=out.device)
        base = torch.logit(head.opacities.clamp(1e-4, 1 - 1e-4))
        means = frames.means + offset
        scales = frames.scales * torch.exp(self.config.max_log_scale * torch.tanh(scale))
        return Gaussians(
            means=means,
            quats=quaternion_product(frames.quats, F.normalize(identity + torch.tanh(turn), dim=-1)),
            scales=self._without_gaps(scales, means, offset),
            opacities=torch.sigmoid(base + opacity[..., 0]),
            colors=(head.colors + copied + torch.tanh(color)).clamp(0, 1),
        )

    def _without_ripples(self, offset: Tensor) -> Tensor:
        """Offsets [B, G, 3] without the pattern that the upsampler leaves in them, as wide as a cell of the code.

        A few tenths of a millimetre where it was trained, and several millimetres where a code is fitted.
        """
        even = averaged(offset, self.rig.atlas.valid, ATLAS_SIZE // self.config.grid)
        return torch.lerp(offset, even, _raised(offset))

    def _without_gaps(self, scales: Tensor, means: Tensor, offset: Tensor) -> Tensor:
        """Scales [B, G, 3] with which Gaussians that stand off the rig cover what lies between them.

        Where neighbours are pulled apart, the scalp would be seen between them as a pattern of lines.
        """
        with torch.no_grad():
            wide = covering(means, self.rig.atlas.valid)
            apart = ((wide[..., :1] / scales[..., :1] - GAPS[0]) / (GAPS[1] - GAPS[0])).clamp(0, 1)
        return torch.lerp(scales, torch.maximum(scales, wide), _raised(offset) * apart)

    def anchors(self, person: Appearance, expression: Expression) -> AnchorFrames:
        """The anchors [B, G] of B people in one expression each, which the network's attributes are relative to."""
        if self.config.anchors == "rest":
            vertices = self.rig.mean.expand(len(person.shape), -1, -1)
            return self.rig.anchors.frames(self.rig.turn_torso(vertices, expression.head_rotation))
        blendshapes = with_neutral(expression.blendshapes, person.neutral_blendshapes)
        return self.rig.anchors.frames(self.rig.pose(person.shape, blendshapes, expression.head_rotation))


def _raised(offset: Tensor) -> Tensor:
    """How far Gaussians with offsets [B, G, 3] count as standing off the rig, [B, G, 1] 0..1, without a gradient."""
    low, high = RAISED
    return ((offset.detach().norm(dim=-1, keepdim=True) - low) / (high - low)).clamp(0, 1)


def _cell_points(rig: Rig, grid: int) -> Tensor:
    """Mean position [grid * grid, 3] of the valid texels of every atlas cell; the origin for cells without any."""
    valid = rig.atlas.valid
    position = torch.zeros(*valid.shape, 3)
    position[valid] = rig.anchors.positions(rig.mean)
    total = F.avg_pool2d(position.permute(2, 0, 1)[None], ATLAS_SIZE // grid)
    share = F.avg_pool2d(valid[None, None].float(), ATLAS_SIZE // grid)
    return (total / share.clamp_min(1e-6))[0].flatten(1).T.contiguous()
