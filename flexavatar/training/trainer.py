"""The training loop: the same code on one CPU and on many GPUs, under `accelerate`."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import PARAM_LIST, AveragedModel

from flexavatar.gaussians import Gaussians
from flexavatar.metrics import PerceptualTerm
from flexavatar.model.flex_s import FlexS
from flexavatar.model.upsampler import ModulatedWeight
from flexavatar.reconstruction.perceptual import available_terms
from flexavatar.rig.anchors import AnchorFrames
from flexavatar.training.checkpoint import Progress, load_state, save_state
from flexavatar.training.config import TrainingConfig
from flexavatar.training.losses import draw_views, drift, label_losses, picture_losses
from flexavatar.training.records import TrainingBatch, TrainingRecord, unpack
from flexavatar.training.resident import ResidentPool
from flexavatar.training.sampling import RecordPool
from flexavatar.training.validation import check

if TYPE_CHECKING:
    from accelerate import Accelerator

log = logging.getLogger(__name__)


class Forward(nn.Module):
    """Photo to posed Gaussians as one call, which is what data-parallel training wraps."""

    def __init__(self, model: FlexS, bias_sinks: bool) -> None:
        super().__init__()
        self.model, self.bias_sinks = model, bias_sinks

    def forward(self, batch: TrainingBatch) -> tuple[Gaussians, AnchorFrames, Tensor]:
        """Gaussians [B, G], their anchors and the colours [B, G, 3] that their cells found in the photo."""
        model, seen = self.model, batch.observation
        sinks = batch.bias_sinks if self.bias_sinks else "multiview"
        head = model.encode(seen)
        return *model.decode_on_anchors(head, batch.expression, sinks), head.copied[:, :, 0]


class Trainer:
    """One run in a folder.

    `run/state` holds everything that an exact continuation needs, `run/model` the averaged weights as
    `from_pretrained` reads them (24 MB), `run/log.jsonl` and TensorBoard files the losses, `run/sheets` pictures.
    """

    def __init__(
        self,
        config: TrainingConfig,
        pool: RecordPool | ResidentPool,
        run: Path,
        accelerator: Accelerator,
        checks: Sequence[TrainingRecord] = (),
        model: FlexS | None = None,
    ) -> None:
        """`model` is what to start from, by default new weights. If the run has begun, it goes on where it was."""
        self.config, self.pool, self.run, self.accelerator = config, pool, run, accelerator
        self.checks = checks
        torch.manual_seed(config.seed)
        model = model or FlexS(config.network)
        model = model.requires_grad_(True).train().to(accelerator.device)
        self.averaging = AveragedModel(model, multi_avg_fn=_averages(config.ema)).requires_grad_(False)
        self.average = cast(FlexS, self.averaging.module)
        on_gpu = accelerator.device.type == "cuda"
        self.optimizer = torch.optim.AdamW(
            parameter_groups(model), lr=1.0, betas=(0.9, 0.99), weight_decay=config.weight_decay, fused=on_gpu
        )
        self.progress = Progress(step=0, seconds=0.0)
        if (run / "state").is_dir():
            self.progress = load_state(run / "state", model, self.average, self.optimizer, config)
            self.averaging.n_averaged.fill_(self.progress.step)  # else it would begin anew
            log.info("going on at step %d of %d", self.progress.step, config.steps)
        self.model = model
        self.forward, self.optimizer = accelerator.prepare(Forward(model, config.bias_sinks), self.optimizer)
        needs_features = any(stage.losses.perceptual for stage in config.stages)
        self.terms: list[PerceptualTerm] = available_terms(accelerator.device) if needs_features else []

    def train(self, until: int | None = None, minutes: float | None = None, paced: bool = False) -> Progress:
        """Train to the end, up to step `until`, or for so many minutes; then save.

        paced: the run's steps are dealt out over its first `minutes`, however many of them this machine manages; a
        schedule that ends with the time that a machine is there for.
        """
        config, accelerator = self.config, self.accelerator
        started, before = time.monotonic(), self.progress.seconds
        last = min(until or config.steps, config.steps)
        feed = self.pool.feed(
            config, self.progress.step, accelerator.process_index, accelerator.num_processes, accelerator.device
        )
        pending: dict[str, list[Tensor]] = {}
        while self.progress.step < last:
            losses = self._step(feed(self.progress.step))
            for name, value in losses.items():
                pending.setdefault(name, []).append(value)
            seconds = before + time.monotonic() - started
            step = self.progress.step + 1
            if paced and minutes is not None:
                step = max(self.progress.step, int(config.steps * seconds / (60 * minutes)))
            reached = lambda every, step=step: step // every > self.progress.step // every  # noqa: E731
            log_now, save_now, check_now = map(reached, (config.log_every, config.save_every, config.check_every))
            self.progress = Progress(min(step, last), seconds)
            if log_now:
                known = {name: float(torch.stack(values).mean()) for name, values in pending.items()}
                self._log(known | {"batches": float(len(pending["loss"]))})
                pending = {}
            if save_now and step < last:
                self.save()
            if self.checks and check_now:
                self._check()
            if not paced and minutes is not None and self._any(time.monotonic() - started > 60 * minutes):
                break
        self.save()
        return self.progress

    def save(self) -> None:
        """Write the state and the averaged model. Only the main process writes."""
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            save_state(self.run, self.model, self.average, self.optimizer, self.config, self.progress)
        self.accelerator.wait_for_everyone()

    def _step(self, stacked: dict[str, Tensor]) -> dict[str, Tensor]:
        stage, within = self.config.at(self.progress.step)
        device = self.accelerator.device
        batch, backgrounds = unpack(stacked, device), stacked["backgrounds"].to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            gaussians, anchors, copied = self.forward(batch)
        weights = stage.losses
        terms = label_losses(gaussians, anchors, copied, batch.labels, self.model.rig.atlas.valid, weights)
        if weights.draws:
            drawn = draw_views(gaussians, batch, backgrounds)
            terms |= picture_losses(drawn, batch, backgrounds, weights, self.terms)
        if weights.drift:
            terms["drift"] = drift(gaussians, anchors, batch.labels)
        total = torch.stack([getattr(weights, name) * term.mean() for name, term in terms.items()]).sum()
        for group in self.optimizer.param_groups:
            group["lr"] = group["pace"] * learning_rate(self.config, self.progress.step, within)
        self.accelerator.backward(total)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        if torch.isfinite(norm):  # else one broken step would end the run
            self.optimizer.step()
            self.averaging.update_parameters(self.model)
        self.optimizer.zero_grad(set_to_none=True)
        reported = {"loss": total.detach(), "gradient": norm.detach()}
        return reported | {name: _mean_of_known(name, term.detach(), batch) for name, term in terms.items()}

    def _any(self, stop: bool) -> bool:
        """Whether any process wants to stop: all must stop at the same step."""
        flag = torch.tensor(float(stop), device=self.accelerator.device)
        return float(self._reduced(flag, "sum")) > 0

    def _reduced(self, values: Tensor, how: str) -> Tensor:
        return cast(Tensor, self.accelerator.reduce(values, how))

    def _log(self, values: dict[str, float]) -> None:
        names = sorted(values)
        gathered = torch.tensor([values[name] for name in names], device=self.accelerator.device)
        means = self._reduced(gathered, "mean").tolist()
        stage, _ = self.config.at(self.progress.step - 1)
        line = {"step": self.progress.step, "stage": stage.name, "seconds": round(self.progress.seconds, 1)}
        self._write(line, {name: round(value, 6) for name, value in zip(names, means, strict=True)})

    def _check(self) -> None:
        if not self.accelerator.is_main_process:
            return
        figures = check(self.average, self.checks, self.run / "sheets" / f"{self.progress.step:07d}.png")
        self._write({"step": self.progress.step}, {f"check/{name}": round(v, 4) for name, v in figures.items()})

    def _write(self, about: dict[str, object], values: dict[str, float]) -> None:
        if not self.accelerator.is_main_process:
            return
        log.info("%s", {**about, **values})
        self.run.mkdir(parents=True, exist_ok=True)
        with (self.run / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({**about, **values}) + "\n")
        self.accelerator.log(values, step=self.progress.step)


def _averages(decay: float):
    """Exponential averages that forget the first, bad weights sooner than `decay` alone would."""

    @torch.no_grad()
    def update(averages: PARAM_LIST, weights: PARAM_LIST, count: int | Tensor) -> None:
        # As in TensorFlow's ExponentialMovingAverage.
        share = 1 - min(decay, (1 + int(count)) / (10 + int(count)))
        torch._foreach_lerp_(averages, weights, share)

    return update


def parameter_groups(model: nn.Module) -> list[dict[str, object]]:
    """Parameters with the factor on their learning rate.

    StyleGAN's weights are of size 1, all others of about 0.1: steps of one size would leave the upsampler as it was.
    """
    styled = [module.weight for module in model.modules() if isinstance(module, ModulatedWeight)]
    chosen = {id(parameter) for parameter in styled}
    others = [parameter for parameter in model.parameters() if id(parameter) not in chosen]
    groups: list[dict[str, object]] = [{"params": others, "pace": 1.0}]
    return [*groups, {"params": styled, "pace": 10.0}] if styled else groups


def learning_rate(config: TrainingConfig, step: int, within: int) -> float:
    """The rate at `step` of the run, which is step `within` of its stage."""
    stage, _ = config.at(step)
    cosine = 0.5 + 0.5 * math.cos(math.pi * within / stage.steps)
    rate = stage.learning_rate * (stage.final_rate + (1 - stage.final_rate) * cosine)
    return rate * min(1.0, (step + 1) / max(config.warm_up, 1))


def _mean_of_known(name: str, term: Tensor, batch: TrainingBatch) -> Tensor:
    """Label terms are 0 for records without labels, which says nothing about how well they are met."""
    if name not in ("position", "color", "copied", "presence", "spread"):
        return term.mean()
    known = sum(sink == "multiview" for sink in batch.bias_sinks)
    return term.sum() / max(known, 1)
