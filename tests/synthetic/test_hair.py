"""Strand hair: families of styles, how they grow, and how heads wear them."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from flexavatar.expression import Expression
from flexavatar.gaussians import Gaussians
from flexavatar.rig import Rig
from flexavatar.rig.hair_displacement import outside_of
from flexavatar.rig.regions import atlas_regions
from flexavatar.rig.rig import head_motion
from flexavatar.rotations import rotation_from_angles
from flexavatar.synthetic import HeadAssets, SyntheticHead, SyntheticHeads, heads, wardrobe
from flexavatar.synthetic.beards import BEARDS, grow_beard
from flexavatar.synthetic.beards import LIMIT as BEARD_LIMIT
from flexavatar.synthetic.body import CELL, CORNER, Body, carry
from flexavatar.synthetic.hair import LIMIT, Ground, Strands, cover_of, grow_strands, placed_strands
from flexavatar.synthetic.hair_colors import draw_color
from flexavatar.synthetic.hair_styles import FAMILIES, HELD_OUT_FAMILIES, NEAR_THE_SCALP, draw_style
from flexavatar.synthetic.labels import uv_labels
from flexavatar.synthetic.pieces import StrandPiece

needs_data = pytest.mark.skipif("FLEXAVATAR_DATA" not in os.environ, reason="FLEXAVATAR_DATA is not set")
BROWN = np.array([0.3, 0.2, 0.1])
SPARSE = 0.1  # of the strands tell as much of a style


def grown(family: str, seed: int = 0, density: float = 1.0) -> Strands:
    r = np.random.default_rng(seed)
    style = draw_style(family, r)
    return grow_strands(replace(style, dense=density * style.dense), r, clothes=0.01)


def piece(family: str, seed: int = 0) -> StrandPiece:
    return placed(grown(family, seed), seed)


def placed(strands: Strands, seed: int = 0) -> StrandPiece:
    r = np.random.default_rng(seed)
    return placed_strands(strands, draw_color(r, BROWN), r, Rig.load().mean.numpy(), gloss=0.5)


def worn(assets: HeadAssets, family: str, monkeypatch: pytest.MonkeyPatch) -> SyntheticHead:
    plain = replace(heads.PARAMS, strand_share=1.0, bald=0.0, stubble=0.0, mesh_hat=0.0)
    monkeypatch.setattr(heads, "PARAMS", plain)
    monkeypatch.setattr(wardrobe, "PARAMS", replace(wardrobe.PARAMS, headwear=0.0, glasses=0.0, earrings=0.0))
    made = SyntheticHeads(assets)
    made._families = [family]
    return made[0]


def test_many_families_of_which_ten_are_held_out() -> None:
    assert len(FAMILIES) >= 40
    assert len(set(HELD_OUT_FAMILIES)) == 10
    assert set(HELD_OUT_FAMILIES) | set(NEAR_THE_SCALP) <= set(FAMILIES)
    for held in (True, False):
        assert any((name in HELD_OUT_FAMILIES) == held for name in NEAR_THE_SCALP), "hats need a style in both splits"


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_grows_outside_the_head(family: str) -> None:
    strands = grown(family, density=SPARSE)
    assert np.isfinite(strands.points).all()
    points = strands.points[np.arange(strands.points.shape[1])[None] < strands.count[:, None]]
    distance = map_coordinates(Body.load().distance, ((points - CORNER) / CELL).T, order=1)
    # Roots lie in the skin; the grid rounds ears and hairline off by as much.
    assert distance.min() > -0.006 and np.mean(distance < -0.002) < 0.02
    made = placed(strands)
    assert 2_000 * SPARSE < len(made.colors) <= LIMIT
    assert all(value.isfinite().all() for value in (made.ends, made.normals, made.widths, made.colors))
    cover = cover_of(draw_style(family, np.random.default_rng(0)))
    assert cover.min() >= 0 and cover.max() <= 1 and (cover <= Ground.load().scalp + 1e-6).all()


@pytest.mark.parametrize("family", ["buzz", "afro_medium", "long_straight", "box_braids"])
def test_whole_hair_fits_into_its_limit(family: str) -> None:
    assert 10_000 < len(piece(family).colors) <= LIMIT


def test_the_seed_decides() -> None:
    one, again, other = piece("long_straight"), piece("long_straight"), piece("long_straight", 1)
    torch.testing.assert_close(one.ends, again.ends, atol=0, rtol=0)
    torch.testing.assert_close(one.colors, again.colors, atol=0, rtol=0)
    assert one.ends.shape != other.ends.shape or not torch.equal(one.ends, other.ends)


def test_hair_follows_the_shape_of_the_head() -> None:
    rig, body = Rig.load(), Body.load()
    shape = torch.zeros(len(rig.shape_basis))
    shape[:3] = 2.0
    vertices = rig.pose(shape, torch.zeros(52))
    there = rig.anchors.positions(vertices).numpy()
    places = Ground.load().places
    scalp = Ground.load().scalp > 0.9
    off = np.linalg.norm(places + carry(body.carrier(vertices.numpy()), places) - there, axis=1)[scalp]
    assert np.quantile(off, 0.95) < 0.003
    assert np.linalg.norm(there - places, axis=1)[scalp].mean() > 0.002


def test_lone_hairs_are_no_surface() -> None:
    rig = Rig.load()
    frames = rig.anchors.frames(rig.mean)
    surface = Gaussians(frames.means, frames.quats, frames.scales, torch.ones(len(frames.means)), frames.means * 0)
    top = int(frames.means[:, 1].argmax())
    hairs = torch.linspace(-0.0014, 0.0014, 12)
    means = frames.means[top] + torch.stack([hairs, 0.01 + 0 * hairs, 0 * hairs], -1)
    long = torch.tensor([0.0002, 0.0002, 0.01]).expand(12, 3)
    cover = Gaussians(means, torch.tensor([[1.0, 0, 0, 0]]).expand(12, 4), long, torch.ones(12), torch.ones(12, 3))
    regions, valid = atlas_regions(rig), rig.atlas.valid.numpy()
    outside = outside_of(rig, torch.from_numpy(regions.scalp[valid]), torch.from_numpy(regions.torso[valid]))
    shown = torch.ones(len(frames.means), dtype=torch.bool)
    raised = [
        uv_labels(rig, outside, surface, c, torch.eye(3), shown).raised.sum()
        for c in (cover, cover.select(torch.tensor([5])))
    ]
    assert raised[0] > 0 and raised[1] == 0


@needs_data
def test_held_out_families_are_never_in_train(assets: HeadAssets) -> None:
    train, held = (SyntheticHeads(assets, split)._families for split in ("train", "eval"))
    assert set(held) == set(HELD_OUT_FAMILIES)
    assert not set(train) & set(held) and len(train) + len(held) == len(FAMILIES)


@needs_data
def test_strands_change_nothing_else_of_a_head(assets: HeadAssets, monkeypatch: pytest.MonkeyPatch) -> None:
    made = SyntheticHeads(assets)
    with_strands = next(head for i in range(50) if (head := made[i]).traits.hair in FAMILIES)
    monkeypatch.setattr(heads, "PARAMS", replace(heads.PARAMS, strand_share=0.0))
    without = made[with_strands.index]
    assert without.traits.hair not in FAMILIES
    assert with_strands.traits.face == without.traits.face and with_strands.traits.clothes == without.traits.clothes
    torch.testing.assert_close(with_strands.shape, without.shape, atol=0, rtol=0)
    torch.testing.assert_close(with_strands.light.coefficients, without.light.coefficients, atol=0, rtol=0)
    assert len(with_strands.pieces) == len(without.pieces)


@needs_data
def test_hair_on_the_shoulders_stays_there(assets: HeadAssets, monkeypatch: pytest.MonkeyPatch) -> None:
    head = worn(assets, "long_straight", monkeypatch)
    turned = Expression.of("neutral", rotation_from_angles(yaw=35))
    motion = head_motion(turned.head_rotation)
    count = len(head.pieces[0].colors)
    start = len(head.albedo)
    still, moved = (head.splats(e).means[start : start + count] for e in (None, turned))
    moved = moved @ motion[:3, :3].T + motion[:3, 3]
    drift = (moved - still).norm(dim=-1)
    assert drift[still[:, 1] < -0.21].quantile(0.9) < 0.012
    assert drift[still[:, 1] > 0.05].mean() > 0.02


@needs_data
def test_beards_follow_the_jaw(assets: HeadAssets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "PARAMS", replace(heads.PARAMS, bearded=1.0))
    monkeypatch.setattr(heads, "BEARDS", {"goatee": BEARDS["goatee"]})
    head = SyntheticHeads(assets)[0]
    assert head.traits.beard == "goatee" and 1_000 < len(head.pieces[0].colors) <= BEARD_LIMIT
    beard = slice(len(head.albedo), len(head.albedo) + len(head.pieces[0].colors))
    shut, open_ = (head.splats(Expression.of(name)).means[beard] for name in ("neutral", "open mouth"))
    low = shut[:, 1] < -0.085
    assert (shut - open_)[low][:, 1].mean() > 0.005
    assert (shut - open_)[shut[:, 1] > -0.06].norm(dim=-1).mean() < 0.008


def test_every_beard_lies_on_skin() -> None:
    ground = Ground.load()
    for kind, draw in BEARDS.items():
        r = np.random.default_rng(0)
        strands, cover = grow_beard(draw(r), r)
        assert np.isfinite(strands.points).all() and len(strands.points) > 500, kind
        assert cover.max() <= 1 and not cover[~ground.face].any()
        assert (ground.places[cover > 0.1][:, 1] < 0.03).all()


@needs_data
def test_labels_show_hair_where_it_is(assets: HeadAssets, monkeypatch: pytest.MonkeyPatch) -> None:
    scalp = torch.zeros(256, 256, dtype=torch.bool)
    scalp[assets.rig.atlas.valid] = assets.maps.scalp > 0.9
    high = torch.zeros(256, 256, dtype=torch.bool)
    high[assets.rig.atlas.valid] = torch.from_numpy(Ground.load().places[:, 1] > 0.09)
    assert worn(assets, "bob_chin", monkeypatch).labels().raised[scalp].float().mean() > 0.9
    bald_top = worn(assets, "tonsure", monkeypatch).labels().raised
    assert bald_top[scalp & high].float().mean() < 0.05
    assert bald_top[scalp & ~high].float().mean() > 0.3
