"""Reading videos as upright frames at a steady rate, and writing them."""

from __future__ import annotations

import logging
import re
import subprocess
import tempfile
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from flexavatar.errors import CannotWrite, UnreadableVideo
from flexavatar.files import atomic_path

_ADVICE = "Use an MP4, MOV or WebM video."
# An uploaded playlist could otherwise make ffmpeg open other files and addresses.
_SAFETY = ["-protocol_whitelist", "file", "-format_whitelist",
           "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,ogg,flv,asf,gif"]  # fmt: skip
VIDEO_SUFFIXES = (".mp4", ".webm")
_ENCODERS = {
    ".mp4": ["-c:v", "libx264", "-preset", "medium", "-crf", "18", "-c:a", "aac", "-b:a", "160k",
             "-movflags", "+faststart"],  # index at the front
    ".webm": ["-c:v", "libvpx-vp9", "-crf", "24", "-b:v", "0", "-deadline", "realtime", "-cpu-used", "6",
              "-row-mt", "1", "-auto-alt-ref", "0", "-c:a", "libopus", "-b:a", "128k"],
}  # fmt: skip


@dataclass(frozen=True)
class VideoInfo:
    """Size, frame rate and length of a video."""

    width: int  # pixels, of the upright frame
    height: int
    fps: float  # average frames per second
    duration: float  # seconds; 0 if nobody can say


def read_video_info(path: str | Path) -> VideoInfo:
    """Read size, frame rate and length of a video. Raises UnreadableVideo.

    Where the file does not name its length, as recordings of browsers do not, its frames are counted.
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
