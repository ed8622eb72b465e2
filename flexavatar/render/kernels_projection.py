"""Numba kernels between 3D Gaussians and their image-plane ellipses (EWA splatting), forward and backward.

Conventions are those of gsplat 1.5 "antialiased": blur on the covariance with the opacity lowered in return, view rays
clamped to 1.3 times the field of view in the Jacobian, cutoff at an alpha of 1/255.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from flexavatar.render.numba_support import finish_item, prepare_cache, take_item

prepare_cache()

# A NaN must fail the visibility tests below instead of being assumed away, hence no "nnan" and "ninf".
_OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy", "fastmath": {"contract", "nsz", "arcp"}}
_f32 = np.float32
_ZERO, _HALF, _ONE, _TWO = _f32(0), _f32(0.5), _f32(1), _f32(2)
_BLUR = _f32(0.1)  # px^2
_MIN_ALPHA = _f32(1 / 255)
_MARGIN = _f32(0.15)  # of the image side, on each side
CHUNK = 1024  # Gaussians that a thread takes at a time

# Columns of `splats` [G, 10] and of the gradients with respect to them.
X, Y, CONIC_XX, CONIC_XY, CONIC_YY, OPACITY, RED, GREEN, BLUE, DEPTH = range(10)
SPLAT_SIZE = 10


@njit(inline="always")
def _rotation(quat):
    """Unit quaternion, 1/norm and rotation matrix of a quaternion of any length."""
    scale = _ONE / math.sqrt(quat[0] * quat[0] + quat[1] * quat[1] + quat[2] * quat[2] + quat[3] * quat[3])
    w, x, y, z = quat[0] * scale, quat[1] * scale, quat[2] * scale, quat[3] * scale
    return (
        (w, x, y, z, scale),
        (_ONE - _TWO * (y * y + z * z), _TWO * (x * y - w * z), _TWO * (x * z + w * y)),
        (_TWO * (x * y + w * z), _ONE - _TWO * (x * x + z * z), _TWO * (y * z - w * x)),
        (_TWO * (x * z - w * y), _TWO * (y * z + w * x), _ONE - _TWO * (x * x + y * y)),
    )


@njit(inline="always")
def _view(row, mean):
    return row[0] * mean[0] + row[1] * mean[1] + row[2] * mean[2] + row[3]


@njit(inline="always")
def _ray_limits(focal, center, side):
    """Smallest and largest x/z (or y/z) at which the Jacobian is evaluated."""
    margin = _MARGIN * side / focal
    return -(center / focal + margin), (side - center) / focal + margin


@njit(inline="always")
def _screen_row(scale, ray, view_row, depth_row):
    """One row of Jacobian @ rotation: how an image coordinate moves with a world-space offset."""
    return (
        scale * (view_row[0] - ray * depth_row[0]),
        scale * (view_row[1] - ray * depth_row[1]),
        scale * (view_row[2] - ray * depth_row[2]),
    )


@njit(inline="always")
def _dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@njit(inline="always")
def _axis_row(t, r0, r1, r2, scales):
    """Row of the 2x3 matrix A = (Jacobian @ view rotation) @ (rotation @ diag(scales))."""
    return (
        (t[0] * r0[0] + t[1] * r1[0] + t[2] * r2[0]) * scales[0],
        (t[0] * r0[1] + t[1] * r1[1] + t[2] * r2[1]) * scales[1],
        (t[0] * r0[2] + t[1] * r1[2] + t[2] * r2[2]) * scales[2],
    )


@njit(inline="always")
def _squared_area(a, b):
    """Of the parallelogram of two vectors: |a|^2 |b|^2 - (a b)^2, which would cancel for an ellipse seen edge-on."""
    x, y, z = a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]
    return x * x + y * y + z * z


@njit(**_OPTIONS)
def project(counters, means, quats, scales, opacities, colors, view, lens, width, height, near, splats, boxes):
    """Ellipses of all Gaussians: fills `splats` [G, 10] and `boxes` [G, 4] int32.

    `view` [4, 4], `lens` = (fx, fy, cx, cy). A box is x0, y0, x1, y1 in pixels, end exclusive, tight around
    alpha >= 1/255; it is empty (x1 = x0) for what is invisible or not finite, whose splat stays unset.
    """
    total = means.shape[0]
    fx, fy, cx, cy = lens[0], lens[1], lens[2], lens[3]
    w, h = _f32(width), _f32(height)
    left, right = _ray_limits(fx, cx, w)
    top, bottom = _ray_limits(fy, cy, h)
    while True:
        first = CHUNK * take_item(counters)
        if first >= total:
            return
        for n in range(first, min(first + CHUNK, total)):
            box = boxes[n]
            box[0] = box[1] = box[2] = box[3] = 0
            opacity = opacities[n]
            z = _view(view[2], means[n])
            if not (z > near and opacity >= _MIN_ALPHA):
                continue
            per_z = _ONE / z
            u = _view(view[0], means[n]) * per_z
            v = _view(view[1], means[n]) * per_z
            _, r0, r1, r2 = _rotation(quats[n])
            t0 = _screen_row(fx * per_z, min(max(u, left), right), view[0], view[2])
            t1 = _screen_row(fy * per_z, min(max(v, top), bottom), view[1], view[2])
            a0 = _axis_row(t0, r0, r1, r2, scales[n])
            a1 = _axis_row(t1, r0, r1, r2, scales[n])
            xx, xy, yy = _dot(a0, a0), _dot(a0, a1), _dot(a1, a1)
            sharp = _squared_area(a0, a1)
            det = sharp + _BLUR * (xx + yy + _BLUR)
            opacity *= math.sqrt(sharp / det)
            if not opacity >= _MIN_ALPHA:
                continue
            xx += _BLUR
            yy += _BLUR
            x, y = fx * u + cx, fy * v + cy
            reach = _TWO * math.log(opacity / _MIN_ALPHA)
            rx, ry = math.sqrt(reach * xx), math.sqrt(reach * yy)
            if not (x + rx > _ZERO and x - rx < w and y + ry > _ZERO and y - ry < h):
                continue
            # Pixel centres lie at + 0.5. Clamped as floats: a huge float has no defined integer.
            x0, x1 = max(math.ceil(x - rx - _HALF), _ZERO), min(math.floor(x + rx - _HALF) + _ONE, w)
            y0, y1 = max(math.ceil(y - ry - _HALF), _ZERO), min(math.floor(y + ry - _HALF) + _ONE, h)
            if not (x0 < x1 and y0 < y1):
                continue
            box[0], box[1], box[2], box[3] = np.int32(x0), np.int32(y0), np.int32(x1), np.int32(y1)
            splat = splats[n]
            splat[X], splat[Y], splat[DEPTH], splat[OPACITY] = x, y, z, opacity
            per_det = _ONE / det
            splat[CONIC_XX], splat[CONIC_XY], splat[CONIC_YY] = yy * per_det, -xy * per_det, xx * per_det
            splat[RED], splat[GREEN], splat[BLUE] = colors[n, 0], colors[n, 1], colors[n, 2]
        finish_item(counters)


@njit(**_OPTIONS)
def project_backward(
    counters, means, quats, scales, opacities, view, lens, width, height, splats, starts, places, pair_grads,
    d_means, d_quats, d_scales, d_opacities, d_colors,
):  # fmt: skip
    """Chain the gradients of (Gaussian, tile) pairs back to the Gaussians; adds to the `d_` arrays.

    Those of Gaussian n are the rows places[starts[n]:starts[n + 1]] of `pair_grads` [P, 10].
    """
    total = means.shape[0]
    fx, fy, cx, cy = lens[0], lens[1], lens[2], lens[3]
    left, right = _ray_limits(fx, cx, _f32(width))
    top, bottom = _ray_limits(fy, cy, _f32(height))
    v0, v1, v2 = view[0], view[1], view[2]
    while True:
        first = CHUNK * take_item(counters)
        if first >= total:
            return
        for n in range(first, min(first + CHUNK, total)):
            if starts[n] == starts[n + 1]:
                continue
            g_x = g_y = g_xx = g_xy = g_yy = g_opacity = g_red = g_green = g_blue = g_depth = _ZERO
            for i in range(starts[n], starts[n + 1]):
                grad = pair_grads[places[i]]
                g_x += grad[X]
                g_y += grad[Y]
                g_xx += grad[CONIC_XX]
                g_xy += grad[CONIC_XY]
                g_yy += grad[CONIC_YY]
                g_opacity += grad[OPACITY]
                g_red += grad[RED]
                g_green += grad[GREEN]
                g_blue += grad[BLUE]
                g_depth += grad[DEPTH]
            kept = splats[n, OPACITY] / opacities[n]  # what the blur left of the opacity
            d_opacities[n] += kept * g_opacity
            d_colors[n, 0] += g_red
            d_colors[n, 1] += g_green
            d_colors[n, 2] += g_blue

            per_z = _ONE / _view(v2, means[n])
            u, v = _view(v0, means[n]) * per_z, _view(v1, means[n]) * per_z
            ray_x, ray_y = min(max(u, left), right), min(max(v, top), bottom)
            (qw, qx, qy, qz, per_norm), r0, r1, r2 = _rotation(quats[n])
            t0 = _screen_row(fx * per_z, ray_x, v0, v2)
            t1 = _screen_row(fy * per_z, ray_y, v1, v2)
            s = scales[n]
            a0 = _axis_row(t0, r0, r1, r2, s)
            a1 = _axis_row(t1, r0, r1, r2, s)

            # Conic P = inverse covariance: d_cov = -P d_P P, with the off-diagonal gradient split in two.
            p0, p1, p2 = splats[n, CONIC_XX], splats[n, CONIC_XY], splats[n, CONIC_YY]
            half = _HALF * g_xy
            e00, e01 = g_xx * p0 + half * p1, g_xx * p1 + half * p2
            e10, e11 = half * p0 + g_yy * p1, half * p1 + g_yy * p2
            c00, c01, c11 = -(p0 * e00 + p1 * e10), -(p0 * e01 + p1 * e11), -(p1 * e01 + p2 * e11)

            # kept^2 = det(cov - blur) / det(cov): d_kept = kept_gain ((1 - kept^2) P - blur det(P) I).
            kept_gain = _HALF * g_opacity * opacities[n] / kept
            lost, even = kept_gain * (_ONE - kept * kept), kept_gain * _BLUR * (p0 * p2 - p1 * p1)
            c00, c01, c11 = c00 + lost * p0 - even, c01 + lost * p1, c11 + lost * p2 - even

            # cov = A A^T + blur, A = T R diag(s).
            h0 = (
                _TWO * (c00 * a0[0] + c01 * a1[0]),
                _TWO * (c00 * a0[1] + c01 * a1[1]),
                _TWO * (c00 * a0[2] + c01 * a1[2]),
            )
            h1 = (
                _TWO * (c01 * a0[0] + c11 * a1[0]),
                _TWO * (c01 * a0[1] + c11 * a1[1]),
                _TWO * (c01 * a0[2] + c11 * a1[2]),
            )
            # d_M with M = R diag(s); first the gradient of the scales, then that of R.
            m00, m01, m02 = t0[0] * h0[0] + t1[0] * h1[0], t0[0] * h0[1] + t1[0] * h1[1], t0[0] * h0[2] + t1[0] * h1[2]
            m10, m11, m12 = t0[1] * h0[0] + t1[1] * h1[0], t0[1] * h0[1] + t1[1] * h1[1], t0[1] * h0[2] + t1[1] * h1[2]
            m20, m21, m22 = t0[2] * h0[0] + t1[2] * h1[0], t0[2] * h0[1] + t1[2] * h1[1], t0[2] * h0[2] + t1[2] * h1[2]
            d_scales[n, 0] += m00 * r0[0] + m10 * r1[0] + m20 * r2[0]
            d_scales[n, 1] += m01 * r0[1] + m11 * r1[1] + m21 * r2[1]
            d_scales[n, 2] += m02 * r0[2] + m12 * r1[2] + m22 * r2[2]
            s0, s1, s2 = s[0], s[1], s[2]
            m00, m10, m20 = m00 * s0, m10 * s0, m20 * s0
            m01, m11, m21 = m01 * s1, m11 * s1, m21 * s1
            m02, m12, m22 = m02 * s2, m12 * s2, m22 * s2
            d_w = _TWO * (qx * (m21 - m12) + qy * (m02 - m20) + qz * (m10 - m01))
            d_x = _TWO * (qw * (m21 - m12) + qy * (m01 + m10) + qz * (m02 + m20) - _TWO * qx * (m11 + m22))
            d_y = _TWO * (qw * (m02 - m20) + qx * (m01 + m10) + qz * (m12 + m21) - _TWO * qy * (m00 + m22))
            d_z = _TWO * (qw * (m10 - m01) + qx * (m02 + m20) + qy * (m12 + m21) - _TWO * qz * (m00 + m11))
            radial = d_w * qw + d_x * qx + d_y * qy + d_z * qz  # normalisation takes this part out
            d_quats[n, 0] += (d_w - radial * qw) * per_norm
            d_quats[n, 1] += (d_x - radial * qx) * per_norm
            d_quats[n, 2] += (d_y - radial * qy) * per_norm
            d_quats[n, 3] += (d_z - radial * qz) * per_norm

            # d_T = d_A M^T, T = f / z (view row - ray * depth row).
            n0 = (
                h0[0] * s0 * r0[0] + h0[1] * s1 * r0[1] + h0[2] * s2 * r0[2],
                h0[0] * s0 * r1[0] + h0[1] * s1 * r1[1] + h0[2] * s2 * r1[2],
                h0[0] * s0 * r2[0] + h0[1] * s1 * r2[1] + h0[2] * s2 * r2[2],
            )
            n1 = (
                h1[0] * s0 * r0[0] + h1[1] * s1 * r0[1] + h1[2] * s2 * r0[2],
                h1[0] * s0 * r1[0] + h1[1] * s1 * r1[1] + h1[2] * s2 * r1[2],
                h1[0] * s0 * r2[0] + h1[1] * s1 * r2[1] + h1[2] * s2 * r2[2],
            )
            d_u, d_v = fx * g_x, fy * g_y
            if ray_x == u:
                d_u -= fx * per_z * _dot(n0, v2)
            if ray_y == v:
                d_v -= fy * per_z * _dot(n1, v2)
            d_depth = g_depth - per_z * (_dot(n0, t0) + _dot(n1, t1) + d_u * u + d_v * v)
            d_u *= per_z
            d_v *= per_z
            d_means[n, 0] += v0[0] * d_u + v1[0] * d_v + v2[0] * d_depth
            d_means[n, 1] += v0[1] * d_u + v1[1] * d_v + v2[1] * d_depth
            d_means[n, 2] += v0[2] * d_u + v1[2] * d_v + v2[2] * d_depth
        finish_item(counters)
