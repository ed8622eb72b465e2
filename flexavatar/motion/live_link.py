"""Motion as CSV files of Epic's Live Link Face app (ARKit).

One row per frame: `Timecode` (HH:MM:SS:FF.fff, where FF counts frames), `BlendShapeCount` (61: what follows), the 52
ARKit blendshapes (0..1, `EyeBlinkLeft` for ARKit's `eyeBlinkLeft`), then head and eye angles in radians about ARKit's
face axes: positive yaw turns to the subject's left, positive pitch looks down, positive roll tilts towards the
subject's right shoulder. The eyes' angles repeat what the eyeLook blendshapes say; they are written, and not read.
"""

from __future__ import annotations

import csv
import io
import math
import re
import statistics
from pathlib import Path

import torch

from flexavatar.errors import BadMotionFile
from flexavatar.expression import ARKIT_BLENDSHAPES, BLENDSHAPE_INDEX
from flexavatar.files import atomic_path
from flexavatar.motion.motion import Motion, from_samples
from flexavatar.rotations import angles, from_angles

_HEAD = ("HeadYaw", "HeadPitch", "HeadRoll")
_EYES = ("LeftEyeYaw", "LeftEyePitch", "LeftEyeRoll", "RightEyeYaw", "RightEyePitch", "RightEyeRoll")
_EYE_RANGE = math.radians(30)  # eye angle at a weight of 1
_RATES = (24.0, 25.0, 30.0, 48.0, 50.0, 60.0, 120.0)
_TIMECODE = re.compile(r"(\d{1,2}):(\d{2}):(\d{2})[:;](\d{1,3}(?:\.\d+)?)")
_DAY = 24 * 3600.0
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
    """Read a CSV file of Live Link Face; columns in any order, those of the head may be missing.

    `fps` is the rate that the timecode counts in; the file does not name it, so by default it is what makes the
    timecode run evenly, and 60 if no new second begins in the clip. Raises BadMotionFile with line and column.
    """
    text = _text(path)
    rows = list(csv.reader(io.StringIO(text)))
    if not rows or not rows[0]:
        raise BadMotionFile(f"{path} is empty. Export the take from Live Link Face again.")
    header = {name.strip().lower(): number for number, name in enumerate(rows[0])}
    missing = [name for name in map(_column, ARKIT_BLENDSHAPES) if name.lower() not in header]
    if "timecode" not in header or len(missing) > len(ARKIT_BLENDSHAPES) // 2:
        raise BadMotionFile(
            f"{path}, line 1: this is no header of Live Link Face, which starts with Timecode,BlendShapeCount,"
            "EyeBlinkLeft. Export the take from Live Link Face as CSV."
        )
    if missing:
        raise BadMotionFile(f"{path}, line 1: the column {missing[0]} is missing. Export the take again.")

    clocks: list[tuple[float, float]] = []
    values: list[list[float]] = []
    heads: list[list[float]] = []
    with_head = all(name.lower() in header for name in _HEAD)
    for line, row in enumerate(rows[1:], 2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(rows[0]):
            raise BadMotionFile(f"{path}, line {line}: {len(row)} columns instead of {len(rows[0])}. Export it again.")

        def number(name: str, row: list[str] = row, line: int = line) -> float:
            cell = row[header[name.lower()]].strip()
            try:
                value = float(cell)
            except ValueError:
                value = math.nan
            if not math.isfinite(value):
                raise BadMotionFile(f"{path}, line {line}, column {name}: {cell!r} is no number. Correct this cell.")
            return value

        clocks.append(_clock(row[header["timecode"]], path, line))
        weights = []
        for name in ARKIT_BLENDSHAPES:
            weight = number(_column(name))
            if not -_ROUNDING <= weight <= 1 + _ROUNDING:
                raise BadMotionFile(
                    f"{path}, line {line}, column {_column(name)}: {weight:g} is outside 0..1. Correct this cell."
                )
            weights.append(min(max(weight, 0.0), 1.0))
        values.append(weights)
        heads.append([number(name) for name in _HEAD] if with_head else [0.0, 0.0, 0.0])
    if not values:
        raise BadMotionFile(f"{path} has a header and no frames. Export the take from Live Link Face again.")

    rate = fps or _rate(clocks)
    times = torch.tensor([seconds + frames / rate for seconds, frames in clocks], dtype=torch.float64)
    times = times + _DAY * (times.diff(prepend=times[:1]) < -_DAY / 2).cumsum(0)  # past midnight
    later = torch.cat([torch.tensor([True]), times[1:] > torch.cummax(times, 0).values[:-1]])  # the app repeats frames
    degrees = torch.rad2deg(torch.tensor(heads))
    return from_samples(
        times[later], torch.tensor(values)[later], from_angles(*degrees[later].unbind(-1)), _step_rate(times, rate)
    )


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


def _clock(cell: str, path: str | Path, line: int) -> tuple[float, float]:
    """Whole seconds, and frames within the second, of a timecode."""
    match = _TIMECODE.fullmatch(cell.strip())
    if match is None:
        raise BadMotionFile(
            f"{path}, line {line}, column Timecode: {cell!r} is no timecode such as 14:03:52:28.207. Correct this cell."
        )
    hours, minutes, seconds, frames = match.groups()
    return int(hours) * 3600.0 + int(minutes) * 60 + int(seconds), float(frames)


def _rate(clocks: list[tuple[float, float]]) -> float:
    """Frames that the timecode counts in a second: what makes it run evenly where a new second begins."""
    pairs = list(zip(clocks, clocks[1:], strict=False))
    steps = [after[1] - before[1] for before, after in pairs if after[0] == before[0] and after[1] > before[1]]
    wraps = [before[1] - after[1] for before, after in pairs if after[0] - before[0] == 1]
    if not wraps or not steps:
        return 60.0  # of the app, unless told otherwise
    seen = statistics.median(wraps) + statistics.median(steps)
    highest = max(frames for _, frames in clocks)
    return min((rate for rate in _RATES if rate > highest), key=lambda rate: abs(rate - seen), default=math.ceil(seen))


def _step_rate(times: torch.Tensor, rate: float) -> float:
    """The rate of the rows, which may be below that of the timecode: 30 rows a second may count frames in 60."""
    if len(times) < 2:
        return rate
    per_second = 1 / max(float(times.diff().clamp_min(0).median()), 1e-3)
    return min((*_RATES, rate), key=lambda each: abs(each - per_second))


def _text(path: str | Path) -> str:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise BadMotionFile(f"There is no file {path}. Check the path.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise BadMotionFile(f"{path} cannot be read as text. Export the motion again.") from error
