"""Writing videos."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np

from flexavatar.errors import CannotWrite
from flexavatar.export.atomic import atomic_path


def write_video(path: str | Path, frames: Iterable[np.ndarray], fps: float) -> None:
    """Write uint8 [H, W, 3] frames as an MP4 that browsers and phones play: H.264, 4:2:0, index at the front.

    All frames have the size of the first. 4:2:0 needs even sides, so an odd side repeats its last row or column.
    Raises CannotWrite, and ValueError if there are no frames or their sizes differ.
    """
    if Path(path).suffix.lower() != ".mp4":
        raise CannotWrite(f"Cannot write {path}: videos are written as .mp4. Change the suffix.")
    with atomic_path(path) as temporary, tempfile.TemporaryFile() as messages:
        process: subprocess.Popen | None = None
        shape: tuple[int, ...] | None = None
        try:
            for frame in frames:
                shape = shape or frame.shape
                if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or frame.shape != shape:
                    raise ValueError(f"Frames are uint8 [H, W, 3] of one size, not {frame.dtype} {list(frame.shape)}.")
                process = process or _start_ffmpeg(temporary, _even(frame).shape, fps, messages)
                assert process.stdin is not None
                try:
                    process.stdin.write(_even(frame).tobytes())
                except BrokenPipeError:
                    break  # ffmpeg gave up; its messages say why
            if process is None:
                raise ValueError("There are no frames to write.")
            process.communicate()
            if process.returncode:
                messages.seek(0)
                reason = messages.read().decode(errors="replace").strip().splitlines() or ["ffmpeg gave no reason"]
                raise CannotWrite(f"Cannot write {path}: {reason[-1]}. Check the free space of the disk.")
        finally:
            if process is not None and process.poll() is None:
                process.kill()
                process.communicate()


def _start_ffmpeg(path: Path, shape: tuple[int, ...], fps: float, messages) -> subprocess.Popen:
    """Start ffmpeg with raw frames [H, W, 3] of `shape` on its standard input.

    Not through imageio's writer, which hides ffmpeg's exit status: a full disk would pass for success.
    """
    from imageio_ffmpeg import get_ffmpeg_exe

    height, width, _ = shape
    rate = str(Fraction(fps).limit_denominator(1001))
    # Untagged, the matrix is guessed from the size, by players in different ways, and skin turns green or red.
    scale = "scale=out_color_matrix=bt709:out_range=tv:flags=accurate_rnd+full_chroma_int"
    tags = "setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709"
    command = [
        get_ffmpeg_exe(), "-v", "error", "-y",
        "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", rate, "-i", "-",
        "-vf", f"{scale},format=yuv420p,{tags}", "-c:v", "libx264", "-preset", "medium", "-crf", "18",
        "-movflags", "+faststart", str(path),
    ]  # fmt: skip
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=messages)


def _even(frame: np.ndarray) -> np.ndarray:
    height, width = frame.shape[:2]
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge") if height % 2 or width % 2 else frame
