"""Drawing synthetic heads: deterministic from (split, seed, index)."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from flexavatar.camera import Camera
from flexavatar.expression import BLENDSHAPE_INDEX, NEUTRAL_SHAPES, Expression
from flexavatar.render import Rendering
from flexavatar.settings import to_device
from flexavatar.synthetic.assets import SCLERA, HeadAssets
from flexavatar.synthetic.beards import BEARDS, grow_beard
from flexavatar.synthetic.beards import LIMIT as BEARD_LIMIT
from flexavatar.synthetic.brows import BROWS, brow_strength, grow_brows, without_brows
from flexavatar.synthetic.brows import PARAMS as BROW_PARAMS
from flexavatar.synthetic.cards import Cards
from flexavatar.synthetic.faces import Face
from flexavatar.synthetic.hair import cover_of, grow_strands, placed_strands
from flexavatar.synthetic.hair_colors import HairColor, draw_color
from flexavatar.synthetic.hair_styles import FAMILIES, HELD_OUT_FAMILIES, draw_style
from flexavatar.synthetic.hair_styles import NEAR_THE_SCALP as FAMILIES_NEAR_THE_SCALP
from flexavatar.synthetic.head import SyntheticHead, Traits
from flexavatar.synthetic.lighting import sample_light
from flexavatar.synthetic.observation import photo_camera
from flexavatar.synthetic.pieces import PARTS, CardPiece, Piece
from flexavatar.synthetic.sampling import sample_camera, sample_expression, sample_head_rotation
from flexavatar.synthetic.wardrobe import Wardrobe, Worn

Split = Literal["train", "eval"]
HELD_OUT_HAIR = ("bob02", "short03")
BROWN = np.array([1.3, 0.95, 0.75])  # brows are not dyed as hair is
NEAR_THE_SCALP = ("afro01", "short01", "short02", "short03", "short04")  # styles that go under a hat

_HAIR_COLORS = torch.tensor(
    [
        (0.05, 0.04, 0.04), (0.09, 0.065, 0.05), (0.16, 0.10, 0.07), (0.26, 0.17, 0.11), (0.36, 0.21, 0.12),
        (0.42, 0.19, 0.09), (0.55, 0.40, 0.23), (0.70, 0.56, 0.36), (0.82, 0.72, 0.54), (0.42, 0.40, 0.38),
        (0.66, 0.65, 0.63), (0.86, 0.85, 0.83),
    ]
)  # fmt: skip
_HAIR_ODDS = torch.tensor([0.17, 0.15, 0.14, 0.12, 0.07, 0.05, 0.07, 0.06, 0.03, 0.05, 0.05, 0.04])


@dataclass(frozen=True)
class HeadParams:
    """How often heads have what; shares are of all heads where nothing else is said."""

    painted_share: float = 0.12  # a MakeHuman skin
    painted_light: tuple[float, float] = (0.9, 1.0)  # contrast and gain
    photo_light: tuple[float, float] = (0.5, 1.13)  # the same; photographed skin is darker than skin
    painted_eyes: float = 0.9  # brightness of the eyes of a painted skin
    eyes_to_skin: float = 1.1  # least brightness of the white of the eye over that of the skin, in photographs
    eye_levels: tuple[float, float] = (0.35, 0.95)  # brightness of their eyes, from and to
    bald: float = 0.09
    stubble: float = 0.08  # of the scalp
    painted_stubble: float = 0.10  # of the jaw
    bearded: float = 0.10  # a grown beard
    strand_share: float = 0.85  # of heads with hair: it is grown strand by strand; the others wear MakeHuman's meshes
    over_clothes: float = 0.014  # metres that hair stands off clothed shoulders
    over_skin: float = 0.003  # metres, off bare ones
    painted_scalp: float = 0.75  # brightness over that of the skin below which a scalp has hair that must not show
    mesh_hat: float = 0.0  # MakeHuman's hat: short hair pokes through it
    mesh_clothes: float = 0.65  # MakeHuman's clothes, where none of our own are worn; else cloth is painted
    person_hair: float = 0.5  # of portraits with hair: their own colour
    fringe_cut: float = 0.6  # of heads with meshes of hair
    fringe_height: tuple[float, float] = (0.018, 0.05)  # metres, from the lids to the middle of the forehead
    fringe_depth: float = -0.02  # metres: what lies further in front hangs before the face
    fringe_side: float = 0.058  # metres, half the width of the face
    roots: float = 0.5  # share of the skin that roots hide from which on labels say hair


PARAMS = HeadParams()


@dataclass(frozen=True)
class Views:
    """One head in one expression from N cameras."""

    head: SyntheticHead
    expression: Expression  # one; `expression.code()` is what the network reads
    camera: Camera  # [N] of the canonical head frame
    backgrounds: Tensor  # [N, 3] RGB 0..1
    pictures: Rendering  # rgb [N, 3, H, W] over the backgrounds, alpha [N, 1, H, W] the mattes


class SyntheticHeads:
    """Heads by number: `heads[index]`. The same assets, seed, split and index give the same head."""

    def __init__(self, assets: HeadAssets, split: Split = "train", seed: int = 0, length: int = 1_000_000) -> None:
        """`split` "eval" has hair styles, portraits and random numbers that "train" never sees."""
        self.assets, self.split, self.seed, self.length = assets, split, seed, length
        held = split == "eval"
        self._hair = [name for name in assets.hair if (name in HELD_OUT_HAIR) == held]
        self._families = [name for name in FAMILIES if (name in HELD_OUT_FAMILIES) == held]
        self._wardrobe = Wardrobe(held)
        self._faces = [i for i, file in enumerate(assets.faces.files) if _held_out(file.stem) == held]
        self._skins = [face for face in assets.skins if _held_out(face.name) == held] or list(assets.skins)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> SyntheticHead:
        if not 0 <= index < self.length:
            raise IndexError(index)
        strands = _StrandHair(
            self.generator(index, "hair"),
            self.generator(index, "beard"),
            self.generator(index, "brows"),
            self._families,
        )
        dress = lambda vertices: self._wardrobe.draw(self.generator(index, "worn"), vertices)  # noqa: E731
        return _Draw(self.assets, self.generator(index)).head(index, self._face, self._hair, strands, dress)

    def views(self, index: int, count: int, size: int = 256) -> Views:
        """Head `index` in one expression on random backgrounds: the first camera as photos are taken, others all round.

        The same index gives the same views.
        """
        head, generator = self[index], self.generator(index, "views")
        posed = sample_expression(generator)
        expression = Expression(posed.blendshapes, sample_head_rotation(generator))
        turn, rise = (torch.randn(2, generator=generator) * torch.tensor([14.0, 5.0])).tolist()
        cameras = [photo_camera(head, expression, turn, rise, size)]
        cameras += [sample_camera(generator, size) for _ in range(count - 1)]
        camera = Camera.stack(cameras)
        backgrounds = torch.rand(count, 3, generator=generator)
        return Views(head, expression, camera, backgrounds, head.render(camera, expression, backgrounds))

    def generator(self, index: int, purpose: str = "head") -> torch.Generator:
        """Random numbers of one head and one purpose, such as its views: independent of every other."""
        return torch.Generator().manual_seed(zlib.crc32(f"{self.split}/{self.seed}/{index}/{purpose}".encode()))

    def _face(self, draw: _Draw) -> Face:
        if self._faces and not draw.chance(PARAMS.painted_share):
            start = draw.number(len(self._faces))
            for step in range(min(20, len(self._faces))):  # some are unusable
                face = self.assets.faces[self._faces[(start + step) % len(self._faces)]]
                if face is not None:
                    return face
        return self._skins[draw.number(len(self._skins))]


def _held_out(name: str) -> bool:
    return zlib.crc32(name.encode()) % 10 == 0


def _fringe_cut(cards: Cards, height: float) -> Cards:
    """Without the hair that hangs in front of the face below `height` (metres); its locks end unevenly."""
    x, y, z = cards.places.unbind(-1)
    ragged = height + 0.012 * (cards.color.mean(-1) / cards.color.mean() - 1)
    return cards.select(~((z > PARAMS.fringe_depth) & (x.abs() < PARAMS.fringe_side) & (y < ragged)))


@dataclass(frozen=True)
class _Grown:
    """Strand hair of one head."""

    name: str
    piece: Piece
    color: Tensor  # [3] of all strands
    cover: Tensor  # [G] 0..1 how much the skin shows of its roots
    root_color: Tensor  # [3]


class _StrandHair:
    """The random choices of one head's strand hair: numbers of their own, so that they change nothing else."""

    def __init__(
        self, hair: torch.Generator, beard: torch.Generator, brows: torch.Generator, families: list[str]
    ) -> None:
        self._hair, self._beard, self._brows = (
            np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
            for generator in (hair, beard, brows)
        )
        self._families = families

    def worn(self) -> bool:
        return self._hair.random() < PARAMS.strand_share

    def hair(
        self, assets: HeadAssets, vertices: np.ndarray, base: Tensor, under_hat: bool, clothed: bool, worn: Worn
    ) -> _Grown:
        r = self._hair
        families = [name for name in self._families if not under_hat or name in FAMILIES_NEAR_THE_SCALP]
        family = families[r.integers(len(families))]
        style = draw_style(family, r)
        color = draw_color(r, base.numpy().astype(np.float64))
        strands = worn.arranged(grow_strands(style, r, PARAMS.over_clothes if clothed else PARAMS.over_skin))
        piece = placed_strands(
            strands, color, r, vertices, float(r.uniform(0.3, 2.0)), under=None if worn.covers is None else worn.under
        )
        return _grown(assets, family, piece, color, cover_of(style))

    def beard(self, assets: HeadAssets, vertices: np.ndarray, base: Tensor) -> _Grown | None:
        r = self._beard
        if r.random() >= PARAMS.bearded:
            return None
        kind = list(BEARDS)[r.integers(len(BEARDS))]
        color = draw_color(r, base.numpy().astype(np.float64), natural=True)
        strands, cover = grow_beard(BEARDS[kind](r), r)
        gloss = float(r.uniform(0.1, 0.8))
        piece = placed_strands(strands, color, r, vertices, gloss, BEARD_LIMIT, moving=True)
        return _grown(assets, kind, piece, color, cover)

    def brows(self, assets: HeadAssets, vertices: np.ndarray, base: Tensor) -> _Grown:
        r = self._brows
        kind = list(BROWS)[r.integers(len(BROWS))]
        # Brows are darker than hair, all the more so where that is light.
        tone = base.numpy().astype(np.float64)
        tone = (0.3 * tone + 0.7 * tone.mean() * BROWN) * r.uniform(0.6, 1.05) * (1 - 0.25 * float(base.mean()))
        color = draw_color(r, tone.clip(0.02, 0.8), natural=True)
        strands, cover = grow_brows(BROWS[kind](r), r)
        piece = placed_strands(strands, color, r, vertices, float(r.uniform(0.05, 0.4)), BROW_PARAMS.limit, moving=True)
        return _grown(assets, kind, piece, color, cover)


def _at_rest(assets: HeadAssets, shape: Tensor) -> np.ndarray:
    """Vertices [V, 3] of a head without any expression."""
    rig = assets.rig
    return rig.pose(shape.to(rig.mean.device), rig.mean.new_zeros(len(BLENDSHAPE_INDEX))).cpu().numpy()


def _grown(assets: HeadAssets, name: str, piece: Piece, color: HairColor, cover: np.ndarray) -> _Grown:
    tensor = lambda value: torch.from_numpy(np.asarray(value)).float()  # noqa: E731
    device = assets.rig.mean.device
    return _Grown(name, to_device(piece, device), tensor(color.mean), tensor(cover).to(device), tensor(color.at_root))


class _Draw:
    """The random choices of one head."""

    def __init__(self, assets: HeadAssets, generator: torch.Generator) -> None:
        self.assets, self.generator = assets, generator
        self.device = assets.rig.mean.device

    def chance(self, share: float) -> bool:
        return float(torch.rand((), generator=self.generator)) < share

    def number(self, count: int) -> int:
        return int(torch.randint(count, (), generator=self.generator))

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=self.generator))

    def normal(self, *size: int) -> Tensor:
        return torch.randn(*size, generator=self.generator)

    def head(self, index: int, choose_face, styles: list[str], strands: _StrandHair, dress) -> SyntheticHead:
        assets, device = self.assets, self.device
        face: Face = choose_face(self)
        shape = 0.45 * self.normal(len(assets.rig.shape_basis))
        if face.shape is not None:
            shape = shape + face.shape * self.uniform(0.6, 1.05)
        elif self.chance(0.5):
            shape = shape * 1.8
        hair_color = self._hair_color(face)
        kind = self.uniform(0, 1)
        scalp = "bald" if kind < PARAMS.bald else "stubble" if kind < PARAMS.bald + PARAMS.stubble else "hair"
        hat = list(assets.hats)[self.number(len(assets.hats))] if assets.hats and self.chance(PARAMS.mesh_hat) else None
        if hat is not None:
            styles = [name for name in styles if name in NEAR_THE_SCALP]
        hair = styles[self.number(len(styles))] if scalp == "hair" and styles else None
        tops = list(assets.clothes)
        clothes = tops[self.number(len(tops))] if tops and self.chance(PARAMS.mesh_clothes) else None

        shape = shape.clamp(-3, 3)
        vertices = _at_rest(assets, shape)
        worn: Worn = dress(vertices)
        pieces: list[Piece] = []
        cover, root_color, strand_color = assets.maps.scalp, hair_color, hair_color
        covered = hat is not None and worn.covers is None
        if hair is not None:
            # Drawn even if it is not worn, so that all that is drawn after it stays the same.
            locks: Piece | None = self._hair_piece(assets.hair[hair], hair_color, hat is not None)
            if strands.worn() or worn.covers is not None:
                clothed = clothes is not None or (worn.clothes is not None and not worn.bare)
                grown = strands.hair(assets, vertices, hair_color, covered, clothed, worn)
                hair, locks, strand_color = grown.name, grown.piece, grown.color
                cover, root_color = grown.cover, grown.root_color
            if not worn.hides_hair:
                pieces.append(locks)
        of_hair = len(pieces)
        if face.painted and assets.brows:  # as with hair: drawn, and then not worn
            for _ in range(2):
                self.uniform(0, 1)
            self.number(len(assets.brows))
        if assets.lashes:
            lashes = assets.lashes[self.number(len(assets.lashes))]
            pieces.append(self._strands(lashes, torch.full((3,), 0.08), self.uniform(0.02, 0.12)))
        cloth = torch.tensor(face.clothes) if face.clothes and self.chance(0.4) else self._cloth_color()
        if clothes is not None:
            dressed = self._clothes_piece(assets.clothes[clothes], cloth)
            if worn.clothes is None:
                pieces.append(dressed)
        if hat is not None:
            felt = self._clothes_piece(assets.hats[hat], self._cloth_color())
            if covered:
                pieces.append(replace(felt, part="hat"))
        pieces += [to_device(piece, device) for piece in worn.pieces]

        albedo, painted = self._skin(
            face, hair_color, scalp, cover, root_color.to(device), clothes is None, cloth, worn
        )
        parts = torch.full((len(albedo),), PARTS.index("skin"), dtype=torch.uint8, device=device)
        parts[(assets.maps.torso > 0.5) & painted] = PARTS.index("cloth")
        if scalp == "hair":
            parts[cover > PARAMS.roots] = PARTS.index("hair")
        beard = strands.beard(assets, vertices, hair_color)
        if beard is not None:
            pieces.insert(0, beard.piece)
            of_hair += 1
            albedo = albedo + beard.cover[:, None] * (0.6 * beard.root_color.to(device) - albedo)
        brows = None
        if face.painted or brow_strength(face.color.numpy() / 255) > BROW_PARAMS.weak:
            brows = strands.brows(assets, vertices, hair_color)
            pieces.insert(of_hair, brows.piece)
            albedo = without_brows(albedo)
            albedo = albedo + brows.cover[:, None] * (0.8 * brows.root_color.to(device) - albedo)

        return SyntheticHead(
            index=index,
            traits=Traits(
                face=face.name,
                painted=face.painted,
                scalp=scalp,
                hair=hair,
                hair_color=tuple(strand_color.tolist()),
                beard=None if beard is None else beard.name,
                clothes=worn.clothes or clothes,
                hat=worn.headwear or hat,
                glasses=worn.glasses,
                earrings=worn.earrings,
                brows=None if brows is None else brows.name,
            ),
            shape=shape.to(device),
            rest=self._rest().to(device),
            albedo=albedo,
            parts=parts,
            opacities=self._opacities(pieces),
            pieces=tuple(pieces),
            light=sample_light(self.generator, *(PARAMS.painted_light if face.painted else PARAMS.photo_light)).to(
                device
            ),
            assets=assets,
        )

    def _rest(self) -> Tensor:
        """A few of the shapes that count as part of a person's neutral face."""
        rest = torch.zeros(len(BLENDSHAPE_INDEX))
        for name in NEUTRAL_SHAPES:
            if name.endswith("Right") and name not in ("mouthRight",):
                rest[BLENDSHAPE_INDEX[name]] = rest[BLENDSHAPE_INDEX[name.removesuffix("Right") + "Left"]]
            elif self.chance(0.25):
                rest[BLENDSHAPE_INDEX[name]] = self.uniform(0, 0.35)
        rest[BLENDSHAPE_INDEX["mouthRight"]] = 0
        return rest

    def _hair_color(self, face: Face) -> Tensor:
        if face.hair is not None and self.chance(PARAMS.person_hair):
            return torch.tensor(face.hair)
        if self.chance(0.04):
            return torch.rand(3, generator=self.generator) * 0.8
        choice = int(torch.multinomial(_HAIR_ODDS, 1, generator=self.generator))
        return (_HAIR_COLORS[choice] * torch.exp(0.15 * self.normal(3)) * self.uniform(0.7, 1.25)).clamp(0.02, 0.95)

    def _cloth_color(self) -> Tensor:
        grey = torch.full((3,), self.uniform(0.03, 0.92))
        vivid = torch.rand(3, generator=self.generator)
        share = self.uniform(0, 0.9) if self.chance(0.6) else 0.05
        return (grey * (1 - share) + vivid * share).clamp(0.02, 0.95)

    def _strands(self, cards: Cards, color: Tensor, opacity: float) -> CardPiece:
        """Brows or lashes; thin enough not to count as the head's surface."""
        return CardPiece(cards, color.to(self.device).expand(len(cards), 3), opacity=opacity, labelled=False)

    def _hair_piece(self, cards: Cards, color: Tensor, under_hat: bool) -> CardPiece:
        if self.chance(PARAMS.fringe_cut):
            cards = _fringe_cut(cards, self.uniform(*PARAMS.fringe_height))
        brightness = cards.color.mean(-1)
        contrast = self.uniform(0.4, 1.0)
        tone = (brightness / brightness.mean()).clamp(0.25, 2.2)[:, None] ** contrast
        roots = self.uniform(-0.25, 0.35) * (0.5 - cards.barycentric[:, :1])  # a little life in plain textures
        colors = (color.to(self.device) * tone * (1 + 0.2 * roots)).clamp(0.005, 1)
        volume = 1.0 if under_hat else self.uniform(1.02, 1.32 if cards.mesh.name.startswith("afro") else 1.14)
        waved = self.chance(0.5)
        return CardPiece(
            cards,
            colors,
            gloss=self.uniform(0, 0.9),
            roundness=1.6,
            scale=volume,
            stretch=(volume * self.uniform(0.99, 1.04), volume * self.uniform(0.99, 1.03), volume),
            length=self.uniform(0.75, 1.35),
            wave=(self.uniform(0.001, 0.006) * waved, self.uniform(4, 14), self.uniform(0, 6.28)),
            mirrored=self.chance(0.5),
        )

    def _clothes_piece(self, cards: Cards, color: Tensor) -> CardPiece:
        colors = cards.color
        if self.chance(0.75):
            grey = colors.mean(-1, keepdim=True)
            colors = (grey / grey.mean()).clamp(0.3, 1.8) * color.to(self.device)
        return CardPiece(cards, colors.clamp(0.01, 1), roundness=0.0, center=(0.0, -0.25, -0.09), part="cloth")

    def _opacities(self, pieces: list[Piece]) -> Tensor:
        """Anchors under clothes are left out, else skin would poke through."""
        rig = self.assets.rig
        opacities = 0.985 * self.assets.maps.opacity
        for piece in pieces:
            if piece.covered is not None:
                hidden = piece.covered[rig.anchors.corners].all(-1)
                opacities = torch.where(hidden, torch.zeros_like(opacities), opacities)
        return opacities

    def _skin(
        self,
        face: Face,
        hair_color: Tensor,
        scalp: str,
        cover: Tensor,
        root_color: Tensor,
        painted_top: bool,
        cloth: Tensor,
        worn: Worn,
    ) -> tuple[Tensor, bool]:
        """Skin [G, 3], and whether cloth is painted on it.

        `cover` [G] is how much of it hair hides, in `root_color` [3].
        """
        maps, device = self.assets.maps, self.device
        color = face.color.to(device).float() / 255
        hair_color = hair_color.to(device)
        noise = torch.randn(len(color), generator=self.generator).to(device)[:, None]
        scalp_share = maps.scalp[:, None]
        shaved = torch.minimum(hair_color, 0.75 * hair_color.new_tensor(face.skin)) * 0.8
        if scalp == "hair":
            skin = hair_color.new_tensor(face.skin)
            if color[maps.scalp > 0.9].mean() < PARAMS.painted_scalp * skin.mean():
                color = color + scalp_share * (skin * (1 + 0.03 * noise) - color)
            strands = 1 + 0.18 * maps.strands[:, None] + 0.06 * noise
            color = color + cover[:, None] * ((root_color * 0.75 * strands).clamp(0.01, 1) - color)
        elif scalp == "stubble":
            share = scalp_share * self.uniform(0.35, 0.8) * (0.9 + 0.15 * noise)
            color = color + share * (shaved - color)
        if self.chance(PARAMS.painted_stubble):
            share = maps.beard[:, None] * self.uniform(0.2, 0.6) * (0.85 + 0.35 * noise).clamp(0, 1.3)
            color = color + share * (shaved - color)
        painted_top = painted_top and self.chance(0.85)
        if worn.bust_color is not None:
            painted_top, cloth = not worn.bare, worn.bust_color
        if painted_top:
            color = color + maps.torso[:, None] * (cloth.to(device) * (1 + 0.03 * noise) - color)
        choice = int(torch.multinomial(self.assets.iris_odds, 1, generator=self.generator))
        eyes = self.assets.eyes[choice] * self._eye_level(face)
        return torch.where(maps.eyes[:, None], eyes, color).clamp(0, 1), painted_top

    def _eye_level(self, face: Face) -> float:
        """Brightness of the eyes, which have to lie in the light that the face was photographed in."""
        if face.painted:
            return PARAMS.painted_eyes
        luma = torch.tensor([0.3, 0.6, 0.1])
        seen = face.color[self.assets.maps.whites.cpu()].float() / 255 @ luma
        skin = float(torch.tensor(face.skin) @ luma)
        white = max(float(seen.quantile(0.75)), PARAMS.eyes_to_skin * skin)
        return min(max(white / float(torch.tensor(SCLERA) @ luma), PARAMS.eye_levels[0]), PARAMS.eye_levels[1])
