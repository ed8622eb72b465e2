"""Live Link CSV files as spreadsheets, older recorders and interrupted takes leave them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from flexavatar.errors import BadMotionFile
from flexavatar.motion import Motion, load_clip, read_motion, write_motion

Change = Callable[[list[str]], list[str]]


@pytest.fixture(scope="module")
def take() -> Motion:
    """A second of a clip, 60 frames."""
    return load_clip("talk").resampled(60.0)[90:150]


@pytest.fixture(scope="module")
def lines(take: Motion, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A header and 60 rows."""
    path = tmp_path_factory.mktemp("take") / "take.csv"
    write_motion(path, take)
    return path.read_text().splitlines()


def separated(mark: str, first: tuple[str, ...] = ()) -> Change:
    """As a spreadsheet saves it where the decimal mark is a comma."""
    return lambda lines: [*first, *(line.replace(",", mark).replace(".", ",") for line in lines)]


def clocked(clock: Callable[[int], str], every: int = 1) -> Change:
    """With the timecodes clock(0), clock(1), ..."""
    return lambda lines: [lines[0], *(re.sub("^[^,]*", clock(i), line) for i, line in enumerate(lines[1::every]))]


def without_tongue(lines: list[str]) -> list[str]:
    at = lines[0].split(",").index("TongueOut")
    return [",".join(cell for i, cell in enumerate(line.split(",")) if i != at) for line in lines]


def swapped(old: str, new: str) -> Change:
    return lambda lines: [lines[0].replace(old, new), *lines[1:]]


SAME: dict[str, Change] = {
    "semicolons": separated(";"),
    "semicolons and decimal points": lambda lines: [line.replace(",", ";") for line in lines],
    "tabs": separated("\t"),
    "sep line": separated(";", ("sep=;", "")),
    "quoted": lambda lines: ['"' + line.replace(",", '","') + '"' for line in lines],
    "a title above": lambda lines: ["Take 3, monday", "", *lines],
    "empty columns and rows": lambda lines: [line + ",," for line in lines] + ["," * 64] * 3,
    "spaces": lambda lines: [line.replace(",", " , ") for line in lines],
    "names of ARKit": swapped("EyeBlinkLeft", "eyeBlink_L"),
    "no tongue": without_tongue,
    "whole numbers": clocked(str),
    "whole numbers from anywhere": clocked(lambda i: str(81_234 + i)),
    "seconds": clocked(lambda i: f"{1_700_000_000 + i / 60:.4f}"),
    "milliseconds": clocked(lambda i: str(round(5000 + 1000 * i / 60))),
    "milliseconds as frames": clocked(lambda i: f"00:00:00:{1000 * i // 60:03}"),
    "milliseconds as frames, later": clocked(lambda i: f"14:59:{59 + (i + 6) // 60:02}:{1000 * (i + 6) // 60 % 1000:03}"
                                             if i < 54 else f"15:00:00:{1000 * (i - 54) // 60:03}"),
    "fractions of seconds": clocked(lambda i: f"00:00:00.{round(1e4 * i / 60):04}"),
    "drop frame": clocked(lambda i: f"1:02:03;{i:02}"),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_a_dialect_is_the_same_take(name: str, lines: list[str], take: Motion, tmp_path: Path) -> None:
    path = tmp_path / "take.csv"
    path.write_text("\n".join(SAME[name](lines)))
    again = read_motion(path)
    assert (len(again), again.fps, again.warnings) == (60, 60.0, ())
    torch.testing.assert_close(again.blendshapes, take.blendshapes, atol=0.02, rtol=0)
    torch.testing.assert_close(again.head_rotation, take.head_rotation, atol=0.02, rtol=0)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_encodings(encoding: str, ending: str, lines: list[str], tmp_path: Path) -> None:
    path = tmp_path / "take.csv"
    path.write_bytes(ending.join(["Prise numérotée", *lines]).encode(encoding))
    assert len(read_motion(path)) == 60


def test_a_file_that_is_cut_off_loses_its_last_row(lines: list[str], tmp_path: Path) -> None:
    path = tmp_path / "take.csv"
    whole = len("\n".join(lines))
    for left in (whole - len(lines[-1]) // 2, whole - len(lines[-1]) + 4):
        for encoding in ("utf-8", "utf-16"):
            path.write_bytes("\n".join(lines)[:left].encode(encoding)[:-1])
            motion = read_motion(path)
            assert len(motion) == 59 and motion.warnings == ("The last row, line 61, is cut off and was left out.",)


@pytest.mark.parametrize(
    ("cells", "rows", "told"),
    [
        (lambda row: row[:1] + ["0"], range(20, 26), "lost for 0.1 of 1.0 seconds, which is bridged"),
        (lambda row: row[:1] + ["0"] + [""] * 61, range(2, 5), None),
        (lambda row: row[:2] + [""] * 61, range(20, 26), "is bridged"),
        (lambda row: row[:1] + ["0"] + ["0.0"] * 61, range(20, 55), "lost for 0.6 .* looks neutral there"),
        (lambda row: row[:1] + ["0"], range(0, 10), "is bridged"),
        (lambda row: row[:1] + ["0"], range(50, 60), "is bridged"),
    ],
)
def test_rows_without_a_face_are_bridged(cells, rows, told, lines: list[str], take: Motion, tmp_path: Path) -> None:
    path = tmp_path / "take.csv"
    changed = [",".join(cells(line.split(","))) if i - 1 in rows else line for i, line in enumerate(lines)]
    path.write_text("\n".join(changed))
    motion = read_motion(path)
    assert len(motion) == 60
    assert re.search(told, " ".join(motion.warnings)) if told else not motion.warnings
    kept = [i for i in range(60) if i not in rows]
    torch.testing.assert_close(motion.blendshapes[kept], take.blendshapes[kept], atol=1e-3, rtol=0)
    assert motion.blendshapes.diff(dim=0).abs().max() < 0.5, "nothing jumps to zero"


def test_rows_that_are_missing_are_bridged_in_time(lines: list[str], take: Motion, tmp_path: Path) -> None:
    path = tmp_path / "take.csv"
    path.write_text("\n".join([*lines[:20], *lines[30:]]))
    motion = read_motion(path)
    assert len(motion) == 60 and motion.warnings == ()
    torch.testing.assert_close(motion.blendshapes[30:], take.blendshapes[30:], atol=1e-3, rtol=0)


def test_pauses_are_cut_short(lines: list[str], take: Motion, tmp_path: Path) -> None:
    path = tmp_path / "take.csv"
    path.write_text("\n".join([*lines[:31], *(line.replace("00:00:00:", "00:30:00:") for line in lines[31:])]))
    motion = read_motion(path)
    assert 60 < len(motion) < 90
    assert motion.warnings == ("The recording pauses for 30 minutes before line 32; the pause is cut short.",)
    torch.testing.assert_close(motion.blendshapes[-29:], take.blendshapes[-29:], atol=1e-3, rtol=0)


def test_takes_one_after_the_other(lines: list[str], take: Motion, tmp_path: Path) -> None:
    """The second one begins at an earlier time than the first one ends."""
    path = tmp_path / "take.csv"
    path.write_text("\n".join([*lines, *lines[1:]]))
    motion = read_motion(path)
    assert len(motion) == 120 and "begin anew in line 62" in motion.warnings[0]
    torch.testing.assert_close(motion.blendshapes[60:], take.blendshapes, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: [lines[0], *(row[:20] for row in lines[1:])], r"take.csv, line 2: 3 columns instead of 63"),
        (lambda lines: [lines[0], *(row.split(",")[0] + ",0" for row in lines[1:])], r"take.csv: no row has a face"),
        (lambda lines: [line[:200] for line in lines], r"take.csv, line 1: this is no header"),
        (clocked(lambda i: f"{i // 12 % 24:02}:{5 * (i % 12):02}:00:00"), None),  # a row each five minutes
        (clocked(lambda i: "soon"), r"take.csv, line 2, column Timecode: 'soon'"),
        (clocked(lambda i: "soon" if i == 7 else str(i)), r"take.csv, line 9, column Timecode: 'soon'"),
        (lambda lines: [*lines[:9], lines[9].replace(",0", ",7"), *lines[10:]], r"take.csv, line 10, column .* 7"),
    ],
)
def test_messages_have_the_name_of_the_file_alone(change, message, lines: list[str], tmp_path: Path) -> None:
    path = tmp_path / "take.csv"
    path.write_text("\n".join(change(lines)))
    if message is None:
        assert len(read_motion(path)) < 60 * 60
        return
    with pytest.raises(BadMotionFile, match=message) as caught:
        read_motion(path)
    assert str(tmp_path) not in str(caught.value)


def test_files_of_hours_are_refused_before_they_take_the_memory(lines: list[str], tmp_path: Path) -> None:
    path = tmp_path / "take.csv"
    clocks = [f"{i // 400:02}:{i * 9 // 60 % 60:02}:{i * 9 % 60:02}:00" for i in range(1800)]
    path.write_text("\n".join([lines[0], *(re.sub("^[^,]*", clock, lines[1]) for clock in clocks)]))
    with pytest.raises(BadMotionFile, match=r"take.csv lasts 4.5 hours"):
        read_motion(path)


def test_workbooks_and_other_files(tmp_path: Path) -> None:
    path = tmp_path / "take.csv"
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(BadMotionFile, match="^take.csv is a workbook.*Save its sheet as CSV"):
        read_motion(path)
    path.write_bytes(bytes(range(32)) * 30)
    with pytest.raises(BadMotionFile, match="^take.csv cannot be read as text"):
        read_motion(path)
