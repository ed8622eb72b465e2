"""What goes into an evaluation and what comes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flexavatar.evaluation.table import Row

if TYPE_CHECKING:
    from flexavatar.avatar import Avatar
    from flexavatar.tracking import TrackedFace

Maker = Callable[["TrackedFace"], "Avatar"]  # any way to make an avatar of a tracked photo


@dataclass(frozen=True)
class Measured:
    """Figures of all pictures that were compared."""

    rows: tuple[Row, ...]
    group: str  # key of the rows by which means are told apart
    sheet: np.ndarray  # uint8 [H, W, 3], what was compared
    left_out: tuple[str, ...] = ()  # pictures that could not be used, and why
