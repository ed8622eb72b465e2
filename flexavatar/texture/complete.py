"""Fill the texels that the photo does not show: mirrored detail on a smooth ground of the person's own colours."""

from __future__ import annotations

import hashlib

import cv2
import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu

from flexavatar.rig.regions import Regions
from flexavatar.texture.unwrap import Unwrapped

MIN_TEXELS = 60  # that a colour is read from


def complete(color: np.ndarray, weight: np.ndarray, target: np.ndarray, regions: Regions) -> np.ndarray:
    """Poisson completion of the skin chart in the atlas.

    `color` [256, 256, 3] is the photo, `weight` [256, 256] its trust, `target` [256, 256, 3] the colour a
    texel takes far away from anything seen. Where only the mirrored texel is seen, its *gradients* are
    used, so that light and shade carry over without a seam. The two banks of the seam at the back of
    the head are neighbours in the system.
    """
    chart = regions.skin_chart
    mirrored, mirrored_weight = color[:, ::-1], weight[:, ::-1]
    index = np.full(chart.shape, -1)
    index[chart] = np.arange(chart.sum())
    pairs, gradients, strength = [], [], []

    def connect(a: np.ndarray, b: np.ndarray, here: tuple, there: tuple, copy: bool) -> None:
        both = (a >= 0) & (b >= 0)
        pairs.append(np.stack([a[both], b[both]], 1))
        own = np.minimum(weight[here], weight[there])[both][:, None]
        other = np.minimum(mirrored_weight[here], mirrored_weight[there])[both][:, None] * copy
        difference = (color[there] - color[here])[both]
        reflected = (mirrored[there] - mirrored[here])[both]
        other = other * (1 - own)
        gradients.append(own * difference + other * reflected)
        strength.append(np.ones(both.sum()))

    rows, columns = slice(None), slice(None)
    left, right = (rows, slice(None, -1)), (rows, slice(1, None))
    upper, lower = (slice(None, -1), columns), (slice(1, None), columns)
    connect(index[left], index[right], left, right, True)
    connect(index[upper], index[lower], upper, lower, True)
    # The seam: left side against right side, left half of the top side against the right half.
    first, last = (rows, 0), (rows, -1)
    connect(index[first], index[last], first, last, False)
    half = chart.shape[1] // 2
    bank, other_bank = (0, slice(0, half)), (0, slice(None, half - 1, -1))
    connect(index[bank], index[other_bank], bank, other_bank, False)

    pair, gradient = np.concatenate(pairs), np.concatenate(gradients)
    count, edges = int(chart.sum()), len(pair)
    ones = np.ones(edges)
    difference = sp.csr_matrix(
        (np.concatenate([-ones, ones]), (np.tile(np.arange(edges), 2), pair.T.ravel())), (edges, count)
    )
    trust = weight[chart] ** 2
    # Strength of a region's own colour against the smoothness of the fill.
    pull = np.where(regions.ear, 0.1, 0.008)[chart] * (1 - weight[chart])
    anchor = trust * 4 + pull
    system = difference.T @ difference + sp.diags(anchor)
    right_side = difference.T @ gradient + (trust * 4)[:, None] * color[chart]
    right_side += pull[:, None] * target[chart]
    filled = color.copy()
    filled[chart] = _solve(system.tocsc(), right_side)
    return filled.clip(0, 1)


_orders: dict[bytes, np.ndarray] = {}  # by the digest of a matrix' pattern


def _solve(system: sp.csc_matrix, right_side: np.ndarray) -> np.ndarray:
    """The solution [N, C] of a symmetric positive definite system [N, N].

    The pattern is that of the atlas, so the elimination order that keeps the factors small is searched once.
    """
    symmetric = {"diag_pivot_thresh": 0.0, "options": {"SymmetricMode": True}}
    pattern = hashlib.sha1(system.indptr.tobytes() + system.indices.tobytes()).digest()
    if pattern not in _orders:
        factors = splu(system, permc_spec="MMD_AT_PLUS_A", **symmetric)
        _orders[pattern] = np.argsort(factors.perm_c)
        return factors.solve(right_side)
    order = _orders[pattern]
    factors = splu(system[order][:, order].tocsc(), permc_spec="NATURAL", **symmetric)
    solution = np.empty_like(right_side)
    solution[order] = factors.solve(right_side[order])
    return solution


def person_colors(
    photo: Unwrapped, regions: Regions, image: np.ndarray, matte: np.ndarray, haired: bool = False
) -> dict[str, np.ndarray]:
    """The person's skin, hair and clothes colours (RGB 0..1), and the hair's contrast, from what is seen.

    Hair is read from the seen scalp; when too little of it is seen, from the person's pixels above the
    brows. A scalp that looks like the face is bald, and its colour is skin, unless it is known to be `haired`.
    """
    color, pixel = photo.color, photo.pixel
    seen = photo.weight > 0.5
    skin = _median(color[seen & regions.face])
    if skin is None:
        skin = np.array([0.72, 0.55, 0.46])
    scalp = color[seen & (regions.scalp > 0.8)]
    if len(scalp) < MIN_TEXELS:
        top = max(int(pixel[regions.face][:, 1].min()), 1)
        scalp = image[:top][matte[:top] > 0.9]
    hair, contrast = 0.45 * skin, 0.03
    if len(scalp) >= MIN_TEXELS:
        # Hair shines: its darker half is nearer to its colour under soft light.
        brightness = scalp.mean(1)
        hair = np.median(scalp[brightness <= np.percentile(brightness, 60)], axis=0)
        contrast = min(float(brightness.std()), 0.045)
        if not haired and np.linalg.norm(hair - skin) < 0.3 * np.linalg.norm(skin):
            hair, contrast = (hair + skin) / 2, 0.0
    clothes = _median(color[seen & (regions.torso > 0.8)])
    if clothes is None:
        clothes = 0.5 * skin + 0.1
    return {"skin": skin, "hair": hair, "clothes": clothes, "hair_contrast": np.array(contrast)}


def hidden_ears(color: np.ndarray, weight: np.ndarray, colors: dict[str, np.ndarray], regions: Regions) -> np.ndarray:
    """Texels [256, 256] bool of ears that hair covers in the photo: there the photo shows hair, not the ear."""
    covered = np.zeros(weight.shape, bool)
    for left in (True, False):
        own = regions.ear & ((regions.position[..., 0] > 0) == left)
        seen = color[own & (weight > 0.3)]
        if len(seen) < 20:
            continue
        typical = np.median(seen, axis=0)
        if np.linalg.norm(typical - colors["hair"]) < np.linalg.norm(typical - colors["skin"]):
            covered |= own
    return covered


def ground(colors: dict[str, np.ndarray], regions: Regions) -> np.ndarray:
    """The colour [256, 256, 3] each texel of the skin chart takes when nothing near it is seen."""
    scalp, torso = regions.scalp[..., None], regions.torso[..., None]
    base = colors["skin"] * (1 - torso) + colors["clothes"] * torso
    return (base * (1 - scalp) + colors["hair"] * scalp).astype(np.float32)


def hair_strands(regions: Regions, seed: int = 0) -> np.ndarray:
    """Unit-variance luminance noise [256, 256], drawn out along the way hair falls (down the atlas)."""
    noise = np.random.default_rng(seed).normal(size=regions.scalp.shape).astype(np.float32)
    strands = cv2.GaussianBlur(noise, (0, 0), sigmaX=0.6, sigmaY=5.0)
    coarse = cv2.GaussianBlur(noise, (0, 0), sigmaX=2.5, sigmaY=12.0)
    return 0.75 * strands / strands.std() + 0.5 * coarse / coarse.std()


def _median(values: np.ndarray) -> np.ndarray | None:
    return np.median(values, axis=0) if len(values) >= MIN_TEXELS else None
