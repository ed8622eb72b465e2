"""What a head wears, posed with it: cards (coloured, scaled, lengthened, waved) and strands."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from flexavatar.rig import Rig
from flexavatar.rotations import quaternions
from flexavatar.synthetic.cards import Cards

Part = Literal["none", "skin", "hair", "cloth", "hat", "glasses"]
PARTS: tuple[Part, ...] = ("none", "skin", "hair", "cloth", "hat", "glasses")  # labels hold the index

HAIR_CENTER = (0.0, 0.0, -0.085)  # metres: hair is scaled about the middle of the skull
LENGTHENED_BELOW = -0.02  # metres: where hair hangs free
ALONG = 0.5  # deviation along a piece of a strand over its length: the next one goes on without a gap


@dataclass(frozen=True)
class Placed:
    """Splats of a piece on a posed head, before light; canonical head frame."""

    means: Tensor  # [S, 3] metres
    quats: Tensor  # [S, 4]
    scales: Tensor  # [S, 3] metres
    normals: Tensor  # [S, 3] unit, towards the light that falls on them
    strands: Tensor | None  # [S, 3] unit, along the hair; None of what is smooth


class Piece(Protocol):
    """Hair, brows, lashes, clothes, a hat, glasses or jewelry of one head."""

    @property
    def part(self) -> Part:
        """What it counts as."""
        ...

    @property
    def colors(self) -> Tensor:
        """[S, 3] RGB 0..1 before light."""
        ...

    @property
    def opacity(self) -> float:
        """Of every splat, 0..1."""
        ...

    @property
    def gloss(self) -> float:
        """Strength of the highlight across strands."""
        ...

    @property
    def labelled(self) -> bool:
        """Whether it counts as the head's outermost surface."""
        ...

    @property
    def covered(self) -> Tensor | None:
        """Vertices [V] bool of the rig that it hides."""
        ...

    def placed(self, rig: Rig, straight: Tensor, beside: Tensor, rotation: Tensor) -> Placed:
        """On the rig's vertices `straight` [V, 3] and the extra ones `beside` [E, 3], the torso not turned yet."""
        ...


@dataclass(frozen=True)
class CardPiece:
    """Cards as one head wears them."""

    cards: Cards
    colors: Tensor  # [S, 3] RGB 0..1 before light
    opacity: float = 0.985
    gloss: float = 0.0
    roundness: float = 0.0  # how much of the shading normal points away from `center` instead of off the card
    center: tuple[float, float, float] = HAIR_CENTER
    scale: float = 1.0  # of the splats
    stretch: tuple[float, float, float] = (1.0, 1.0, 1.0)  # about `center`
    length: float = 1.0  # of what hangs below LENGTHENED_BELOW
    wave: tuple[float, float, float] = (0.0, 0.0, 0.0)  # amplitude in metres, waves per metre, phase
    mirrored: bool = False  # the parting on the other side
    labelled: bool = True  # counts as the head's outermost surface
    part: Part = "hair"

    @property
    def covered(self) -> Tensor:
        """Vertices [V] bool of the rig that it hides."""
        return self.cards.mesh.covered

    def placed(self, rig: Rig, straight: Tensor, beside: Tensor, rotation: Tensor) -> Placed:
        """Where it lies on a head, as of `Piece.placed`."""
        cards = self.cards
        vertices = self.shaped(cards.mesh.place(torch.cat([straight, beside])))
        vertices = _with_torso(vertices, cards.mesh.torso_weights, rig, rotation)
        means, quats, normals, strands = cards.frames(vertices)
        # Cards have two sides; the one away from the head is what light falls on.
        radial = torch.nn.functional.normalize(means - means.new_tensor(self.center), dim=-1)
        outward = torch.where((normals * radial).sum(-1, keepdim=True) < 0, -normals, normals)
        normals = torch.nn.functional.normalize(outward + self.roundness * radial, dim=-1)
        return Placed(means, quats, (cards.scales * self.scale).expand(len(cards), 3), normals, strands)

    def shaped(self, vertices: Tensor) -> Tensor:
        """Vertices [N, 3] after this head's variation of the style."""
        if self.mirrored:
            vertices = vertices * vertices.new_tensor([-1.0, 1.0, 1.0])
        center = vertices.new_tensor(self.center)
        moved = center + (vertices - center) * vertices.new_tensor(self.stretch)
        hanging = (moved[:, 1] - LENGTHENED_BELOW).clamp_max(0)
        drop = torch.stack([torch.zeros_like(hanging), (self.length - 1) * hanging, torch.zeros_like(hanging)], -1)
        amplitude, frequency, phase = self.wave
        if amplitude == 0:
            return moved + drop
        offset = torch.linspace(0, 4, 3, device=vertices.device)
        return moved + drop + amplitude * torch.sin(2 * math.pi * frequency * moved.roll(1, -1) + phase + offset)


@dataclass(frozen=True)
class StrandPiece:
    """Hair grown strand by strand: S pieces of strands around a head at rest."""

    ends: Tensor  # [S, 2, 3] metres, canonical head frame, the torso not turned
    normals: Tensor  # [S, 3] unit, out of the hair
    widths: Tensor  # [S] metres, standard deviation across
    torso_weights: Tensor  # [S, 2] as Rig.torso_weights
    colors: Tensor  # [S, 3] RGB 0..1 before light
    opacity: float = 0.95
    gloss: float = 0.0
    labelled: bool = True
    part: Part = "hair"
    covered: None = None
    roots: Tensor | None = None  # [S] anchors that take a beard with them
    rest: Tensor | None = None  # [S, 3] metres, where these are at rest

    def placed(self, rig: Rig, straight: Tensor, beside: Tensor, rotation: Tensor) -> Placed:
        """Where it lies on a head, as of `Piece.placed`."""
        ends = self.ends
        if self.roots is not None and self.rest is not None:
            ends = ends + (rig.anchors.positions(straight)[self.roots] - self.rest)[:, None]
        ends = _with_torso(ends, self.torso_weights, rig, rotation)
        way = ends[:, 1] - ends[:, 0]
        length = way.norm(dim=-1, keepdim=True).clamp_min(1e-6)
        strands = way / length
        half = ALONG * length
        across = torch.minimum(self.widths[:, None], half)
        x, y, z = strands.unbind(-1)
        # The rotation that takes the third axis to the strand, by the shorter way.
        quats = torch.nn.functional.normalize(torch.stack([1 + z + 1e-6, -y, x, torch.zeros_like(x)], -1), dim=-1)
        return Placed(ends.mean(1), quats, torch.cat([across, across, half], -1), self.normals, strands)


@dataclass(frozen=True)
class SheetPiece:
    """Cloth, felt, metal or glass: S flat Gaussians around a head at rest."""

    means: Tensor  # [S, 3] metres, canonical head frame, the torso not turned
    axes: Tensor  # [S, 2, 3] unit tangents; their cross product is the outside
    scales: Tensor  # [S, 3] metres, along both tangents and across
    torso_weights: Tensor  # [S] as Rig.torso_weights
    colors: Tensor  # [S, 3] RGB 0..1 before light
    part: Part
    opacity: float = 0.985
    gloss: float = 0.0
    labelled: bool = True
    covered: Tensor | None = None  # [V] bool
    roots: Tensor | None = None  # [S] anchors that take it with them when the face moves
    rest: Tensor | None = None  # [S, 3] metres, where these are at rest

    def placed(self, rig: Rig, straight: Tensor, beside: Tensor, rotation: Tensor) -> Placed:
        """Where it lies on a head, as of `Piece.placed`."""
        means, axes = self.means, self.axes
        if self.roots is not None and self.rest is not None:
            means = means + rig.anchors.positions(straight)[self.roots] - self.rest
        means = _with_torso(means, self.torso_weights, rig, rotation)
        axes = axes + self.torso_weights[:, None, None] * (axes @ rotation - axes)
        first = torch.nn.functional.normalize(axes[:, 0], dim=-1)
        normals = torch.nn.functional.normalize(torch.linalg.cross(first, axes[:, 1]), dim=-1)
        turned = torch.stack([first, torch.linalg.cross(normals, first), normals], -1)
        return Placed(means, quaternions(turned), self.scales, normals, None)


def _with_torso(points: Tensor, weights: Tensor, rig: Rig, rotation: Tensor) -> Tensor:
    """Points [..., 3] with torso weights [...] on a head turned by `rotation` [3, 3] on its neck."""
    return points + weights[..., None] * ((points - rig.neck_joint) @ rotation + rig.neck_joint - points)
