"""Videos as people really have them, through what the tabs Reenact and Photos & video call."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from imageio_ffmpeg import get_ffmpeg_exe

from flexavatar.app.studio import Studio
from flexavatar.avatar import Avatar
from flexavatar.errors import NoFaceFound, UnreadableVideo
from flexavatar.io import write_video
from flexavatar.io.videos import read_video_frames, read_video_info
from flexavatar.motion import load_clip

FPS, COUNT = 15, 18
Use = Callable[[Path], object]


def ffmpeg(*arguments: object) -> None:
    subprocess.run([get_ffmpeg_exe(), "-v", "error", "-y", *map(str, arguments)], check=True)


@pytest.fixture(scope="module")
def frames(avatar_file: Path) -> list[np.ndarray]:
    talking = list(load_clip("talk").expressions())[60 : 60 + 2 * COUNT : 2]
    return [Avatar.load(avatar_file).render(expression, size=192) for expression in talking]


@pytest.fixture(scope="module")
def clip(frames: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head that talks, with a tone as its voice."""
    folder = tmp_path_factory.mktemp("bad")
    write_video(folder / "silent.mp4", frames, FPS)
    ffmpeg("-i", folder / "silent.mp4", "-f", "lavfi", "-i", "sine=duration=1.2", "-c:v", "copy", folder / "clip.mp4")
    return folder / "clip.mp4"


@pytest.fixture(params=["Reenact", "Photos & video"])
def use(request: pytest.FixtureRequest, studio: Studio, key: str) -> Use:
    """What a tab does with a video."""
    if request.param == "Reenact":
        return lambda path: studio.drive(key, path, size=64)
    return lambda path: studio.capture([path], "fast")


def voice(clip: Path, path: Path) -> None:
    ffmpeg("-i", clip, "-vn", path)


def nothing(clip: Path, path: Path) -> None:
    path.touch()


def header(clip: Path, path: Path) -> None:
    path.write_bytes(clip.read_bytes()[:500])


def letter(clip: Path, path: Path) -> None:
    path.write_text("Dear reader, this is no video.\n" * 50)


def damaged(clip: Path, path: Path) -> None:
    """Its index is in order, but its pictures are noise."""
    ffmpeg("-i", clip, "-c:v", "mpeg4", "-an", path)
    content = bytearray(path.read_bytes())
    start = content.index(b"mdat") + 4
    end = content.index(b"moov") - 4
    content[start:end] = np.random.default_rng(0).integers(0, 256, end - start, np.uint8).tobytes()
    path.write_bytes(content)


def faceless(clip: Path, path: Path) -> None:
    write_video(path, [np.full((96, 96, 3), 120, np.uint8)] * 5, 10)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (voice, UnreadableVideo, "holds no video that can be read. Use an MP4"),
        (nothing, UnreadableVideo, "is empty. Use an MP4"),
        (header, UnreadableVideo, "is damaged or incomplete"),
        (letter, UnreadableVideo, "holds no video that can be read. Use an MP4"),
        (damaged, UnreadableVideo, "holds no video that can be read. Use an MP4"),
        (faceless, NoFaceFound, "Use a clip in which the face is seen from the front"),
    ],
)
def test_what_cannot_be_used_is_explained(use: Use, clip: Path, tmp_path: Path, make, error, text: str) -> None:
    make(clip, tmp_path / "video.mp4")
    with pytest.raises(error, match=text):
        use(tmp_path / "video.mp4")


@pytest.fixture(scope="module")
def phone(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lying on its side with the flag that says so, without sound, and slower from its middle on."""
    folder = tmp_path_factory.mktemp("phone")
    slower = f"transpose=2,setpts=PTS+gte(N\\,{COUNT // 2})*(N-{COUNT // 2})/{FPS}/TB"
    ffmpeg("-i", clip, "-an", "-vf", slower, "-fps_mode", "vfr", folder / "lying.mp4")
    ffmpeg("-display_rotation", "-90", "-i", folder / "lying.mp4", "-c", "copy", folder / "phone.mp4")
    return folder / "phone.mp4"


def test_a_phone_s_video_drives(studio: Studio, key: str, phone: Path) -> None:
    made = studio.drive(key, phone, size=64)
    assert made.warnings == () and read_video_info(made.video).duration == pytest.approx(1.5 * COUNT / FPS, abs=0.2)


def test_a_phone_s_video_makes_an_avatar(studio: Studio, phone: Path) -> None:
    made_key, made = studio.capture([phone], "fast")
    assert len(made.used) >= 3 and made.psnr is not None and made.psnr > 12
    assert studio.describe(made_key)["gaussians"]


def test_two_people_one_of_whom_leaves(studio: Studio, key: str, frames: list[np.ndarray], tmp_path: Path) -> None:
    """The larger face goes after half of the clip; the other one, a negative, stays."""
    small = [cv2.resize(255 - frame, (96, 96)) for frame in frames]
    left = [frame if i < COUNT // 2 else np.full_like(frame, 255) for i, frame in enumerate(frames)]
    both = [
        np.hstack([a, np.pad(b, ((48, 48), (0, 0), (0, 0)), mode="edge")]) for a, b in zip(left, small, strict=True)
    ]
    write_video(tmp_path / "two.mp4", both, FPS)
    warnings = studio.drive(key, tmp_path / "two.mp4", size=64).warnings
    assert "2 people" in warnings[0] and "lost for 0.6 of 1.2 seconds" in warnings[1]
    _, made = studio.capture([tmp_path / "two.mp4"], "fast")
    assert made.used and max(float(name.split("(")[1].split()[0]) for name in made.used) < 0.6, made.used


def test_a_silent_clip_gives_a_silent_video(studio: Studio, key: str, clip: Path, phone: Path) -> None:
    for driver, sound in ((clip, True), (phone, False)):
        made = studio.drive(key, driver, size=64)
        told = subprocess.run([get_ffmpeg_exe(), "-i", made.video], capture_output=True, text=True).stderr
        assert ("Audio" in told) == sound
        assert next(iter(read_video_frames(made.video))).shape == (64, 64, 3)
