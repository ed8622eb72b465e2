"""Mattes in closed form (Levin, Lischinski and Weiss 2008) and the colours of what they cut out.

PyMatting has both, but compiles for almost a minute when it is first imported; scipy solves the same equations.
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.linalg import LinearOperator, cg


def closed_form_alpha(image: np.ndarray, coarse: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """Alpha [H, W] float32 0..1 of an image float [H, W, 3] in 0..1.

    unknown [H, W] bool: where it is to be found. Elsewhere `coarse` [H, W] is right; here it is a first guess.
    """
    alpha = coarse.astype(np.float64)
    if not unknown.any() or min(image.shape[:2]) < 3:
        return alpha.astype(np.float32)
    inside = unknown.ravel()
    laplacian = _laplacian(image.astype(np.float64), unknown)[inside]
    system, known = laplacian[:, inside], laplacian[:, ~inside]
    diagonal = system.diagonal().clip(1e-12)
    jacobi = LinearOperator(system.shape, lambda x: x.ravel() / diagonal)
    start, right = alpha.ravel()[inside], -known @ alpha.ravel()[~inside]
    found, _ = cg(system, right, x0=start, rtol=1e-4, maxiter=500, M=jacobi)
    alpha[unknown] = found.clip(0, 1)
    return alpha.astype(np.float32)


def foreground(image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Colours float32 [H, W, 3] of what alpha [H, W] cuts out of an image [H, W, 3] in 0..1, without the background's.

    Blur fusion, twice (Forte 2021).
    """
    image, alpha = image.astype(np.float32), alpha.astype(np.float32)[..., None]
    front = behind = image
    for reach in (90, 6):  # pixels
        front, behind = _average(front, alpha, reach), _average(behind, 1 - alpha, reach)
        front = (front + alpha * (image - alpha * front - (1 - alpha) * behind)).clip(0, 1)
    return front


def _average(colors: np.ndarray, weights: np.ndarray, reach: int, faint: float = 1e-3) -> np.ndarray:
    """Weighted mean of what lies around; where nothing has weight (`faint` is more), the colours as they are."""
    size = (reach, reach)
    return (cv2.blur(colors * weights, size) + faint * colors) / (cv2.blur(weights, size)[..., None] + faint)


def _laplacian(image: np.ndarray, unknown: np.ndarray) -> csr_array:
    """The matting Laplacian [HW, HW] of the 3 x 3 windows that hold an unknown pixel (Eq. 12 there)."""
    height, width = unknown.shape
    index = np.arange(height * width).reshape(height, width)
    used = cv2.dilate(unknown.astype(np.uint8), np.ones((3, 3), np.uint8))[1:-1, 1:-1] > 0
    windows = np.lib.stride_tricks.sliding_window_view(index, (3, 3))[used].reshape(-1, 9)
    colors = image.reshape(-1, 3)[windows]
    centred = colors - colors.mean(1, keepdims=True)
    covariance = centred.mT @ centred / 9 + 1e-6 / 9 * np.eye(3)
    affinity = (1 + centred @ np.linalg.solve(covariance, centred.mT)) / 9
    weights = np.eye(9) - affinity
    rows, columns = np.repeat(windows, 9, 1).ravel(), np.tile(windows, (1, 9)).ravel()
    return coo_array((weights.ravel(), (rows, columns)), shape=(index.size, index.size)).tocsr()
