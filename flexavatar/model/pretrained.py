"""Networks on disk, shipped, local, or on the Hugging Face Hub: a folder of `config.json` and `model.safetensors`.

Which of them an avatar belongs to, and one loaded copy of each for all avatars that use it.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import OrderedDict
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import torch

from flexavatar.errors import ModelUnavailable
from flexavatar.files import atomic_path
from flexavatar.model.checkpoint import BadCheckpoint, read_checkpoint
from flexavatar.model.config import UpsamplerConfig
from flexavatar.model.flex_s import FlexS, FlexSConfig

EMBEDDED = Path(__file__).parents[1] / "assets" / "models"
CONFIG, WEIGHTS = "config.json", "model.safetensors"
FORMAT = 1
_COMMIT = re.compile(r"[0-9a-f]{40}")
MAX_LOADED = 2
_loaded: OrderedDict[tuple[str, str], FlexS] = OrderedDict()  # by the hash of the weights, and the device
_lock = threading.Lock()


@dataclass(frozen=True)
class Pretrained:
    """A model on this disk."""

    folder: Path
    sha256: str  # of its weights, as its configuration names it


def from_pretrained(source: str | Path, revision: str | None = None, embedded: Path = EMBEDDED) -> FlexS:
    """A frozen flex-s, on the CPU, from `source`.

    `source` is a folder, the name of a model that comes with this package (a folder in `embedded`), or a Hub id
    "owner/name" with `revision`, the full hash of a commit: what a name or branch points to can change, a commit
    cannot. A commit that is in the local cache needs no network. The weights must have the hash that their
    configuration names.

    Raises ModelUnavailable if there is no such model or it cannot be downloaded, BadCheckpoint if it is damaged.
    """
    return load_folder(find_pretrained(source, revision, embedded).folder)


def find_pretrained(source: str | Path, revision: str | None = None, embedded: Path = EMBEDDED) -> Pretrained:
    """The files that `from_pretrained` loads, downloaded if they are not here; raises the same."""
    folder, name = Path(source), str(source)
    if not folder.is_dir():
        shipped = sorted(path.parent.name for path in embedded.glob(f"*/{CONFIG}"))
        if name in shipped:
            folder = embedded / name
        elif re.fullmatch(r"[\w.-]+/[\w.-]+", name):
            folder = _download(name, revision)
        else:
            raise ModelUnavailable(
                f"There is no model {name!r}: neither a folder, nor a Hub id (owner/name), nor one that comes with "
                f"this package ({', '.join(shipped) or 'none does yet'})."
            )
    return Pretrained(folder, _read(folder)[1])


def load_folder(folder: Path) -> FlexS:
    """The frozen flex-s that `save_pretrained` wrote. Raises BadCheckpoint."""
    config, wanted = _read(folder)
    weights = folder / WEIGHTS
    tensors = read_checkpoint(weights)
    if _sha256(weights) != wanted:
        raise BadCheckpoint(f"{weights} is not the file that {CONFIG} was written for. Fetch the model again.")
    model = FlexS(config)
    try:
        model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    except RuntimeError as error:
        raise BadCheckpoint(f"{weights} does not fit its configuration ({error}). Fetch the model again.") from error
    return model.freeze()


def save_pretrained(model: FlexS, folder: str | Path) -> None:
    """Write `config.json` and float16 `model.safetensors` into `folder`. Raises CannotWrite."""
    from safetensors.torch import save_file

    folder = Path(folder)
    tensors = {name: tensor.detach().cpu().half().contiguous() for name, tensor in model.state_dict().items()}
    with atomic_path(folder / WEIGHTS) as part:
        save_file(tensors, part)
        digest = _sha256(part)
    document = {"model": "flex-s", "format": FORMAT, "config": asdict(model.config), "sha256": digest}
    with atomic_path(folder / CONFIG) as part:
        part.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _read(folder: Path) -> tuple[FlexSConfig, str]:
    """The configuration, and the hash that the weights must have."""
    path = folder / CONFIG
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["model"] != "flex-s" or document["format"] != FORMAT:
            raise BadCheckpoint(
                f"{path} describes {document['model']!r} in format {document['format']!r}; this version reads "
                f"flex-s in format {FORMAT}. Update flexavatar."
            )
        return _parse(FlexSConfig, document["config"]), document["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadCheckpoint(
            f"{path} is not the configuration of a model ({type(error).__name__}: {error}). Fetch the model again."
        ) from error


def _download(name: str, revision: str | None) -> Path:
    if revision is None or not _COMMIT.fullmatch(revision):
        raise ModelUnavailable(
            f"Pass the full hash of a commit of {name} as revision (40 hexadecimal digits, from its history page on "
            "the Hub), so that the model can never change unnoticed."
        )
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        # A commit never changes, so a file in the cache is taken without asking the Hub.
        paths = [Path(hf_hub_download(name, file, revision=revision)) for file in (CONFIG, WEIGHTS)]
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ModelUnavailable(
            f"{name} at {revision[:8]} is not in the cache and could not be downloaded ({error}). Check the name, the "
            "commit and the connection."
        ) from error
    return paths[0].parent


def _parse(kind: type, values: dict[str, Any]) -> Any:
    """The frozen config dataclass `kind` from JSON. Raises KeyError, TypeError or ValueError."""
    hints = get_type_hints(kind)
    names = {f.name for f in fields(kind)}
    if set(values) != names:
        raise KeyError(f"{', '.join(sorted(set(values) ^ names))}")
    parsed = {}
    for name, value in values.items():
        hint = hints[name]
        if hint is UpsamplerConfig:
            value = _parse(UpsamplerConfig, value)
        elif get_args(hint):
            if value not in get_args(hint):
                raise ValueError(f"{name} is {value!r}, not one of {get_args(hint)}")
        elif not isinstance(value, int if hint is int else (int, float)):
            raise TypeError(f"{name} is {value!r}, not a number")
        parsed[name] = value
    return kind(**parsed)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@dataclass(frozen=True)
class NetworkSource:
    """Where a network comes from, and the hash of its weights: an avatar code means nothing to other weights."""

    name: str  # folder, name of a model of this package, or Hub id
    revision: str | None  # commit of a Hub id
    sha256: str

    @staticmethod
    def of(name: str, revision: str | None = None) -> NetworkSource:
        """The source of a model named as in `from_pretrained`. Raises ModelUnavailable or BadCheckpoint."""
        return NetworkSource(name, revision, find_pretrained(name, revision).sha256)

    @staticmethod
    def from_json(values: Any) -> NetworkSource:
        """The source that an avatar file names. Raises KeyError or TypeError."""
        revision = values["revision"]
        return NetworkSource(str(values["name"]), None if revision is None else str(revision), str(values["sha256"]))


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
