"""Long drives: bounded memory, an end that can be chosen, and baked playback that looks the same."""

from __future__ import annotations

import os
import signal
import sys
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from flexavatar.avatar import Avatar, AvatarCode
from flexavatar.baking import BakedAvatar
from flexavatar.cli import main
from flexavatar.driving import drive
from flexavatar.driving import pictures as baking
from flexavatar.driving.pictures import pictures
from flexavatar.io.videos import read_video_frames, read_video_info
from flexavatar.model.pretrained import NetworkSource
from flexavatar.motion import Motion, load_clip
from flexavatar.progress import Progress
from flexavatar.settings import WHITE
from tests.reconstruction.test_network_avatar import SMALL, save_network

driving = sys.modules["flexavatar.driving.drive"]  # the package's name `drive` is the function


@pytest.fixture(scope="module")
def avatar(avatar_file: Path) -> Avatar:
    return Avatar.load(avatar_file)


def test_few_pictures_are_alive_at_once(avatar: Avatar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[weakref.ref] = []
    most = 0

    def counted(decoder, expressions, *rest):
        nonlocal most
        for _ in expressions:
            picture = np.full((64, 64, 3), 128, np.uint8)
            alive.append(weakref.ref(picture))
            most = max(most, sum(ref() is not None for ref in alive))
            yield picture

    monkeypatch.setattr(driving, "pictures", counted)
    clip = load_clip("talk")
    long = Motion(clip.blendshapes.repeat(2, 1), clip.head_rotation.repeat(2, 1, 1), clip.fps)
    assert drive(avatar, long, tmp_path / "long.mp4", smooth=True).frames == len(long) > 300
    assert most <= 3


def test_cancelling_keeps_what_was_drawn(avatar: Avatar, tmp_path: Path) -> None:
    path, asked = tmp_path / "part.mp4", 0

    def cancelled() -> bool:
        nonlocal asked
        asked += 1
        return asked > 12

    driven = drive(avatar, "talk", path, size=64, progress=Progress(stop=cancelled))
    assert driven.stopped and driven.frames == 12 and list(tmp_path.iterdir()) == [path]
    assert driven.motion.warnings == ("Stopped after 0.4 of 6.0 seconds.",)
    assert len(list(read_video_frames(path))) == 12 and read_video_info(path).fps == 30
    assert torch.equal(driven.motion.blendshapes, load_clip("talk").blendshapes[:12])


def test_ctrl_c_keeps_what_was_drawn(
    avatar_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments):
        for number, picture in enumerate(pictures(*arguments)):
            if number == 5:
                os.kill(os.getpid(), signal.SIGINT)
            yield picture

    monkeypatch.setattr(driving, "pictures", interrupted)
    path, before = tmp_path / "part.mp4", signal.getsignal(signal.SIGINT)
    assert main(["drive", str(avatar_file), "wink", "-o", str(path), "--size", "64"]) == 0
    assert 4 <= len(list(read_video_frames(path))) <= 6
    assert "Stopped after 0.2 of 3.5 seconds." in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is before


def test_long_drives_play_a_baked_avatar_that_looks_the_same(
    avatar: Avatar, baked_example: BakedAvatar, monkeypatch: pytest.MonkeyPatch
) -> None:
    motion = load_clip("talk")
    assert baking.playable(avatar, motion, "cpu") is avatar, "baking does not pay for a short one"
    monkeypatch.setattr(baking, "BAKED_FROM", {"rig": 100, "network": 100})
    monkeypatch.setattr(baking, "bake", lambda *_: baked_example)
    assert baking.playable(avatar, motion, "cpu") is baked_example
    frames = list(motion.expressions())[::45]
    own, fast = (
        np.stack(list(pictures(head, frames, 128, 20, WHITE, "cpu"))) / 255 for head in (avatar, baked_example)
    )
    assert -10 * np.log10(np.square(own - fast).mean()) > 45
    wrong = replace(
        baked_example, deltas={name: deltas for name, deltas in baked_example.deltas.items() if name != "means"}
    )
    monkeypatch.setattr(baking, "bake", lambda *_: wrong)
    assert baking.playable(avatar, motion, "cpu") is avatar, "a face that does not move is noticed"


@pytest.mark.slow
def test_long_drives_of_a_network_avatar_decode_few_frames(
    avatar: Avatar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = NetworkSource.of(str(save_network(tmp_path / "small", 0)))
    generator = torch.Generator().manual_seed(1)
    code = torch.randn(SMALL.grid**2, SMALL.width, generator=generator)
    detail = torch.zeros(len(avatar.colors), SMALL.n_detail)
    made = replace(avatar, network=AvatarCode(code, detail, source))
    decoded = 0
    own = Avatar._decoded

    def counted(self, *arguments):
        nonlocal decoded
        decoded += 1
        return own(self, *arguments)

    monkeypatch.setattr(Avatar, "_decoded", counted)
    clip = load_clip("talk")
    long = Motion(clip.blendshapes.repeat(3, 1), clip.head_rotation.repeat(3, 1, 1), clip.fps)
    assert drive(made, long, tmp_path / "long.mp4", size=128).frames == len(long) > 500
    assert decoded < 180
