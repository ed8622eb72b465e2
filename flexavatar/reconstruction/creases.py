"""Which of a photo's dark lines belong to its expression: folds of skin that the neutral face does not have."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from flexavatar.avatar.residuals import crease_shares
from flexavatar.expression import BLINKS, with_neutral
from flexavatar.rig import Rig
from flexavatar.rig.maps import blurred, maps_of, of_texels
from flexavatar.rig.parts import MIN_AREA, parts
from flexavatar.rig.regions import smooth_step
from flexavatar.rig.subdivision import subdivision


@dataclass(frozen=True)
class CreaseParams:
    """What a crease is, and how it fades."""

    compression: tuple[float, float] = (0.03, 0.1)  # share of a length that skin loses: between them creases begin
    border: float = 2.0  # texels over which shares are blurred
    finest: float = 0.7  # texels, a deviation: finer lines are pores
    widest: int = 9  # texels: wider shadows are no creases
    shortest: int = 9  # texels: shorter ones are moles and freckles
    directions: int = 8
    around: float = 8.0  # texels, within which what is no skin takes the brightness of skin
    deepest: tuple[float, float] = (0.55, 0.75)  # share of the light around that is missing: beyond, it is hair
    sharper: float = 2.5  # how much deeper than the smoothed line a single Gaussian of it may be
    explained: tuple[float, float] = (0.005, 0.02)  # compression by the expression, on average over a quarter's creases
    faintest: float = 0.004  # RGB 0..1: a face that has no deeper creases has none


@dataclass(frozen=True)
class Compression:
    """Compression of the skin at G texels from one face to another."""

    amount: Tensor  # [G] share of its length that the most compressed direction loses
    direction: Tensor  # [G, 2] which that is: a step in texels along u and v, 1 m long on the surface at rest
    rest: Tensor  # [G, 3, 2] metres along u and v


def creases_of(
    shape: Tensor,
    neutral: Tensor,
    blendshapes: Tensor,
    colors: Tensor,
    seen: Tensor,
    params: CreaseParams = CreaseParams(),
) -> tuple[Tensor, Tensor]:
    """`creases` [C, 3] and `worn` [4, 52] of `Residuals`, both empty for a face without creases.

    Of a head with a shape [K] and neutral blendshapes [52] whose photo has blendshapes [52] above them; the photo has
    seen its colours [S, 3] as far as `seen` [S].
    """
    index, quarters = crease_shares()
    compression = compressed(shape, neutral, blendshapes)
    share = smooth_step(compression.amount, *params.compression)[:, None]
    share = blurred(maps_of(share), params.border) * parts().creasing[:, None]
    creases = -(subdivision().spread(share) * missing_light(colors, params) * seen[:, None])[index]
    if creases.abs().amax() < params.faintest:
        return colors[:0], blendshapes.new_zeros(0, len(blendshapes))
    # What a blendshape adds to the compression of the creases is what it adds to the creases.
    added = _added(compression, neutral)[:, subdivision().parent[index]]
    depth = quarters * creases.abs().sum(-1)
    worn = (depth @ added.T / depth.sum(1, keepdim=True).clamp_min(1e-9)).clamp_min(0)
    worn[:, BLINKS] = 0  # lids move by far more than they fold what is around them
    explained = worn @ blendshapes
    creases = creases * (smooth_step(explained, *params.explained) @ quarters)[:, None]
    return creases, worn / explained.clamp_min(params.explained[0])[:, None]


def compressed(shape: Tensor, neutral: Tensor, blendshapes: Tensor) -> Compression:
    """Compression of the skin by blendshapes [52] above the neutral ones, against the neutral face."""
    rig = Rig.load()
    faces = rig.pose(shape, torch.stack([neutral, with_neutral(blendshapes, neutral)]))
    before, after = rig.anchors.steps(faces)
    # The principal stretches of the surface: singular values of `after` seen from an orthonormal basis of `before`.
    metric = before.mT @ before + MIN_AREA * torch.eye(2)
    basis = torch.linalg.inv(torch.linalg.cholesky(metric)).mT
    squares, directions = torch.linalg.eigh((after @ basis).mT @ (after @ basis))
    amount = (1 - squares[:, 0].clamp_min(0).sqrt()).clamp_min(0)
    return Compression(amount, (basis @ directions[:, :, :1])[:, :, 0], before)


def missing_light(colors: Tensor, params: CreaseParams = CreaseParams()) -> Tensor:
    """By how much RGB [S, 3] colours [S, 3] are darker than their surroundings where they are dark lines."""
    skin = parts().creasing[:, None]
    color = of_texels(colors, torch.ones_like(colors[:, 0]))
    color = color[:, :3] / color[:, 3:]
    around = blurred(maps_of(torch.cat([color * skin, skin], 1)), params.around)
    filled = torch.lerp(around[:, :3] / around[:, 3:].clamp_min(1e-6), color, skin)
    smooth = cv2.GaussianBlur(maps_of(filled), (0, 0), params.finest)
    # Closing along a line fills all that is shorter; a crease stays in its own direction, a mole in none.
    without_spots = np.min([_closed(smooth, line) for line in _lines(params.shortest, params.directions)], 0)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (params.widest, params.widest))
    light = _closed(without_spots, disc)
    valid = Rig.load().atlas.valid.numpy()
    light, dark = (subdivision().spread(torch.from_numpy(values[valid])) for values in (light, without_spots))
    deep = 1 - dark.mean(1, keepdim=True) / light.mean(1, keepdim=True).clamp_min(1e-3)
    depth = (light - dark) * (1 - smooth_step(deep, *params.deepest))
    # No Gaussian becomes brighter than its surroundings: else the blur of a line would leave bright edges.
    return torch.minimum((light - colors).clamp_min(0), params.sharper * depth)


def _added(compression: Compression, neutral: Tensor) -> Tensor:
    """How much [52, G] each blendshape at full weight compresses the skin in the direction of `compression`."""
    rig = Rig.load()
    along = (compression.rest @ compression.direction[:, :, None])[:, :, 0]
    added = [
        -(along * (rig.anchors.steps(delta) @ compression.direction[:, :, None])[:, :, 0]).sum(-1)
        for delta in rig.expression_deltas
    ]
    return torch.stack(added) * (1 - neutral)[:, None]


def _closed(light: np.ndarray, element: np.ndarray) -> np.ndarray:
    return cv2.morphologyEx(light, cv2.MORPH_CLOSE, element)


def _lines(length: int, count: int) -> list[np.ndarray]:
    """Lines of that many pixels in `count` directions, uint8 [length, length]."""
    middle, lines = (length - 1) / 2, []
    for angle in np.pi * np.arange(count) / count:
        reach = middle * np.array([np.cos(angle), np.sin(angle)])
        ends = [tuple(int(v) for v in np.round(middle + sign * reach)) for sign in (-1, 1)]
        lines.append(cv2.line(np.zeros((length, length), np.uint8), *ends, color=1))
    return lines
