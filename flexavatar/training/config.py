"""What a training run does, in TOML. Every key is checked: an unknown or impossible one is an error."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flexavatar.errors import FlexAvatarError
from flexavatar.model.flex_s import FLEX_S, FlexSConfig

PRESETS = Path(__file__).parent / "configs"


class BadConfig(FlexAvatarError):
    """A training configuration cannot be used."""


class _Checked(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LossWeights(_Checked):
    """Weights of the terms of `losses`; a term of weight 0 is not computed."""

    position: float = 0.0  # distance to the labelled surface, centimetres
    color: float = 0.0  # L1 to the labelled colour
    copied: float = 0.0  # L1 of the colour that its cell found in the photo to the labelled one
    spread: float = 0.0  # log ratio to the size that covers the labelled surface
    presence: float = 0.0  # L1 of opacity to what is shown
    pixels: float = 0.0  # L1 of target views (Eq. 17)
    ssim: float = 0.0  # 1 - SSIM (Eq. 18)
    alpha: float = 0.0  # L1 to the matte
    perceptual: float = 0.0  # distance of deep features (Eq. 19-21)
    drift: float = 0.0  # centimetres off the rig where nothing is labelled

    @property
    def draws(self) -> bool:
        """Whether target views have to be rendered."""
        return any((self.pixels, self.ssim, self.alpha, self.perceptual))


class Stage(_Checked):
    """A part of the run. Each leaves a model that can be used."""

    name: str
    steps: int = Field(gt=0)
    learning_rate: float = Field(gt=0)
    final_rate: float = Field(0.1, ge=0, le=1)  # share of the learning rate at the end, reached along a cosine
    batch: int = Field(gt=0)  # records a step, over all processes
    views: int = Field(1, gt=0)  # target views of each that are compared
    multiview: float = Field(1.0, ge=0, le=1)  # share of multi-view records in every batch
    losses: LossWeights


class ModelChanges(_Checked):
    """Changes to flex-s: the ablations."""

    anchors: Literal["posed", "rest"] = FLEX_S.anchors
    queries: Literal["unwrapped", "points"] = FLEX_S.queries
    detail_channels: int = Field(FLEX_S.detail_channels, ge=0)
    head_hidden: int = Field(FLEX_S.head_hidden, gt=0)
    copies_colors: bool = FLEX_S.copies_colors
    styled: bool = FLEX_S.upsampler.styled
    channel_base: int = Field(FLEX_S.upsampler.channel_base, gt=0)
    width: int = Field(FLEX_S.width, gt=0)
    n_heads: int = Field(FLEX_S.n_heads, gt=0)
    n_image_layers: int = Field(FLEX_S.n_image_layers, gt=0)
    n_encoder_layers: int = Field(FLEX_S.n_encoder_layers, gt=0)
    n_decoder_layers: int = Field(FLEX_S.n_decoder_layers, gt=0)


class TrainingConfig(_Checked):
    """A run."""

    seed: int = 0
    precision: Literal["no", "bf16"] = "bf16"
    bias_sinks: bool = True  # False: every record is given the multi-view one
    warm_up: int = Field(200, ge=0)  # steps over which the learning rate rises, at the start of the run
    ema: float = Field(0.999, ge=0, lt=1)  # decay of the averaged weights a step
    weight_decay: float = Field(0.01, ge=0)
    clip: float = Field(1.0, gt=0)  # largest norm of the gradient
    workers: int = Field(0, ge=0)  # processes that read records
    log_every: int = Field(20, gt=0)  # steps
    save_every: int = Field(500, gt=0)
    check_every: int = Field(500, gt=0)  # validation
    check_records: int = Field(12, gt=0)
    model: ModelChanges = Field(default_factory=lambda: ModelChanges.model_validate({}))
    stages: tuple[Stage, ...] = Field(min_length=1)

    @property
    def steps(self) -> int:
        """Of all stages together."""
        return sum(stage.steps for stage in self.stages)

    def at(self, step: int) -> tuple[Stage, int]:
        """The stage that `step` (from 0) belongs to, and the step within it."""
        for stage in self.stages:
            if step < stage.steps:
                return stage, step
            step -= stage.steps
        raise IndexError("The run has ended.")

    @property
    def network(self) -> FlexSConfig:
        """The configuration of the network that is trained."""
        changes = self.model.model_dump()
        upsampler = {name: changes.pop(name) for name in ("styled", "channel_base")}
        return replace(FLEX_S, upsampler=replace(FLEX_S.upsampler, **upsampler), **changes)


def read_config(source: str | Path, changes: Sequence[str] = ()) -> TrainingConfig:
    """The preset of that name, or the TOML file at that path, with `changes` such as "stages.uv.steps=100".

    The value of a change is TOML. A stage is addressed by its name. Raises BadConfig.
    """
    path = Path(source)
    if not path.suffix:
        path = PRESETS / f"{source}.toml"
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        for change in changes:
            _change(document, change)
        return TrainingConfig.model_validate(document)
    except FileNotFoundError as error:
        known = ", ".join(sorted(file.stem for file in PRESETS.glob("*.toml")))
        raise BadConfig(f"There is no configuration {source}. Give a .toml file or one of: {known}.") from error
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadConfig(f"{path} cannot be read as TOML: {error}.") from error
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise BadConfig(f"{path.name} is not a training configuration: {wrong}.") from error


def _change(document: dict[str, Any], change: str) -> None:
    name, _, value = change.partition("=")
    place: Any = document
    *path, last = name.strip().split(".")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
        for key in path:
            if isinstance(place, list):
                place = next(item for item in place if item.get("name") == key)
            else:
                place = place.setdefault(key, {})
        place[last] = parsed
    except (tomllib.TOMLDecodeError, StopIteration, TypeError, AttributeError) as error:
        raise BadConfig(f"Cannot apply the change {change!r}. Write it as stages.NAME.steps=100 or seed=1.") from error
