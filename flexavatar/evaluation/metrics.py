"""What the figures of `flexavatar evaluate` mean; every other module of this package only collects them.

| metric | definition | better |
| --- | --- | --- |
| PSNR | -10 log10 of the mean squared error of RGB in 0..1, over a mask or the whole picture; dB | higher |
| SSIM | structural similarity (11 x 11 Gaussian window, sigma 1.5 px), over the same pixels | higher |
| matte IoU | intersection over union of two mattes, cut at 0.5 | higher |
| AKD | mean distance of MediaPipe's 478 landmarks of two pictures, % of the height of the face | lower |
| CSIM | cosine of the SFace embeddings of two faces (papers mostly use ArcFace: figures do not compare) | higher |
| AED | mean absolute difference of 52 ARKit blendshapes, as our tracker fits them to two pictures | lower |
| APD | angle between the head rotations that our tracker fits to two pictures; degrees | lower |
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from flexavatar.fitting.losses import ssim_map
from flexavatar.tracking.fit import face_extent

SOLID = 0.5  # alpha from which a pixel belongs to a matte
LEAST_SQUARED = 1e-10  # mean squared error of pictures that count as equal: 100 dB


def psnr(rendered: Tensor, target: Tensor, mask: Tensor | None = None) -> float:
    """dB between two pictures [3, H, W] in 0..1; with a mask [H, W] of weights 0..1, over its pixels only."""
    squared = (rendered - target).square().mean(0)
    return -10 * math.log10(max(_mean(squared, mask), LEAST_SQUARED))


def ssim(rendered: Tensor, target: Tensor, mask: Tensor | None = None) -> float:
    """Structural similarity, 1 when equal, of two pictures [3, H, W] in 0..1; with a mask [H, W], over its pixels."""
    return _mean(ssim_map(rendered[None], target[None])[0].mean(0), mask)


def matte_iou(rendered: Tensor, target: Tensor) -> float:
    """Intersection over union of two mattes [H, W] in 0..1; 1 for two empty ones."""
    a, b = rendered > SOLID, target > SOLID
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 1.0


def akd(landmarks: np.ndarray, reference: np.ndarray) -> float:
    """Mean distance of landmarks [478, 2] from the reference's, in % of the height of the reference's face."""
    height = float(face_extent(torch.from_numpy(np.asarray(reference))))
    return 100 * float(np.linalg.norm(landmarks - reference, axis=-1).mean()) / height


def csim(a: Tensor, b: Tensor) -> float:
    """Cosine -1..1 of two unit embeddings [128] of `evaluation.identity`."""
    return float(a @ b)


def aed(a: Tensor, b: Tensor) -> float:
    """Mean absolute difference of two sets of blendshapes [52]."""
    return float((a - b).abs().mean())


def apd(a: Tensor, b: Tensor) -> float:
    """Angle in degrees between two rotations [3, 3]."""
    # The cosine alone loses small angles in single precision.
    sine = (a.double() - b.double()).norm() / math.sqrt(8)
    return math.degrees(2 * math.asin(min(float(sine), 1.0)))


def _mean(values: Tensor, mask: Tensor | None) -> float:
    if mask is None:
        return float(values.mean())
    return float((values * mask).sum() / mask.sum().clamp_min(1))
