"""What files are, reading them with a clear word on failure, and writing them so that nobody meets half of one."""

from __future__ import annotations

import errno
import logging
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from flexavatar.errors import CannotWrite, FlexAvatarError

logger = logging.getLogger(__name__)

# Of files whose beginning says nothing, and of what a browser offers to choose.
VIDEO_SUFFIXES = (
    ".mp4", ".mov", ".m4v", ".webm", ".mkv", ".avi", ".mpg", ".mpeg", ".3gp", ".3g2", ".ogv", ".wmv", ".asf", ".mts",
    ".m2ts", ".ts", ".flv", ".f4v", ".vob", ".dv", ".mxf", ".qt",
)  # fmt: skip
_PICTURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"II*\0", b"MM\0*", b"BM", b"P5", b"P6", b"\0\0\0\x0cjP", b"8BPS")
_PICTURE_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"mif2", b"msf1", b"avif", b"avis",
                   b"jxl ", b"crx ")  # fmt: skip
_VIDEOS = (b"\x1aE\xdf\xa3", b"FLV\x01", b"OggS", b"0&\xb2u", b"\0\0\x01\xba", b"\0\0\x01\xb3", b"DKIF", b"\x06\x0e+4",
           b"\x1f\x07\0")  # fmt: skip
_ATOMS = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")

_ADVICE = {
    errno.EACCES: "this account may not write there; choose another folder or change its permissions",
    errno.EPERM: "this account may not write there; choose another folder or change its permissions",
    errno.EROFS: "the folder is read-only; choose another one",
    errno.ENOSPC: "the disk is full; free some space or choose another disk",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another disk",
    errno.ENOTDIR: "a part of the path is a file, not a folder; correct the path",
    errno.EEXIST: "a part of the path is a file, not a folder; correct the path",
    errno.EISDIR: "this is a folder; add a file name",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
}


def expanded(path: str | Path) -> Path:
    """A path with `~` for the home folder of whoever runs this; as it is where there is no such folder."""
    return Path(os.path.expanduser(path))


def user_folder(named: str | None, *below_home: str) -> Path:
    """The folder that a variable of XDG has `named`, else that below the home folder.

    Without a home, as of users that a container makes up, it is one for temporary files.
    """
    if named:
        return Path(named)
    home = os.path.expanduser("~")
    return Path(home, *below_home) if os.path.isabs(home) else Path(tempfile.gettempdir(), "flexavatar", *below_home)


def kind_of(path: str | Path) -> Literal["picture", "video"] | None:
    """What a file is, as far as its first bytes say it; None for others, and for what cannot be read."""
    try:
        path = expanded(path)
        if not path.is_file():  # a pipe, from which nothing may be taken here
            return None
        with path.open("rb") as file:
            head = file.read(1024)
    except (OSError, ValueError):
        return None
    if head.startswith(_PICTURES) or head[8:12] == b"WEBP":
        return "picture"
    if head[4:8] in _ATOMS:
        return "picture" if head[4:8] == b"ftyp" and head[8:12] in _PICTURE_BRANDS else "video"
    if head.startswith(_VIDEOS) or head[8:12] == b"AVI ":
        return "video"
    packets = (range(start, len(head), size) for start, size in ((0, 188), (4, 192)))  # of transport streams
    if len(head) >= 1000 and any(all(head[at] == 0x47 for at in places) for places in packets):
        return "video"
    return None


def is_video(path: str | Path) -> bool:
    """Whether a file is a video, by its content; by its suffix where that says nothing."""
    return (kind_of(path) or ("video" if Path(path).suffix.lower() in VIDEO_SUFFIXES else "")) == "video"


def content_of(path: Path, error: type[FlexAvatarError]) -> bytes:
    """The bytes of a file. Raises `error`, which says why it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError as reason:
        raise error(f"There is no file {path}. Check the path.") from reason
    except OSError as reason:
        raise error(f"Cannot read {path}: {reason.strerror or reason}. Check the path.") from reason


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` to write to; on success it replaces `path` in one step.

    Missing parent folders are created. The temporary file has the suffix of `path`, and is removed
    whenever the block fails, in which case an existing `path` is left as it was. It is made before the
    block runs, so that a folder that cannot be written to fails before any long work.

    Raises CannotWrite for every OSError, with advice.
    """
    target = Path(os.path.realpath(expanded(path)))  # a link stays a link; what it names is replaced
    temporary: Path | None = None
    try:
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{secrets.token_hex(8)}{target.suffix}")
        temporary.open("xb").close()
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        reason = _ADVICE.get(error.errno or 0, error.strerror or str(error) or type(error).__name__)
        raise CannotWrite(f"Cannot write {path}: {reason}.") from error
    finally:
        if temporary is not None:
            try:
                temporary.unlink(missing_ok=True)
            except OSError as error:
                logger.warning("Could not remove the temporary file %s: %s", temporary, error)
