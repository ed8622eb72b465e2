"""Where the files of shared avatars lie. What may be done with them is decided in `flexavatar.sharing.store`."""

from __future__ import annotations

import logging
import re
import shutil
import threading
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from flexavatar.errors import CannotWrite
from flexavatar.files import atomic_path, expanded

log = logging.getLogger(__name__)

INFO = "info.json"  # written last and removed first: an avatar is there if and only if this file is
AVATAR_ID = re.compile(r"[A-Za-z0-9_-]{22}")  # 128 random bits


class Storage(Protocol):
    """Folders of files, one per id. Ids and names reach it checked: they never hold "/" or begin with a dot."""

    def write(self, avatar_id: str, files: Mapping[str, Path], info: bytes) -> None:
        """Keep copies of `files` (by name) and `info`: all of them, or nothing. Raises CannotWrite."""
        ...

    def info(self, avatar_id: str) -> bytes | None:
        """The `info` of an avatar, None if there is no such avatar."""
        ...

    def replace_info(self, avatar_id: str, info: bytes) -> bool:
        """Exchange the `info` of an avatar; false if there is no such avatar (any more). Raises CannotWrite."""
        ...

    def path(self, avatar_id: str, name: str) -> Path | None:
        """A local file to read, None if it is not there (any more)."""
        ...

    def remove(self, avatar_ids: Collection[str]) -> None:
        """Remove every file of these avatars, and every copy of them. Raises CannotWrite."""
        ...

    def sizes(self) -> dict[str, int]:
        """Bytes of every avatar by its id, half-written ones included."""
        ...

    def tidy(self) -> None:
        """Remove what interrupted calls left behind."""
        ...


class FolderStorage:
    """A plain folder: `FOLDER/ID/NAME`. Anything else in it is left alone."""

    def __init__(self, folder: str | Path) -> None:
        """Keep avatars in `folder`. Raises CannotWrite if it cannot be written to."""
        self.folder = expanded(folder)
        self._removing = threading.Lock()
        with atomic_path(self.folder / "writable"):
            pass
        (self.folder / "writable").unlink(missing_ok=True)

    def __str__(self) -> str:
        return f"the folder {self.folder}"

    def write(self, avatar_id: str, files: Mapping[str, Path], info: bytes) -> None:
        folder = self.folder / avatar_id
        try:
            for name, source in files.items():
                with atomic_path(folder / name) as temporary:
                    shutil.copyfile(source, temporary)
            with atomic_path(folder / INFO) as temporary:
                temporary.write_bytes(info)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def info(self, avatar_id: str) -> bytes | None:
        try:
            return (self.folder / avatar_id / INFO).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def replace_info(self, avatar_id: str, info: bytes) -> bool:
        path = self.folder / avatar_id / INFO
        with self._removing:  # else a removal in between would leave an avatar of this file alone
            if not path.exists():
                return False
            with atomic_path(path) as temporary:
                temporary.write_bytes(info)
        return True

    def path(self, avatar_id: str, name: str) -> Path | None:
        path = self.folder / avatar_id / name
        return path if path.is_file() else None

    def remove(self, avatar_ids: Collection[str]) -> None:
        for avatar_id in avatar_ids:
            folder = self.folder / avatar_id
            try:
                with self._removing:
                    (folder / INFO).unlink(missing_ok=True)
                    shutil.rmtree(folder)
            except FileNotFoundError:
                continue  # another call has removed it
            except OSError as error:
                raise CannotWrite(f"Cannot remove all files of {folder}: {error.strerror or error}.") from error

    def sizes(self) -> dict[str, int]:
        sizes = {}
        for folder in self._folders():
            with suppress(FileNotFoundError):  # removed since it was listed
                sizes[folder.name] = sum(path.stat().st_size for path in folder.iterdir())
        return sizes

    def tidy(self) -> None:
        oldest = time.time() - 3600.0  # nobody writes one avatar for an hour
        for folder in self._folders():
            try:
                abandoned = not (folder / INFO).exists() and folder.stat().st_mtime < oldest
            except FileNotFoundError:
                continue
            if abandoned:
                log.info("removing half an avatar: %s", folder)
                with self._removing:
                    shutil.rmtree(folder, ignore_errors=True)

    def _folders(self) -> list[Path]:
        # Whatever else lies in the folder is somebody else's.
        return [path for path in self.folder.iterdir() if AVATAR_ID.fullmatch(path.name) and path.is_dir()]
