"""Sharing avatars by a link."""

from __future__ import annotations

from flexavatar.sharing.contents import share
from flexavatar.sharing.hub import HubStorage, StorageUnavailable
from flexavatar.sharing.settings import open_store
from flexavatar.sharing.storage import FolderStorage, Storage
from flexavatar.sharing.store import (
    CannotShare,
    Limits,
    NotShared,
    Receipt,
    SharedAvatar,
    SharedStore,
    ShareOptions,
    Visibility,
)

__all__ = [
    "CannotShare", "FolderStorage", "HubStorage", "Limits", "NotShared", "Receipt", "ShareOptions", "SharedAvatar",
    "SharedStore", "Storage", "StorageUnavailable", "Visibility", "open_store", "share",
]  # fmt: skip
