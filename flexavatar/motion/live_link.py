"""Motion as CSV files of Epic's Live Link Face app (ARKit).

One row per frame: `Timecode` (HH:MM:SS:FF.fff, where FF counts frames), `BlendShapeCount` (61: what follows), the 52
ARKit blendshapes (0..1, `EyeBlinkLeft` for ARKit's `eyeBlinkLeft`), then head and eye angles in radians about ARKit's
face axes: positive yaw turns to the subject's left, positive pitch looks down, positive roll tilts towards the
subject's right shoulder. The eyes' angles repeat what the eyeLook blendshapes say; they are written, and not read.
"""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import torch

from flexavatar.errors import BadMotionFile
from flexavatar.expression import ARKIT_BLENDSHAPES, BLENDSHAPE_INDEX
from flexavatar.files import atomic_path
from flexavatar.motion.motion import Motion
from flexavatar.motion.repair import from_samples, without_pauses
from flexavatar.motion.table import Table, number_in, plain, read_table
from flexavatar.motion.timecode import MAX_SECONDS, Clock, pause_text, read_clock, step_rate, too_long
from flexavatar.rotations import angles, from_angles

_HEAD = ("HeadYaw", "HeadPitch", "HeadRoll")
_EYES = ("LeftEyeYaw", "LeftEyePitch", "LeftEyeRoll", "RightEyeYaw", "RightEyePitch", "RightEyeRoll")
_EYE_RANGE = math.radians(30)  # eye angle at a weight of 1
_NO_HEADER = (
    "this is no header of Live Link Face, which starts with Timecode,BlendShapeCount,EyeBlinkLeft. Export the take "
    "from Live Link Face as CSV."
)
_COUNT = "blendshapecount"
_OPTIONAL = ("TongueOut",)  # older recorders do not have it: 0
_DAY = 24 * 3600.0
_REPEATED = 0.5  # seconds by which rows may fall back
_ROUNDING = 0.01  # beyond 0..1


def _column(blendshape: str) -> str:
    return blendshape[0].upper() + blendshape[1:]


def _columns() -> list[str]:
    """The app's order: ARKit's, but right before left for jaw and mouth."""
    names = [_column(name) for name in ARKIT_BLENDSHAPES]
    for left in ("JawLeft", "MouthLeft"):
        at = names.index(left)
        names[at], names[at + 1] = names[at + 1], left
    return names


def read_live_link(path: str | Path, fps: float | None = None) -> Motion:
    """Read a CSV file of Live Link Face, as the app or a spreadsheet wrote it; columns in any order.

    The columns of the head may be missing, and TongueOut, which older recorders do not have. Rows in which the face is
    lost, `BlendShapeCount` 0 or no weights at all, are bridged. Pauses are cut short and a last row that is cut off is
    left out; `Motion.warnings` says so.

    `fps` is the rate that the timecode counts in; the file does not name it, so by default it is what makes the
    timecode run evenly, and 60 if no new second begins in the clip. Raises BadMotionFile with line and column.
    """
    name = Path(path).name
    table = read_table(path, "timecode", _NO_HEADER)
    places = _places(table, name)
    rows, notes = _whole_rows(table, name)
    clock = read_clock([row[table.header.index("timecode")] for _, row in rows], fps)
    if isinstance(clock, int):
        line, row = rows[clock]
        raise BadMotionFile(
            f"{name}, line {line}, column Timecode: {row[table.header.index('timecode')]!r} is no timecode such as "
            "14:03:52:28.207. Correct this cell."
        )
    values = torch.zeros(len(rows), len(ARKIT_BLENDSHAPES))
    heads = torch.zeros(len(rows), len(_HEAD))
    seen = torch.zeros(len(rows), dtype=torch.bool)
    for i, (line, row) in enumerate(rows):
        if _is_lost(row, table.header):
            continue
        seen[i] = True
        values[i] = torch.tensor(
            [_weight(row, places, column, name, line) for column in map(_column, ARKIT_BLENDSHAPES)]
        )
        if all(column in places for column in _HEAD):
            heads[i] = torch.tensor([_number(row, places, column, name, line) for column in _HEAD])
    if not seen.any():
        raise BadMotionFile(f"{name}: no row has a face. Record the take again, with the face in the picture.")

    times, kept, jumps = _rising(clock)
    lines = [line for line, _ in rows]
    times, pauses = without_pauses(times)
    if float(times[-1] - times[0]) > MAX_SECONDS:
        raise too_long(name, float(times[-1] - times[0]))
    notes += [f"The times begin anew in line {lines[i]}; what follows is played after what was before." for i in jumps]
    notes += [pause_text(f"line {lines[int(kept[row])]}", seconds) for row, seconds in pauses]
    rate = step_rate(times.diff().tolist(), clock.rate)
    turns = from_angles(*torch.rad2deg(heads[kept]).unbind(-1))
    motion = from_samples(times, values[kept], turns, seen[kept], rate)
    return replace(motion, warnings=(*notes, *motion.warnings))


def _places(table: Table, name: str) -> dict[str, int]:
    """Where the columns of the blendshapes and the head are, by their names in the app."""
    wanted = (*map(_column, ARKIT_BLENDSHAPES), *_HEAD)
    places = {column: table.header.index(plain(column)) for column in wanted if plain(column) in table.header}
    missing = [column for column in wanted if column not in places and column not in _HEAD]
    if len(missing) > len(ARKIT_BLENDSHAPES) // 2:
        raise BadMotionFile(f"{name}, line {table.header_line}: {_NO_HEADER}")
    missing = [column for column in missing if column not in _OPTIONAL]
    if missing:
        raise BadMotionFile(
            f"{name}, line {table.header_line}: the column {missing[0]} is missing. Export the take again."
        )
    if not table.rows:
        raise BadMotionFile(f"{name} has a header and no frames. Export the take from Live Link Face again.")
    return places


def _whole_rows(table: Table, name: str) -> tuple[list[tuple[int, list[str]]], list[str]]:
    """The rows with a cell for each column, or for none but the first ones; and what was left out."""
    width = len(table.header)
    rows: list[tuple[int, list[str]]] = []
    for number, (line, cells) in enumerate(table.rows):
        row = cells[:width] + [""] * (width - len(cells))
        is_last = number == len(table.rows) - 1 and bool(rows)
        if len(cells) >= width and not any(cells[width:]):
            rows.append((line, row))
        elif len(cells) < width and is_last and not _counts_none(row, table.header):
            return rows, [f"The last row, line {line}, is cut off and was left out."]
        elif len(cells) < width and _is_empty(row, table.header):
            rows.append((line, row))
        else:
            raise BadMotionFile(f"{name}, line {line}: {len(cells)} columns instead of {width}. Export it again.")
    return rows, []


def _is_empty(row: list[str], header: tuple[str, ...]) -> bool:
    return not any(cell for name, cell in zip(header, row, strict=True) if name not in ("timecode", _COUNT))


def _counts_none(row: list[str], header: tuple[str, ...]) -> bool:
    return _COUNT in header and number_in(row[header.index(_COUNT)]) == 0


def _is_lost(row: list[str], header: tuple[str, ...]) -> bool:
    """Whether a row says that no face was seen."""
    return _is_empty(row, header) or _counts_none(row, header)


def _number(row: list[str], places: dict[str, int], column: str, name: str, line: int) -> float:
    cell = row[places[column]]
    value = number_in(cell)
    if not math.isfinite(value):
        raise BadMotionFile(f"{name}, line {line}, column {column}: {cell!r} is no number. Correct this cell.")
    return value


def _weight(row: list[str], places: dict[str, int], column: str, name: str, line: int) -> float:
    if column not in places:
        return 0.0
    weight = _number(row, places, column, name, line)
    if not -_ROUNDING <= weight <= 1 + _ROUNDING:
        raise BadMotionFile(f"{name}, line {line}, column {column}: {weight:g} is outside 0..1. Correct this cell.")
    return min(max(weight, 0.0), 1.0)


def _rising(clock: Clock) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """Rising times [M], the rows [M] they are of, and the rows at which the times begin anew.

    The app repeats frames: a row that is not later than the one before is left out. Where times fall back farther,
    another take begins, and goes on after the first.
    """
    times = torch.tensor(clock.times, dtype=torch.float64)
    steps = times.diff()
    usual = float(steps[steps > 0].median()) if bool((steps > 0).any()) else 1.0
    if clock.daily:
        steps = torch.where(steps < -_DAY / 2, steps + _DAY, steps)
    again = steps < -max(_REPEATED, 2 * usual)
    times = times[0] + torch.cat([times.new_zeros(1), torch.where(again, usual, steps).cumsum(0)])
    latest = torch.cummax(times, 0).values
    later = torch.cat([torch.tensor([True]), times[1:] > latest[:-1] + 1e-6])
    return times[later], later.nonzero()[:, 0], [int(i) + 1 for i in again.nonzero()[:, 0]]


def write_live_link(path: str | Path, motion: Motion) -> None:
    """Write a CSV file as Live Link Face does. Raises CannotWrite."""
    order = [BLENDSHAPE_INDEX[name[0].lower() + name[1:]] for name in _columns()]
    yaw, pitch, roll = (torch.deg2rad(each).tolist() for each in angles(motion.head_rotation))
    shapes = motion.blendshapes.tolist()
    base = max(round(motion.fps), 1)
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["Timecode", "BlendShapeCount", *_columns(), *_HEAD, *_EYES])
        for number, weights in enumerate(shapes):
            seconds, thousandths = divmod(round(number / motion.fps * base * 1000), base * 1000)
            minutes, second = divmod(seconds, 60)
            clock = f"{minutes // 60:02}:{minutes % 60:02}:{second:02}:{thousandths / 1000:06.3f}"
            turns = [yaw[number], pitch[number], roll[number], *_eye_angles(weights)]
            cells = [weights[index] for index in order] + turns
            writer.writerow([clock, 61, *(f"{cell:.5f}".rstrip("0").rstrip(".") or "0" for cell in cells)])


def _eye_angles(weights: list[float]) -> list[float]:
    result: list[float] = []
    for side, leftwards, rightwards in (("Left", "Out", "In"), ("Right", "In", "Out")):
        look = {way: weights[BLENDSHAPE_INDEX[f"eyeLook{way}{side}"]] for way in ("In", "Out", "Up", "Down")}
        result += [_EYE_RANGE * (look[leftwards] - look[rightwards]), _EYE_RANGE * (look["Down"] - look["Up"]), 0.0]
    return result
