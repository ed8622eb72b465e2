"""Small training records of heads that the rig itself makes: a raised, coloured scalp on a posed head."""

from __future__ import annotations

from pathlib import Path

import torch

from flexavatar.camera import Camera
from flexavatar.expression import BLENDSHAPE_INDEX, Expression
from flexavatar.gaussians import Gaussians
from flexavatar.model.flex_s import SHELL_CHANNELS, FlexSObservation
from flexavatar.render import render
from flexavatar.rig import Rig
from flexavatar.rig.anchors import outward_normals
from flexavatar.rig.regions import atlas_regions
from flexavatar.synthetic.labels import UVLabels
from flexavatar.training.records import TrainingRecord

SIZE = 64
RAISED = 0.02  # metres


def made_record(seed: int, labelled: bool = True) -> TrainingRecord:
    """A head whose hair stands 2 cm off, with two target views, or one without labels."""
    generator = torch.Generator().manual_seed(seed)
    rig = Rig.load()
    grid = rig.atlas.valid
    scalp = torch.from_numpy(atlas_regions(rig).scalp)[grid] > 0.5
    blendshapes = torch.zeros(52)
    blendshapes[BLENDSHAPE_INDEX["jawOpen"]] = torch.rand((), generator=generator)
    expression = Expression(blendshapes, torch.eye(3))
    shape = 0.5 * torch.randn(len(rig.shape_basis), generator=generator)
    frames = rig.anchors.frames(rig.pose(shape, blendshapes))
    hair, skin = torch.rand(2, 3, generator=generator)
    colors = torch.where(scalp[:, None], hair, skin)
    means = frames.means + RAISED * scalp[:, None] * outward_normals(frames.quats)
    head = Gaussians(means, frames.quats, frames.scales * 1.3, torch.full((len(means),), 0.98), colors)
    camera = Camera.stack([Camera.orbit(yaw, 0, SIZE) for yaw in ((0, 150) if labelled else (0,))])
    drawn = render(head, camera, (0.0, 0.0, 0.0))

    def atlas(values: torch.Tensor) -> torch.Tensor:
        filled = torch.zeros(*grid.shape, *values.shape[1:], dtype=values.dtype)
        filled[grid] = values
        return filled

    shown = torch.ones(len(means), dtype=torch.bool)
    labels = UVLabels(atlas(means).permute(2, 0, 1), atlas(colors).permute(2, 0, 1), atlas(shown), atlas(scalp))
    photo = render(head, camera[0].resized(256, 256)).rgb.clamp(0, 1)
    shells = torch.rand(SHELL_CHANNELS, *grid.shape, generator=generator) * grid
    observation = FlexSObservation(
        images=photo[None],
        camera=camera[:1],
        shells=shells[None],
        shape=shape[None],
        neutral_blendshapes=torch.zeros(1, 52),
        colors=skin.expand(1, len(means), 3),
        opacities=torch.full((1, len(means)), 0.98),
    )
    pictures = torch.cat([drawn.rgb, drawn.alpha], 1)
    weights = torch.ones(len(pictures), 1, SIZE, SIZE)
    return TrainingRecord.build(observation, expression, camera, pictures, weights, labels if labelled else None)


def made_pool(folder: Path, synthetic: int = 3, portraits: int = 2) -> Path:
    """A folder of such records."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(synthetic):
        made_record(number).save(folder / f"synthetic-{number:06d}.safetensors")
    for number in range(portraits):
        made_record(100 + number, labelled=False).save(folder / f"portrait-{number:06d}.safetensors")
    return folder
