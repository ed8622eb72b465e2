"""The command line: results, exit codes, and messages of one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from plyfile import PlyData

from flexavatar import Avatar, __version__
from flexavatar.cli import main
from flexavatar.pipeline import DEFAULT_MODEL
from tests.conftest import EXAMPLE


def run_json(capsys: pytest.CaptureFixture[str], *args: str | Path) -> tuple[int, dict]:
    code = main([*map(str, args), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_module_and_version() -> None:
    run = subprocess.run([sys.executable, "-m", "flexavatar", "--version"], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == f"flexavatar {__version__}"


def test_import_is_light() -> None:
    code = "import sys, flexavatar, flexavatar.cli; print({'torch', 'gradio', 'mediapipe', 'numba'} & {*sys.modules})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


def test_create_with_exports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "me.flexavatar"
    options = ["--quality", "instant", "--export", ".ply", "--export", tmp_path / "a.png", "--ply-sh", "3"]
    code, result = run_json(capsys, "create", EXAMPLE, "-o", output, *options)
    assert code == 0
    assert result["files"] == [str(output), str(tmp_path / "me.ply"), str(tmp_path / "a.png")]
    vertices = PlyData.read(str(tmp_path / "me.ply"))["vertex"]
    assert len(vertices.data) == result["gaussians"] and len(vertices.properties) == 62
    assert Image.open(tmp_path / "a.png").size[0] >= 256
    made = Avatar.load(output)
    assert len(made.gaussians()) == result["gaussians"]
    assert made.metadata["model"] == DEFAULT_MODEL


def test_plain_output_names_the_files(tmp_path: Path, avatar_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(avatar_file), "-o", str(tmp_path / "x.splat")]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"files: {tmp_path / 'x.splat'}\n"


def test_render_views_and_expressions_differ(
    tmp_path: Path, avatar_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def picture(name: str, *options: str) -> np.ndarray:
        code, result = run_json(capsys, "render", avatar_file, "-o", tmp_path / name, "--size", "160", *options)
        assert (code, result["files"]) == (0, [str(tmp_path / name)])
        return np.asarray(Image.open(tmp_path / name)).astype(int)

    front = picture("front.png")
    assert front.shape == (160, 160, 3)
    assert np.abs(front - picture("side.png", "--yaw", "60")).mean() > 3
    assert np.abs(front - picture("open.png", "--expression", "jawOpen=1")).max() > 40
    assert np.abs(front - picture("smile.png", "--expression", "smile")).max() > 20
    assert tuple(picture("orange.png", "--background", "#ff8800")[0, 0]) == (255, 136, 0)


def test_render_turntable_and_animation(tmp_path: Path, avatar_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import imageio.v3 as iio

    for name, options in (("turn.mp4", ["--turntable"]), ("act.mp4", ["--expression", "open mouth"])):
        path = tmp_path / name
        code, _ = run_json(capsys, "render", avatar_file, "-o", path, "--size", "128", "--seconds", "0.4", *options)
        assert code == 0
        frames = iio.imread(path)
        assert len(frames) == 10
        assert np.abs(frames[0].astype(int) - frames[5]).max() > 40


def test_info(avatar_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, result = run_json(capsys, "info", avatar_file)
    assert code == 0
    assert result["bytes"] == avatar_file.stat().st_size
    assert result["model"] == "rig"


@pytest.mark.parametrize("name", ["no_face", "tiny", "empty", "truncated", "text", "bomb"])
def test_bad_photos_are_code_3_and_one_line(
    photos: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    assert main(["create", str(photos[name]), "-o", str(tmp_path / "x.flexavatar")]) == 3
    captured = capfd.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("flexavatar: ")]
    assert len(lines) == 1
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == []


def test_several_faces_are_listed(photos: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "x.flexavatar"
    code, result = run_json(capsys, "create", photos["two_faces"], "-o", output)
    assert code == 3
    assert result["error"] == "SeveralFacesFound"
    assert len(result["boxes"]) == 2
    code, _ = run_json(capsys, "create", photos["two_faces"], "-o", output, "--face", "1", "--model", "rig")
    assert code == 0


def test_corrupt_and_missing_avatars(tmp_path: Path, avatar_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = bytearray(avatar_file.read_bytes())
    bad = tmp_path / "bad.flexavatar"
    for damaged in (b"", b"no avatar at all", bytes(content[: len(content) // 2])):
        bad.write_bytes(damaged)
        code, result = run_json(capsys, "info", bad)
        assert (code, result["error"]) == (3, "BadAvatarFile")
    assert run_json(capsys, "info", tmp_path / "missing.flexavatar")[0] == 3


def test_outputs_that_cannot_be_written(tmp_path: Path, avatar_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, result = run_json(capsys, "create", EXAMPLE, "-o", tmp_path / "nowhere" / "x.flexavatar")
    assert (code, result["error"]) == (4, "CannotWrite")
    code, result = run_json(capsys, "export", avatar_file, "-o", Path("/proc") / "x.ply")
    assert (code, result["error"]) == (4, "CannotWrite")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder(tmp_path: Path, avatar_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tmp_path.chmod(0o500)
    try:
        code, result = run_json(capsys, "export", avatar_file, "-o", tmp_path / "x.ply")
    finally:
        tmp_path.chmod(0o700)
    assert (code, result["error"]) == (4, "CannotWrite")
    assert "read-only" in result["message"]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["create"],
        ["create", "a.png", "-o", "a.txt"],
        ["create", "a.png", "-o", "a.flexavatar", "--face", "nose"],
        ["create", "a.png", "-o", "a.flexavatar", "--model", "flex-9"],
        ["create", "a.png", "-o", "a.flexavatar", "--matte", "u2netp"],
        ["render", "a.flexavatar", "-o", "a.png", "--turntable"],
        ["render", "a.flexavatar", "-o", "a.png", "--expression", "grin"],
        ["render", "a.flexavatar", "-o", "a.png", "--expression", "jawOpen=wide"],
        ["render", "a.flexavatar", "-o", "a.png", "--background", "#12"],
        ["render", "a.flexavatar", "-o", "a.png", "--size", "9"],
    ],
)
def test_wrong_usage_is_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_fetch_asks_for_the_licence(tmp_path, capsys):
    assert main(["fetch", "flex-1", "--folder", str(tmp_path / "flex-1")]) == 3
    assert "CC BY-NC" in capsys.readouterr().err
    assert not (tmp_path / "flex-1").exists()
