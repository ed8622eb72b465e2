"""Learning rates and the order of views."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

LAST = 0.1  # of the first learning rate


def cosine(optimiser: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    """Rates that fall along a cosine to a tenth."""
    share = lambda step: LAST + (1 - LAST) * 0.5 * (1 + math.cos(math.pi * min(step / max(steps, 1), 1)))  # noqa: E731
    return torch.optim.lr_scheduler.LambdaLR(optimiser, share)


def batches(count: int, size: int, seed: int = 0) -> Iterator[list[int]]:
    """Endless batches of indices below `count`; each index comes once a round."""
    generator = torch.Generator().manual_seed(seed)
    queue: list[int] = []
    while True:
        while len(queue) < size:
            queue += torch.randperm(count, generator=generator).tolist()
        batch, queue = queue[:size], queue[size:]
        yield batch
