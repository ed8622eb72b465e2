"""Reading videos as upright frames at a steady rate."""

from __future__ import annotations

import logging
import re
import subprocess
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flexavatar.errors import UnreadableVideo

_ADVICE = "Use an MP4, MOV or WebM video."
# An uploaded playlist could otherwise make ffmpeg open other files and addresses.
_SAFETY = ["-protocol_whitelist", "file", "-format_whitelist",
           "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,ogg,flv,asf,gif"]  # fmt: skip


@dataclass(frozen=True)
class VideoInfo:
    width: int  # pixels, of the upright frame
    height: int
    fps: float  # average frames per second
    duration: float  # seconds; 0 if nobody can say


def read_video_info(path: str | Path) -> VideoInfo:
    """What a video says of itself, and its length even if it does not say, as recordings of browsers do not.

    Raises UnreadableVideo.
    """
    meta, frames = _open(path, [])
    frames.close()
    width, height = meta["size"]
    return VideoInfo(width, height, float(meta["fps"]), float(meta["duration"]) or _counted_seconds(path))


def read_video_frames(path: str | Path, fps: float | None = None) -> Iterator[np.ndarray]:
    """Upright frames of a video one by one, uint8 [H, W, 3] RGB.

    The rotation that phones store beside the frames is applied. Frames come at the steady rate `fps`, by default the
    average rate of the file, repeated or left out where the file's own rate varies: frame i belongs to second i / fps.

    Raises UnreadableVideo, at the call for what is no video and during the iteration for a damaged one.
    """
    rate = fps or read_video_info(path).fps
    # From the file's start, which may be before its first picture: so sound and pictures stay together.
    meta, frames = _open(path, ["-vf", f"fps={rate:.6f}:start_time=0"] if rate else [])
    width, height = meta["size"]
    return _decoded(frames, width, height, path)


def _counted_seconds(path: str | Path) -> float:
    """The time of a video's last frame, from reading the file without decoding it."""
    from imageio_ffmpeg import get_ffmpeg_exe

    command = [
        get_ffmpeg_exe(), "-v", "error", "-progress", "-", *_SAFETY, "-i", str(Path(path).expanduser().resolve()),
        "-map", "0:V:0", "-c", "copy", "-f", "null", "-",
    ]  # fmt: skip
    told = subprocess.run(command, capture_output=True, check=False).stdout.decode(errors="replace")
    times = re.findall(r"out_time_us=(\d+)", told)
    return int(times[-1]) / 1e6 if times else 0.0


def sound_of(path: str | Path) -> list[str]:
    """Options that make the sound of a video an input of ffmpeg, read with the same caution as its pictures."""
    return [*_SAFETY, "-vn", "-i", str(Path(path).expanduser().resolve())]


def _decoded(frames: Generator[Any, None, None], width: int, height: int, path: str | Path) -> Iterator[np.ndarray]:
    count = 0
    try:
        for data in frames:
            count += 1
            yield np.frombuffer(bytearray(data), np.uint8).reshape(height, width, 3)
    except (RuntimeError, OSError) as error:
        name = Path(path).name
        raise UnreadableVideo(f"{name} is damaged after {count} frames. Save or download it again.") from error
    finally:
        frames.close()
    if not count:
        raise UnreadableVideo(f"{Path(path).name} holds no frames that can be decoded. {_ADVICE}")


def _open(path: str | Path, output_options: list[str]) -> tuple[dict[str, Any], Generator[Any, None, None]]:
    """Start ffmpeg: what it says of the file, and a generator of the bytes of each frame."""
    from imageio_ffmpeg import read_frames

    path = Path(path).expanduser()
    if not path.is_file():
        raise UnreadableVideo(f"There is no file {path}. Check the path.")
    if not path.stat().st_size:
        raise UnreadableVideo(f"{path.name} is empty. {_ADVICE}")
    # It warns of every video that is turned, which is just what is wanted here.
    logging.getLogger("imageio_ffmpeg").setLevel(logging.ERROR)
    # The capital V leaves out cover pictures of sound files.
    frames = read_frames(path.resolve(), input_params=_SAFETY, output_params=["-map", "0:V:0", *output_options])
    try:
        return next(frames), frames
    except (OSError, RuntimeError, IndexError, AttributeError) as error:
        raise UnreadableVideo(f"{path.name} holds no video that can be read. {_ADVICE}") from error
