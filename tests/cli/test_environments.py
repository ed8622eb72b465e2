"""Commands where there is no home, where terminals know few letters, and with names that look like options."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from flexavatar.cli import main
from flexavatar.files import expanded, kind_of, user_folder
from tests.conftest import ROOT

HOMELESS = """
import os, pwd, sys
for name in ("HOME", "USER", "LOGNAME", "XDG_CACHE_HOME"):
    os.environ.pop(name, None)
def unknown(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")
pwd.getpwuid = unknown
from flexavatar.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("arguments", [["--help"], ["fetch", "--help"], ["create", "--help"]])
def test_without_a_home_and_an_entry_in_passwd(arguments: list[str]) -> None:
    call = [sys.executable, "-c", HOMELESS, *arguments]
    run = subprocess.run(call, capture_output=True, text=True, env={**os.environ, "TMPDIR": "/nonexistent"})
    assert (run.returncode, run.stderr) == (0, "") and "usage" in run.stdout


def test_the_app_without_a_home() -> None:
    source = (ROOT / "app.py").read_text(encoding="utf-8")
    start = source[source.index("import argparse") : source.index("import gradio")]
    code = HOMELESS[: HOMELESS.index("from flexavatar")] + start
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")


def test_folders_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert user_folder(None, ".cache") == Path(tempfile.gettempdir(), "flexavatar", ".cache")
    assert user_folder("/somewhere", ".cache") == Path("/somewhere")
    assert expanded("~draft.jpg") == Path("~draft.jpg")


def test_names_that_begin_with_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("~draft.mp4").write_bytes(b"\0\0\0\x20ftypisom")
    assert kind_of("~draft.mp4") == "video"


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_names_that_the_terminal_cannot_show(
    encoding: str, avatar_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("-x😀é.flexavatar").write_bytes(avatar_file.read_bytes())
    for arguments, code, told in (
        (["export", "-o=-y😀.ply", "--", "-x😀é.flexavatar"], 0, rb"files: -y\U0001f600.ply"),
        (["info", "--json", "./-x😀é.flexavatar"], 0, rb'"avatar": "-x\ud83d\ude00\u00e9.flexavatar"'),
        (["info", "missing😀.flexavatar"], 3, rb"missing\U0001f600.flexavatar"),
        (["create", "--help"], 0, b"usage"),
    ):
        streams = {name: io.TextIOWrapper(io.BytesIO(), encoding=encoding) for name in ("stdout", "stderr")}
        for name, stream in streams.items():
            monkeypatch.setattr(sys, name, stream)
        assert main(arguments) == code
        said = streams["stderr" if code else "stdout"]
        said.seek(0)
        assert told in said.buffer.read()
    assert Path("-y😀.ply").is_file()
