"""Numba kernels that evaluate a baked avatar, a chunk of splats at a time; tests compare them with plain PyTorch."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from flexavatar.render.numba_support import finish_item, prepare_cache, take_item

prepare_cache()

_OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy", "fastmath": {"contract", "nsz", "arcp"}}
CHUNK = 2048  # splats that a thread takes at a time
_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_TINY = np.float32(1e-12)


@njit(**_OPTIONS)
def add_deltas(counters, starts, targets, values, weights, low, high, out):
    """out [N, C] += the deltas of each splat, weighted, then clamped to low..high.

    starts [N + 1] and targets [M] say which targets change each splat; values [M, C], weights [T].
    """
    count, size = out.shape
    items = (count + CHUNK - 1) // CHUNK
    while True:
        item = take_item(counters)
        if item >= items:
            return
        for i in range(item * CHUNK, min((item + 1) * CHUNK, count)):
            for k in range(starts[i], starts[i + 1]):
                weight = weights[targets[k]]
                if weight != _ZERO:
                    for c in range(size):
                        out[i, c] += weight * values[k, c]
            for c in range(size):
                out[i, c] = min(max(out[i, c], low), high)
        finish_item(counters)


@njit(inline="always")
def _turn(x, y, z, quat):
    """In place: the quaternion [4] after a further rotation by the vector (x, y, z)."""
    square = x * x + y * y + z * z
    if square < _TINY:
        return
    angle = math.sqrt(square)
    sine = math.sin(_HALF * angle) / angle
    w, x, y, z = math.cos(_HALF * angle), sine * x, sine * y, sine * z
    a, b, c, d = quat[0], quat[1], quat[2], quat[3]
    quat[0] = w * a - x * b - y * c - z * d
    quat[1] = w * b + x * a + y * d - z * c
    quat[2] = w * c - x * d + y * a + z * b
    quat[3] = w * d + x * c - y * b + z * a


@njit(**_OPTIONS)
def turn(counters, vectors, torso_weights, joint, rotation, torso_vector, means, quats):
    """In place: quats [N, 4] turn by vectors [N, 3], then the torso's means and quats turn about the neck joint.

    rotation [3, 3] is the head's; torso_vector [3] is the rotation vector of its inverse.
    """
    count = len(means)
    items = (count + CHUNK - 1) // CHUNK
    moving = torso_vector[0] != _ZERO or torso_vector[1] != _ZERO or torso_vector[2] != _ZERO
    while True:
        item = take_item(counters)
        if item >= items:
            return
        for i in range(item * CHUNK, min((item + 1) * CHUNK, count)):
            _turn(vectors[i, 0], vectors[i, 1], vectors[i, 2], quats[i])
            share = torso_weights[i]
            if moving and share > _ZERO:
                x, y, z = means[i, 0] - joint[0], means[i, 1] - joint[1], means[i, 2] - joint[2]
                for c in range(3):
                    turned = x * rotation[0, c] + y * rotation[1, c] + z * rotation[2, c] + joint[c]
                    means[i, c] += share * (turned - means[i, c])
                _turn(share * torso_vector[0], share * torso_vector[1], share * torso_vector[2], quats[i])
        finish_item(counters)
