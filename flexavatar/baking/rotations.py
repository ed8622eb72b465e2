"""Axes of Gaussians that keep their order from one expression to the next."""

from __future__ import annotations

import itertools
from functools import cache

import torch
from torch import Tensor

from flexavatar.rotations import conjugate, quaternion_product, quaternions


def aligned(quats: Tensor, scales: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """The same ellipsoids, their axes named and signed so that the rotation comes nearest to `like`.

    quats [N, 4], scales [N, 3], like [N, 4]. The axes of an ellipsoid have no order and no sign: a Gaussian that a
    smile makes longer than wide may swap two of them, which is no rotation by 90 degrees.
    """
    turns, orders = (table.to(quats.device) for table in _relabellings())
    # The real part of conj(like) * quats * turn is the cosine of half the angle between them.
    apart = quaternion_product(conjugate(quats), like)
    best = (apart @ turns.T).abs().argmax(-1)
    return quaternion_product(quats, turns[best]), scales.gather(-1, orders[best])


@cache
def _relabellings() -> tuple[Tensor, Tensor]:
    """The 24 rotations [24, 4] that map the axes onto each other, and the old axis [24, 3] at each new place."""
    matrices, orders = [], []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            matrix = torch.zeros(3, 3)
            matrix[list(order), range(3)] = torch.tensor(signs)
            if torch.det(matrix) > 0:
                matrices.append(matrix)
                orders.append(order)
    return quaternions(torch.stack(matrices)), torch.tensor(orders)
