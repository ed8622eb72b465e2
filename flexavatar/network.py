"""Avatars by a network: encoded from one view, fitted to all of them (paper sections 3.1 and 3.5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from flexavatar.avatar import THUMBNAIL_SIZE, Avatar, NetworkCode
from flexavatar.capture.settings import Quality
from flexavatar.fitting.fit import FitSettings, fit_head
from flexavatar.fitting.observation import observe_face
from flexavatar.fitting.perceptual import available_terms
from flexavatar.model.observation import observe
from flexavatar.model.source import NetworkSource, load_network
from flexavatar.tracking import TrackedFace

FIT_STEPS: dict[Quality, int] = {"instant": 0, "fast": 30, "balanced": 100, "best": 300}
CODE_RATE, COLOR_RATE = 0.06, 0.03  # learning rates of the code, and of the corrections to colours, 0..1
MATTE_WEIGHT, PRIOR_WEIGHT = 2.0, 0.3  # outlines are most of what is left to fit; what no photo shows stays as it is
START_SECONDS, STEP_SECONDS = 1.0, 0.36  # encoding, and a step of fitting, on 2 idle cores (docs/timings.md)


def fit_steps(quality: Quality, views: int) -> int:
    """Steps of fitting to so many views. One step sees one view, so several views need more."""
    return FIT_STEPS[quality] * (2 if views > 1 else 1)


def fit_seconds(quality: Quality, views: int) -> float:
    """Seconds that `create_network_avatar` takes on 2 idle cores with so many steps."""
    return START_SECONDS + fit_steps(quality, views) * STEP_SECONDS


def create_network_avatar(
    source: NetworkSource,
    rig_avatar: Avatar,
    views: Sequence[TrackedFace],
    base: int = 0,
    steps: int = 100,
    progress: Callable[[float], object] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Avatar:
    """The avatar that the network makes of `views[base]`, fitted to all views in `steps` steps (0: not at all).

    `rig_avatar` is of the same views. `progress` hears of the share of the steps that are done; when `cancelled` says
    so, the best code so far is taken. Raises ModelUnavailable or BadCheckpoint.
    """
    model = load_network(source)
    with torch.no_grad():
        head = model.encode(observe(views[base], rig_avatar))
    fitted = 0
    if steps:
        observations = [observe_face(view, rig_avatar.rest) for view in views]
        report = (lambda step, loss: progress(step / steps)) if progress is not None else None
        settings = FitSettings(
            steps, CODE_RATE, color_rate=COLOR_RATE, matte_weight=MATTE_WEIGHT, prior_weight=PRIOR_WEIGHT
        )
        head, result = fit_head(model, head, observations, settings, available_terms(), report, cancelled)
        fitted = len(result.losses)
    metadata = {**rig_avatar.metadata, "model": source.name, "fitting_steps": fitted}
    code = NetworkCode(head.code[0].detach(), head.detail[0].detach(), head.corrections[0].detach(), source)
    avatar = replace(rig_avatar, network=code, metadata=metadata)
    return replace(avatar, thumbnail=avatar.render(size=THUMBNAIL_SIZE))
