"""Face textures without hair: photographs unwrapped into the atlas, and MakeHuman's painted skins."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from flexavatar.errors import FlexAvatarError
from flexavatar.files import atomic_path
from flexavatar.io.images import photo_files, read_image
from flexavatar.rig import Rig
from flexavatar.rig.regions import Regions, atlas_regions
from flexavatar.synthetic.meshes import Guides
from flexavatar.texture.complete import complete, ground, hidden_ears, person_colors
from flexavatar.texture.inner import paint_mouth
from flexavatar.texture.unwrap import unwrap
from flexavatar.tracking import FaceTracker, TrackedFace

CACHE_VERSION = 4
QUALITY = 92  # JPEG, of the cached atlas
MAX_YAW, MAX_ERROR = 16.0, 0.014  # degrees and face heights: portraits beyond give bad textures
# Coloured lamps and hard shadows would be taken for the skin. Degrees of hue where the saturation says anything;
# difference of the two cheeks in rgb shares and in the logarithm of brightness.
SKIN_HUES, MIN_SATURATION, MAX_TINTED, MAX_SHADED = (2.0, 38.0), 0.15, 0.09, 1.0
# Where a photo shows beard, brows, lips and eyes, which look like hair and are none of the scalp's (metres, mean head).
FEATURES_TOP, FEATURES_BOTTOM, FEATURES_SIDE = 0.030, -0.125, 0.052
HAIRLIKE = 0.45  # nearer to the hair's colour than this share of the way from skin to hair counts as hair
BALD_CONTRAST = 0.25  # of skin brightness: hair whose colour is nearer to the skin is told from it by nothing
NECK_TOP, NECK_TINT, NECK_LEVEL = -0.095, 0.045, (0.5, 1.35)  # metres; change of rgb shares; brightness against skin
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Face:
    """A head's skin, as if it had no hair on the scalp."""

    name: str
    color: Tensor  # [G, 3] uint8 RGB at the atlas' valid texels; mouth interior painted, eyes not
    shape: Tensor | None  # [K] of the portrait, None for a painted skin
    skin: tuple[float, float, float]  # RGB 0..1
    clothes: tuple[float, float, float] | None  # RGB 0..1 of what the portrait wears
    hair: tuple[float, float, float] | None  # RGB 0..1, None where the portrait shows no hair on the head
    painted: bool  # a MakeHuman skin: no brows, and no light in its colours


def portrait_files(folder: Path) -> list[Path]:
    """Near-frontal portraits with one face in `folder`/train; all files where no meta.json says which those are."""
    files = photo_files(folder / "train")
    listed = folder / "meta.json"
    if listed.exists():
        rows = json.loads(listed.read_text())
        good = {r["file"] for r in rows if r["split"] == "train" and r["faces"] == 1 and abs(r["yaw_deg"]) < MAX_YAW}
        files = [p for p in files if p.name in good]
    return files


class FaceLibrary:
    """Portrait faces by number, unwrapped when first asked for (about a second) and kept in a cache folder."""

    def __init__(self, files: list[Path], cache: Path) -> None:
        self.files = files
        self._folder = cache / f"faces-{CACHE_VERSION}"
        self._tracker: FaceTracker | None = None

    @staticmethod
    def of(root: Path, cache: Path, limit: int | None = None) -> FaceLibrary:
        """The portraits of a data folder, or the first `limit` of them."""
        return FaceLibrary(portrait_files(root / "portraits")[:limit], cache)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Face | None:
        """The face, or None if the portrait cannot be used."""
        source = self.files[index]
        path = self._folder / f"{source.parent.parent.name}_{source.stem}.npz"
        if not path.exists():
            with atomic_path(path) as part:
                np.savez_compressed(part, allow_pickle=False, **self._unwrapped(source))
        with np.load(path) as stored:
            if not stored["usable"]:
                return None
            hair = stored["hair"].tolist()
            atlas = np.asarray(cv2.imdecode(stored["atlas"], cv2.IMREAD_COLOR))[..., ::-1]
            return Face(
                name=source.stem,
                color=torch.from_numpy(atlas[Rig.load().atlas.valid.numpy()]),
                shape=torch.from_numpy(stored["shape"].astype(np.float32)),
                skin=tuple(stored["skin"].tolist()),
                clothes=tuple(stored["clothes"].tolist()),
                hair=tuple(hair) if hair else None,
                painted=False,
            )

    def prepare(self, limit: int | None = None) -> int:
        """Unwrap the first `limit` portraits (default all); returns how many are usable."""
        usable = 0
        for index in range(len(self) if limit is None else min(limit, len(self))):
            usable += self[index] is not None
            if (index + 1) % 50 == 0:
                log.info("%d of %d portraits, %d usable", index + 1, len(self), usable)
        return usable

    def _unwrapped(self, source: Path) -> dict[str, np.ndarray]:
        refused = {"usable": np.array(False)}
        self._tracker = self._tracker or FaceTracker()
        try:
            tracked = self._tracker.track_image(read_image(source))
        except FlexAvatarError as error:
            log.info("%s is left out: %s", source.name, error)
            return refused
        yaw = float(torch.rad2deg(torch.atan2(tracked.head_rotation[0, 2], tracked.head_rotation[2, 2])))
        if abs(yaw) > MAX_YAW or tracked.error > MAX_ERROR:
            log.info("%s is left out: yaw %.0f degrees, error %.3f", source.name, yaw, tracked.error)
            return refused
        return _bare_face(tracked, Rig.load(), atlas_regions(Rig.load()))


def _bare_face(tracked: TrackedFace, rig: Rig, regions: Regions) -> dict[str, np.ndarray]:
    """The portrait's texture with the scalp, and whatever hair hangs into the face, filled with skin."""
    photo = unwrap(tracked, rig)
    if (photo.weight > 0.5).mean() < 0.10:
        return {"usable": np.array(False)}
    colors = person_colors(photo, regions, tracked.image.astype(np.float32) / 255, tracked.matte)
    skin, hair = colors["skin"], colors["hair"]
    haired = bool(colors["hair_contrast"] > 0) and np.linalg.norm(hair - skin) > BALD_CONTRAST * np.linalg.norm(skin)
    hidden = regions.named("mouth", "sockets") | hidden_ears(photo.color, photo.weight, colors, regions)
    weight = np.where(hidden, 0, photo.weight)
    if haired:
        weight = weight * (1 - cv2.dilate(regions.scalp, np.ones((7, 7), np.uint8)))
        x, y, z = np.moveaxis(regions.position, -1, 0)
        features = (y < FEATURES_TOP) & (y > FEATURES_BOTTOM) & (np.abs(x) < FEATURES_SIDE) & (z > -0.06)
        way = ((photo.color - skin) @ (hair - skin)) / max(float((hair - skin) @ (hair - skin)), 1e-6)
        hairlike = (way > HAIRLIKE) & ~features & (regions.torso < 0.5)
        hairlike = cv2.dilate(hairlike.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        weight = np.where(hairlike & ~features, 0, weight)
    weight = np.where(_no_neck(photo.color, skin, regions), 0, weight)
    # Clothes are worn on top of the bust; smears of the photo's would come through at the collar.
    weight = weight * (regions.torso < 0.02)
    target = ground({**colors, "hair": skin * 0.97, "clothes": skin}, regions)
    filled = complete(photo.color, weight, target, regions)
    filled = paint_mouth(filled.clip(0, 1), rig, skin)
    if not plain_light(filled, regions):
        return {"usable": np.array(False)}
    return {
        "usable": np.array(True),
        "atlas": compressed(filled, rig.atlas.valid.numpy()),
        "shape": tracked.shape.numpy().astype(np.float16),
        "skin": skin.astype(np.float32),
        "clothes": colors["clothes"].astype(np.float32),
        "hair": (hair if haired else np.zeros(0)).astype(np.float32),
    }


def plain_light(color: np.ndarray, regions: Regions) -> bool:
    """Whether a texture [256, 256, 3] is lit by white light from about everywhere, judged by the face."""
    skin = np.median(color[regions.face], axis=0)
    hue, saturation, _ = cv2.cvtColor(skin[None, None].astype(np.float32), cv2.COLOR_RGB2HSV)[0, 0]
    hue = (hue + 180) % 360 - 180
    if saturation > MIN_SATURATION and not SKIN_HUES[0] < hue < SKIN_HUES[1]:
        return False
    aside = regions.position[..., 0]
    left, right = (np.median(color[regions.face & side], axis=0) for side in (aside > 0.01, aside < -0.01))
    tinted = np.abs(left / max(left.sum(), 1e-3) - right / max(right.sum(), 1e-3)).max()
    shaded = abs(np.log(max(left.mean(), 1e-3) / max(right.mean(), 1e-3)))
    return bool(tinted < MAX_TINTED and shaded < MAX_SHADED)


def compressed(color: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """A JPEG file, uint8 [bytes]. What lies beside the charts takes their colours, so that nothing bleeds in."""
    share = cv2.GaussianBlur(valid.astype(np.float32), (0, 0), 4.0)[..., None]
    around = cv2.GaussianBlur((color * valid[..., None]).astype(np.float32), (0, 0), 4.0) / np.maximum(share, 1e-4)
    pixels = (np.where(valid[..., None], color, around).clip(0, 1) * 255 + 0.5).astype(np.uint8)
    full = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    return cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY, *full])[1].ravel()


def _no_neck(color: np.ndarray, skin: np.ndarray, regions: Regions) -> np.ndarray:
    """Texels [256, 256] bool of the neck whose colour is not skin: collars, scarves, hair behind the neck."""
    neck = (regions.position[..., 1] < NECK_TOP) & (regions.torso < 0.9) & regions.named("head")
    level = color.mean(-1) / max(float(skin.mean()), 1e-3)
    tint = np.abs(color / np.maximum(color.sum(-1, keepdims=True), 1e-3) - skin / skin.sum()).max(-1)
    strange = neck & ((tint > NECK_TINT) | (level < NECK_LEVEL[0]) | (level > NECK_LEVEL[1]))
    return cv2.dilate(strange.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0


def painted_face(path: Path, rig: Rig, guides: Guides) -> Face:
    """A MakeHuman skin (.png in MakeHuman's texture layout) in the atlas."""
    image = np.asarray(Image.open(path).convert("RGB"), np.float32) / 255
    size = np.array([image.shape[1], image.shape[0]], np.float32)
    place = guides.skin_uv.numpy() * [1, -1] + [0, 1]
    at = (place * size - 0.5).astype(np.float32)
    color = cv2.remap(image, at[..., 0], at[..., 1], cv2.INTER_LINEAR)
    regions = atlas_regions(rig)
    skin = np.median(color[regions.face], axis=0)
    color = paint_mouth(color.clip(0, 1), rig, skin)
    valid = rig.atlas.valid.numpy()
    return Face(
        name=path.stem,
        color=torch.from_numpy((color[valid] * 255 + 0.5).astype(np.uint8)),
        shape=None,
        skin=tuple(skin.tolist()),
        clothes=None,
        hair=None,
        painted=True,
    )
