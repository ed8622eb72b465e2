"""When the rows of a recording were taken, from the timecodes that recorders and spreadsheets write.

* `HH:MM:SS:FF` or `HH:MM:SS:FF.fff`: FF counts frames, at a rate that the file does not name; `;` stands before the
  frames of drop-frame timecode. Some recorders count milliseconds there.
* `HH:MM:SS.fff`: seconds and their fraction.
* Plain numbers: of frames where they count by ones, else seconds, or thousandths of them.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from flexavatar.errors import BadMotionFile
from flexavatar.motion.table import number_in

RATES = (24.0, 25.0, 30.0, 48.0, 50.0, 60.0, 120.0)
MAX_SECONDS = 4 * 3600.0  # of a motion file
APP_RATE = 60.0  # of Live Link Face, unless a file says otherwise
_FRAMES = re.compile(r"(\d{1,2}):(\d{1,2}):(\d{1,2})[:;](\d{1,3}(?:[.,]\d+)?)")
_FRACTION = re.compile(r"(\d{1,2}):(\d{1,2}):(\d{1,2})[.,](\d+)")
_PLAIN = re.compile(r"\d+(?:[.,]\d+)?")
_MOST_FRAMES = 120  # that timecodes count in a second; more are milliseconds
_LARGEST_STEP = 4  # of plain numbers of frames, from one row to the next


@dataclass(frozen=True)
class Clock:
    """When rows were taken."""

    times: list[float]  # seconds, of each row
    rate: float | None  # frames that a second of the timecode has; None if it does not count frames
    daily: bool  # whether the times begin anew at midnight


def read_clock(cells: Sequence[str], fps: float | None) -> Clock | int:
    """The times of rows by the cells with their timecodes; or the index of the first cell that is no timecode.

    `fps` is the rate that frames are counted in, where that is known. All rows are of the first one's kind.
    """
    kind = next((kind for kind in (_FRAMES, _FRACTION, _PLAIN) if cells and kind.fullmatch(cells[0])), None)
    found = [kind.fullmatch(cell) if kind else None for cell in cells]
    for index, match in enumerate(found):
        if match is None:
            return index
    matches = [match for match in found if match is not None]
    if kind is _PLAIN:
        return _numbered([number_in(cell) for cell in cells], fps)
    seconds = [3600.0 * int(m[1]) + 60 * int(m[2]) + int(m[3]) for m in matches]
    if kind is _FRACTION:
        return Clock([s + float(f"0.{m[4]}") for s, m in zip(seconds, matches, strict=True)], None, True)
    frames = [number_in(m[4]) for m in matches]
    if _in_thousandths(frames, [m[4] for m in matches]):
        return Clock([s + f / 1000 for s, f in zip(seconds, frames, strict=True)], None, True)
    rate = fps or _rate(seconds, frames)
    return Clock([s + f / rate for s, f in zip(seconds, frames, strict=True)], rate, True)


def pause_text(where: str, seconds: float) -> str:
    """The sentence about a pause in a recording, which was cut short."""
    length = f"{seconds / 60:.0f} minutes" if seconds >= 90 else f"{seconds:.0f} seconds"
    return f"The recording pauses for {length} before {where}; the pause is cut short."


def too_long(name: str, seconds: float) -> BadMotionFile:
    """The error about a motion file of so many seconds."""
    return BadMotionFile(
        f"{name} lasts {seconds / 3600:.1f} hours by its times; at most {MAX_SECONDS / 3600:.0f} can be read. Check "
        "the times, or split the file."
    )


def step_rate(steps: Sequence[float], rate: float | None) -> float:
    """The usual rate that is nearest to rows `steps` seconds apart; `rate` counts as a usual one.

    It may be below that of the timecode: 30 rows a second may count frames in 60.
    """
    if not steps:
        return rate or APP_RATE
    per_second = 1 / max(statistics.median(max(step, 0.0) for step in steps), 1e-3)
    return min((*RATES, *([rate] if rate else [])), key=lambda each: abs(each - per_second))


def _numbered(values: list[float], fps: float | None) -> Clock:
    steps = [b - a for a, b in zip(values, values[1:], strict=False) if b > a]
    step = statistics.median(steps) if steps else 1.0
    if all(value.is_integer() for value in values) and step <= _LARGEST_STEP:
        rate = fps or APP_RATE
        return Clock([value / rate for value in values], rate, False)
    # One row a second or more, whatever is counted: seconds, or thousandths, millionths, milliardths of them.
    unit = next(unit for unit in (1.0, 1e3, 1e6, 1e9, step) if step / unit <= 1 or unit == step)
    return Clock([value / unit for value in values], None, False)


def _in_thousandths(frames: list[float], cells: list[str]) -> bool:
    """Whether what stands for frames within seconds are milliseconds."""
    if any("." in cell or "," in cell for cell in cells):
        return False
    return max(frames) >= _MOST_FRAMES or (all(len(cell) == 3 for cell in cells) and min(frames) < 100)


def _rate(seconds: list[float], frames: list[float]) -> float:
    """Frames that the timecode counts in a second: what makes it run evenly where a new second begins."""
    clocks = list(zip(seconds, frames, strict=True))
    pairs = list(zip(clocks, clocks[1:], strict=False))
    steps = [after[1] - before[1] for before, after in pairs if after[0] == before[0] and after[1] > before[1]]
    wraps = [before[1] - after[1] for before, after in pairs if after[0] - before[0] == 1]
    highest = max(frames)
    if not wraps or not steps:
        return APP_RATE if highest < APP_RATE else 120.0
    seen = statistics.median(wraps) + statistics.median(steps)
    return min((rate for rate in RATES if rate > highest), key=lambda rate: abs(rate - seen), default=math.ceil(seen))
