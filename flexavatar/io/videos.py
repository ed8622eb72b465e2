"""Reading videos as upright frames at a steady rate, and writing them."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO

import numpy as np

from flexavatar.errors import CannotWrite, UnreadableVideo
from flexavatar.files import atomic_path, expanded, kind_of
from flexavatar.io.ffmpeg import Described, command, described, source

log = logging.getLogger(__name__)

_ADVICE = "Use an MP4, MOV or WebM video."
WRITTEN_SUFFIXES = (".mp4", ".webm")
_PICTURES = {
    ".mp4": ["-c:v", "libx264", "-preset", "medium", "-crf", "18"],
    ".webm": ["-c:v", "libvpx-vp9", "-crf", "24", "-b:v", "0", "-deadline", "realtime", "-cpu-used", "6",
              "-row-mt", "1", "-auto-alt-ref", "0"],
}  # fmt: skip
_SOUND = {".mp4": ["-c:a", "aac", "-b:a", "160k"], ".webm": ["-c:a", "libopus", "-b:a", "128k"]}
_CONTAINER = {".mp4": ["-movflags", "+faststart"], ".webm": []}  # index at the front
# The whole of what is heard, in one of the layouts that both codecs know; of channels without a layout the first.
_LAYOUTS = ("aformat=channel_layouts=mono|stereo", "pan=mono|c0=c0")


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
    about = _described(path)
    frames = _decoded(path, about, [], ["-frames:v", "1"])
    height, width = next(frames).shape[:2]
    frames.close()
    return VideoInfo(width, height, about.fps, about.duration or _counted_seconds(path))


def read_video_frames(path: str | Path, fps: float | None = None) -> Iterator[np.ndarray]:
    """Upright frames of a video one by one, uint8 [H, W, 3] sRGB.

    The rotation that phones store beside the frames is applied, pixels that are not square are made so, interlaced
    frames are made whole, HDR (PQ, HLG) and wide gamuts become sRGB. Frames come at the steady rate `fps`, by default
    the average rate of the file, repeated or left out where the file's own rate varies: frame i belongs to second
    i / fps. Of a file that is damaged or cut off there are the frames until then.

    Raises UnreadableVideo, at the call, for what holds no picture.
    """
    about = _described(path)
    rate = fps or about.fps
    # From the file's start, which may be before its first picture: so sound and pictures stay together.
    frames = _decoded(path, about, [f"fps={rate:.6f}:start_time=0"] if rate else [], [])
    return _chained(next(frames), frames)


def _chained(first: np.ndarray, others: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    yield first
    yield from others


def _described(path: str | Path) -> Described:
    """What ffmpeg says of a video. Raises UnreadableVideo."""
    path = expanded(path)
    if not path.is_file():
        raise UnreadableVideo(f"There is no file {path}. Check the path.")
    if not path.stat().st_size:
        raise UnreadableVideo(f"{path.name} is empty. {_ADVICE}")
    about = described(path)
    if not about.video and not about.sounds and kind_of(path) == "video":
        raise UnreadableVideo(f"{path.name} is damaged or incomplete. Save, copy or download it again.")
    if not about.video:
        raise UnreadableVideo(f"{path.name} holds no video that can be read. {_ADVICE}")
    return about


def _decoded(path: str | Path, about: Described, filters: list[str], options: list[str]) -> _Frames:
    """The frames of a video, of which the first one is there already. Raises UnreadableVideo."""
    for in_color in (True, False) if about.upright() != about.upright(False) else (True,):
        frames = _Frames(path, [*filters, *about.upright(in_color)], options)
        if frames.started:
            return frames
        frames.close()
        log.warning("The colours of %s cannot be converted.", Path(path).name)
    raise UnreadableVideo(f"{Path(path).name} holds no video that can be read. {_ADVICE}")


class _Frames(Iterator[np.ndarray]):
    """Frames [H, W, 3] that an ffmpeg decodes; it ends with the iteration, with `close`, or with this object."""

    def __init__(self, path: str | Path, filters: list[str], options: list[str]) -> None:
        # The capital V leaves out cover pictures of sound files. As PPM pictures, which say their size.
        call = command("-v", "quiet", *source(path), "-map", "0:V:0", *(["-vf", ",".join(filters)] if filters else []),
                       *options, "-pix_fmt", "rgb24", "-c:v", "ppm", "-f", "image2pipe", "-")  # fmt: skip
        self._process = subprocess.Popen(call, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, bufsize=1 << 20)
        self._next = self._read()

    @property
    def started(self) -> bool:
        return self._next is not None

    def __next__(self) -> np.ndarray:
        frame = self._next
        if frame is None:
            self.close()
            raise StopIteration
        self._next = self._read()
        return frame

    def _read(self) -> np.ndarray | None:
        assert self._process.stdout is not None
        pipe: IO[bytes] = self._process.stdout
        if pipe.readline() != b"P6\n":
            return None
        width, height = map(int, pipe.readline().split())
        pipe.readline()  # the largest value, 255
        pixels = bytearray(pipe.read(width * height * 3))
        if len(pixels) < width * height * 3:
            return None
        return np.frombuffer(pixels, np.uint8).reshape(height, width, 3)

    def close(self) -> None:
        """End ffmpeg."""
        if self._process.poll() is None:
            self._process.kill()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process.wait()
        self._next = None

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # not started
            self.close()


def _counted_seconds(path: str | Path) -> float:
    """The time of a video's last frame, from reading the file without decoding it."""
    call = command(
        "-v", "error", "-progress", "-", *source(path), "-map", "0:V:0", "-c", "copy", "-f", "null", "-"
    )  # fmt: skip
    told = subprocess.run(call, capture_output=True, check=False).stdout.decode(errors="replace")
    times = re.findall(r"out_time_us=(\d+)", told)
    return int(times[-1]) / 1e6 if times else 0.0


def write_video(
    path: str | Path, frames: Iterable[np.ndarray], fps: float, sound_from: str | Path | None = None
) -> tuple[str, ...]:
    """Write uint8 [H, W, 3] frames as a video: .mp4 that browsers and phones play (H.264), or .webm (VP9).

    Frames [H, W, 4] with straight (not premultiplied) alpha make a transparent .webm. All frames have the size of the
    first; both codecs halve the resolution of colours and need even sides, so an odd side repeats its last row or
    column. The sound of the video `sound_from`, if it has any, is cut or padded to the length of the pictures, as AAC
    or Opus in mono or stereo. Returns sentences for the user: where that sound cannot be decoded, the video is silent.

    Raises CannotWrite, and ValueError if there are no frames, their sizes differ, or an .mp4 is to be transparent.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in WRITTEN_SUFFIXES:
        raise CannotWrite(
            f"Cannot write {path}: videos are written as {' or '.join(WRITTEN_SUFFIXES)}. Change the suffix."
        )
    with atomic_path(path) as temporary:
        count = _write_pictures(path, temporary, frames, fps)
        if sound_from is None:
            return ()
        return _add_sound(temporary, sound_from, count / Fraction(fps).limit_denominator(1001))


def _write_pictures(path: str | Path, temporary: Path, frames: Iterable[np.ndarray], fps: float) -> int:
    """Write a silent video; the number of its frames. Errors as of `write_video`, with the name `path`."""
    suffix = temporary.suffix.lower()
    channels = (3, 4) if suffix == ".webm" else (3,)
    count = 0
    with tempfile.TemporaryFile() as messages:
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
                process = process or _start_ffmpeg(temporary, _even(frame).shape, fps, messages)
                assert process.stdin is not None
                try:
                    process.stdin.write(_even(frame).tobytes())
                except BrokenPipeError:
                    break  # ffmpeg gave up; its messages say why
                count += 1
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
    return count


def _start_ffmpeg(path: Path, shape: tuple[int, ...], fps: float, messages: IO[bytes]) -> subprocess.Popen:
    """Start ffmpeg with raw frames [H, W, C] of `shape` on its standard input.

    Not through imageio's writer, which hides ffmpeg's exit status: a full disk would pass for success.
    """
    height, width, channels = shape
    rate = str(Fraction(fps).limit_denominator(1001))
    # Untagged, the matrix is guessed from the size, by players in different ways, and skin turns green or red.
    scale = "scale=out_color_matrix=bt709:out_range=tv:flags=accurate_rnd+full_chroma_int"
    tags = "setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709"
    pixels = "yuva420p" if channels == 4 else "yuv420p"
    suffix = path.suffix.lower()
    call = command(
        "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgba" if channels == 4 else "rgb24", "-s", f"{width}x{height}",
        "-r", rate, "-i", "-", "-vf", f"{scale},format={pixels},{tags}", *_PICTURES[suffix], *_CONTAINER[suffix],
        str(path),
    )  # fmt: skip
    # In a session of its own, so that Ctrl-C reaches the caller only, who may want to keep what is written.
    return subprocess.Popen(
        call, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=messages, start_new_session=True
    )


def _add_sound(video: Path, sound_from: str | Path, seconds: float | Fraction) -> tuple[str, ...]:
    """Give a silent video of so many seconds the first sound of a file that can be decoded; or say that there is none.

    Afterwards, so that no sound can cost the pictures.
    """
    sounds = described(sound_from).sounds
    suffix, both = video.suffix.lower(), video.with_name(f"{video.stem}s{video.suffix}")
    try:
        for stream, layout in ((i, layout) for i in range(len(sounds)) for layout in _LAYOUTS):
            chain = f"aresample=48000:async=1:first_pts=0,{layout},apad,atrim=end={float(seconds):.6f}"
            call = command(
                "-v", "error", "-i", str(video), "-vn", *source(sound_from), "-map", "0:v", "-c:v", "copy",
                "-map", f"1:a:{stream}", "-af", chain, *_SOUND[suffix], *_CONTAINER[suffix], str(both),
            )  # fmt: skip
            made = subprocess.run(call, capture_output=True, check=False, start_new_session=True)
            if not made.returncode:
                os.replace(both, video)
                return ()
            log.info("sound %d of %s: %s", stream, Path(sound_from).name, made.stderr.decode(errors="replace").strip())
    finally:
        both.unlink(missing_ok=True)
    if not sounds:
        return ()
    return (f"The sound of {Path(sound_from).name} cannot be decoded; the video is silent.",)


def _even(frame: np.ndarray) -> np.ndarray:
    height, width = frame.shape[:2]
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge") if height % 2 or width % 2 else frame
