"""What cameras and phones record beside plain pictures: other shapes of pixels, colours, fields and sounds."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from imageio_ffmpeg import get_ffmpeg_exe

from flexavatar.files import is_video, kind_of
from flexavatar.io import write_image, write_video
from flexavatar.io.ffmpeg import described
from flexavatar.io.videos import read_video_frames, read_video_info
from tests.io.test_videos import ffmpeg

FPS, COUNT = 20, 12
SKIN, BLUE, WHITE = (200, 140, 110), (60, 90, 160), (250, 250, 250)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wall with a bright window, skin to the left, blue to the right, 128 x 96."""
    path = tmp_path_factory.mktemp("recorded") / "clip.mp4"
    picture = np.full((96, 128, 3), SKIN, np.uint8)
    picture[:, 64:], picture[:24] = BLUE, WHITE
    write_video(path, [picture] * COUNT, FPS)
    return path


@pytest.mark.parametrize(
    ("sar", "size"), [("4/3", (171, 96)), ("1/2", (128, 192)), ("1/1", (128, 96)), ("1/99", (128, 96))]
)
def test_pixels_become_square(clip: Path, tmp_path: Path, sar: str, size: tuple[int, int]) -> None:
    path = tmp_path / "wide.mp4"
    ffmpeg("-i", clip, "-vf", f"setsar={sar}", path)
    info = read_video_info(path)
    frame = next(iter(read_video_frames(path)))
    assert (info.width, info.height) == frame.shape[1::-1] and size == pytest.approx(frame.shape[1::-1], abs=1)


def test_pixels_that_are_not_square_in_a_video_that_is_turned(clip: Path, tmp_path: Path) -> None:
    ffmpeg("-i", clip, "-vf", "setsar=4/3", tmp_path / "wide.mp4")
    ffmpeg("-display_rotation", "90", "-i", tmp_path / "wide.mp4", "-c", "copy", tmp_path / "turned.mp4")
    info = read_video_info(tmp_path / "turned.mp4")
    assert (info.width, info.height) == pytest.approx((96, 171), abs=1)


def colors(frame: np.ndarray) -> np.ndarray:
    return np.stack([frame[60, 32], frame[60, 96], frame[10, 64]]).astype(int)


@pytest.mark.parametrize(
    ("transfer", "matrix"), [("arib-std-b67", "bt2020nc"), ("smpte2084", "bt2020nc"), ("smpte2084", "unknown")]
)
def test_hdr_has_the_colors_of_the_same_scene(clip: Path, tmp_path: Path, transfer: str, matrix: str) -> None:
    """As an iPhone (HLG) and other cameras (PQ) record it; the matrix is not always noted."""
    path = tmp_path / "hdr.mov"
    hdr = f"zscale=p=bt2020:t={transfer}:m=bt2020nc:r=tv:npl=203,format=yuv420p10le"
    tags = ["-color_primaries", "bt2020", "-color_trc", transfer, "-colorspace", matrix, "-tag:v", "hvc1"]
    ffmpeg("-i", clip, "-vf", f"zscale=t=linear:npl=203,format=gbrpf32le,{hdr}", "-c:v", "libx265", *tags, path)
    frames = list(read_video_frames(path))
    assert len(frames) == COUNT
    assert np.abs(colors(frames[3]) - [SKIN, BLUE, WHITE]).max() < 10, colors(frames[3])


@pytest.mark.parametrize("depth", ["yuv420p", "yuv420p10le"])
@pytest.mark.parametrize("primaries", ["smpte432", "bt2020"])
def test_wide_gamuts(clip: Path, tmp_path: Path, primaries: str, depth: str) -> None:
    """P3, as phones record without HDR, and BT.2020."""
    path = tmp_path / "wide.mov"
    matrix = "bt2020nc" if primaries == "bt2020" else "bt709"
    tags = ["-color_primaries", primaries, "-color_trc", "bt709", "-colorspace", matrix]
    linear = "zscale=t=linear,format=gbrpf32le"
    ffmpeg("-i", clip, "-vf", f"{linear},zscale=p={primaries}:m={matrix}:t=bt709:r=tv,format={depth}", *tags, path)
    assert np.abs(colors(next(iter(read_video_frames(path)))) - [SKIN, BLUE, WHITE]).max() < 8


@pytest.mark.parametrize("form", ["mpegts", "flv", "matroska", "avi", "mov", "asf", "mpeg", "ogg", "m2ts"])
def test_videos_are_known_by_their_content(clip: Path, tmp_path: Path, form: str) -> None:
    codec = {"mpeg": "mpeg2video", "ogg": "libvpx", "asf": "mpeg4"}.get(form, "libx264")
    rate = ["-r", "25"] if form == "mpeg" else []
    container = ["-f", "mpegts", "-mpegts_m2ts_mode", "1"] if form == "m2ts" else ["-f", form]
    path = tmp_path / "upload"
    ffmpeg("-i", clip, *rate, "-c:v", codec, *container, path)
    assert kind_of(path) == "video" and is_video(path)
    frames = list(read_video_frames(path))
    assert len(frames) == pytest.approx(COUNT * (25 if rate else FPS) / FPS, abs=2) and frames[0].shape == (96, 128, 3)
    path.rename(tmp_path / "upload.jpg")
    assert is_video(tmp_path / "upload.jpg")


def test_pictures_are_no_videos_whatever_they_are_called(tmp_path: Path) -> None:
    for suffix in (".png", ".jpg", ".webp"):
        write_image(tmp_path / f"a{suffix}", np.zeros((64, 64, 3), np.uint8))
        (tmp_path / f"a{suffix}").rename(tmp_path / "a.mp4")
        assert kind_of(tmp_path / "a.mp4") == "picture" and not is_video(tmp_path / "a.mp4")
    (tmp_path / "b.mp4").write_text("text")
    assert is_video(tmp_path / "b.mp4") and is_video("missing.MTS") and not is_video("missing.jpg")


def driver(clip: Path, path: Path, layout: str, rate: int, codec: str, seconds: float = COUNT / FPS) -> Path:
    """The clip with a tone in all channels."""
    channels = {"mono": 1, "stereo": 2, "4.0": 4, "quad": 4, "5.1(side)": 6}[layout]
    tone = f"aevalsrc={'|'.join(['0.3*sin(2000*t)'] * channels)}:d={seconds}:s={rate}:c={layout}"
    ffmpeg("-i", clip, "-f", "lavfi", "-i", tone, "-map", "0:v", "-map", "1:a", "-c:v", "copy", "-c:a", codec, path)
    return path


def heard(path: Path) -> np.ndarray:
    call = [get_ffmpeg_exe(), "-v", "error", "-i", str(path), "-f", "f32le", "-ac", "1", "-ar", "48000", "-"]
    return np.frombuffer(subprocess.run(call, capture_output=True, check=True).stdout, np.float32)


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
@pytest.mark.parametrize(
    ("layout", "rate", "codec", "seconds"),
    [("5.1(side)", 48000, "ac3", 0.6), ("quad", 48000, "pcm_s16le", 0.6), ("4.0", 48000, "pcm_s16le", 5),
     ("mono", 8000, "pcm_mulaw", 0.6), ("stereo", 44100, "aac", 5), ("mono", 11025, "pcm_s16le", 0.2)],
)  # fmt: skip
def test_sounds_of_all_kinds(clip: Path, tmp_path: Path, layout, rate, codec, seconds, suffix: str) -> None:
    source = driver(clip, tmp_path / "driver.mov", layout, rate, codec, seconds)
    assert write_video(tmp_path / f"out{suffix}", read_video_frames(source), FPS, source) == ()
    sound = heard(tmp_path / f"out{suffix}")
    assert len(sound) / 48000 == pytest.approx(COUNT / FPS, abs=1 / FPS)
    assert np.abs(sound[4800 : round(48000 * min(seconds, 0.5)) - 2400]).max() > 0.05
    assert read_video_info(tmp_path / f"out{suffix}").duration == pytest.approx(COUNT / FPS, abs=1 / FPS)
    assert len(list(read_video_frames(tmp_path / f"out{suffix}"))) == COUNT


def undecodable(path: Path) -> None:
    """Name the first sound as Apple names its spatial audio."""
    content = bytearray(path.read_bytes())
    at = content.index(b"sowt")
    content[at : at + 4] = b"zpac"
    path.write_bytes(content)


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_a_sound_that_cannot_be_decoded_costs_itself_alone(clip: Path, tmp_path: Path, suffix: str) -> None:
    source = driver(clip, tmp_path / "driver.mov", "mono", 48000, "pcm_s16le")
    undecodable(source)
    told = write_video(tmp_path / f"out{suffix}", read_video_frames(source), FPS, source)
    assert told == ("The sound of driver.mov cannot be decoded; the video is silent.",)
    assert not described(tmp_path / f"out{suffix}").sounds
    assert len(list(read_video_frames(tmp_path / f"out{suffix}"))) == COUNT
    assert sorted(path.name for path in tmp_path.iterdir()) == ["driver.mov", f"out{suffix}"]


def test_the_second_sound_where_the_first_cannot_be_decoded(clip: Path, tmp_path: Path) -> None:
    one = driver(clip, tmp_path / "one.mov", "mono", 48000, "pcm_s16le")
    source = tmp_path / "two.mov"
    ffmpeg("-i", one, "-map", "0:v", "-map", "0:a", "-map", "0:a", "-c", "copy", source)
    undecodable(source)
    assert write_video(tmp_path / "out.mp4", read_video_frames(source), FPS, source) == ()
    assert np.abs(heard(tmp_path / "out.mp4")).max() > 0.1


def test_transparent_videos_stay_so_with_sound(clip: Path, tmp_path: Path) -> None:
    source = driver(clip, tmp_path / "driver.mov", "stereo", 48000, "pcm_s16le")
    frames = np.zeros((COUNT, 64, 64, 4), np.uint8)
    frames[:, 16:48, 16:48] = 255
    write_video(tmp_path / "out.webm", frames, FPS, source)
    call = [get_ffmpeg_exe(), "-v", "error", "-c:v", "libvpx-vp9", "-i", str(tmp_path / "out.webm"), "-frames:v", "1",
            "-f", "rawvideo", "-pix_fmt", "rgba", "-"]  # fmt: skip
    read = np.frombuffer(subprocess.run(call, capture_output=True, check=True).stdout, np.uint8).reshape(64, 64, 4)
    assert read[32, 32, 3] > 240 and read[4, 4, 3] < 15
