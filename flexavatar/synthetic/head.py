"""One synthetic head: its splats, pictures and labels for any expression and camera."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from flexavatar.camera import Camera
from flexavatar.expression import Expression, with_neutral
from flexavatar.gaussians import Gaussians
from flexavatar.render import Rendering, render
from flexavatar.rig.anchors import outward_normals
from flexavatar.synthetic.assets import HeadAssets
from flexavatar.synthetic.labels import Marks, UVLabels, texel_frames, uv_labels
from flexavatar.synthetic.lighting import Light
from flexavatar.synthetic.pieces import PARTS, Piece

LUMA = (0.299, 0.587, 0.114)  # of a colour, its tone
SHOULDER = 0.75  # brightness from which highlights roll off


@dataclass(frozen=True)
class Traits:
    """What was drawn, in words and numbers."""

    face: str  # portrait or skin
    painted: bool  # the face is a MakeHuman skin
    scalp: Literal["hair", "stubble", "bald"]
    hair: str | None  # family of FAMILIES, or MakeHuman mesh
    hair_color: tuple[float, float, float]  # RGB 0..1
    beard: str | None  # of BEARDS
    clothes: str | None  # family of CLOTHES, or MakeHuman mesh; None: the bust is painted
    hat: str | None  # family of HATS, or MakeHuman mesh
    glasses: str | None = None  # family of GLASSES
    earrings: str | None = None  # family of EARRINGS
    brows: str | None = None  # family of BROWS; None: those of the face's texture


@dataclass(frozen=True)
class SyntheticHead:
    """One person with hair, clothes and light; G is the number of the rig's anchors."""

    index: int
    traits: Traits
    shape: Tensor  # [K] standard deviations of the rig's shape space
    rest: Tensor  # [52] blendshapes that the neutral face already has, as in `Avatar.rest`
    albedo: Tensor  # [G, 3] RGB 0..1 of the skin, eyes, teeth, tongue
    opacities: Tensor  # [G] 0..1
    parts: Tensor  # [G] uint8 index into PARTS: what the skin itself shows, roots of hair and painted cloth included
    pieces: tuple[Piece, ...]  # hair, brows, lashes, clothes, hat, glasses, earrings
    light: Light
    assets: HeadAssets

    def blendshapes(self, expression: Expression) -> Tensor:
        """The rig's blendshapes [52]: the expression, and where it leaves room the resting face."""
        return with_neutral(expression.blendshapes, self.rest)

    def splats(self, expression: Expression | None = None) -> Gaussians:
        """The scene as dense opaque Gaussians in the canonical head frame, colours lit.

        The first G are the rig's anchors in their order, the pieces follow. One expression, not a batch.
        """
        return self.posed(expression).splats

    def render(
        self,
        camera: Camera,
        expression: Expression | None = None,
        background: Sequence[float] | Tensor = (1.0, 1.0, 1.0),
    ) -> Rendering:
        """Pictures: rgb [..., 3, H, W] over the background, alpha [..., 1, H, W] and depth.

        The camera (or batch of cameras) is one of the canonical head frame, as `TrackedFace.camera`: compare
        with `flexavatar.render.render(avatar.gaussians(expression), camera)`. For a camera that stands still
        while the head turns on its neck, pass `camera.with_head_motion(head_motion(expression.head_rotation))`.
        """
        return self.posed(expression).render(camera, background)

    def labels(self, expression: Expression | None = None) -> UVLabels:
        """The outermost surface and its colour for each texel of the atlas."""
        return self.posed(expression).labels()

    def vertices(self, expression: Expression | None = None) -> Tensor:
        """The rig's vertices [V, 3] with the torso turned."""
        expression = (expression or Expression.neutral()).to(self.shape.device)
        return self.assets.rig.pose(self.shape, self.blendshapes(expression), expression.head_rotation)

    @cached_property
    def _beside(self) -> Tensor:
        return self.assets.guides.beside(self.shape)

    def posed(self, expression: Expression | None = None) -> PosedHead:
        """The head in one expression: to be drawn and labelled without posing it twice."""
        expression = (expression or Expression.neutral()).to(self.albedo.device)
        rig, rotation = self.assets.rig, expression.head_rotation
        straight = rig.pose(self.shape, self.blendshapes(expression))
        turned = rig.turn_torso(straight, rotation)
        frames = rig.anchors.frames(turned)
        normals = outward_normals(frames.quats) @ rotation.T
        lit = self.albedo * self.light.irradiance(normals)
        lit = lit + self._eye_highlight(normals)[:, None]
        surface = Gaussians(frames.means, frames.quats, frames.scales, self.opacities, self._toned(lit))
        pieces = tuple(self._dressed(piece, straight, rotation) for piece in self.pieces)
        return PosedHead(self, expression, turned, surface, pieces)

    def _dressed(self, piece: Piece, straight: Tensor, rotation: Tensor) -> Gaussians:
        made = piece.placed(self.assets.rig, straight, self._beside, rotation)
        normals = made.normals @ rotation.T
        lit = piece.colors * self.light.irradiance(normals)
        if piece.gloss > 0:
            facing = (normals @ self.light.direction).clamp_min(0)
            if made.strands is None:
                shine = facing**32.0
            else:
                across = 1 - ((made.strands @ rotation.T) @ self.light.direction).square()
                shine = across.clamp_min(0) ** 24.0 * facing
            shine = shine * self.light.whole(normals)
            lit = lit + (piece.gloss * self.light.strength) * shine[:, None] * (0.3 + piece.colors)
        # Hair ends with the bust, however low it hangs.
        opacities = piece.opacity * ((made.means[:, 1] - straight[:, 1].min()) / 0.006).clamp(0, 1)
        return Gaussians(made.means, made.quats, made.scales, opacities, self._toned(lit))

    def _eye_highlight(self, normals: Tensor) -> Tensor:
        """Reflection [G] of the strongest lamp, for an onlooker in front."""
        half = torch.nn.functional.normalize(self.light.direction + normals.new_tensor([0.0, 0.0, 1.0]), dim=-1)
        low, high = 0.9945, 0.9985  # cosine where the reflection starts, and is full
        spot = ((normals @ half - low) / (high - low)).clamp(0, 1)
        return spot * self.assets.maps.eyes * min(0.35 + self.light.strength, 0.8)

    def _toned(self, colors: Tensor) -> Tensor:
        """Colours [N, 3] as a camera shows them: highlights roll off, then the tone curve."""
        over = (colors - SHOULDER).clamp_min(0)
        rolled = torch.where(
            colors > SHOULDER, SHOULDER + (1 - SHOULDER) * (1 - torch.exp(-over / (1 - SHOULDER))), colors
        )
        return rolled.clamp(1e-4, 1) ** self.light.gamma


@dataclass(frozen=True)
class PosedHead:
    """A synthetic head in one expression, as dense opaque Gaussians with lit colours."""

    head: SyntheticHead
    expression: Expression
    vertices: Tensor  # [V, 3] metres, of the rig, the torso turned
    surface: Gaussians  # the rig's anchors
    pieces: tuple[Gaussians, ...]  # in the order of SyntheticHead.pieces

    @cached_property
    def splats(self) -> Gaussians:
        """All Gaussians: the surface, then the pieces."""
        return Gaussians.cat([self.surface, *self.pieces])

    def render(self, camera: Camera, background: Sequence[float] | Tensor = (1.0, 1.0, 1.0)) -> Rendering:
        """As `SyntheticHead.render`."""
        return render(self.splats, camera.to(self.surface.means.device), background)

    def labels(self) -> UVLabels:
        """As `SyntheticHead.labels`."""
        head = self.head
        cover = [made for made, piece in zip(self.pieces, head.pieces, strict=True) if piece.labelled]
        labelled = [piece for piece in head.pieces if piece.labelled]
        luma = self.surface.means.new_tensor(LUMA)
        kinds = [torch.full((len(piece.colors),), PARTS.index(piece.part), dtype=torch.uint8) for piece in labelled]
        marks = Marks(
            frames=texel_frames(head.assets.rig, self.vertices),
            parts=head.parts,
            tones=head.albedo @ luma,
            cover_parts=torch.cat([torch.zeros(0, dtype=torch.uint8), *kinds]).to(luma.device),
            cover_tones=torch.cat([luma[:0], *(piece.colors @ luma for piece in labelled)]),
        )
        empty = self.surface.select(torch.zeros(0, dtype=torch.long, device=self.surface.means.device))
        return uv_labels(
            head.assets.rig,
            head.assets.outside,
            self.surface,
            Gaussians.cat([empty, *cover]),
            self.expression.head_rotation,
            head.opacities > 0.5,
            marks,
        )
