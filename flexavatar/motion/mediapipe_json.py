"""Motion as JSON of MediaPipe's FaceLandmarker results.

A list of results, one per frame, or an object with that list as `frames` and the rate as `fps`. A result is what the
FaceLandmarker gives in a browser, with its time added:

    {"timestampMs": 33.3,
     "faceBlendshapes": [{"categories": [{"index": 1, "score": 0.02, "categoryName": "browDownLeft"}, ...]}],
     "facialTransformationMatrixes": [{"rows": 4, "columns": 4, "data": [...]}]}

`data` holds the matrix column by column; its axes are those of the canonical head frame. Python's spelling
(`face_blendshapes`, a plain list of categories, `category_name`, matrices as nested rows) is read as well. Frames
without a face have empty lists. Where times are missing, frames come at `fps`.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flexavatar.errors import BadMotionFile
from flexavatar.expression import ARKIT_BLENDSHAPES, BLENDSHAPE_INDEX
from flexavatar.files import atomic_path
from flexavatar.motion.motion import Motion
from flexavatar.motion.repair import bridged, from_samples, without_pauses
from flexavatar.motion.table import text_of
from flexavatar.motion.timecode import MAX_SECONDS, pause_text, too_long


def read_mediapipe(path: str | Path, fps: float | None = None) -> Motion:
    """Read FaceLandmarker results; the first face counts. Frames without a face are bridged.

    `fps` is the rate of the motion; by default the file's own, or 30 if it says nothing. Raises BadMotionFile, with the
    line for what is no JSON and the frame for what is no such result.
    """
    content, name = _load(path), Path(path).name
    named = content if isinstance(content, dict) else {}
    frames = named.get("frames") if isinstance(content, dict) else content
    if not isinstance(frames, list) or not frames:
        raise BadMotionFile(
            f"{name} holds no list of FaceLandmarker results. Save one result per frame, in a list or as 'frames'."
        )
    shapes = torch.zeros(len(frames), len(ARKIT_BLENDSHAPES))
    turns = torch.eye(3).repeat(len(frames), 1, 1)
    seen = torch.zeros(len(frames), dtype=torch.bool)
    times: list[float | None] = []
    for number, frame in enumerate(frames):
        where = f"{name}, frame {number}"
        if not isinstance(frame, dict):
            raise BadMotionFile(f"{where}: this is no FaceLandmarker result but {type(frame).__name__}.")
        categories = _first(_get(frame, "faceBlendshapes", "face_blendshapes"))
        categories = categories.get("categories") if isinstance(categories, dict) else categories
        stamp = _get(frame, "timestampMs", "timestamp_ms")
        times.append(None if stamp is None else _number(stamp, f"{where}, timestampMs") / 1000)
        if not categories:
            continue
        shapes[number] = _weights(categories, where)
        matrix = _first(_get(frame, "facialTransformationMatrixes", "facial_transformation_matrixes"))
        turns[number] = _rotation(matrix, where) if matrix is not None else torch.eye(3)
        seen[number] = True
    if not seen.any():
        raise BadMotionFile(f"{name}: no frame has blendshapes. Switch outputFaceBlendshapes on and record again.")
    return _timed(shapes, turns, seen, times, fps, named.get("fps"), name)


def write_mediapipe(path: str | Path, motion: Motion) -> None:
    """Write `{"fps": ..., "frames": [...]}` with one FaceLandmarker result per frame. Raises CannotWrite."""
    names = ["_neutral", *sorted(ARKIT_BLENDSHAPES)]  # MediaPipe's own order, but for tongueOut, which it has not
    frames = []
    for number, (weights, rotation) in enumerate(zip(motion.blendshapes, motion.head_rotation, strict=True)):
        scores = {name: round(float(weights[index]), 5) for name, index in BLENDSHAPE_INDEX.items()}
        matrix = torch.eye(4)
        matrix[:3, :3] = rotation
        categories = [
            {"index": index, "score": scores.get(name, 0.0), "categoryName": name, "displayName": ""}
            for index, name in enumerate(names)
        ]
        frames.append(
            {
                "timestampMs": round(1000 * number / motion.fps, 3),
                "faceBlendshapes": [{"categories": categories, "headIndex": -1, "headName": ""}],
                "facialTransformationMatrixes": [
                    {"rows": 4, "columns": 4, "data": [round(v, 6) for v in matrix.T.flatten().tolist()]}
                ],
            }
        )
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps({"fps": motion.fps, "frames": frames}), encoding="utf-8")


def _load(path: str | Path) -> Any:
    name = Path(path).name
    try:
        return json.loads(text_of(path))
    except json.JSONDecodeError as error:
        raise BadMotionFile(
            f"{name}, line {error.lineno}, column {error.colno}: this is no JSON ({error.msg}). Save the file again."
        ) from error
    except (RecursionError, ValueError) as error:  # ValueError: a number of thousands of digits
        raise BadMotionFile(f"{name} cannot be read as JSON. Save the file again.") from error


def _get(frame: dict, *names: str) -> Any:
    return next((frame[name] for name in names if name in frame), None)


def _first(values: Any) -> Any:
    return values[0] if isinstance(values, list) and values else None


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BadMotionFile(f"{where}: {value!r} is no number.")
    return float(value)


def _weights(categories: Any, where: str) -> Tensor:
    weights = torch.zeros(len(ARKIT_BLENDSHAPES))
    known = 0
    for category in categories if isinstance(categories, list) else []:
        name = _get(category, "categoryName", "category_name") if isinstance(category, dict) else None
        if name not in BLENDSHAPE_INDEX:
            continue
        weights[BLENDSHAPE_INDEX[name]] = _number(category.get("score"), f"{where}, score of {name}")
        known += 1
    if not known:
        raise BadMotionFile(f"{where}: faceBlendshapes holds no category with the name of an ARKit blendshape.")
    return weights.clamp(0, 1)


def _rotation(matrix: Any, where: str) -> Tensor:
    rows = matrix.get("data") if isinstance(matrix, dict) else matrix
    where = f"{where}, facialTransformationMatrixes"
    if not isinstance(rows, list) or len(rows) not in (4, 16):
        raise BadMotionFile(f"{where}: a matrix has 16 numbers, or 4 rows of 4.")
    if len(rows) == 16:
        values = torch.tensor([_number(value, where) for value in rows]).view(4, 4).T
    elif all(isinstance(row, list) and len(row) == 4 for row in rows):
        values = torch.tensor([[_number(value, where) for value in row] for row in rows])
    else:
        raise BadMotionFile(f"{where}: a matrix has 16 numbers, or 4 rows of 4.")
    u, scales, vh = torch.linalg.svd(values[:3, :3])
    if scales.amin() < 1e-3 * scales.amax() or torch.det(u @ vh) < 0:
        raise BadMotionFile(f"{where}: the matrix is no rotation.")
    return u @ vh


def _timed(
    shapes: Tensor,
    turns: Tensor,
    seen: Tensor,
    times: list[float | None],
    fps: float | None,
    own_fps: Any,
    name: str,
) -> Motion:
    rate = _number(own_fps, f"{name}, fps") if own_fps is not None else None
    if rate is not None and not 0 < rate < 1000:
        raise BadMotionFile(f"{name}, fps: {rate:g} frames a second are not possible.")
    known = [time for time in times if time is not None]
    if len(known) < len(times) or len(times) < 2:
        rate = rate or 30.0
        motion = bridged(shapes, turns, seen, rate)
        return motion.resampled(fps or rate)
    stamps = torch.tensor(known, dtype=torch.float64)
    late = (stamps.diff() <= 0).nonzero()
    if len(late):
        raise BadMotionFile(f"{name}, frame {int(late[0]) + 1}: its timestampMs is not after that of the frame before.")
    stamps, pauses = without_pauses(stamps)
    if float(stamps[-1] - stamps[0]) > MAX_SECONDS:
        raise too_long(name, float(stamps[-1] - stamps[0]))
    rate = rate or min(round(1 / float(stamps.diff().median()), 2), 60.0)
    motion = from_samples(stamps, shapes, turns, seen, fps or rate)
    told = tuple(pause_text(f"frame {frame}", seconds) for frame, seconds in pauses)
    return replace(motion, warnings=(*told, *motion.warnings))
