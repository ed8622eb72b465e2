"""The avatars that visitors are working with: kept on the server under ids that cannot be guessed."""

from __future__ import annotations

import secrets
import tempfile
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from flexavatar.errors import FlexAvatarError

if TYPE_CHECKING:
    from flexavatar.avatar import Avatar


class AvatarGone(FlexAvatarError):
    """The id is unknown: mistyped, or the avatar was dropped to make room."""


@dataclass(frozen=True)
class StoredAvatar:
    """One avatar and the folder of its files, which goes when the last reference to it goes."""

    avatar: Avatar
    name: str  # stem of its file names
    folder: tempfile.TemporaryDirectory[str] = field(
        default_factory=lambda: tempfile.TemporaryDirectory(prefix="flexavatar-", ignore_cleanup_errors=True)
    )
    baking: threading.Lock = field(default_factory=threading.Lock, repr=False)  # held while the bundle is made

    def path(self, suffix: str) -> Path:
        """The path of the avatar's file with this suffix, whether or not it is written yet."""
        return Path(self.folder.name) / f"{self.name}{suffix}"


class AvatarStore:
    """At most `capacity` avatars, each for `lifetime` seconds after its last use; the longest unused goes first."""

    def __init__(self, capacity: int = 128, lifetime: float = 3600.0) -> None:
        self.capacity = capacity
        self.lifetime = lifetime
        self._items: OrderedDict[str, tuple[float, StoredAvatar]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        with self._lock:
            return len(self._items)

    def put(self, stored: StoredAvatar) -> str:
        """Keep `stored` and return its new id."""
        key = secrets.token_urlsafe(16)
        with self._lock:
            self._items[key] = (time.monotonic(), stored)
            self._drop_stale()
        return key

    def get(self, key: str | None) -> StoredAvatar:
        """The avatar of an id. Raises AvatarGone for an id that is not (or no longer) known."""
        with self._lock:
            self._drop_stale()
            if not key or key not in self._items:
                raise AvatarGone(
                    "This avatar is not on the server any more. Create it again, or open its .flexavatar file."
                )
            _, stored = self._items[key]
            self._items[key] = (time.monotonic(), stored)
            self._items.move_to_end(key)
            return stored

    def discard(self, key: str | None) -> None:
        """Forget an avatar, if it is there."""
        with self._lock:
            self._items.pop(key or "", None)

    def _drop_stale(self) -> None:
        oldest = time.monotonic() - self.lifetime
        while self._items:
            used, _ = next(iter(self._items.values()))
            if used >= oldest and len(self._items) <= self.capacity:
                break
            self._items.popitem(last=False)
