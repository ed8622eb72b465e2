"""The state of a run on disk: safetensors and JSON, never a pickle."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from flexavatar.model.checkpoint import BadCheckpoint
from flexavatar.model.flex_s import FlexS
from flexavatar.model.pretrained import save_pretrained
from flexavatar.training.config import TrainingConfig

MOMENTS = ("exp_avg", "exp_avg_sq", "step")


@dataclass(frozen=True)
class Progress:
    """Steps and time of a training run so far."""

    step: int  # steps that are done
    seconds: float  # that they took


def save_state(
    run: Path, model: FlexS, average: FlexS, optimizer: Any, config: TrainingConfig, progress: Progress
) -> None:
    """Write `run/state` and `run/model`; what was there is replaced as a whole, so a crash never leaves half of it."""
    new, old, place = run / "state.new", run / "state.old", run / "state"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    for name, tensors in (
        ("weights", model.state_dict()),
        ("average", average.state_dict()),
        ("optimizer", _moments(model, optimizer)),
    ):
        save_file(
            {key: value.detach().cpu().contiguous() for key, value in tensors.items()}, new / f"{name}.safetensors"
        )
    about = {**asdict(progress), "config": config.model_dump(mode="json")}
    (new / "progress.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(old, ignore_errors=True)
    if place.is_dir():
        place.rename(old)
    new.rename(place)
    shutil.rmtree(old, ignore_errors=True)
    (run / "model").mkdir(exist_ok=True)
    save_pretrained(average, run / "model")


def load_state(
    folder: Path, model: FlexS, average: FlexS, optimizer: torch.optim.Optimizer, config: TrainingConfig
) -> Progress:
    """Fill model, average and optimizer. Raises BadCheckpoint if the state is damaged or of another network."""
    try:
        about = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
        if about["config"]["model"] != config.model.model_dump(mode="json"):
            raise BadCheckpoint(f"{folder} holds another network than the configuration describes. Use a new folder.")
        model.load_state_dict(load_file(folder / "weights.safetensors"))
        average.load_state_dict(load_file(folder / "average.safetensors"))
        _restore(model, optimizer, load_file(folder / "optimizer.safetensors"))
        return Progress(about["step"], about["seconds"])
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise BadCheckpoint(
            f"The training state {folder} cannot be read ({error}). Delete it to start anew."
        ) from error


def _moments(model: FlexS, optimizer: Any) -> dict[str, Tensor]:
    """Adam's moments by the name of the parameter; none for parameters that never had a gradient."""
    states = optimizer.state
    return {
        f"{name}/{moment}": states[parameter][moment].reshape(-1) if moment == "step" else states[parameter][moment]
        for name, parameter in model.named_parameters()
        if parameter in states
        for moment in MOMENTS
    }


def _restore(model: FlexS, optimizer: torch.optim.Optimizer, moments: dict[str, Tensor]) -> None:
    names = {name for name, _ in (key.rsplit("/", 1) for key in moments)}
    named = {id(parameter): name for name, parameter in model.named_parameters()}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    states = {}
    for index, parameter in enumerate(parameters):
        name = named[id(parameter)]
        if name in names:
            kept = {moment: moments[f"{name}/{moment}"] for moment in MOMENTS}
            states[index] = kept | {"step": kept["step"].reshape(())}
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
