"""What heads wear: headwear, glasses, earrings, clothes and brows of our own geometry."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
import torch

from flexavatar.expression import Expression
from flexavatar.rig import Rig
from flexavatar.rotations import rotation_from_angles
from flexavatar.synthetic import HeadAssets, SyntheticHead, SyntheticHeads, wardrobe
from flexavatar.synthetic.brows import (
    BROWS,
    brow_growth,
    brow_strength,
    grow_brows,
    without_brows,
)
from flexavatar.synthetic.brows import (
    PARAMS as BROW_PARAMS,
)
from flexavatar.synthetic.collars import CLOTHES, HELD_OUT_CLOTHES
from flexavatar.synthetic.eyewear import GLASSES, HELD_OUT_GLASSES, make_glasses
from flexavatar.synthetic.fabrics import draw_fabric
from flexavatar.synthetic.hair import Ground, grow_strands, placed_strands
from flexavatar.synthetic.hair_colors import draw_color
from flexavatar.synthetic.hair_styles import draw_style
from flexavatar.synthetic.headwear import HATS, HELD_OUT_HATS, off_head
from flexavatar.synthetic.jewelry import EARRINGS, HELD_OUT_EARRINGS, earrings
from flexavatar.synthetic.sheets import SKULL, Sheet, ball, off_skin, plain, sheet_piece
from flexavatar.synthetic.wardrobe import Wardrobe, Worn, dressed

needs_data = pytest.mark.skipif("FLEXAVATAR_DATA" not in os.environ, reason="FLEXAVATAR_DATA is not set")
ON_NECK = ("hood", "hijab")  # their shells go on into what lies on the shoulders, where they are not drawn


def numbers(seed: int = 0):
    one, two, three, four = (np.random.default_rng(seed + k) for k in range(4))
    return one, two, three, four


def wearing(hat: str | None = None, clothes: str | None = None, glasses: str | None = None, seed: int = 0) -> Worn:
    return dressed(hat, glasses, None, clothes, numbers(seed), Rig.load().mean.numpy())


def test_families_are_held_out_by_name() -> None:
    kinds = (
        (HATS, HELD_OUT_HATS),
        (GLASSES, HELD_OUT_GLASSES),
        (EARRINGS, HELD_OUT_EARRINGS),
        (CLOTHES, HELD_OUT_CLOTHES),
    )
    train, held = Wardrobe(False), Wardrobe(True)
    for families, names in kinds:
        assert set(names) < set(families)
    assert set(train.hats) | set(held.hats) == set(HATS) and not set(train.hats) & set(held.hats)
    assert set(held.clothes) == set(HELD_OUT_CLOTHES) and set(held.glasses) == set(HELD_OUT_GLASSES)


@pytest.mark.parametrize("family", HATS)
def test_headwear_stays_outside_the_head(family: str) -> None:
    for seed in range(3):
        worn = HATS[family](np.random.default_rng(seed))
        if family not in ON_NECK:
            assert off_head(worn) > -0.0005
        made = sheet_piece(
            worn.sheets, "hat", Rig.load().mean.numpy(), np.random.default_rng(0), on_torso=worn.on_torso
        )
        assert 1_000 < len(made.colors) < 120_000
        assert all(value.isfinite().all() for value in (made.means, made.axes, made.colors))
        assert float(off_skin(made.means.numpy().astype(np.float64)).min()) > -0.004
        assert float(made.means[:, 1].max()) < 0.30


@pytest.mark.parametrize("family", CLOTHES)
def test_clothes_lie_on_the_bust(family: str) -> None:
    for seed in range(3):
        r = np.random.default_rng(seed)
        made = CLOTHES[family](r, draw_fabric(r))
        piece = sheet_piece(made.sheets, "cloth", Rig.load().mean.numpy(), r, on_torso=True)
        assert 3_000 < len(piece.colors) < 90_000
        off = off_skin(piece.means.numpy().astype(np.float64))
        inside = piece.means[:, 1].numpy() > -0.20  # the field is that of a surface which ends below
        assert np.quantile(off[inside], 0.001) > -0.0015 and off[inside].max() < 0.075
        covered = torch.from_numpy(made.covered)
        assert not covered[Rig.load().mean[:, 1] > -0.09].any(), "faces are not hidden"


@pytest.mark.parametrize("family", GLASSES)
def test_glasses_stand_off_the_face(family: str) -> None:
    for seed in range(3):
        r = np.random.default_rng(seed)
        made = make_glasses(GLASSES[family](r), r)
        assert min(float(off_skin(sheet.points).min()) for sheet in made.frame) > -0.0015
        lenses = np.concatenate([sheet.points.reshape(-1, 3) for sheet in made.lenses])
        assert float(off_skin(lenses).min()) > 0 and lenses[:, 2].max() < 0.06
        assert 0 < made.lens_opacity < 1


@pytest.mark.parametrize("family", EARRINGS)
def test_earrings_hang_from_the_ears(family: str) -> None:
    for seed in range(3):
        points = np.concatenate(
            [sheet.points.reshape(-1, 3) for sheet in earrings(family, np.random.default_rng(seed))]
        )
        assert (np.abs(points[:, 0]) > 0.055).all() and points[:, 1].max() < -0.03
        assert np.abs(points[:, 0]).max() < 0.12


def test_the_seed_decides() -> None:
    one, again, other = (wearing("fedora", "shirt", "round", seed) for seed in (0, 0, 7))
    for first, second in zip(one.pieces, again.pieces, strict=True):
        torch.testing.assert_close(first.colors, second.colors, atol=0, rtol=0)
    assert one.pieces[0].colors.shape != other.pieces[0].colors.shape or not torch.equal(
        one.pieces[0].colors, other.pieces[0].colors
    )


def test_splats_cover_a_surface_evenly() -> None:
    sphere = Sheet(ball(np.array([0.0, 0.4, 0.0]), 0.05, 25), plain(np.ones(3)), spacing=0.002)
    made = sheet_piece([sphere], "hat", Rig.load().mean.numpy(), np.random.default_rng(0))
    out = torch.nn.functional.normalize(made.means - made.means.mean(0), dim=-1)
    normal = torch.linalg.cross(made.axes[:, 0], made.axes[:, 1])
    assert (out * normal).sum(-1).min() > 0.95
    octants = ((out > 0) * torch.tensor([1, 2, 4])).sum(-1).bincount()
    assert octants.max() < 1.05 * octants.min()


@pytest.mark.parametrize("hat", ["cap", "beanie_cuffed", "turban", "headband"])
def test_hair_is_pressed_under_headwear(hat: str) -> None:
    r = np.random.default_rng(0)
    strands = grow_strands(draw_style("afro_medium", r), r, 0.01)
    worn = wearing(hat)
    assert worn.covers is not None
    flat = worn.arranged(strands)
    dome = worn.covers.inside[0]
    middle = dome.points[:, dome.points.shape[1] // 2 : -1] if dome.closed else dome.points[:, 1:2]
    reach = np.linalg.norm(middle - SKULL, axis=-1).max()
    assert np.linalg.norm(strands.points - SKULL, axis=-1).max() > reach + 0.01
    there = np.arange(flat.points.shape[1])[None] < flat.count[:, None]
    points = flat.points[there]
    hidden, close = worn.under(points.astype(np.float64))
    if dome.closed:
        assert hidden.any() and np.linalg.norm(points[hidden] - SKULL, axis=-1).max() < reach + 0.002
    piece = placed_strands(flat, draw_color(r, np.full(3, 0.2)), r, Rig.load().mean.numpy(), 0.3, under=worn.under)
    assert not worn.under(piece.ends.mean(1).numpy().astype(np.float64))[0].any()
    assert close.any()


def test_long_hair_lies_over_a_scarf() -> None:
    r = np.random.default_rng(0)
    strands = grow_strands(draw_style("long_straight", r), r, 0.014)
    worn = wearing(None, "scarf")
    over = worn.arranged(strands)
    assert np.abs(over.points - strands.points).max() > 0.005
    again = worn.arranged(over)
    assert np.abs(again.points - over.points).max() < 0.004


@pytest.mark.parametrize("family", BROWS)
def test_brows_grow_over_the_eyes(family: str) -> None:
    r = np.random.default_rng(0)
    brows = BROWS[family](r)
    there = brow_growth(brows)
    places = Ground.load().places
    assert there.sum() > 20 and (np.abs(places[there > 0.5, 0]) < 0.062).all()
    assert places[there > 0.5, 1].min() > 0.0 and places[there > 0.5, 1].max() < 0.025
    strands, cover = grow_brows(brows, r)
    piece = placed_strands(strands, draw_color(r, np.full(3, 0.2)), r, Rig.load().mean.numpy(), 0.2, BROW_PARAMS.limit)
    assert 150 < len(piece.colors) <= BROW_PARAMS.limit
    assert cover.max() <= 1 and (cover[there == 0] == 0).all()


def test_weak_brows_make_room() -> None:
    ground = Ground.load()
    skin = torch.full((len(ground.places), 3), 0.6)
    assert brow_strength(skin.numpy()) > 0.99
    there = torch.from_numpy(brow_growth(BROWS["natural"](np.random.default_rng(0)))).float()[:, None]
    weak = skin * (1 - 0.15 * there)
    assert BROW_PARAMS.weak > brow_strength((skin * (1 - 0.5 * there)).numpy())
    assert brow_strength(without_brows(weak).numpy()) > 0.97


def dressed_head(assets: HeadAssets, monkeypatch: pytest.MonkeyPatch, hat: str, clothes: str) -> SyntheticHead:
    monkeypatch.setattr(wardrobe, "PARAMS", replace(wardrobe.PARAMS, headwear=1.0, glasses=1.0, clothes=1.0))
    heads = SyntheticHeads(assets)
    heads._wardrobe.hats, heads._wardrobe.clothes, heads._wardrobe.glasses = [hat], [clothes], ["square"]
    return heads[2]


@needs_data
def test_heads_wear_what_was_drawn(assets: HeadAssets, monkeypatch: pytest.MonkeyPatch) -> None:
    head = dressed_head(assets, monkeypatch, "cap", "hoodie")
    assert (head.traits.hat, head.traits.clothes, head.traits.glasses) == ("cap", "hoodie", "square")
    assert {"cloth", "hat", "glasses", "hair"} <= {piece.part for piece in head.pieces}
    assert head.traits.brows in BROWS, "a painted skin has no brows of its own"
    hidden = head.opacities < 0.5
    assert 1_000 < int(hidden.sum()) < len(hidden) // 2


@needs_data
def test_hoods_bring_their_garment_and_hide_what_they_must(assets: HeadAssets, monkeypatch: pytest.MonkeyPatch) -> None:
    hood = dressed_head(assets, monkeypatch, "hood", "shirt")
    assert hood.traits.clothes == "hoodie"
    hijab = dressed_head(assets, monkeypatch, "hijab", "shirt")
    assert hijab.traits.clothes in wardrobe.UNDER_DRAPE and hijab.traits.earrings is None
    assert not any(len(piece.colors) > BROW_PARAMS.limit and piece.part == "hair" for piece in hijab.pieces[1:])


@needs_data
def test_hats_turn_with_the_head_and_collars_do_not(assets: HeadAssets, monkeypatch: pytest.MonkeyPatch) -> None:
    head = dressed_head(assets, monkeypatch, "fedora", "shirt")
    straight, turned = head.posed(), head.posed(Expression.of("neutral", rotation_from_angles(yaw=40)))
    parts = [piece.part for piece in head.pieces]
    for part, moves in (("hat", False), ("cloth", True)):
        at = parts.index(part)
        low = straight.pieces[at].means[:, 1] < (-0.19 if part == "cloth" else 1)
        drift = (turned.pieces[at].means - straight.pieces[at].means)[low].norm(dim=-1)
        assert bool(drift.median() > 0.02) == moves
