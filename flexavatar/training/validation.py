"""How a model does on records that it is not trained on, in figures and as a picture."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from flexavatar.evaluation.metrics import matte_iou
from flexavatar.gaussians import Gaussians
from flexavatar.io.images import write_image
from flexavatar.metrics import psnr
from flexavatar.model.flex_s import FlexS
from flexavatar.render import render
from flexavatar.training.losses import draw_views
from flexavatar.training.records import INVALID, RAISED, TrainingBatch, TrainingRecord, stack, unpack

log = logging.getLogger(__name__)
SHEET_VIEWS = 4  # views of a record on the sheet


@torch.no_grad()
def check(model: FlexS, records: Sequence[TrainingRecord], sheet: Path | None = None) -> dict[str, float]:
    """Means over the labelled records, and a picture with a row for every record.

    "psnr" dB and "iou" of the target views; "rig_psnr" and "rig_iou" of the rig avatar; "raised_mm" and "surface_mm":
    median distance to the labels where hair or clothes stand off, and elsewhere. A row shows the photo; for each target
    view the truth, the network's with the multi-view sink and the rig's; last the first view with the monocular sink.
    """
    training = model.training
    model.eval()
    rows, figures = [], []
    for record in records:
        views = list(range(min(SHEET_VIEWS, len(record.cameras))))
        batch = unpack(stack([record], [views]), model.torso.device)
        head = model.encode(batch.observation)
        complete = model.decode(head, batch.expression, "multiview")
        rig = _rig(model, batch)
        white = torch.ones(1, 3, device=model.torso.device)
        drawn, base = (draw_views(gaussians, batch, white) for gaussians in (complete, rig))
        truth = batch.pictures[0, :, :3] + 1 - batch.pictures[0, :, 3:]
        if record.labelled:
            figures.append(
                {
                    "psnr": float(np.mean([psnr(a, b) for a, b in zip(drawn.rgb[0], truth, strict=True)])),
                    "rig_psnr": float(np.mean([psnr(a, b) for a, b in zip(base.rgb[0], truth, strict=True)])),
                    "iou": _iou(drawn.alpha[0], batch.pictures[0, :, 3:]),
                    "rig_iou": _iou(base.alpha[0], batch.pictures[0, :, 3:]),
                    **_distances(complete, batch),
                }
            )
        partial = model.decode(head, batch.expression, "monocular")
        other = render(partial[0], batch.camera[0, -1]).rgb[None]
        rows.append((batch.observation.images, truth, drawn.rgb[0], base.rgb[0], other))
    if sheet is not None:
        sheet.parent.mkdir(parents=True, exist_ok=True)
        write_image(sheet, _sheet(rows))
    model.train(training)
    names = figures[0] if figures else {}
    return {name: float(np.nanmean([row[name] for row in figures])) for name in names}


def _rig(model: FlexS, batch: TrainingBatch) -> Gaussians:
    seen = batch.observation
    frames = model.anchors(seen, batch.expression)
    return Gaussians(frames.means, frames.quats, frames.scales, seen.opacities, seen.colors)


def _iou(drawn: Tensor, truth: Tensor) -> float:
    return float(np.mean([matte_iou(a, b) for a, b in zip(drawn, truth, strict=True)]))


def _distances(gaussians: Gaussians, batch: TrainingBatch) -> dict[str, float]:
    away = 1000 * (gaussians.means - batch.labels.positions).norm(dim=-1)
    flags = batch.labels.flags
    raised, surface = away[flags == RAISED], away[(flags != RAISED) & (flags != INVALID)]
    return {
        "raised_mm": float(raised.median()) if len(raised) else float("nan"),
        "surface_mm": float(surface.median()) if len(surface) else float("nan"),
    }


def _sheet(rows: Sequence[tuple[Tensor, ...]]) -> np.ndarray:
    """[N * H, columns * W, 3] uint8."""
    height = max(row[1].shape[-2] for row in rows)
    lines = []
    for photo, truth, drawn, base, other in rows:
        tiles = [torch.nn.functional.interpolate(photo, (height, height), mode="bilinear")[0]]
        for view in range(SHEET_VIEWS):
            blank = torch.ones_like(truth[0])
            tiles += [pictures[view] if view < len(pictures) else blank for pictures in (truth, drawn, base)]
        tiles.append(other[0])
        lines.append(torch.cat([tile.clamp(0, 1).cpu() for tile in tiles], -1))
    return (torch.cat(lines, -2) * 255 + 0.5).to(torch.uint8).permute(1, 2, 0).numpy()
