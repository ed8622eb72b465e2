"""Mattes in closed form (Levin, Lischinski and Weiss 2008) and the colours of what they cut out.

PyMatting has both, but compiles for almost a minute when it is first imported.
"""

from __future__ import annotations

import cv2
import numba as nb
import numpy as np

from flexavatar.render.numba_support import prepare_cache

prepare_cache()


def closed_form_alpha(image: np.ndarray, coarse: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """Alpha [H, W] float32 0..1 of an image float [H, W, 3] in 0..1.

    unknown [H, W] bool: where it is to be found. Elsewhere `coarse` [H, W] is right; here it is a first guess.
    """
    alpha = coarse.astype(np.float64)
    if not unknown.any() or min(image.shape[:2]) < 3:
        return alpha.astype(np.float32)
    count = int(unknown.sum())
    number = np.full(unknown.shape, -1)
    number[unknown] = np.arange(count)
    values, columns, starts, right = _system(image.astype(np.float64), alpha, number, count)
    found = _conjugate_gradient(values, columns, starts, right, alpha[unknown], 1e-4, 500)
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


@nb.njit(cache=True)
def _system(image: np.ndarray, alpha: np.ndarray, number: np.ndarray, count: int) -> tuple[np.ndarray, ...]:
    """The rows of the matting Laplacian (Eq. 12 there, 3 x 3 windows) that belong to unknown pixels.

    image float64 [H, W, 3] in 0..1, alpha float64 [H, W] right where it is known, number int64 [H, W] of an unknown
    pixel among `count`, -1 where alpha is known. Returns the values, columns and row starts of a sparse matrix
    [count, count], and the right side [count].
    """
    height, width, _ = image.shape
    stencil = np.zeros((count, 25))  # of the 5 x 5 pixels around
    centred, solved = np.empty((9, 3)), np.empty((9, 3))
    for top in range(height - 2):
        for left in range(width - 2):
            if number[top : top + 3, left : left + 3].max() < 0:
                continue
            mean = np.zeros(3)
            for i in range(9):
                mean += image[top + i // 3, left + i % 3]
            mean /= 9
            covariance = np.zeros((3, 3))
            for i in range(9):
                centred[i] = image[top + i // 3, left + i % 3] - mean
                for a in range(3):
                    for b in range(3):
                        covariance[a, b] += centred[i, a] * centred[i, b] / 9
            for a in range(3):
                covariance[a, a] += 1e-6 / 9
            # L D Lt by hand: of a drawing's few colours the determinant itself rounds to zero.
            d0 = covariance[0, 0]
            l10, l20 = covariance[1, 0] / d0, covariance[2, 0] / d0
            d1 = covariance[1, 1] - l10 * covariance[1, 0]
            l21 = (covariance[2, 1] - l20 * covariance[1, 0]) / d1
            d2 = covariance[2, 2] - l20 * covariance[2, 0] - l21 * l21 * d1
            for i in range(9):
                x = centred[i, 0]
                y = centred[i, 1] - l10 * x
                z = (centred[i, 2] - l20 * x - l21 * y) / d2
                y = y / d1 - l21 * z
                solved[i, 0], solved[i, 1], solved[i, 2] = x / d0 - l10 * y - l20 * z, y, z
            for i in range(9):
                row = number[top + i // 3, left + i % 3]
                if row < 0:
                    continue
                for j in range(9):
                    dot = centred[i, 0] * solved[j, 0] + centred[i, 1] * solved[j, 1] + centred[i, 2] * solved[j, 2]
                    place = (j // 3 - i // 3 + 2) * 5 + j % 3 - i % 3 + 2
                    stencil[row, place] += (1.0 if i == j else 0.0) - (1 + dot) / 9
    values, columns = np.empty(count * 25), np.empty(count * 25, np.int32)
    starts, right = np.zeros(count + 1, np.int32), np.zeros(count)
    used = 0
    for y in range(height):
        for x in range(width):
            row = number[y, x]
            if row < 0:
                continue
            for place in range(25):
                weight = stencil[row, place]
                if weight == 0:
                    continue
                v, u = y + place // 5 - 2, x + place % 5 - 2
                if number[v, u] < 0:
                    right[row] -= weight * alpha[v, u]
                else:
                    values[used], columns[used] = weight, number[v, u]
                    used += 1
            starts[row + 1] = used
    return values[:used], columns[:used], starts, right


@nb.njit(cache=True)
def _conjugate_gradient(
    values: np.ndarray,
    columns: np.ndarray,
    starts: np.ndarray,
    right: np.ndarray,
    guess: np.ndarray,
    tolerance: float,
    steps: int,
) -> np.ndarray:
    """The solution [N] of a sparse positive system, preconditioned by its diagonal.

    At most `steps` from `guess` [N], until the residual is `tolerance` times the right side's length.
    """
    # Not scipy's, whose products wait for BLAS threads: on a busy machine that takes ten times as long.
    count = len(right)
    x, diagonal = guess.copy(), np.full(count, 1e-12)
    residual, direction, moved = right.copy(), np.zeros(count), np.zeros(count)
    limit = 0.0
    for i in range(count):
        for k in range(starts[i], starts[i + 1]):
            residual[i] -= values[k] * x[columns[k]]
            if columns[k] == i:
                diagonal[i] = max(values[k], 1e-12)
        limit += right[i] ** 2
    if limit == 0:
        return np.zeros(count)  # all that is known around is background
    limit *= tolerance**2
    before = 1.0
    for _ in range(steps):
        size = now = 0.0
        for i in range(count):
            size += residual[i] ** 2
            now += residual[i] ** 2 / diagonal[i]
        if size <= limit:
            break
        for i in range(count):
            direction[i] = residual[i] / diagonal[i] + now / before * direction[i]
        before, curvature = now, 0.0
        for i in range(count):
            total = 0.0
            for k in range(starts[i], starts[i + 1]):
                total += values[k] * direction[columns[k]]
            moved[i] = total
            curvature += total * direction[i]
        if curvature <= 0:  # only pixels of a colour of their own are left, which nothing ties to others
            break
        step = now / curvature
        for i in range(count):
            x[i] += step * direction[i]
            residual[i] -= step * moved[i]
    return x
