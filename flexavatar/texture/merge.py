"""Several unwrapped photos become one: equal exposure, low frequencies blended, detail from the best view.

Views disagree by some millimetres (the rig is not the head) and by light (the head turns, the lamp does not). An
average would show two noses, a hard choice its borders. So the views are split into frequency bands (Burt and
Adelson 1983): the coarser the band, the wider its views are blended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from flexavatar.rig import Rig
from flexavatar.rig.regions import atlas_regions
from flexavatar.texture.unwrap import Unwrapped
from flexavatar.tracking import TrackedFace


@dataclass(frozen=True)
class MergeParams:
    """How views are weighed against each other."""

    bands: tuple[float, ...] = (2.0, 6.0, 18.0)  # texels: deviations of the Gaussians that part the bands
    sharpest: float = 6.0  # power of the trust: how much the best view outweighs the others
    least: float = 0.02  # trust below which a view says nothing of a texel
    error_unit: float = 0.01  # landmark error of a view that costs it a factor e of trust
    gain_step: int = 4  # texels between those that gains are measured on
    gain_limits: tuple[float, float] = (0.5, 2.0)
    gain_prior: float = 0.02  # of a pair of views that share all texels: pull of a gain to 1
    torso_angle: float = 15.0  # degrees between two views that see a torso in about the same place
    agreement: float = 0.12  # difference of colour from the median of the views that costs a view a factor e of trust


def merge(
    photos: Sequence[Unwrapped], views: Sequence[TrackedFace], rig: Rig, params: MergeParams = MergeParams()
) -> Unwrapped:
    """One unwrapped photo of several, in the light of the first; `pixel` is the first one's."""
    if len(photos) == 1:
        return photos[0]
    weights = np.stack([p.weight for p in photos]) * _quality(photos, views, params)[:, None, None]
    # The chart's border would bleed into the bands.
    weights = weights * rig.atlas.valid.numpy() * _torso_trust(views, rig, params)
    colors = np.stack([p.color for p in photos])
    colors = (colors * _gains(colors, weights, params)[:, None, None]).clip(0, 1)
    weights = weights * _agreement(colors, weights, params)
    trust = np.stack([p.weight for p in photos]).max(0) * (weights.max(0) > 0)
    return Unwrapped(_blended(colors, weights, params).clip(0, 1), trust, photos[0].pixel)


def _quality(photos: Sequence[Unwrapped], views: Sequence[TrackedFace], params: MergeParams) -> np.ndarray:
    """Factor [N] of each view's trust: how well it is tracked and how many of its own pixels stand for a texel."""
    errors = np.array([view.error for view in views])
    pixels = np.array([min(1.0, view.crop[2] / view.camera.width) for view in views])
    return np.exp(-(errors - errors.min()) / params.error_unit) * pixels


def _torso_trust(views: Sequence[TrackedFace], rig: Rig, params: MergeParams) -> np.ndarray:
    """Factor [N, 256, 256]: low for the torso in views that see the head from elsewhere than the first one does.

    Whether the head turned on its neck or the camera went around the person is not known; the torso is only where
    the rig has it if it is the former.
    """
    forward = np.stack([view.head_rotation[:, 2].numpy() for view in views])
    angle = np.degrees(np.arccos((forward @ forward[0]).clip(-1, 1)))
    elsewhere = 1 - np.exp(-((angle / params.torso_angle) ** 2))
    return 1 - elsewhere[:, None, None] * atlas_regions(rig).torso


def _gains(colors: np.ndarray, weights: np.ndarray, params: MergeParams) -> np.ndarray:
    """Gains [N, 3] that make the views agree where they overlap; 1 for the first view.

    Least squares over pairs of views on the medians of their log ratios, each pair as strong as its overlap.
    """
    count, step = len(colors), params.gain_step
    colors, weights = (a[:, ::step, ::step] for a in (colors, weights))
    tones = np.log(colors.clip(0.02, 1))
    # Clipped and dark pixels have lost their ratio.
    in_range = np.logical_and(colors > 0.05, colors < 0.97)
    weights = weights * np.all(in_range, axis=-1)
    system = np.eye(count) * params.gain_prior
    right = np.zeros((count, 3))
    for i in range(count):
        for j in range(i):
            both = np.minimum(weights[i], weights[j]) > 0.15
            overlap = both.sum() / both.size
            if both.sum() < 20:
                continue
            ratio = np.median((tones[i] - tones[j])[both], axis=0)
            system[[i, j], [i, j]] += overlap
            system[[i, j], [j, i]] -= overlap
            right[i] -= overlap * ratio
            right[j] += overlap * ratio
    system[0], right[0] = np.eye(count)[0], 0
    return np.exp(np.linalg.solve(system, right)).clip(*params.gain_limits)


def _agreement(colors: np.ndarray, weights: np.ndarray, params: MergeParams) -> np.ndarray:
    """Factor [N, 256, 256]: low where a view shows something else than most, as a hand or a wrong background."""
    smooth = np.stack([_smoothed(c, w, params.bands[1]) for c, w in zip(colors, weights, strict=True)])
    seen = weights > params.least
    known = np.where(seen[..., None], smooth, np.nan)
    with np.errstate(all="ignore"):
        middle = np.nanmedian(np.where(np.any(seen, axis=0)[..., None], known, 0), axis=0)
    distance = np.abs(smooth - middle).mean(-1)
    # Two views have no majority.
    return np.where(seen.sum(0) > 2, np.exp(-((distance / params.agreement) ** 2)), 1).astype(np.float32)


def _blended(colors: np.ndarray, weights: np.ndarray, params: MergeParams) -> np.ndarray:
    """Multi-band blend [256, 256, 3]; nothing is known where all weights are 0."""
    sharp = np.where(weights > params.least, weights, 0) ** params.sharpest
    # A view has no say where it sees nothing, whatever its share is beside that.
    saying = (weights / params.least).clip(0, 1)
    merged = np.zeros(colors.shape[1:], np.float32)
    rest = colors
    for deviation in params.bands:
        coarse = np.stack([_smoothed(c, w, deviation) for c, w in zip(rest, weights, strict=True)])
        merged += _mixed(rest - coarse, sharp, saying, deviation / 2)
        rest = coarse
    return merged + _mixed(rest, weights, saying, params.bands[-1] / 2)


def _mixed(band: np.ndarray, votes: np.ndarray, saying: np.ndarray, deviation: float) -> np.ndarray:
    """A band [N, 256, 256, 3] of all views, the borders between their shares of the votes softened."""
    shares = votes / np.maximum(votes.sum(0), 1e-12)
    shares = np.stack([cv2.GaussianBlur(s.astype(np.float32), (0, 0), deviation) for s in shares])
    shares = shares * saying
    shares = shares / np.maximum(shares.sum(0), 1e-6)
    return (band * shares[..., None]).sum(0)


def _smoothed(color: np.ndarray, weight: np.ndarray, deviation: float) -> np.ndarray:
    """Low frequencies [256, 256, 3] of the texels that are seen."""
    weight = weight.astype(np.float32) + 1e-6
    share = cv2.GaussianBlur(weight, (0, 0), deviation)
    return cv2.GaussianBlur(color.astype(np.float32) * weight[..., None], (0, 0), deviation) / share[..., None]
