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
from flexavatar.videos import sound_of

VIDEO_SUFFIXES = (".mp4", ".webm")
_ENCODERS = {
    ".mp4": ["-c:v", "libx264", "-preset", "medium", "-crf", "18", "-c:a", "aac", "-b:a", "160k",
             "-movflags", "+faststart"],  # index at the front
    ".webm": ["-c:v", "libvpx-vp9", "-crf", "24", "-b:v", "0", "-deadline", "realtime", "-cpu-used", "6",
              "-row-mt", "1", "-auto-alt-ref", "0", "-c:a", "libopus", "-b:a", "128k"],
}  # fmt: skip


def write_video(
    path: str | Path, frames: Iterable[np.ndarray], fps: float, sound_from: str | Path | None = None
) -> None:
    """Write uint8 [H, W, 3] frames as a video: .mp4 that browsers and phones play (H.264), or .webm (VP9).

    Frames [H, W, 4] with straight (not premultiplied) alpha make a transparent .webm. All frames have the size of the
    first; both codecs halve the resolution of colours and need even sides, so an odd side repeats its last row or
    column. The sound of the video `sound_from`, if it has any, is cut or padded to the length of the pictures.

    Raises CannotWrite, and ValueError if there are no frames, their sizes differ, or an .mp4 is to be transparent.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in VIDEO_SUFFIXES:
        raise CannotWrite(
            f"Cannot write {path}: videos are written as {' or '.join(VIDEO_SUFFIXES)}. Change the suffix."
        )
    channels = (3, 4) if suffix == ".webm" else (3,)
    with atomic_path(path) as temporary, tempfile.TemporaryFile() as messages:
        process: subprocess.Popen | None = None
        shape: tuple[int, ...] | None = None
        try:
            for frame in frames:
                shape = shape or frame.shape
                if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] not in channels or frame.shape != shape:
                    raise ValueError(
                        f"Frames of {suffix} are uint8 [H, W, {' or '.join(map(str, channels))}] of one size, "
                        f"not {frame.dtype} {list(frame.shape)}."
                    )
                process = process or _start_ffmpeg(temporary, _even(frame).shape, fps, sound_from, messages)
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


def _start_ffmpeg(
    path: Path, shape: tuple[int, ...], fps: float, sound_from: str | Path | None, messages
) -> subprocess.Popen:
    """Start ffmpeg with raw frames [H, W, C] of `shape` on its standard input.

    Not through imageio's writer, which hides ffmpeg's exit status: a full disk would pass for success.
    """
    from imageio_ffmpeg import get_ffmpeg_exe

    height, width, channels = shape
    rate = str(Fraction(fps).limit_denominator(1001))
    # Untagged, the matrix is guessed from the size, by players in different ways, and skin turns green or red.
    scale = "scale=out_color_matrix=bt709:out_range=tv:flags=accurate_rnd+full_chroma_int"
    tags = "setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709"
    pixels = "yuva420p" if channels == 4 else "yuv420p"
    # Padded with silence and cut at the last picture.
    sound = ["-map", "0:v", "-map", "1:a:0?", "-af", "apad", "-shortest"] if sound_from is not None else []
    command = [
        get_ffmpeg_exe(), "-v", "error", "-y",
        "-f", "rawvideo", "-pix_fmt", "rgba" if channels == 4 else "rgb24", "-s", f"{width}x{height}", "-r", rate,
        "-i", "-", *(sound_of(sound_from) if sound_from is not None else []),
        "-vf", f"{scale},format={pixels},{tags}", *sound, *_ENCODERS[path.suffix.lower()], str(path),
    ]  # fmt: skip
    # In a session of its own, so that Ctrl-C reaches the caller only, who may want to keep what is written.
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=messages, start_new_session=True
    )


def _even(frame: np.ndarray) -> np.ndarray:
    height, width = frame.shape[:2]
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge") if height % 2 or width % 2 else frame
