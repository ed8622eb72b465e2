"""Shared avatars in a dataset repository on the Hugging Face Hub."""

from __future__ import annotations

import logging
import shutil
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from flexavatar.errors import CannotWrite, FlexAvatarError
from flexavatar.sharing.storage import AVATAR_ID, INFO

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

log = logging.getLogger(__name__)

FOLDER = "avatars"  # in the repository
DATASET = "dataset"


class StorageUnavailable(FlexAvatarError):
    """The place where shared avatars are kept does not answer."""


class HubStorage:
    """A private dataset repository: `avatars/ID/NAME`, one commit per avatar.

    Files that are asked for are kept in a temporary folder of this machine until their avatar is removed; that it is
    still on the Hub is checked at every `info`. Removal also rewrites the repository's history and deletes its
    large files for good, since a later commit alone would leave everything in the earlier ones.
    """

    def __init__(self, repo: str, token: str, endpoint: str | None = None) -> None:
        """`repo` is "owner/name"; it is made, private, if it does not exist. Raises StorageUnavailable."""
        from huggingface_hub import HfApi

        self.repo = repo
        self._api: HfApi = HfApi(endpoint=endpoint, token=token)
        self._writing = threading.Lock()  # a removal rewrites history, which must not meet another commit
        self._mirror = tempfile.TemporaryDirectory(prefix="flexavatar-hub-", ignore_cleanup_errors=True)
        with _clear_errors(f"The dataset {repo} cannot be used"):
            self._api.create_repo(repo, repo_type=DATASET, private=True, exist_ok=True)

    def __str__(self) -> str:
        return f"the dataset {self.repo} on the Hugging Face Hub"

    def write(self, avatar_id: str, files: Mapping[str, Path], info: bytes) -> None:
        from huggingface_hub import CommitOperationAdd

        contents: dict[str, str | bytes] = {**{name: str(path) for name, path in files.items()}, INFO: info}
        operations = [CommitOperationAdd(f"{FOLDER}/{avatar_id}/{name}", each) for name, each in contents.items()]
        with self._writing, _clear_errors("The avatar could not be stored on the Hub", CannotWrite):
            self._api.create_commit(self.repo, operations, commit_message="Share an avatar", repo_type=DATASET)

    def info(self, avatar_id: str) -> bytes | None:
        path = self._download(avatar_id, INFO)
        if path is None:  # removed elsewhere: by another replica, or by hand on the Hub
            self._forget(avatar_id)
            return None
        return path.read_bytes()

    def replace_info(self, avatar_id: str, info: bytes) -> bool:
        from huggingface_hub import CommitOperationAdd

        with self._writing, _clear_errors("The change could not be stored on the Hub", CannotWrite):
            if avatar_id not in self._sizes():
                return False
            operation = CommitOperationAdd(f"{FOLDER}/{avatar_id}/{INFO}", info)
            self._api.create_commit(self.repo, [operation], commit_message="Change an avatar", repo_type=DATASET)
        return True

    def path(self, avatar_id: str, name: str) -> Path | None:
        path = Path(self._mirror.name) / FOLDER / avatar_id / name
        return path if path.is_file() else self._download(avatar_id, name)

    def remove(self, avatar_ids: Collection[str]) -> None:
        from huggingface_hub import CommitOperationDelete

        for avatar_id in avatar_ids:
            self._forget(avatar_id)
        with self._writing, _clear_errors("The avatar could not be removed from the Hub", CannotWrite):
            there = self._sizes()
            operations = [CommitOperationDelete(f"{FOLDER}/{each}/") for each in avatar_ids if each in there]
            if operations:
                self._api.create_commit(self.repo, operations, commit_message="Remove avatars", repo_type=DATASET)
                self._purge()

    def sizes(self) -> dict[str, int]:
        with _clear_errors("The Hub does not list the shared avatars"):
            return self._sizes()

    def tidy(self) -> None:
        """Remove local copies of avatars that are not on the Hub any more; there, a commit is never half done."""
        there = self.sizes()
        local = Path(self._mirror.name) / FOLDER
        for folder in local.iterdir() if local.is_dir() else ():
            if folder.name not in there:
                self._forget(folder.name)

    def _sizes(self) -> dict[str, int]:
        sizes: dict[str, int] = {}
        for file in self._files():
            parts = file.path.split("/")
            if parts[0] == FOLDER and len(parts) == 3 and AVATAR_ID.fullmatch(parts[1]):
                sizes[parts[1]] = sizes.get(parts[1], 0) + file.size
        return sizes

    def _files(self) -> list[RepoFile]:
        from huggingface_hub.hf_api import RepoFile

        entries = self._api.list_repo_tree(self.repo, recursive=True, repo_type=DATASET)
        return [each for each in entries if isinstance(each, RepoFile)]

    def _purge(self) -> None:
        """Forget the past of the repository, and the large files that only its past had."""
        self._api.super_squash_history(self.repo, repo_type=DATASET)
        used = {file.lfs.sha256 for file in self._files() if file.lfs}  # one large file may be part of several avatars
        stored = self._api.list_lfs_files(self.repo, repo_type=DATASET)
        stale = [each for each in stored if each.file_oid not in used]
        self._api.permanently_delete_lfs_files(self.repo, stale, rewrite_history=False, repo_type=DATASET)

    def _download(self, avatar_id: str, name: str) -> Path | None:
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        file = f"{FOLDER}/{avatar_id}/{name}"
        with _clear_errors("The Hub does not answer"):
            try:
                return Path(self._api.hf_hub_download(self.repo, file, repo_type=DATASET, local_dir=self._mirror.name))
            except LocalEntryNotFoundError:  # not "there is no such file" but "the Hub could not be asked"
                raise
            except EntryNotFoundError:
                return None

    def _forget(self, avatar_id: str) -> None:
        """Remove the copies on this machine, and what the download noted about them."""
        root = Path(self._mirror.name)
        for folder in (root / FOLDER, root / ".cache" / "huggingface" / "download" / FOLDER):
            shutil.rmtree(folder / avatar_id, ignore_errors=True)


@contextmanager
def _clear_errors(what: str, kind: Callable[[str], FlexAvatarError] = StorageUnavailable) -> Iterator[None]:
    from huggingface_hub.errors import HTTPError  # of the HTTP client in use, which raises it when it cannot connect

    try:
        yield
    except (HTTPError, OSError, ValueError) as error:
        log.warning("%s: %s", what, error)
        raise kind(f"{what}. Try again in a minute.") from error
