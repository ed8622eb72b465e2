"""Videos as phones and browsers make them, and files that are none."""

from __future__ import annotations

import subprocess

import numpy as np
import pytest
from imageio_ffmpeg import get_ffmpeg_exe

from flexavatar.errors import UnreadableVideo
from flexavatar.io import write_image, write_video
from flexavatar.io.videos import read_video_frames, read_video_info

RED, BLUE = (200, 30, 40), (20, 60, 220)


def ffmpeg(*arguments: object) -> None:
    subprocess.run([get_ffmpeg_exe(), "-v", "error", "-y", *map(str, arguments)], check=True)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Two seconds at 25 fps, 128 x 96: red to the left, blue to the right; the grey below says which frame it is."""
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    pixels = np.empty((50, 96, 128, 3), np.uint8)
    pixels[:, :, :64], pixels[:, :, 64:] = RED, BLUE
    pixels[:, 64:] = (np.arange(50) * 5)[:, None, None, None]
    write_video(path, pixels, 25)
    return path


def clock(frame: np.ndarray) -> int:
    """Which frame of the clip this is."""
    return round(float(frame[70:90, 8:-8].mean()) / 5)


def test_frames(clip):
    info = read_video_info(clip)
    assert (info.width, info.height, info.fps, info.duration) == (128, 96, 25.0, 2.0)
    frames = list(read_video_frames(clip))
    assert [clock(frame) for frame in frames] == list(range(50))
    assert frames[0].shape == (96, 128, 3) and frames[0].dtype == np.uint8 and frames[0].flags.writeable
    assert np.abs(frames[0][10, 10].astype(int) - RED).max() < 6


def test_another_rate(clip):
    times = [clock(frame) / 25 for frame in read_video_frames(clip, fps=10)]
    assert len(times) == 20
    np.testing.assert_allclose(times, np.arange(20) / 10, atol=0.05)


def test_varying_rate_keeps_the_time(clip, tmp_path):
    path = tmp_path / "phone.mp4"
    # Half a second of standstill after the first second.
    ffmpeg("-i", clip, "-vf", "setpts=PTS+gte(N\\,25)*0.5/TB", "-fps_mode", "vfr", path)
    rate = read_video_info(path).fps
    frames = list(read_video_frames(path))
    assert len(frames) == pytest.approx(2.5 * rate, abs=1.5)
    assert clock(frames[round(1.3 * rate)]) in (24, 25)
    assert clock(frames[round(2.0 * rate)]) == pytest.approx(37, abs=2)


@pytest.mark.parametrize(("degrees", "red"), [(90, "bottom"), (180, "right"), (270, "top")])
def test_rotation_of_phones(clip, tmp_path, degrees, red):
    path = tmp_path / "turned.mp4"
    ffmpeg("-display_rotation", degrees, "-i", clip, "-c", "copy", path)
    info = read_video_info(path)
    frame = next(read_video_frames(path))
    assert (info.width, info.height) == (frame.shape[1], frame.shape[0])
    assert frame.shape[:2] == ((96, 128) if degrees == 180 else (128, 96))
    # The lowest rows of the clip are black, so look beside them.
    corner = {"bottom": frame[-10, 10], "right": frame[-10, -10], "top": frame[10, -10]}[red]
    assert np.abs(corner.astype(int) - RED).max() < 8, frame[::20, ::20]


@pytest.mark.parametrize("suffix", [".webm", ".mov", ".avi", ".mkv", ".gif"])
def test_containers(clip, tmp_path, suffix):
    path = tmp_path / f"clip{suffix}"
    ffmpeg("-i", clip, "-t", "0.4", path)
    assert len(list(read_video_frames(path))) == 10


def test_a_recording_that_does_not_say_its_length(clip, tmp_path):
    """As a browser streams it."""
    path = tmp_path / "live.webm"
    command = [get_ffmpeg_exe(), "-v", "error", "-i", str(clip), "-c:v", "libvpx", "-f", "webm", "-"]
    path.write_bytes(subprocess.run(command, capture_output=True, check=True).stdout)
    info = read_video_info(path)
    assert (info.fps, info.duration) == (25.0, pytest.approx(2.0, abs=0.05))


def test_consumer_may_stop_early(clip):
    frames = read_video_frames(clip)
    next(frames)
    frames.close()  # pyright: ignore[reportAttributeAccessIssue]


def test_sound_and_pictures_are_no_video(tmp_path):
    sound, cover, picture = tmp_path / "sound.mp4", tmp_path / "cover.mp3", tmp_path / "picture.png"
    ffmpeg("-f", "lavfi", "-i", "sine=duration=0.3", sound)
    write_image(picture, np.zeros((64, 64, 3), np.uint8))
    ffmpeg(
        "-i", sound, "-i", picture, "-map", "0", "-map", "1", "-c:v", "copy", "-disposition:v", "attached_pic", cover
    )
    for path in (sound, cover, picture):
        with pytest.raises(UnreadableVideo, match="no video"):
            read_video_frames(path)


def test_files_that_are_no_video(clip, tmp_path):
    path = tmp_path / "x.mp4"
    with pytest.raises(UnreadableVideo, match="no file"):
        read_video_frames(path)
    with pytest.raises(UnreadableVideo, match="no file"):
        read_video_frames(tmp_path)
    path.touch()
    with pytest.raises(UnreadableVideo, match="empty"):
        read_video_frames(path)
    letter = b"Dear reader, this is no video.\n" * 50
    for content, message in ((letter, "no video"), (clip.read_bytes()[:500], "damaged or incomplete")):
        path.write_bytes(content)
        with pytest.raises(UnreadableVideo, match=message):
            read_video_frames(path)


def test_playlists_cannot_open_other_files(clip, tmp_path):
    path = tmp_path / "x.mp4"
    for content in (
        f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nfile://{clip}\n#EXT-X-ENDLIST\n",
        f"ffconcat version 1.0\nfile '{clip}'\n",
    ):
        path.write_text(content)
        with pytest.raises(UnreadableVideo, match="no video"):
            read_video_frames(path)


def test_truncated_video_gives_what_is_there(clip, tmp_path):
    path = tmp_path / "half.mp4"
    content = clip.read_bytes()
    path.write_bytes(content[: len(content) * 3 // 4])
    frames = list(read_video_frames(path))
    assert 0 < len(frames) < 50
    assert clock(frames[0]) == 0
