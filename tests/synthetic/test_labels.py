"""What labels say of a texel beside its place and colour: part, strands, height, tone."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
import torch

from flexavatar.gaussians import Gaussians
from flexavatar.rig import Rig
from flexavatar.rig.anchors import outward_normals
from flexavatar.rig.hair_displacement import outside_of
from flexavatar.rig.regions import atlas_regions
from flexavatar.synthetic import HeadAssets, SyntheticHeads, wardrobe
from flexavatar.synthetic import heads as drawing
from flexavatar.synthetic.labels import Marks, UVLabels, texel_frames, uv_labels
from flexavatar.synthetic.pieces import PARTS

needs_data = pytest.mark.skipif("FLEXAVATAR_DATA" not in os.environ, reason="FLEXAVATAR_DATA is not set")


def test_texel_frames_are_rotations_that_look_outwards_and_up() -> None:
    rig = Rig.load()
    frames = texel_frames(rig, rig.mean)
    torch.testing.assert_close(frames.mT @ frames, torch.eye(3).expand_as(frames), atol=1e-4, rtol=0)
    assert (torch.linalg.det(frames) > 0.99).all()
    normal = outward_normals(rig.anchors.frames(rig.mean).quats)
    assert ((frames[..., 2] * normal).sum(-1) > 0.99).float().mean() > 0.99
    face = torch.from_numpy(atlas_regions(rig).face)[rig.atlas.valid]
    # Right in the atlas is the subject's left.
    assert (frames[face, 0, 0] > 0).float().mean() > 0.98 and (frames[face, 1, 1] > 0).float().mean() > 0.9


def patch(tones: torch.Tensor, part: str) -> UVLabels:
    """Labels of a rig under strands that run down 1 cm before the forehead; tones [N, N] across and along."""
    rig = Rig.load()
    frames = rig.anchors.frames(rig.mean)
    surface = Gaussians(
        frames.means, frames.quats, frames.scales, torch.ones(len(frames.means)), 0 * frames.means + 0.5
    )
    middle = frames.means[(frames.means - torch.tensor([0.0, 0.045, 0.03])).norm(dim=-1).argmin()]
    side = len(tones)
    x, y = torch.meshgrid(torch.linspace(-0.02, 0.02, side), torch.linspace(0.02, -0.02, side), indexing="ij")
    means = middle + torch.stack([x, y, 0.01 + 0 * x], -1).reshape(-1, 3)
    # A quarter turn about x takes the long axis to -y: down.
    quats = torch.tensor([0.5**0.5, 0.5**0.5, 0.0, 0.0]).expand(len(means), 4)
    scales = torch.tensor([0.0003, 0.0003, 0.0015]).expand(len(means), 3)
    tone = tones.reshape(-1)
    cover = Gaussians(means, quats, scales, torch.ones(len(means)), tone[:, None].expand(-1, 3))
    regions, valid = atlas_regions(rig), rig.atlas.valid.numpy()
    outside = outside_of(rig, torch.from_numpy(regions.scalp[valid]), torch.from_numpy(regions.torso[valid]))
    marks = Marks(
        texel_frames(rig, rig.mean),
        torch.full((len(frames.means),), PARTS.index("skin"), dtype=torch.uint8),
        torch.full((len(frames.means),), 0.5),
        torch.full((len(means),), PARTS.index(part), dtype=torch.uint8),
        tone,
    )
    return uv_labels(rig, outside, surface, cover, torch.eye(3), torch.ones(len(frames.means), dtype=torch.bool), marks)


def test_labels_say_part_direction_height_and_tone() -> None:
    labels = patch(torch.full((60, 60), 0.3), "hair")
    assert labels.parts is not None and labels.strands is not None and labels.heights is not None
    assert labels.tones is not None and labels.raised.sum() > 100
    raised, bare = labels.raised, labels.valid & ~labels.raised
    assert (labels.parts[raised] == PARTS.index("hair")).all() and (labels.parts[bare] == PARTS.index("skin")).all()
    assert (labels.parts[~labels.valid] == PARTS.index("none")).all()
    strands = labels.strands[:, raised]
    torch.testing.assert_close(strands.norm(dim=0), torch.ones(strands.shape[1]), atol=1e-4, rtol=0)
    assert strands[1].median() < -0.9, "they run down"
    assert (labels.strands[:, bare] == 0).all()
    assert 0.006 < float(labels.heights[raised].median()) < 0.014 and (labels.heights[bare] == 0).all()
    assert abs(float(labels.tones[0, raised].median()) - 0.3) < 0.01
    assert float(labels.tones[1:, raised].max()) < 1e-3


def test_tone_varies_along_or_across() -> None:
    stripes = torch.where(torch.arange(60) % 2 == 0, 0.2, 0.4)
    bands = torch.where((torch.arange(60) // 10) % 2 == 0, 0.2, 0.4)
    across = patch(stripes[:, None].expand(60, 60), "hair")
    along = patch(bands[None].expand(60, 60), "hair")
    assert across.tones is not None and along.tones is not None
    assert across.tones[2, across.raised].median() > 0.25 > 0.1 > across.tones[1, across.raised].median()
    assert along.tones[1, along.raised].median() > 0.2 > 0.1 > along.tones[2, along.raised].median()


def test_unmarked_labels_say_nothing_of_parts() -> None:
    rig = Rig.load()
    frames = rig.anchors.frames(rig.mean)
    surface = Gaussians(frames.means, frames.quats, frames.scales, torch.ones(len(frames.means)), 0 * frames.means)
    outside = outside_of(rig, torch.zeros(len(frames.means)), torch.zeros(len(frames.means)))
    nothing = surface.select(torch.zeros(0, dtype=torch.long))
    labels = uv_labels(rig, outside, surface, nothing, torch.eye(3), torch.ones(len(frames.means), dtype=torch.bool))
    assert labels.parts is None and labels.tones is None


@needs_data
def test_heads_labels_tell_hats_hair_and_cloth(assets: HeadAssets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wardrobe, "PARAMS", replace(wardrobe.PARAMS, headwear=1.0, glasses=1.0, clothes=1.0))
    monkeypatch.setattr(drawing, "PARAMS", replace(drawing.PARAMS, bald=0.0, stubble=0.0))
    heads = SyntheticHeads(assets)
    heads._wardrobe.hats, heads._wardrobe.clothes, heads._wardrobe.glasses = (
        ["beanie_cuffed"],
        ["turtleneck"],
        ["square"],
    )
    heads._families = ["long_straight"]
    labels = heads[5].labels()
    assert labels.parts is not None and labels.strands is not None and labels.heights is not None
    share = torch.bincount(labels.parts[labels.valid].long(), minlength=len(PARTS)) / labels.valid.sum()
    least = {"skin": 0.1, "hair": 0.03, "cloth": 0.02, "hat": 0.1, "glasses": 0.001}
    assert all(share[PARTS.index(name)] > value for name, value in least.items()), share
    assert share[PARTS.index("none")] == 0
    hair = labels.raised & (labels.parts == PARTS.index("hair"))
    assert (labels.strands[:, hair].norm(dim=0) > 0.9).float().mean() > 0.9
    assert labels.heights[labels.raised].median() > 0.002 and labels.heights.max() < 0.17
