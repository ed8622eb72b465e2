"""Tables as recorders and spreadsheets save them: in any encoding, with any separator and decimal mark."""

from __future__ import annotations

import codecs
import csv
import re
from dataclasses import dataclass
from pathlib import Path

from flexavatar.errors import BadMotionFile
from flexavatar.files import content_of, expanded

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SEPARATORS = ",;\t|"
_SEARCHED = 20  # lines that may stand above a header
_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # .xlsx and .ods; .xls


@dataclass(frozen=True)
class Table:
    """A header and the rows below it, without the empty ones; cells have no spaces around them."""

    header: tuple[str, ...]  # plain names, see `plain`
    header_line: int  # in the file, counted from 1
    rows: tuple[tuple[int, list[str]], ...]  # line in the file, cells


def text_of(path: str | Path) -> str:
    """The text of a motion file in UTF-8, UTF-16 or one of the older encodings. Raises BadMotionFile."""
    path = expanded(path)
    content = content_of(path, BadMotionFile)
    if content.startswith(_WORKBOOKS):
        raise BadMotionFile(f"{path.name} is a workbook, which cannot be read. Save its sheet as CSV.")
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return content[len(mark) :].decode(encoding, errors="ignore")  # the last letter may be cut
    if b"\0" in content[:200]:
        encoding = "utf-16-be" if content[:1] == b"\0" else "utf-16-le"
        text = content.decode(encoding, errors="ignore")
    else:
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError:
            text = content.decode("cp1252", errors="replace")
    if re.search(r"[\0-\x08\x0e-\x1f]", text[:2000]):
        raise BadMotionFile(f"{path.name} cannot be read as text. Export the motion again.")
    return text


def plain(name: str) -> str:
    """A column's name without capitals, spaces and underscores: eyeBlink_L is EyeBlinkLeft."""
    name = name.strip().lower()
    name = re.sub(r"_l$", "left", re.sub(r"_r$", "right", name))
    return re.sub(r"[^a-z0-9]", "", name)


def read_table(path: str | Path, first: str, otherwise: str) -> Table:
    """The table whose header names the column `first`; lines above it, such as the `sep=;` of Excel, are skipped.

    Raises BadMotionFile, which says `otherwise` if there is no such header.
    """
    name, lines = Path(path).name, text_of(path).splitlines()
    filled = [number for number, line in enumerate(lines) if line.strip()]
    if not filled:
        raise BadMotionFile(f"{name} is empty. Export the take from Live Link Face again.")
    for number in filled[:_SEARCHED]:
        for separator in _SEPARATORS:
            header = tuple(map(plain, _cells(lines[number], separator)))
            if len(header) > 1 and first in header:
                rows = ((i + 1, _cells(lines[i], separator)) for i in filled if i > number)
                return Table(header, number + 1, tuple((line, cells) for line, cells in rows if any(cells)))
    raise BadMotionFile(f"{name}, line {filled[0] + 1}: {otherwise}")


def number_in(cell: str) -> float:
    """The number in a cell, with a decimal point or comma; NaN if there is none."""
    try:
        return float(cell.replace(",", "."))
    except ValueError:
        return float("nan")


def _cells(line: str, separator: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=separator), [])]
    except csv.Error:  # quotation marks that do not close, or a cell of more than 128 KiB
        return [cell.strip() for cell in line.split(separator)]
