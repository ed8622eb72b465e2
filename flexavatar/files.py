"""Reading files with a clear word on failure, and writing them so that a reader never meets half of one."""

from __future__ import annotations

import errno
import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flexavatar.errors import CannotWrite, FlexAvatarError

logger = logging.getLogger(__name__)

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
    target = Path(os.path.realpath(Path(path).expanduser()))  # a link stays a link; what it names is replaced
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
