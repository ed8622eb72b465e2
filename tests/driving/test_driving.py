"""Driving an avatar by videos as people have them, and by files and clips."""

from __future__ import annotations

import argparse
import json
import logging
import re
import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from imageio_ffmpeg import get_ffmpeg_exe

from flexavatar.avatar import Avatar
from flexavatar.cli import drive as command
from flexavatar.cli.common import UsageError
from flexavatar.driving import drive
from flexavatar.driving.pictures import beside
from flexavatar.errors import Cancelled, CannotWrite, NoFaceFound, UnreadableVideo
from flexavatar.expression import BLENDSHAPE_INDEX as INDEX
from flexavatar.io import write_video
from flexavatar.io.videos import read_video_frames, read_video_info
from flexavatar.motion import load_clip, motion_from_tracked, motion_from_video, read_motion, write_motion
from flexavatar.motion import record as recording
from flexavatar.progress import Progress
from flexavatar.rotations import angles, rotation_from_angles, rotation_log
from flexavatar.tracking import FaceTracker
from flexavatar.tracking.tracker import TrackedFace

SIZE = 256


def ffmpeg(*arguments: object) -> None:
    subprocess.run([get_ffmpeg_exe(), "-v", "error", "-y", *map(str, arguments)], check=True)


def streams(path: Path) -> str:
    return subprocess.run([get_ffmpeg_exe(), "-i", str(path)], capture_output=True, text=True).stderr


def sound(path: Path) -> np.ndarray:
    """Samples -1..1 at 8 kHz."""
    command = [get_ffmpeg_exe(), "-v", "error", "-i", str(path), "-f", "f32le", "-ac", "1", "-ar", "8000", "-"]
    return np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, np.float32)


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    count = min(len(a), len(b))
    return float(np.corrcoef(a[:count].numpy(), b[:count].numpy())[0, 1])


@pytest.fixture(scope="module")
def avatar(avatar_file) -> Avatar:
    return Avatar.load(avatar_file)


@pytest.fixture(scope="module")
def tracker():
    with FaceTracker() as made:
        yield made


@pytest.fixture(scope="module")
def truth():
    """Two seconds with words, a blink and a turn of the head."""
    clip = load_clip("talk").between(3.4, 5.4)
    yaw = torch.cat([torch.zeros(20), torch.linspace(0, 15, 20), torch.linspace(15, 0, 20)])
    turn = torch.stack([rotation_from_angles(float(angle)) for angle in yaw])
    return replace(clip, head_rotation=turn)


@pytest.fixture(scope="module")
def video(avatar, truth, tmp_path_factory) -> Path:
    """The driver: the avatar itself, with a tone as its voice."""
    folder = tmp_path_factory.mktemp("driver")
    avatar.animate(folder / "silent.mp4", truth.expressions(), size=SIZE, fps=30)
    tone = ["-f", "lavfi", "-i", "sine=frequency=440:duration=2"]
    ffmpeg("-i", folder / "silent.mp4", *tone, "-c:v", "copy", "-shortest", folder / "talk.mp4")
    return folder / "talk.mp4"


@pytest.fixture(scope="module")
def motion(video, tracker):
    return motion_from_video(video, tracker)


def test_motion_from_a_video(motion, truth):
    assert len(motion) == len(truth) and motion.fps == 30 and motion.warnings == ()
    for name, least in (("jawOpen", 0.8), ("eyeBlinkLeft", 0.8), ("eyeBlinkRight", 0.8)):
        index = INDEX[name]
        assert correlation(motion.blendshapes[:, index], truth.blendshapes[:, index]) > least, name
    yaw = angles(motion.head_rotation)[0]
    # Landmarks jump with the last digits of colours, which differ between machines: over colours that differ by 0.002
    # and numbers of threads, correlations of yaw are 0.988 and above, and of the 15 degrees 10.7 to 13.1 arrive.
    assert correlation(yaw, angles(truth.head_rotation)[0]) > 0.97
    assert 9 < float(yaw.max() - yaw.min()) < 19


def test_motion_from_a_tracked_sequence(video, tracker, motion):
    crops = list(tracker.follow(read_video_frames(video)))[::3]
    tracked: list[TrackedFace | None] = list(tracker.track_crops([found for found in crops if found is not None]))
    assert len(tracked) == len(crops)
    for frame in (10, 11):
        tracked[frame] = None
    other = motion_from_tracked(tracked, 10)
    index = INDEX["jawOpen"]
    assert correlation(other.blendshapes[:, index], motion.blendshapes[::3, index]) > 0.8
    with pytest.raises(NoFaceFound):
        motion_from_tracked([None, None], 30)


def test_video_alone(avatar, video, tracker, tmp_path):
    path, told = tmp_path / "out.mp4", []
    driven = drive(avatar, video, path, size=97, tracker=tracker, progress=lambda *stage: told.append(stage))
    info = read_video_info(path)
    assert (info.width, info.height, info.fps) == (98, 98, 30) and driven.frames == 60
    assert len(list(read_video_frames(path))) == 60
    # Where ffmpeg cuts the sound hangs on how busy the machine is: 2.09 s were seen.
    assert len(sound(path)) / 8000 == pytest.approx(2.0, abs=0.2) and np.abs(sound(path)).max() > 0.05
    shares = [done for _, done in told]
    assert shares == sorted(shares) and shares[-1] == 1.0
    assert [stage for stage, _ in told][0] == "tracking the driver" and told[-1][0] == "done"
    assert list(tmp_path.iterdir()) == [path]


def test_the_avatar_blinks_and_turns_with_the_driver(avatar, motion, truth, tmp_path):
    drive(avatar, motion, tmp_path / "out.mp4", size=SIZE)
    with FaceTracker() as tracker:
        seen = motion_from_video(tmp_path / "out.mp4", tracker)
    for name in ("eyeBlinkLeft", "jawOpen"):
        assert correlation(seen.blendshapes[:, INDEX[name]], truth.blendshapes[:, INDEX[name]]) > 0.65, name
    assert correlation(angles(seen.head_rotation)[0], angles(truth.head_rotation)[0]) > 0.95
    drive(avatar, motion, tmp_path / "still.mp4", size=64, head_motion=0)
    frames = np.stack(list(read_video_frames(tmp_path / "still.mp4"))).astype(int)
    assert np.abs(frames[:, :12] - frames[0, :12]).mean() < 2, "the top of the head stays where it is"


def test_side_by_side(avatar, video, motion, tracker, tmp_path, monkeypatch):
    path = tmp_path / "both.mp4"
    driving = sys.modules["flexavatar.driving.drive"]  # the package's name `drive` is the function
    monkeypatch.setattr(driving, "motion_from_video", lambda *_, **__: motion)
    drive(avatar, video, path, size=96, side_by_side=True, background=(0, 0, 1), tracker=tracker)
    frames = list(read_video_frames(path))
    assert len(frames) == 60 and frames[0].shape == (96, 192, 3)
    assert frames[0][4, 4].min() > 240 and frames[0][4, 100, 2] > 200 > 90 > frames[0][4, 100, 0]
    left = np.stack([frame[:, :96] for frame in frames]).astype(int)
    driver = [cv2.resize(f, (96, 96), interpolation=cv2.INTER_AREA) for f in read_video_frames(video, motion.fps)]
    assert np.abs(left - np.stack(driver)).mean() < 4
    with pytest.raises(ValueError, match="Only a video"):
        drive(avatar, "wink", path, side_by_side=True)


def test_beside_repeats_the_last_frame_of_a_driver_that_ends():
    left = [np.full((20, 10, 3), value, np.uint8) for value in (10, 20)]
    right = [np.zeros((40, 40, 4), np.uint8)] * 3
    frames = list(beside(iter(left), iter(right), 40))
    assert [frame.shape for frame in frames] == [(40, 60, 4)] * 3
    assert [int(frame[0, 0, 0]) for frame in frames] == [10, 20, 20] and frames[0][0, 0, 3] == 255


def test_transparent_webm(avatar, motion, tmp_path):
    path = tmp_path / "out.webm"
    drive(avatar, motion[:8], path, size=96, background=None)
    assert re.search(r"alpha_mode\s*: 1", streams(path)) and "vp9" in streams(path)
    raw = subprocess.run(
        [get_ffmpeg_exe(), "-v", "error", "-c:v", "libvpx-vp9", "-i", path, "-f", "rawvideo", "-pix_fmt", "rgba", "-"],
        capture_output=True, check=True,
    ).stdout  # fmt: skip
    frames = np.frombuffer(raw, np.uint8).reshape(-1, 96, 96, 4)
    assert len(frames) == 8 and frames[:, :8, :8, 3].max() < 8 and frames[:, 44:52, 44:52, 3].min() > 247
    solid = avatar.render(size=96).astype(int)
    assert np.abs(frames[0, 40:60, 40:60, :3].astype(int) - solid[40:60, 40:60]).mean() < 12
    with pytest.raises(CannotWrite, match="webm"):
        drive(avatar, motion, tmp_path / "out.mp4", background=None)


def test_opaque_webm_with_sound(avatar, video, motion, tmp_path):
    pictures = [np.full((32, 32, 3), 90, np.uint8)] * 30
    write_video(tmp_path / "x.webm", pictures, 30, video)
    text = streams(tmp_path / "x.webm")
    assert "opus" in text and "vp9" in text and len(sound(tmp_path / "x.webm")) / 8000 == pytest.approx(1.0, abs=0.2)


def test_clips_and_files_drive(avatar, motion, tmp_path):
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers(), argparse.ArgumentParser(add_help=False))
    avatar.save(tmp_path / "a.flexavatar")

    def run(*arguments: str):
        args = parser.parse_args(["drive", str(tmp_path / "a.flexavatar"), *arguments])
        return args.command(args)

    saved = tmp_path / "m.json"
    told = run("wink", "-o", str(tmp_path / "w.mp4"), "--size", "64", "--save-motion", str(saved), "--head-motion", "0")
    assert told["frames"] == 105 and told["fps"] == 30 and len(read_motion(saved)) == 105
    write_motion(saved, motion[:10])
    assert (
        run(str(saved), "-o", str(tmp_path / "w.webm"), "--size", "64", "--background", "transparent")["frames"] == 10
    )
    assert "Audio" not in streams(tmp_path / "w.mp4")
    with pytest.raises(UsageError, match="video"):
        run("wink", "-o", str(tmp_path / "w.mp4"), "--side-by-side")
    with pytest.raises(UsageError, match="webm"):
        run("wink", "-o", str(tmp_path / "w.mp4"), "--background", "transparent")
    with pytest.raises(SystemExit):
        run("wink", "-o", str(tmp_path / "w.mp4"), "--head-motion", "1.5")
    json.dumps(told)


@pytest.mark.parametrize(("stage", "asked"), [("tracking", 6), ("animating", 1)])
def test_cancelling_before_the_first_picture_leaves_no_file(avatar, video, motion, tracker, tmp_path, stage, asked):
    path, count = tmp_path / "out.mp4", 0

    def cancelled() -> bool:
        nonlocal count
        count += 1
        return count == asked

    path.write_text("what was here before")
    driver = video if stage == "tracking" else motion
    with pytest.raises(Cancelled):
        drive(avatar, driver, path, size=64, tracker=tracker, progress=Progress(stop=cancelled))
    assert count == asked and list(tmp_path.iterdir()) == [path] and path.read_text() == "what was here before"


def test_no_video_stream(avatar, tmp_path):
    ffmpeg("-f", "lavfi", "-i", "sine=duration=0.3", tmp_path / "voice.mp4")
    with pytest.raises(UnreadableVideo, match="no video"):
        drive(avatar, tmp_path / "voice.mp4", tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()


def test_no_face(avatar, tracker, tmp_path):
    write_video(tmp_path / "grey.mp4", [np.full((96, 96, 3), 120, np.uint8)] * 5, 25)
    with pytest.raises(NoFaceFound):
        drive(avatar, tmp_path / "grey.mp4", tmp_path / "out.mp4", tracker=tracker)


def test_silent_driver(avatar, video, tracker, tmp_path):
    ffmpeg("-i", video, "-an", "-t", "0.3", "-c:v", "libx264", tmp_path / "silent.mp4")
    drive(avatar, tmp_path / "silent.mp4", tmp_path / "out.mp4", size=64, tracker=tracker)
    assert "Audio" not in streams(tmp_path / "out.mp4")


def test_varying_frame_rate_keeps_time(video, tracker, motion, tmp_path):
    """Frames 20 to 50 shown at half the speed: the turn of the head takes twice as long."""
    path = tmp_path / "phone.mp4"
    slower = "setpts=PTS+(gte(N\\,20)*(min(N\\,50)-20)/30)/TB"
    ffmpeg("-i", video, "-an", "-vf", slower, "-fps_mode", "vfr", path)
    slow = motion_from_video(path, tracker)
    assert slow.seconds == pytest.approx(3.0, abs=0.12)
    fast, peak = angles(motion.head_rotation)[0], angles(slow.head_rotation)[0]
    assert int(fast.argmax()) / motion.fps == pytest.approx(1.3, abs=0.12)
    assert int(peak.argmax()) / slow.fps == pytest.approx(2.0, abs=0.25)


def test_rotation_flag(video, tracker, motion, tmp_path):
    """Stored lying on its side, with the flag that says so."""
    ffmpeg("-i", video, "-an", "-vf", "transpose=2", tmp_path / "lying.mp4")
    ffmpeg("-display_rotation", "-90", "-i", tmp_path / "lying.mp4", "-c", "copy", tmp_path / "turned.mp4")
    upright = motion_from_video(tmp_path / "turned.mp4", tracker)
    assert rotation_log(upright.head_rotation.mT @ motion.head_rotation).norm(dim=-1).mean() < 0.1


def placed(*faces: tuple[np.ndarray, int, int, int]) -> np.ndarray:
    """A frame of 480 x 270 with square pictures on white: (picture, side, left, top)."""
    frame = np.full((270, 480, 3), 255, np.uint8)
    for picture, side, left, top in faces:
        frame[top : top + side, left : left + side] = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
    return frame


def test_two_people(video, tracker, motion, tmp_path, caplog):
    """The second face has a third of the size, in the frame's corner; either can be followed."""
    frames = list(read_video_frames(video))[:30]
    write_video(
        tmp_path / "two.mp4",
        [placed((a, 256, 0, 7), (b, 88, 380, 10)) for a, b in zip(frames, frames[::-1], strict=True)],
        30,
    )
    with caplog.at_level(logging.WARNING):
        both = motion_from_video(tmp_path / "two.mp4", tracker)
    assert "2 people" in both.warnings[0] and "2 people" in caplog.text
    jaw = INDEX["jawOpen"]
    # As above, the larger face reaches 0.94 to 0.99 and the smaller one 0.74 to 0.91; the other person's jaw -0.26 at
    # most.
    assert correlation(both.blendshapes[:, jaw], motion.blendshapes[:, jaw]) > 0.8, "follows the larger one"
    other = motion_from_video(tmp_path / "two.mp4", tracker, face=1)
    assert correlation(other.blendshapes[:, jaw], motion.blendshapes[:30, jaw].flip(0)) > 0.5
    assert "Face number 1" in other.warnings[0]
    with pytest.raises(NoFaceFound, match="no face number 2"):
        motion_from_video(tmp_path / "two.mp4", tracker, face=2)


def test_the_person_who_is_followed_stays_the_same(avatar, video, tracker, motion, tmp_path):
    """A cut to somebody else in the same place, then both, the other one larger, where the first one was."""
    stranger = replace(avatar, colors=1 - avatar.colors).render(size=SIZE)
    own = list(read_video_frames(video))
    alone = [placed((own[i], 200, 20, 30)) for i in range(10)]
    cut = [placed((stranger, 240, 30, 20)) for _ in range(10, 25)]
    both = [placed((stranger, 250, 0, 10), (own[i], 180, 280, 60)) for i in range(25, 60)]
    write_video(tmp_path / "cut.mp4", [*alone, *cut, *both], 30)
    followed = motion_from_video(tmp_path / "cut.mp4", tracker)
    assert len(followed) == 60
    assert "2 people" in followed.warnings[0] and "lost for 0.5 of 2.0 seconds" in followed.warnings[-1]
    yaw, truth = angles(followed.head_rotation)[0], angles(motion.head_rotation)[0]
    assert correlation(yaw[26:], truth[26:]) > 0.95, "the stranger stands still"


def test_face_leaves_the_frame(video, tracker, motion, tmp_path):
    frames = list(read_video_frames(video))
    empty = np.full_like(frames[0], 255)
    gone = [empty if 15 <= i < 45 else frame for i, frame in enumerate(frames)]
    write_video(tmp_path / "gone.mp4", gone, 30)
    bridged = motion_from_video(tmp_path / "gone.mp4", tracker)
    assert len(bridged) == 60 and "lost for 1.0 of 2.0 seconds" in bridged.warnings[0]
    speed = rotation_log(bridged.head_rotation[:-1].mT @ bridged.head_rotation[1:]).norm(dim=-1)
    assert torch.rad2deg(speed[15:44]).max() < 4
    assert bridged.blendshapes[28:32, INDEX["jawOpen"]].max() < 0.15


def test_long_videos_keep_few_frames_in_memory(video, tracker, monkeypatch):
    frames = list(read_video_frames(video))[:6]
    alive: list[weakref.ref] = []
    most = 0

    def endless(path, fps=None):
        nonlocal most
        for number in range(40):
            frame = frames[number // 8].copy()
            alive.append(weakref.ref(frame))
            most = max(most, sum(ref() is not None for ref in alive))
            yield frame

    monkeypatch.setattr(recording, "read_video_frames", endless)
    params = recording.RecordingParams(shape_seconds=0.5)
    assert len(motion_from_video(video, tracker, params=params)) == 40
    assert most <= 4


def test_rates_that_are_clocks(video, monkeypatch):
    info = read_video_info(video)
    for said, taken in ((1000.0, 30.0), (0.0, 30.0), (29.97, 29.97), (120.0, 60.0)):
        monkeypatch.setattr(recording, "read_video_info", lambda path, said=said: replace(info, fps=said))
        assert recording.driver_fps(video) == taken


def test_sound_and_pictures_stay_together(tmp_path):
    """A recording whose pictures start half a second after its sound."""
    pictures = [np.full((64, 64, 3), 255 if i == 10 else 0, np.uint8) for i in range(30)]
    write_video(tmp_path / "flash.mp4", pictures, 20)
    beep = ["-f", "lavfi", "-i", "aevalsrc='0.5*sin(2000*t)*between(t,1.0,1.05)':d=2"]
    ffmpeg("-itsoffset", "0.5", "-i", tmp_path / "flash.mp4", *beep, "-map", "0:v", "-map", "1:a", "-c:v", "copy",
           tmp_path / "late.mp4")  # fmt: skip
    frames = list(read_video_frames(tmp_path / "late.mp4", 20))
    flash = int(np.argmax([frame.mean() for frame in frames])) / 20
    write_video(tmp_path / "again.mp4", frames, 20, tmp_path / "late.mp4")
    heard = sound(tmp_path / "again.mp4")
    beep_at = int(np.argmax(np.abs(heard) > 0.1)) / 8000
    assert flash == pytest.approx(1.0, abs=0.051) and beep_at == pytest.approx(1.0, abs=0.05)
