"""The store that the environment asks for; docs/sharing.md lists the settings."""

from __future__ import annotations

import logging
import os
import tempfile
import threading
import time
from collections.abc import Mapping

from flexavatar.errors import CannotWrite, FlexAvatarError
from flexavatar.files import user_folder
from flexavatar.sharing.hub import HubStorage, StorageUnavailable
from flexavatar.sharing.storage import FolderStorage, Storage
from flexavatar.sharing.store import Limits, SharedStore

log = logging.getLogger(__name__)

SWEEP_SECONDS = 3600.0


def open_store(environment: Mapping[str, str] = os.environ) -> SharedStore:
    """The store of this site, and a thread that removes what expires.

    FLEXAVATAR_STORE_REPO and HF_TOKEN: a dataset on the Hub; else FLEXAVATAR_STORE: a folder; else a folder in the
    user's data directory; else, where none can be written, a temporary one. Raises StorageUnavailable, CannotWrite or
    ValueError if what the environment asks for cannot be had.
    """
    limits = Limits(
        total_bytes=round(_number(environment, "FLEXAVATAR_STORE_MB", Limits.total_bytes / 1024**2) * 1024**2),
        count=round(_number(environment, "FLEXAVATAR_STORE_AVATARS", Limits.count)),
        days=_number(environment, "FLEXAVATAR_STORE_DAYS", 0) or None,
    )
    storage = _storage(environment)
    log.info("shared avatars are kept in %s", storage)
    store = SharedStore(storage, limits)
    threading.Thread(target=_sweep_forever, args=(store,), name="shared avatars", daemon=True).start()
    return store


def _storage(environment: Mapping[str, str]) -> Storage:
    if repo := environment.get("FLEXAVATAR_STORE_REPO"):
        token = environment.get("HF_TOKEN")
        if not token:
            raise StorageUnavailable(
                f"FLEXAVATAR_STORE_REPO names {repo}, but there is no token to write to it. Set HF_TOKEN, "
                "in a Space as a secret."
            )
        return HubStorage(repo, token)
    if folder := environment.get("FLEXAVATAR_STORE"):
        return FolderStorage(folder)
    if environment.get("SPACE_ID"):
        log.warning("FLEXAVATAR_STORE is not set: shared avatars go when this Space restarts; see docs/sharing.md")
    data = user_folder(environment.get("XDG_DATA_HOME"), ".local", "share")
    try:
        return FolderStorage(data / "flexavatar" / "shared")
    except CannotWrite as error:
        log.warning("%s Shared avatars go to a temporary folder.", error)
        return FolderStorage(tempfile.mkdtemp(prefix="flexavatar-shared-"))


def _number(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name)
    try:
        value = float(text) if text else default
    except ValueError as error:
        raise ValueError(f"{name} must be a number, not {text!r}.") from error
    if value < 0:
        raise ValueError(f"{name} must not be negative.")
    return value


def _sweep_forever(store: SharedStore) -> None:
    while True:
        try:
            store.sweep()
        except FlexAvatarError as error:  # the next sweep may find the disk or the Hub well again
            log.warning("could not remove expired avatars: %s", error)
        time.sleep(SWEEP_SECONDS)
