"""What goes into an evaluation and comes out: rows of figures, their means, and the files they are written to."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flexavatar.files import atomic_path

if TYPE_CHECKING:
    from flexavatar.avatar import Avatar
    from flexavatar.tracking import TrackedFace

Row = dict[str, Any]  # what was measured ("head", "angle", ...), then the metrics by their keys

# key: (name, digits)
METRICS = {
    "psnr": ("PSNR, dB", 2),
    "ssim": ("SSIM", 3),
    "perceptual": ("perceptual", 2),
    "detail": ("detail", 3),
    "energy_1": ("energy 1-2 px", 2),
    "energy_2": ("energy 2-4 px", 2),
    "energy_4": ("energy 4-8 px", 2),
    "through": ("shows through, %", 2),
    "iou": ("matte IoU", 3),
    "akd": ("AKD, %", 2),
    "csim": ("CSIM (SFace)", 3),
    "aed": ("AED", 4),
    "apd": ("APD, degrees", 2),
    "faces": ("faces found", 2),
}
Maker = Callable[["TrackedFace"], "Avatar"]  # any way to make an avatar of a tracked photo


def means(rows: Sequence[Row]) -> Row:
    """The mean of every metric over the rows where it is known; metrics that no row knows are left out."""
    result: Row = {}
    for key in METRICS:
        values = [row[key] for row in rows if key in row and math.isfinite(row[key])]
        if values:
            result[key] = sum(values) / len(values)
    return result


def means_by(rows: Sequence[Row], group: str) -> dict[Any, Row]:
    """`means` of the rows that share a value of `group`, in the order of their first rows."""
    values = dict.fromkeys(row[group] for row in rows)
    return {value: means([row for row in rows if row[group] == value]) for value in values}


def markdown(models: dict[str, dict[Any, Row]], heading: str) -> str:
    """A Markdown table of the means of each model by group: a line for each group and model, the same group together.

    Groups that only some models have been measured on are left out.
    """
    first, *others = models.values()
    shared = [group for group in first if all(group in groups for groups in others)]
    keys = [key for key in METRICS if any(key in groups[group] for groups in models.values() for group in shared)]
    lines = [
        f"| {heading} | avatars | " + " | ".join(METRICS[key][0] for key in keys) + " |",
        "| --- | --- |" + " ---: |" * len(keys),
    ]
    for group in shared:
        for name, groups in models.items():
            known = groups[group]
            cells = ["" if known.get(key) is None else f"{known[key]:.{METRICS[key][1]}f}" for key in keys]
            lines.append(f"| {group} | {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def rounded(row: Row) -> Row:
    """A row as people read it; what is not known is None, which JSON can say."""
    return {
        key: (round(value, METRICS[key][1] + 1) if math.isfinite(value) else None) if key in METRICS else value
        for key, value in row.items()
    }


def write_csv(path: str | Path, rows: Sequence[Row]) -> None:
    """Write rows as CSV. Raises CannotWrite."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def write_text(path: str | Path, text: str) -> None:
    """Write a text file. Raises CannotWrite."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@dataclass(frozen=True)
class Measured:
    """Figures of all pictures that were compared."""

    rows: tuple[Row, ...]
    group: str  # key of the rows by which means are told apart
    sheet: np.ndarray  # uint8 [H, W, 3], what was compared
    left_out: tuple[str, ...] = ()  # pictures that could not be used, and why
