"""The scripts in examples/ do what they say."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from flexavatar.avatar import Avatar
from flexavatar.io.videos import read_video_info
from tests.conftest import EXAMPLE

EXAMPLES = EXAMPLE.parent


def main_of(name: str) -> Callable[[list[str]], None]:
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"]


def test_create_and_export(tmp_path: Path) -> None:
    main_of("create_and_export")([str(EXAMPLE), "-o", str(tmp_path), "--model", "rig"])
    suffixes = {path.suffix for path in tmp_path.iterdir() if path.stat().st_size > 10_000}
    assert suffixes == {".flexavatar", ".ply", ".spz", ".png", ".flexbundle"}


def test_drive_by_a_clip(avatar_file: Path, tmp_path: Path) -> None:
    video = tmp_path / "wink.mp4"
    main_of("drive_by_a_clip")([str(avatar_file), "wink", "-o", str(video), "--size", "64"])
    assert read_video_info(video).duration > 0.5
    assert video.with_suffix(".csv").read_text(encoding="utf-8").startswith("Timecode")


def test_interpolate_two_people(avatar_file: Path, tmp_path: Path) -> None:
    files = [str(avatar_file), str(avatar_file)]
    main_of("interpolate_two_people")([*files, "-o", str(tmp_path), "--size", "64", "--seconds", "0.4"])
    assert read_video_info(tmp_path / "morph.mp4").duration == pytest.approx(0.4, abs=0.1)
    assert len(Avatar.load(tmp_path / "between.flexavatar").gaussians())


def test_turntable(avatar_file: Path, tmp_path: Path) -> None:
    video = tmp_path / "round.mp4"
    main_of("turntable")([str(avatar_file), "-o", str(video), "--size", "64", "--seconds", "0.4"])
    info = read_video_info(video)
    assert (info.width, info.height) == (64, 64)
    assert Image.open(video.with_suffix(".png")).size == (6 * 64, 64)


def test_the_readme_names_every_example() -> None:
    readme = (EXAMPLES.parent / "README.md").read_text(encoding="utf-8")
    assert all(f"examples/{path.name}" in readme for path in EXAMPLES.glob("*.py"))
