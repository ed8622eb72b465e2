"""Everything that synthetic heads are put together from: where it lies, loaded once and moved to one device."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from flexavatar.errors import FlexAvatarError
from flexavatar.files import expanded, user_folder
from flexavatar.rig import REGION_NAMES, Rig
from flexavatar.rig.hair_displacement import Outside, outside_of
from flexavatar.rig.regions import Regions, atlas_regions
from flexavatar.settings import to_device
from flexavatar.synthetic.cards import Cards, load_cards
from flexavatar.synthetic.faces import Face, FaceLibrary, painted_face
from flexavatar.synthetic.meshes import Guides
from flexavatar.synthetic.strands import shared_textures
from flexavatar.texture.complete import hair_strands
from flexavatar.texture.inner import IRIS_RADIUS, paint_eyes, visible_inner
from flexavatar.texture.unwrap import Unwrapped

HAIR_SPLATS, CLOTH_SPLATS, BROW_SPLATS, LASH_SPLATS, HAT_SPLATS = 120_000, 45_000, 5_000, 6_000, 20_000
HAIR_STRETCH, LASH_STRETCH = 4.0, 3.0
HATS = ("fedora01",)
log = logging.getLogger(__name__)
SCLERA = (0.86, 0.83, 0.81)
# Colours of irises in daylight and how many people have them.
IRISES = {
    (0.15, 0.09, 0.06): 0.30, (0.26, 0.16, 0.10): 0.28, (0.38, 0.26, 0.15): 0.12, (0.36, 0.35, 0.22): 0.08,
    (0.36, 0.40, 0.33): 0.04, (0.42, 0.44, 0.45): 0.06, (0.34, 0.43, 0.50): 0.08, (0.46, 0.55, 0.62): 0.04,
}  # fmt: skip
WHITES = (0.0064, 0.0105, 0.004)  # metres from the axis of the eye: from, to; and above or below it
DATA_VARIABLE, CACHE_VARIABLE = "FLEXAVATAR_DATA", "FLEXAVATAR_CACHE"
_HOW_TO = (
    "It needs MakeHuman assets (CC0): the system assets of MakeHuman or MPFB and the hair packs, "
    "from https://static.makehumancommunity.org/assets/assetpacks.html, with the .mhclo, .obj and .png files put into "
    "makehuman/hair, makehuman/brows_lashes, makehuman/clothes and makehuman/skins; and optionally "
    "portraits/train, any folder of frontal portraits that you may use. See docs/data.md."
)


@dataclass(frozen=True)
class SkinMaps:
    """Masks over the G anchors, 0..1."""

    scalp: Tensor  # [G] where hair grows on a full head of hair
    torso: Tensor  # [G] what clothes cover
    beard: Tensor  # [G] where men have stubble
    eyes: Tensor  # [G] bool
    whites: Tensor  # [G] bool: of the eyes, what open lids show
    skin: Tensor  # [G] bool, the outside of the head and bust
    opacity: Tensor  # [G] fades the rim of the bust and the back teeth out
    strands: Tensor  # [G] unit-variance streaks along the way hair falls


@dataclass(frozen=True)
class HeadAssets:
    """Meshes, skins and faces. `load` reads them from the data folder."""

    rig: Rig
    guides: Guides
    hair: dict[str, Cards]
    brows: tuple[Cards, ...]
    lashes: tuple[Cards, ...]
    clothes: dict[str, Cards]
    hats: dict[str, Cards]
    skins: tuple[Face, ...]
    eyes: Tensor  # [I, G, 3] eyeballs with I irises, 0 elsewhere
    iris_odds: Tensor  # [I]
    maps: SkinMaps
    outside: Outside
    faces: FaceLibrary

    @staticmethod
    def load(folder: str | Path | None = None, cache: str | Path | None = None, limit: int | None = None) -> HeadAssets:
        """The assets in `folder` (default: FLEXAVATAR_DATA), on the CPU; ten seconds.

        `cache` is where unwrapped portraits are kept (default: FLEXAVATAR_CACHE or the user's cache folder),
        `limit` takes the first so many portraits only (0: painted skins only). Raises DataMissing.
        """
        root = data_folder(folder)
        rig, guides = Rig.load(), Guides.load()
        made = root / "makehuman"

        def cards(kind: str, names: str, count: int, stretch: float = 1.0) -> dict[str, Cards]:
            files = sorted((made / kind).glob(f"{names}.mhclo"))
            return {path.stem: load_cards(path, rig, guides, count, stretch) for path in files}

        tops = {path.stem for path in (made / "clothes").glob("*.mhclo")} - set(HATS)
        maps = _skin_maps(rig)
        return HeadAssets(
            rig=rig,
            guides=guides,
            hair=_hair(made / "hair", rig, guides),
            brows=tuple(cards("brows_lashes", "eyebrow*", BROW_SPLATS, LASH_STRETCH).values()),
            lashes=tuple(cards("brows_lashes", "eyelash*", LASH_SPLATS, LASH_STRETCH).values()),
            clothes={name: next(iter(cards("clothes", name, CLOTH_SPLATS).values())) for name in sorted(tops)},
            hats={k: v for name in HATS for k, v in cards("clothes", name, HAT_SPLATS).items()},
            skins=tuple(painted_face(path, rig, guides) for path in sorted((made / "skins").glob("*.png"))),
            eyes=_eyes(rig, [np.array(iris) for iris in IRISES]),
            iris_odds=torch.tensor([*IRISES.values()]),
            maps=maps,
            outside=outside_of(rig, maps.scalp, maps.torso),
            faces=FaceLibrary.of(root, cache_folder(cache), limit),
        )

    def to(self, device: torch.device | str) -> HeadAssets:
        """A copy whose tensors lie on `device` (the faces stay in memory, they are few kilobytes each)."""
        move = lambda value: to_device(value, device)  # noqa: E731
        return replace(
            self,
            rig=self.rig.to(device),
            guides=move(self.guides),
            hair={k: v.to(device) for k, v in self.hair.items()},
            brows=tuple(v.to(device) for v in self.brows),
            lashes=tuple(v.to(device) for v in self.lashes),
            clothes={k: v.to(device) for k, v in self.clothes.items()},
            hats={k: v.to(device) for k, v in self.hats.items()},
            eyes=move(self.eyes),
            maps=move(self.maps),
            outside=move(self.outside),
        )


def _hair(folder: Path, rig: Rig, guides: Guides) -> dict[str, Cards]:
    """All styles; a texture that several of them share is left to the one that it covers best."""
    load = lambda path, painted: load_cards(path, rig, guides, HAIR_SPLATS, HAIR_STRETCH, painted)  # noqa: E731
    styles = {path.stem: load(path, False) for path in sorted(folder.glob("*.mhclo"))}
    shared = [name for name in styles if name in shared_textures(folder)]
    owner = max(shared, key=lambda name: len(styles[name]), default=None)
    for name in shared:
        if name != owner:
            styles[name] = load(folder / f"{name}.mhclo", True)
    if shared:
        log.warning("The hair textures of %s are the same picture; their strands are painted.", ", ".join(shared))
    return styles


def _skin_maps(rig: Rig) -> SkinMaps:
    regions = atlas_regions(rig)
    valid = rig.atlas.valid.numpy()
    x, y, z = np.moveaxis(regions.position, -1, 0)
    soft = lambda value, width: (value / width + 0.5).clip(0, 1)  # noqa: E731
    # Jaw, chin, upper lip; not the lips, the throat fades out.
    beard = soft(-0.052 - y, 0.02) * soft(y + 0.135, 0.02) * soft(z + 0.075, 0.03) * regions.named("head")
    lips = np.hypot(x / 0.024, (y + 0.071) / 0.009) < 1
    beard = beard * ~lips * (1 - regions.torso)
    pick = lambda values: torch.from_numpy(np.ascontiguousarray(values[valid]))  # noqa: E731
    return SkinMaps(
        scalp=pick(regions.scalp),
        torso=pick(regions.torso),
        beard=pick(beard.astype(np.float32)),
        eyes=pick(regions.named("eye_left", "eye_right")),
        whites=pick(_whites(regions)),
        skin=pick(regions.named("head")),
        opacity=pick(regions.edge * visible_inner(regions, rig)),
        strands=pick(hair_strands(regions)),
    )


def _whites(regions: Regions) -> np.ndarray:
    """Texels [256, 256] bool beside the irises."""
    whites = np.zeros(regions.region.shape, bool)
    for name in ("eye_left", "eye_right"):
        own = regions.named(name)
        position = regions.position - (regions.position[own].max(0) + regions.position[own].min(0)) / 2
        aside = np.hypot(position[..., 0], position[..., 1])
        near = (aside > WHITES[0]) & (aside < WHITES[1]) & (np.abs(position[..., 1]) < WHITES[2])
        whites |= own & near & (position[..., 2] > 0)
    return whites


def _eyes(rig: Rig, irises: list[np.ndarray]) -> Tensor:
    region = rig.atlas.region.numpy()
    valid = rig.atlas.valid.numpy()
    eyes = np.isin(region, [REGION_NAMES.index("eye_left"), REGION_NAMES.index("eye_right")])
    position = np.zeros((*valid.shape, 3), np.float32)
    position[valid] = rig.anchors.positions(rig.mean).numpy()
    middle = np.zeros_like(position)
    for name in ("eye_left", "eye_right"):
        own = region == REGION_NAMES.index(name)
        middle[own] = (position[own].max(0) + position[own].min(0)) / 2
    aside = np.linalg.norm((position - middle)[..., :2], axis=-1)
    painted = []
    for iris in irises:
        seen = np.where((aside < IRIS_RADIUS)[..., None], iris, SCLERA)
        photo = Unwrapped(seen, eyes.astype(np.float32), np.zeros((*valid.shape, 2), np.float32))
        painted.append((paint_eyes(np.zeros_like(position), rig, photo) * eyes[..., None])[valid])
    return torch.from_numpy(np.stack(painted)).float()


class DataMissing(FlexAvatarError):
    """The assets that synthetic heads are made of are not where they were looked for."""


def data_folder(folder: str | Path | None = None) -> Path:
    """The data folder: the argument, or the environment variable FLEXAVATAR_DATA. Raises DataMissing."""
    chosen = folder or os.environ.get(DATA_VARIABLE)
    if not chosen:
        raise DataMissing(f"No data folder is set. Pass one, or set {DATA_VARIABLE}. {_HOW_TO}")
    path = expanded(chosen)
    for name in ("hair", "brows_lashes", "skins", "clothes"):
        if not any((path / "makehuman" / name).glob("*.png")):
            raise DataMissing(f"There are no assets in {path / 'makehuman' / name}. {_HOW_TO}")
    return path


def cache_folder(folder: str | Path | None = None) -> Path:
    """Where unwrapped faces are kept: the argument, FLEXAVATAR_CACHE, or a folder of the user's cache."""
    chosen = folder or os.environ.get(CACHE_VARIABLE)
    if chosen:
        return expanded(chosen)
    return user_folder(os.environ.get("XDG_CACHE_HOME"), ".cache") / "flexavatar"
