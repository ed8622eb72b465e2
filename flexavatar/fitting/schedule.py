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


def one_by_one(count: int, seed: int = 0) -> Iterator[int]:
    """Endless indices below `count`; each comes once a round, in an order of its own."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(count, generator=generator).tolist()
