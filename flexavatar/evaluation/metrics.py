"""What the figures of `flexavatar evaluate` mean; every other module of this package only collects them.

| metric | definition | better |
| --- | --- | --- |
| PSNR | -10 log10 of the mean squared error of RGB in 0..1, over a mask or the whole picture; dB | higher |
| SSIM | structural similarity (11 x 11 Gaussian window, sigma 1.5 px), over the same pixels | higher |
| perceptual | squared distance of unit EfficientNet-Lite0 features of two pictures, as in fitting, x 1000 | lower |
| detail | concordance of the bands of 1 to 2 px: 1 if equal, less for a blur as for noise or a woven pattern | higher |
| energy | variance of a band (1 to 2, 2 to 4, 4 to 8 px) of the picture, divided by the target's | 1 |
| shows through | share of the neutral face, seen from near, that its front does not cover; % | lower |
| matte IoU | intersection over union of two mattes, cut at 0.5 | higher |
| AKD | mean distance of MediaPipe's 478 landmarks of two pictures, % of the height of the face | lower |
| CSIM | cosine of the SFace embeddings of two faces (papers mostly use ArcFace: figures do not compare) | higher |
| AED | mean absolute difference of 52 ARKit blendshapes, as our tracker fits them to two pictures | lower |
| APD | angle between the head rotations that our tracker fits to two pictures; degrees | lower |
"""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np
import torch
from torch import Tensor

from flexavatar.errors import ModelUnavailable
from flexavatar.metrics import masked_mean
from flexavatar.reconstruction.perceptual import EfficientNetTerm
from flexavatar.tracking.fit import face_extent

MATTE_THRESHOLD = 0.5  # alpha from which a pixel belongs to a matte
BANDS = (1, 2, 4, 8)  # pixels: a band of detail lies between two Gaussian blurs of these standard deviations
MIN_VARIANCE = 1e-6  # of a band, RGB in 0..1 (a thousandth of the range, squared): below, a picture has nothing there


def perceptual(rendered: Tensor, target: Tensor, mask: Tensor) -> float:
    """Distance x 1000 of deep features of two pictures [3, H, W] in 0..1 that differ inside a mask [H, W] only.

    NaN where `flexavatar[perceptual]` is not installed.
    """
    term = _efficient_net()
    if term is None:
        return float("nan")
    with torch.inference_mode():
        return 1000 * float(term((rendered * mask + target * (1 - mask))[None], target[None]))


def detail(rendered: Tensor, target: Tensor, mask: Tensor) -> dict[str, float]:
    """How much of a picture's detail another has, both [3, H, W] in 0..1, inside a mask [H, W] of weights 0..1.

    "detail" is the concordance 2 cov(r, t) / (var(r) + var(t)) of the finest of `BANDS`: what is missing lowers it as
    much as what is made up. "energy_1" and so on are var(r) / var(t), by the finer blur of the band. The mask shrinks
    by the widest blur, so that nothing outside counts. NaN for a target without detail, and for an empty mask.
    """
    inside = torch.from_numpy(cv2.erode(mask.numpy(), np.ones((2 * BANDS[-1] + 1,) * 2, np.uint8), borderValue=0.0))
    result: dict[str, float] = {}
    for sigma, r, t in zip(BANDS, _bands(rendered), _bands(target), strict=False):
        own, wanted, common = (masked_mean(product.mean(0), inside) for product in (r * r, t * t, r * t))
        known = wanted > MIN_VARIANCE
        result[f"energy_{sigma}"] = own / wanted if known else float("nan")
        if sigma == BANDS[0]:
            result["detail"] = 2 * common / (own + wanted) if known else float("nan")
    return result


def shows_through(alpha: Tensor, face: Tensor) -> float:
    """% of a face, bool [H, W], that the opacity [H, W] of its front lets through."""
    return 100 * masked_mean(1 - alpha, face.float())


def matte_iou(rendered: Tensor, target: Tensor) -> float:
    """Intersection over union of two mattes [H, W] in 0..1; 1 for two empty ones."""
    a, b = rendered > MATTE_THRESHOLD, target > MATTE_THRESHOLD
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 1.0


def akd(landmarks: np.ndarray, reference: np.ndarray) -> float:
    """Mean distance of landmarks [478, 2] from the reference's, in % of the height of the reference's face."""
    height = float(face_extent(torch.from_numpy(np.asarray(reference))))
    return 100 * float(np.linalg.norm(landmarks - reference, axis=-1).mean()) / height


def csim(a: Tensor, b: Tensor) -> float:
    """Cosine -1..1 of two unit embeddings [128] of `tracking.identity`."""
    return float(a @ b)


def aed(a: Tensor, b: Tensor) -> float:
    """Mean absolute difference of two sets of blendshapes [52]."""
    return float((a - b).abs().mean())


def apd(a: Tensor, b: Tensor) -> float:
    """Angle in degrees between two rotations [3, 3]."""
    # The cosine alone loses small angles in single precision.
    sine = (a.double() - b.double()).norm() / math.sqrt(8)
    return math.degrees(2 * math.asin(min(float(sine), 1.0)))


def _bands(picture: Tensor) -> list[Tensor]:
    """Differences of the blurs of a picture [3, H, W], finest first."""
    pixels = picture.permute(1, 2, 0).contiguous().numpy()
    blurred = [torch.from_numpy(cv2.GaussianBlur(pixels, (0, 0), sigma)).permute(2, 0, 1) for sigma in BANDS]
    return [fine - coarse for fine, coarse in zip(blurred, blurred[1:], strict=False)]


@lru_cache(maxsize=1)
def _efficient_net() -> EfficientNetTerm | None:
    try:
        return EfficientNetTerm()
    except ModelUnavailable:
        return None
