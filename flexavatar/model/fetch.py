"""Downloads FLEX-1 from its authors; nothing of it is redistributed here."""

from __future__ import annotations

import hashlib
import logging
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from flexavatar.errors import FlexAvatarError
from flexavatar.progress import Progress, Tell

logger = logging.getLogger(__name__)
LICENSE = "CC BY-NC 4.0 (non-commercial; https://creativecommons.org/licenses/by-nc/4.0/)"
_OFFICIAL = "https://raw.githubusercontent.com/tobias-kirschstein/flexavatar/main"


class FetchFailed(FlexAvatarError):
    """The download did not succeed; what arrived is kept and continued next time."""


class LicenseNotAccepted(FlexAvatarError):
    """The weights' licence has to be accepted first."""


@dataclass(frozen=True)
class RemoteFile:
    """A file to download; size in bytes and sha256 are checked where known."""

    url: str
    name: str
    size: int | None = None
    sha256: str | None = None


# The small file first: if the authors have moved their files, that shows before 730 MB have been fetched.
FLEX1_FILES = (
    RemoteFile(f"{_OFFICIAL}/assets/gghead_template.obj", "gghead_template.obj"),
    RemoteFile("https://kaldir.vc.cit.tum.de/flexavatar/models/FLEX-1/checkpoints/ckpt-900k.pt", "ckpt-900k.pt"),
)


def fetch_flex1(
    folder: Path,
    accept_license: bool = False,
    progress: Progress | Tell | None = None,
    files: Sequence[RemoteFile] = FLEX1_FILES,
) -> list[Path]:
    """Weights and template into `folder`; `progress` hears of each file. Raises LicenseNotAccepted, FetchFailed."""
    if not accept_license:
        raise LicenseNotAccepted(f"FLEX-1 is licensed under {LICENSE}. Pass accept_license=True if you accept that.")
    return [_fetch(file, folder / file.name, Progress.of(progress)) for file in files]


def _fetch(file: RemoteFile, target: Path, progress: Progress) -> Path:
    if target.exists():
        _check(file, target)
        return target
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _download(file, part, progress)
        _check(file, part)
        part.replace(target)
    except (OSError, HTTPException) as error:
        raise FetchFailed(
            f"{file.url} could not be downloaded ({error}). Check the connection and the disk, then run it again: "
            "it continues where it stopped."
        ) from error
    return target


def _download(file: RemoteFile, part: Path, progress: Progress) -> None:
    start = part.stat().st_size if part.exists() else 0
    if file.size is not None and start == file.size:
        return
    request = urllib.request.Request(file.url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        response = urllib.request.urlopen(request, timeout=30)
    except urllib.error.HTTPError as error:
        # 416: nothing is left to send, so the part is complete or wrong; a complete one names its own size.
        if error.code == 416 and error.headers.get("Content-Range", "") == f"bytes */{start}":
            return
        raise
    with response:
        start = start if response.status == 206 else 0
        total = start + int(response.headers.get("Content-Length") or 0)
        with part.open("ab" if start else "wb") as out:
            done = start
            while chunk := response.read(1 << 20):
                out.write(chunk)
                done += len(chunk)
                progress(file.name, done / max(total, done))
    if done < total:
        raise FetchFailed(f"{file.name} stopped at {done} of {total} bytes; run it again to continue.")
    logger.info("%s: %d bytes", file.name, done)


def _check(file: RemoteFile, path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest() if file.sha256 else None
    if (file.size is not None and size != file.size) or digest != file.sha256:
        path.unlink()
        raise FetchFailed(f"{file.name} does not match its published size or hash and was removed; run it again.")
