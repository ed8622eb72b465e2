"""Which network an avatar belongs to, and one loaded copy of each for all avatars that use it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch

from flexavatar.errors import ModelUnavailable
from flexavatar.model.flex_s import FlexS
from flexavatar.model.pretrained import find_pretrained, load_folder

MAX_LOADED = 2


@dataclass(frozen=True)
class NetworkSource:
    """Where a network comes from, and the hash of its weights: an avatar code means nothing to other weights."""

    name: str  # folder, name of a model of this package, or Hub id
    revision: str | None  # commit of a Hub id
    sha256: str

    @staticmethod
    def of(name: str, revision: str | None = None) -> NetworkSource:
        """Raises ModelUnavailable or BadCheckpoint."""
        return NetworkSource(name, revision, find_pretrained(name, revision).sha256)

    @staticmethod
    def from_json(values: Any) -> NetworkSource:
        """Raises KeyError or TypeError."""
        revision = values["revision"]
        return NetworkSource(str(values["name"]), None if revision is None else str(revision), str(values["sha256"]))


_loaded: OrderedDict[tuple[str, str], FlexS] = OrderedDict()  # by the hash of the weights, and the device
_lock = threading.Lock()


def load_network(source: NetworkSource, device: torch.device | str = "cpu") -> FlexS:
    """The frozen network of `source`, loaded once for each device. Raises ModelUnavailable or BadCheckpoint."""
    key = (source.sha256, str(device))
    with _lock:
        if key not in _loaded:
            found = find_pretrained(source.name, source.revision)
            if found.sha256 != source.sha256:
                raise ModelUnavailable(
                    f"The model {source.name} has changed since this avatar was made with it. Create the avatar anew, "
                    "or bring back the old model."
                )
            with torch.inference_mode(False):  # a fit may follow what is drawn first
                _loaded[key] = load_folder(found.folder).to(device)
            while len(_loaded) > MAX_LOADED:
                _loaded.popitem(last=False)
        _loaded.move_to_end(key)
        return _loaded[key]
