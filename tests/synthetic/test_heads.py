"""Synthetic heads: what they are made of, what is known about them, and what is said when the assets are missing."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from flexavatar.camera import Camera
from flexavatar.expression import BLENDSHAPE_INDEX, Expression
from flexavatar.reconstruction.rig_avatar import create_rig_avatar
from flexavatar.render import render
from flexavatar.rig import Rig
from flexavatar.rig.regions import atlas_regions
from flexavatar.rig.rig import head_motion
from flexavatar.rotations import rotation_from_angles
from flexavatar.synthetic import (
    DataMissing,
    HeadAssets,
    SyntheticHead,
    SyntheticHeads,
    data_folder,
    photo_camera,
    sample_camera,
    sample_expression,
    sample_head_rotation,
    tracked_face,
    wardrobe,
)
from flexavatar.synthetic import heads as drawing
from flexavatar.synthetic.faces import Face, compressed, plain_light
from flexavatar.synthetic.hair_styles import HELD_OUT_FAMILIES
from flexavatar.synthetic.labels import CELL, CELLS, CORNER, look_in
from flexavatar.synthetic.lighting import sample_light
from flexavatar.synthetic.meshes import Guides

needs_data = pytest.mark.skipif("FLEXAVATAR_DATA" not in os.environ, reason="FLEXAVATAR_DATA is not set")


@pytest.fixture(scope="module")
def heads(assets: HeadAssets) -> SyntheticHeads:
    return SyntheticHeads(assets)


def first(heads: SyntheticHeads, wanted) -> SyntheticHead:
    return next(head for i in range(200) if wanted(head := heads[i]))


def test_missing_data_says_what_and_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLEXAVATAR_DATA", raising=False)
    with pytest.raises(DataMissing, match="FLEXAVATAR_DATA.*makehumancommunity"):
        data_folder()
    with pytest.raises(DataMissing, match="hair"):
        data_folder(tmp_path)


def test_guides_number_the_rig_as_makehuman_does() -> None:
    rig, guides = Rig.load(), Guides.load()
    # hm08's 5399 and 11998 are a pair on the two sides of the face; the .mhclo files measure its width with them.
    right, left = rig.mean[guides.rig_vertices[[5399, 11998]]]
    torch.testing.assert_close(right * torch.tensor([-1.0, 1.0, 1.0]), left, atol=1e-3, rtol=0)
    assert (right - left)[0].abs() > 0.1
    assert not torch.isin(guides.extra_ids, torch.where(guides.rig_vertices >= 0)[0]).any()


def test_expressions_are_sparse_tied_and_complete() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([sample_expression(generator).blendshapes for _ in range(600)])
    assert (drawn >= 0).all() and (drawn <= 1).all()
    assert (drawn > 0.05).float().mean() < 0.35
    assert (drawn > 0.3).any(0).all(), "every blendshape must occur"
    left, right = (drawn[:, BLENDSHAPE_INDEX["mouthSmile" + side]] for side in ("Left", "Right"))
    assert torch.corrcoef(torch.stack([left, right]))[0, 1] > 0.85
    # Both eyes look to the same side.
    together = drawn[:, BLENDSHAPE_INDEX["eyeLookInLeft"]], drawn[:, BLENDSHAPE_INDEX["eyeLookOutRight"]]
    assert torch.corrcoef(torch.stack(together))[0, 1] > 0.6


def test_cameras_and_rotations_stay_in_range() -> None:
    generator = torch.Generator().manual_seed(0)
    places = []
    for _ in range(300):
        matrix = sample_camera(generator).world_to_camera
        places.append(-matrix[:3, :3].T @ matrix[:3, 3])
        angle = torch.acos(((sample_head_rotation(generator).trace() - 1) / 2).clamp(-1, 1)).rad2deg()
        assert angle < 75
    place = torch.stack(places)
    assert 0.6 < (place[:, 2] > 0).float().mean() < 0.8
    elevation = torch.rad2deg(torch.asin((place[:, 1] + 0.05) / place.norm(dim=-1)))
    assert elevation.min() > -35 and elevation.max() < 45


@needs_data
def test_same_index_same_head(heads: SyntheticHeads, assets: HeadAssets) -> None:
    again = SyntheticHeads(assets)
    one, other = heads[3], again[3]
    assert one.traits == other.traits
    torch.testing.assert_close(one.splats().colors, other.splats().colors, atol=0, rtol=0)
    assert heads[4].traits != one.traits or not torch.equal(heads[4].shape, one.shape)
    assert not torch.equal(SyntheticHeads(assets, seed=1)[3].shape, one.shape)


@needs_data
def test_eval_holds_hair_and_skins_out(assets: HeadAssets) -> None:
    splits = [SyntheticHeads(assets, split) for split in ("train", "eval")]
    train, held = ([heads[i].traits for i in range(12)] for heads in splits)
    kept_back = {"bob02", "short03", *HELD_OUT_FAMILIES}
    for heads, sets in zip(splits, (set(), kept_back), strict=True):
        assert {*heads._families, *heads._hair} & kept_back == sets, "all that can be drawn, not only what was"
    assert {t.hair for t in train} - {None} and not {t.hair for t in train} & kept_back
    assert {t.hair for t in held} <= kept_back | {None}
    assert not {t.face for t in train} & {t.face for t in held}


@needs_data
def test_hair_covers_the_back_of_the_head_and_stands_off(
    heads: SyntheticHeads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "PARAMS", replace(drawing.PARAMS, strand_share=0.0, bearded=0.0))
    monkeypatch.setattr(wardrobe, "PARAMS", replace(wardrobe.PARAMS, headwear=0.0))
    head = first(heads, lambda h: h.traits.hair == "long01")
    labels = head.labels()
    scalp = torch.zeros(256, 256, dtype=torch.bool)
    scalp[heads.assets.rig.atlas.valid] = heads.assets.maps.scalp > 0.9
    assert labels.raised[scalp].float().mean() > 0.95
    surface = torch.zeros(3, 256, 256)
    surface[:, heads.assets.rig.atlas.valid] = head.splats().means[: len(head.albedo)].T
    lift = (labels.positions - surface).norm(dim=0)[scalp & labels.raised]
    assert 0.002 < lift.median() < 0.05
    assert lift.max() < 0.17
    bald = first(heads, lambda h: h.traits.scalp == "bald" and h.traits.hat is None)
    assert not bald.labels().raised[scalp].any()


@needs_data
def test_labels_cover_the_atlas(heads: SyntheticHeads) -> None:
    head = heads[1]
    labels = head.labels(Expression.of("smile", rotation_from_angles(yaw=30)))
    assert not labels.valid[~heads.assets.rig.atlas.valid].any()
    assert labels.valid[heads.assets.rig.atlas.valid].float().mean() > 0.85
    assert (labels.colors[:, ~labels.valid] == 0).all()
    assert labels.positions.isfinite().all() and labels.colors.min() >= 0 and labels.colors.max() <= 1


@needs_data
def test_the_head_is_solid_from_every_side(heads: SyntheticHeads) -> None:
    head = heads[2]
    cameras = Camera.stack([Camera.orbit(yaw, 0, 128) for yaw in (0, 60, 120, 180, 270)])
    black = head.render(cameras, background=(0.0, 0.0, 0.0))
    white = head.render(cameras, background=(1.0, 1.0, 1.0))
    middle = (slice(None), slice(None), slice(44, 60), slice(54, 74))
    assert black.alpha[middle].min() > 0.98
    assert (white.rgb - black.rgb)[middle].max() < 0.03


@needs_data
def test_the_mouth_opens(heads: SyntheticHeads) -> None:
    head = first(heads, lambda h: h.traits.scalp == "bald")
    camera = Camera.orbit(0, 0, 128, view_height=0.1, center=(0, -0.07, 0))
    closed, opened = (head.render(camera, Expression.of(name)).rgb for name in ("neutral", "open mouth"))
    assert (closed - opened).abs().mean() > 0.03


@needs_data
def test_shoulders_stay_when_the_head_turns(heads: SyntheticHeads) -> None:
    head = first(heads, lambda h: h.traits.clothes is not None and h.traits.hair is None)
    turned = Expression.of("neutral", rotation_from_angles(yaw=35))
    motion = head_motion(turned.head_rotation)
    still, moved = head.splats().means, head.splats(turned).means
    moved = moved @ motion[:3, :3].T + motion[:3, 3]
    starts = np.cumsum([len(head.albedo), *(len(piece.colors) for piece in head.pieces)])
    worn = [piece.part for piece in head.pieces].index("cloth")
    clothes = slice(starts[worn], starts[worn + 1])
    low = still[clothes][:, 1] < -0.2
    drift = (moved[clothes] - still[clothes])[low].norm(dim=-1)
    assert drift.quantile(0.9) < 2e-3 and drift.max() < 0.01
    nose = heads.assets.rig.anchors.positions(heads.assets.rig.mean)[:, 2].argmax()
    assert (moved[nose] - still[nose]).norm() > 0.03


@needs_data
def test_a_tracked_face_leads_back_to_the_head(heads: SyntheticHeads, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = replace(drawing.PARAMS, bald=1.0, bearded=0.0, mesh_clothes=0.0)
    monkeypatch.setattr(drawing, "PARAMS", bare)
    nothing = replace(wardrobe.PARAMS, headwear=0.0, glasses=0.0, earrings=0.0, clothes=0.0)
    monkeypatch.setattr(wardrobe, "PARAMS", nothing)
    head = first(heads, lambda h: len(h.pieces) == 2 and h.traits.hair is None)
    expression = Expression.of("neutral", rotation_from_angles(yaw=12))
    tracked = tracked_face(head, expression)
    torch.testing.assert_close(tracked.head_rotation, expression.head_rotation, atol=1e-4, rtol=0)
    assert tracked.image.shape == (512, 512, 3) and 0.15 < tracked.matte.mean() < 0.7
    avatar, _ = create_rig_avatar([tracked])
    shown = render(avatar.gaussians(tracked.expression()), tracked.camera)
    truth = torch.from_numpy(tracked.image).permute(2, 0, 1) / 255
    overlap = torch.minimum(shown.alpha[0], torch.from_numpy(tracked.matte)).sum() / tracked.matte.sum()
    assert overlap > 0.9
    face = (slice(None), slice(220, 290), slice(220, 290))
    assert (shown.rgb - truth)[face].abs().mean() < 0.06


@needs_data
def test_jitter_is_a_tracker_s_error(heads: SyntheticHeads) -> None:
    head = heads[0]
    exact, noisy = tracked_face(head), tracked_face(head, jitter=1.0, generator=torch.Generator().manual_seed(0))
    distance = torch.from_numpy(exact.landmarks - noisy.landmarks).norm(dim=-1).mean()
    assert 0.2 < distance < 3
    rotation = noisy.camera.world_to_camera[:3, :3]
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(3), atol=1e-5, rtol=0)
    assert photo_camera(head, Expression.neutral()).width == 512


@needs_data
def test_views_repeat(heads: SyntheticHeads) -> None:
    one, other = heads.views(5, 3, 64), heads.views(5, 3, 64)
    assert one.pictures.rgb.shape == (3, 3, 64, 64) and one.pictures.alpha.shape == (3, 1, 64, 64)
    torch.testing.assert_close(one.pictures.rgb, other.pictures.rgb, atol=0, rtol=0)
    torch.testing.assert_close(one.expression.code(), other.expression.code(), atol=0, rtol=0)


def test_what_a_photo_does_not_show_is_lit_evenly() -> None:
    forward = torch.tensor([0.0, 0.0, 1.0])
    for seed in range(20):
        light = sample_light(torch.Generator().manual_seed(seed), 0.9, 1.0)
        evened = light.evened(forward, forward)
        front = torch.nn.functional.normalize(torch.tensor([[0.3, 0.2, 1.0], [-0.4, 0.0, 0.8]]), dim=-1)
        assert torch.equal(evened.irradiance(front), light.irradiance(front))
        behind = evened.irradiance(torch.nn.functional.normalize(torch.tensor([[1.0, 0.5, -1], [-1, 0, -0.3]]), dim=-1))
        assert torch.allclose(behind[0], behind[1])
        shown = light.irradiance(front)
        assert shown.min() * 0.3 < behind.min() and behind.max() < shown.max() * 3, "the photo's exposure"


def test_skin_under_coloured_or_one_sided_light_is_told_apart() -> None:
    regions = atlas_regions(Rig.load())
    skin = np.full((256, 256, 3), (0.45, 0.31, 0.24), np.float32)
    left = (regions.position[..., :1] > 0).astype(np.float32)
    assert plain_light(skin, regions) and plain_light(0.3 * skin, regions)
    assert plain_light(skin * (1 + 0.5 * left), regions)
    assert not plain_light(skin * [0.4, 1.0, 1.2], regions)
    assert not plain_light(skin * (1 - left) + skin * [0.6, 1.0, 1.6] * left, regions)
    assert not plain_light(skin * (1 - 0.8 * left), regions)


def test_cached_faces_are_small_and_keep_their_edges() -> None:
    valid = Rig.load().atlas.valid.numpy()
    row, column = np.mgrid[:256, :256] / 256
    color = (np.stack([row, column, 0.5 + 0.2 * np.sin(20 * row)], -1) * valid[..., None]).astype(np.float32)
    stored = compressed(color, valid)
    error = np.abs(np.asarray(cv2.imdecode(stored, cv2.IMREAD_COLOR))[..., ::-1] / 255 - color)[valid]
    assert len(stored) < 25_000
    assert error.mean() < 0.01 and np.quantile(error, 0.99) < 0.05


def test_labels_meet_the_outermost_cell() -> None:
    grid = torch.full(CELLS, -1, dtype=torch.int32)
    place = lambda y: ((torch.tensor([0.0, y, 0.0]) - torch.tensor(CORNER)) / CELL).long().tolist()  # noqa: E731
    for number, y in enumerate((0.02, 0.06)):
        grid[tuple(place(y))] = number
    start, up = torch.zeros(3, 3), torch.tensor([[0.0, 1.0, 0.0]]).expand(3, 3)
    hit = look_in(grid, start, up, torch.tensor([0.1, 0.04, 0.01]))
    assert hit.tolist() == [1, 0, -1]
    assert look_in(grid, start, -up, torch.full((3,), 10.0)).tolist() == [-1] * 3


@needs_data
def test_eyes_are_no_brighter_than_the_photo(assets: HeadAssets) -> None:
    valid = assets.rig.atlas.valid
    skin = torch.full((int(valid.sum()), 3), 60, dtype=torch.uint8)
    face = Face("dim", skin, torch.zeros(len(assets.rig.shape_basis)), (0.24, 0.24, 0.24), None, None, False)
    heads = SyntheticHeads(assets)
    heads._face = lambda draw: face
    white = heads[0].albedo[assets.maps.whites].mean()
    heads._face = lambda draw: assets.skins[0]
    assert 60 / 255 < float(white) < 0.5 * float(heads[0].albedo[assets.maps.whites].mean())


@needs_data
def test_labels_show_brows(heads: SyntheticHeads) -> None:
    layers = heads.assets.brows[0].layers(heads.assets.rig)
    height = heads.assets.rig.anchors.positions(heads.assets.rig.mean)[:, 1]
    assert 100 < int((layers > 0.5).sum()) < 1500
    assert 0.005 < float((height * layers).sum() / layers.sum()) < 0.035
