"""The rules of sharing: ids that cannot be guessed, owners' tokens, visibility, expiry and limits."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

from flexavatar.errors import FlexAvatarError
from flexavatar.sharing.storage import AVATAR_ID, Storage

log = logging.getLogger(__name__)

Visibility = Literal["link", "private"]
VISIBILITIES: tuple[Visibility, ...] = ("link", "private")
FORMAT = 1
DAY = 24 * 3600.0
MAX_NAME_LENGTH = 60
_FILE = re.compile(r"[a-z]+(\.[a-z0-9]+)+")


class NotShared(FlexAvatarError):
    """No shared avatar answers to this id: unknown, deleted, expired, private or mistyped, which are not told apart."""

    def __init__(self) -> None:
        super().__init__("There is no such avatar here. Its link is mistyped, or it has expired or was deleted.")


class CannotShare(FlexAvatarError):
    """The avatar is too large, or there is no more room for avatars."""


@dataclass(frozen=True)
class Limits:
    """How much one site keeps, and for how long."""

    avatar_bytes: int = 64 * 1024**2
    total_bytes: int = 4 * 1024**3
    count: int = 1000
    days: float | None = None  # longest life of an avatar; None: for ever, if its owner so wishes


@dataclass(frozen=True)
class ShareOptions:
    """The owner's choices for a shared avatar."""

    name: str = "Avatar"
    visibility: Visibility = "link"  # "link": whoever has the link; "private": only with the owner's token
    days: float | None = 30.0  # None: as long as the site's limits allow
    downloads: bool = False  # whether visitors may take the files


@dataclass(frozen=True)
class SharedAvatar:
    """What is known of a shared avatar; nothing of it is secret but the id."""

    id: str
    name: str
    created: float  # seconds since 1970
    expires: float | None
    visibility: Visibility
    downloads: bool
    licence: str
    files: Mapping[str, int]  # name: bytes


@dataclass(frozen=True)
class Receipt:
    """A newly shared avatar and its owner's token, which is not stored anywhere else."""

    avatar: SharedAvatar
    token: str = field(repr=False)


class SharedStore:
    """Shared avatars, wherever `storage` keeps them. Safe to use from several threads.

    Whatever is wrong with an id raises the same NotShared.
    """

    def __init__(self, storage: Storage, limits: Limits | None = None, clock: Callable[[], float] = time.time) -> None:
        self.storage = storage
        self.limits = limits or Limits()
        self._clock = clock
        self._putting = threading.Lock()  # between measuring the room and using it

    def put(self, files: Mapping[str, Path], licence: str, options: ShareOptions | None = None) -> Receipt:
        """Keep copies of `files`.

        Raises CannotShare, CannotWrite, StorageUnavailable, and ValueError for wrong arguments.
        """
        options = options or ShareOptions()
        _check_visibility(options.visibility)
        for name in files:
            if not _FILE.fullmatch(name):
                raise ValueError(f"{name!r} is no file name for a shared avatar.")
        now, token = self._clock(), secrets.token_urlsafe(24)
        avatar = SharedAvatar(
            id=secrets.token_urlsafe(16),
            name=_clean_name(options.name),
            created=now,
            expires=self._expiry(now, options.days),
            visibility=options.visibility,
            downloads=options.downloads,
            licence=licence,
            files={name: path.stat().st_size for name, path in files.items()},
        )
        with self._putting:
            self._check_room(sum(avatar.files.values()))
            self.storage.write(avatar.id, files, _to_json(avatar, token))
        log.info("shared an avatar of %.1f MB", sum(avatar.files.values()) / 1e6)
        return Receipt(avatar, token)

    def get(self, avatar_id: str, token: str | None = None) -> SharedAvatar:
        """What is known of a shared avatar. Raises NotShared, for a private one unless `token` is its owner's."""
        avatar, secret = self._read(avatar_id)
        if avatar.visibility == "private" and not _fits(token, secret):
            raise NotShared
        return avatar

    def path(self, avatar_id: str, name: str, token: str | None = None) -> Path:
        """A file of an avatar that `get` gives. Raises NotShared."""
        avatar = self.get(avatar_id, token)
        path = self.storage.path(avatar.id, name) if name in avatar.files else None
        if path is None:
            raise NotShared
        return path

    def owned(self, avatar_id: str, token: str | None) -> SharedAvatar:
        """What is known of the avatar with this owner. Raises NotShared unless `token` is its owner's."""
        avatar, secret = self._read(avatar_id)
        if not _fits(token, secret):
            raise NotShared
        return avatar

    def list_mine(self, tokens: Mapping[str, str]) -> list[SharedAvatar]:
        """Those of the avatars {id: owner's token} that are still there, newest first.

        The browser keeps the tokens: nothing on the server says who owns what, and there is no list of all avatars.
        """
        mine = []
        for avatar_id, token in tokens.items():
            try:
                mine.append(self.owned(avatar_id, token))
            except NotShared:
                continue
        return sorted(mine, key=lambda avatar: -avatar.created)

    def set_visibility(self, avatar_id: str, token: str | None, visibility: Visibility) -> SharedAvatar:
        """From now on for whoever has the link, or for the owner alone. Raises as `keep_for`."""
        _check_visibility(visibility)
        return self._change(avatar_id, token, lambda avatar: replace(avatar, visibility=visibility))

    def keep_for(self, avatar_id: str, token: str | None, days: float | None) -> SharedAvatar:
        """Let an avatar expire `days` from now; None: as late as the site's limits allow.

        Raises NotShared unless `token` is the owner's, ValueError, CannotWrite and StorageUnavailable.
        """
        # The site's limit counts from the day of sharing, or owners could renew for ever.
        return self._change(
            avatar_id, token, lambda avatar: replace(avatar, expires=self._expiry(avatar.created, days))
        )

    def delete(self, avatar_id: str, token: str | None) -> None:
        """Remove every file. Raises NotShared unless `token` is the owner's, CannotWrite."""
        self.storage.remove([self.owned(avatar_id, token).id])
        log.info("an owner deleted an avatar")

    def sweep(self) -> int:
        """Remove what has expired, and leftovers; return how many avatars went. Raises CannotWrite."""
        expired = [each for each in self.storage.sizes() if self._expired(each)]
        if expired:
            self.storage.remove(expired)
            log.info("removed %d expired avatars", len(expired))
        self.storage.tidy()
        return len(expired)

    def _change(
        self, avatar_id: str, token: str | None, change: Callable[[SharedAvatar], SharedAvatar]
    ) -> SharedAvatar:
        with self._putting:  # two changes at once must not undo each other
            changed = change(self.owned(avatar_id, token))
            if not self.storage.replace_info(avatar_id, _to_json(changed, token or "")):
                raise NotShared
        return changed

    def _expiry(self, created: float, days: float | None) -> float | None:
        """When an avatar shared at `created` goes that shall be kept for `days` from now. Raises ValueError."""
        if days is not None and not days > 0:
            raise ValueError("An avatar is shared for more than 0 days; say how many.")
        wished = None if days is None else self._clock() + days * DAY
        longest = None if self.limits.days is None else created + self.limits.days * DAY
        return min((each for each in (wished, longest) if each is not None), default=None)

    def _read(self, avatar_id: str) -> tuple[SharedAvatar, str]:
        """The avatar and the hash of its owner's token. Raises NotShared."""
        content = self.storage.info(avatar_id) if AVATAR_ID.fullmatch(avatar_id) else None
        if content is None:
            raise NotShared
        avatar, secret = _from_json(avatar_id, content)
        if avatar.expires is not None and avatar.expires <= self._clock():
            raise NotShared
        return avatar, secret

    def _expired(self, avatar_id: str) -> bool:
        content = self.storage.info(avatar_id)
        if content is None:
            return False
        expires = _from_json(avatar_id, content)[0].expires
        return expires is not None and expires <= self._clock()

    def _check_room(self, size: int) -> None:
        limits = self.limits
        if size > limits.avatar_bytes:
            raise CannotShare(
                f"The avatar takes {size / 1e6:.0f} MB; this site shares up to {limits.avatar_bytes / 1e6:.0f} MB. "
                "Share it without downloads."
            )
        if not self._has_room(size):
            self.sweep()
        if not self._has_room(size):
            raise CannotShare(
                "This site has no room for more shared avatars at the moment. Delete one of yours, or try again later; "
                "you can always download the avatar."
            )

    def _has_room(self, size: int) -> bool:
        sizes = self.storage.sizes()
        log.info("sharing %d avatars, %.0f MB", len(sizes), sum(sizes.values()) / 1e6)
        return len(sizes) < self.limits.count and sum(sizes.values()) + size <= self.limits.total_bytes


def _check_visibility(visibility: str) -> None:
    if visibility not in VISIBILITIES:
        raise ValueError(f"visibility must be one of {', '.join(VISIBILITIES)}, not {visibility!r}.")


def _fits(token: str | None, secret: str) -> bool:
    return hmac.compare_digest(_hash(token or ""), secret)


def _hash(token: str) -> str:
    # Tokens are random and long, so that a plain hash of them cannot be searched for.
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def _clean_name(name: str) -> str:
    """One short line without control characters."""
    printable = "".join(c if c.isprintable() else " " for c in name)
    return " ".join(printable.split())[:MAX_NAME_LENGTH].strip() or "Avatar"


def _to_json(avatar: SharedAvatar, token: str) -> bytes:
    document = {"format": FORMAT, "token_sha256": _hash(token), **asdict(avatar)}
    del document["id"]
    return json.dumps(document, ensure_ascii=False, indent=1).encode()


def _from_json(avatar_id: str, content: bytes) -> tuple[SharedAvatar, str]:
    document = json.loads(content)
    document.pop("format")
    secret = document.pop("token_sha256")
    return SharedAvatar(id=avatar_id, **document), secret
