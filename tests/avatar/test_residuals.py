"""Residuals of single Gaussians, and the finer Gaussians they are residuals of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from flexavatar.avatar import Avatar
from flexavatar.avatar.avatar_file import read_avatar_file, write_avatar_file
from flexavatar.avatar.residuals import Residuals, between, changed, crease_shares, lid_shares
from flexavatar.camera import Camera
from flexavatar.driving.interpolation import interpolate
from flexavatar.errors import BadAvatarFile
from flexavatar.evaluation.close_up import front_alpha
from flexavatar.expression import BLENDSHAPE_INDEX, Expression
from flexavatar.gaussians import Gaussians
from flexavatar.reconstruction.hidden import closed_lids
from flexavatar.render import render
from flexavatar.rig import Rig
from flexavatar.rig.parts import parts
from flexavatar.rig.subdivision import divided, subdivision

CLOSE = Camera.orbit(15, 0, 256, view_height=0.24, center=(0.0, -0.01, -0.05))


@pytest.fixture(scope="module")
def avatar(avatar_file: Path) -> Avatar:
    return Avatar.load(avatar_file)


@pytest.fixture(scope="module")
def some() -> Residuals:
    generator = torch.Generator().manual_seed(0)
    count, lids = len(subdivision()), len(lid_shares()[0])
    noise = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    return Residuals(
        1e-4 * noise(count, 3), 0.05 * noise(count, 3), 0.1 * noise(count), 0.05 * noise(count, 3),
        noise(lids, 3).sigmoid(),
    )  # fmt: skip


def creased(residuals: Residuals) -> Residuals:
    """With creases, 0.2 darker than the skin, that come with a smile on the left."""
    index, quarters = crease_shares()
    worn = torch.zeros(len(quarters), 52)
    worn[:, BLENDSHAPE_INDEX["mouthSmileLeft"]] = 1
    return replace(residuals, creases=torch.full((len(index), 3), -0.2), worn=worn)


def picture(gaussians: Gaussians, camera: Camera = CLOSE) -> torch.Tensor:
    with torch.inference_mode():
        return render(gaussians, camera).rgb


def test_divided_heads_look_the_same_and_hide_what_is_behind(avatar: Avatar) -> None:
    whole = avatar.gaussians()
    fine = subdivision().apply(whole)
    split = int(divided(Rig.load()).sum())
    assert len(fine) == len(whole) + 3 * split and split > 15_000
    assert (picture(whole) - picture(fine)).abs().mean() < 0.006
    vertices = Rig.load().pose(avatar.shape, avatar.neutral_blendshapes)
    coarse_alpha, face = front_alpha(whole, vertices)
    fine_alpha, _ = front_alpha(fine, vertices)
    assert (1 - fine_alpha[face]).mean() < 0.01 < (1 - coarse_alpha[face]).mean()


def test_expressions_open_no_gaps(avatar: Avatar) -> None:
    for weights in ({"jawOpen": 0.8}, {"cheekPuff": 1.0}, {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0}):
        expression = Expression.of(weights)
        fine = subdivision().apply(avatar.gaussians(expression))
        rest = avatar.neutral_blendshapes * (1 - expression.blendshapes)
        vertices = Rig.load().pose(avatar.shape, expression.blendshapes + rest)
        alpha, face = front_alpha(fine, vertices)
        assert (1 - alpha[face]).mean() < 0.012, weights


def test_neighbours_are_near() -> None:
    fine = subdivision()
    places = fine.spread(Rig.load().anchors.positions(Rig.load().mean))
    apart = (places[fine.pairs[:, 0]] - places[fine.pairs[:, 1]]).norm(dim=-1)
    assert len(fine.pairs) > 1.8 * len(fine) and apart.max() < 0.01
    assert torch.allclose(fine.weight.sum(1), torch.ones(len(fine)))


def test_no_residuals_change_nothing(avatar: Avatar) -> None:
    gaussians = avatar.gaussians()
    same = Residuals.none(len(gaussians)).apply(gaussians, torch.zeros(52))
    for name in ("means", "quats", "scales", "opacities", "colors"):
        assert torch.allclose(getattr(same, name), getattr(gaussians, name), atol=2e-4), name


def test_residuals_between_two_heads(avatar: Avatar, some: Residuals) -> None:
    before = subdivision().apply(avatar.gaussians())
    after = changed(before, some)
    again = changed(before, between(before, after))
    assert torch.allclose(again.means, after.means, atol=1e-6) and torch.allclose(again.colors, after.colors, atol=1e-6)
    assert torch.allclose(again.scales, after.scales, rtol=1e-4)


def test_residuals_move_with_the_face(avatar: Avatar, some: Residuals) -> None:
    made = replace(avatar, residuals=some)
    for expression in (Expression.neutral(), Expression.of("open mouth")):
        apart = (made.gaussians(expression).means - subdivision().apply(avatar.gaussians(expression)).means).norm(
            dim=-1
        )
        assert torch.allclose(apart, some.offsets.norm(dim=-1), atol=1e-6)
    both = Expression(torch.stack([torch.zeros(52), Expression.of("smile").blendshapes]), torch.eye(3).repeat(2, 1, 1))
    batched = made.gaussians(both)
    assert batched.batch_shape == (2,)
    assert torch.allclose(batched[1].colors, made.gaussians(Expression.of("smile")).colors, atol=1e-6)


def test_lids_take_their_colour_as_the_eyes_close(avatar: Avatar, some: Residuals) -> None:
    green = torch.tensor([0.0, 1.0, 0.0])
    made = replace(avatar, residuals=replace(some, lids=green.expand_as(some.lids)))
    index, shares = lid_shares()
    left, right = shares[0] > 0.95, shares[1] > 0.95
    assert left.sum() > 100 and right.sum() > 100
    plain = replace(avatar, residuals=replace(some, lids=some.lids[:0]))
    wink = Expression.of({"eyeBlinkLeft": 1.0})
    colors, without = made.gaussians(wink).colors[index], plain.gaussians(wink).colors[index]
    assert torch.allclose(colors[left], green.expand(int(left.sum()), 3), atol=0.06)
    assert torch.equal(colors[right], without[right])
    opened = made.gaussians().colors
    assert torch.equal(opened, plain.gaussians().colors)


def test_lids_are_around_the_eyes() -> None:
    places = Rig.load().anchors.positions(Rig.load().mean)
    lids = parts().lids
    for side, sign in ((0, 1.0), (1, -1.0)):
        own = places[lids[side] > 0.5]
        assert len(own) > 50 and (own[:, 0] * sign > 0).all()
        assert own[:, 1].abs().max() < 0.03 and own[:, 2].min() > -0.05


def test_creases_go_with_the_expression(avatar: Avatar, some: Residuals) -> None:
    made, plain = (replace(avatar, residuals=one) for one in (creased(some), some))
    index, quarters = crease_shares()
    assert torch.allclose(quarters.sum(0), torch.ones(len(index))) and quarters.amin() >= 0
    smile, half = (Expression.of({"mouthSmileLeft": weight}) for weight in (1.0, 0.5))
    assert torch.equal(made.gaussians(smile).colors[index], plain.gaussians(smile).colors[index])
    for expression, gone in ((Expression.neutral(), 0.2), (half, 0.1)):
        before, after = (one.gaussians(expression).colors for one in (plain, made))
        assert torch.allclose(after[index], (before[index] + gone).clamp(0, 1), atol=1e-6)
        others = torch.ones(len(before), dtype=torch.bool).index_fill_(0, index, False)
        assert torch.equal(after[others], before[others])


def test_creases_are_linear_in_blendshapes(avatar: Avatar, some: Residuals) -> None:
    """So that bakes, which add a delta a blendshape, hold them."""
    index, quarters = crease_shares()
    worn = torch.rand(len(quarters), 52, generator=torch.Generator().manual_seed(1)) / 52
    made = replace(creased(some), worn=worn, creases=torch.full((len(index), 3), -0.1))
    grey = avatar.unrefined()
    grey = replace(grey, colors=torch.full_like(grey.colors, 0.5))
    colors = lambda blendshapes: made.apply(grey, blendshapes).colors[index]  # noqa: E731
    smile = Expression.of("smile").blendshapes
    neutral = colors(torch.zeros(52))
    deltas = sum(weight * (colors(one) - neutral) for weight, one in zip(smile, torch.eye(52), strict=True))
    inside = ((neutral > 0.2) & (neutral < 0.8)).all(1)
    assert inside.sum() > 1000 and torch.allclose(colors(smile)[inside], (neutral + deltas)[inside], atol=1e-5)


def test_creases_in_files(avatar: Avatar, some: Residuals, tmp_path: Path) -> None:
    path, older = tmp_path / "a.flexavatar", tmp_path / "older.flexavatar"
    replace(avatar, residuals=creased(some)).save(path)
    again = Avatar.load(path).residuals
    assert again is not None and len(again.creases) == len(crease_shares()[0])
    assert (
        torch.allclose(again.creases, creased(some).creases, atol=1e-3) and again.worn[0, 0] == creased(some).worn[0, 0]
    )
    file = read_avatar_file(path)
    tensors = {name: t for name, t in file.tensors.items() if name not in ("residual_creases", "residual_worn")}
    write_avatar_file(older, tensors, file.metadata, file.thumbnail)
    old = Avatar.load(older).residuals
    assert old is not None and not len(old.creases) and not len(old.worn)
    damaged = replace(creased(some), creases=creased(some).creases[1:])
    replace(avatar, residuals=damaged).save(path)
    with pytest.raises(BadAvatarFile, match="damaged"):
        Avatar.load(path)


def test_people_with_and_without_creases_mix(avatar: Avatar, some: Residuals) -> None:
    smooth, folded = (replace(avatar, residuals=one) for one in (some, creased(some)))
    bare = replace(avatar, residuals=None)
    for other in (smooth, bare):
        mixed = interpolate([folded, other], [0.25, 0.75]).residuals
        assert mixed is not None and torch.allclose(mixed.creases, creased(some).creases / 4)
        assert torch.allclose(mixed.worn, creased(some).worn)
    both = interpolate([folded, folded], [0.5, 0.5]).residuals
    assert both is not None and torch.allclose(both.creases, creased(some).creases)
    neither = interpolate([smooth, bare], [0.5, 0.5]).residuals
    assert neither is not None and not len(neither.creases) and not len(neither.worn)


def test_file_round_trip(avatar: Avatar, some: Residuals, tmp_path: Path) -> None:
    path = tmp_path / "a.flexavatar"
    made = replace(avatar, residuals=some)
    made.save(path)
    again = Avatar.load(path)
    assert again.residuals is not None and len(again.residuals) == len(some)
    pictures = [one.render(Expression.of("blink"), size=128).astype(int) for one in (made, again)]
    assert np.abs(pictures[0] - pictures[1]).mean() < 0.5


def test_files_of_version_0_1_open(avatar: Avatar, tmp_path: Path) -> None:
    """They have corrections of colours, one a texel, in place of residuals."""
    path = tmp_path / "old.flexavatar"
    avatar.save(path)
    file = read_avatar_file(path)
    corrections = torch.full((len(avatar.colors), 3), 0.125).half()
    write_avatar_file(path, {**file.tensors, "corrections": corrections}, file.metadata, file.thumbnail)
    old = Avatar.load(path).gaussians()
    assert len(old) == len(avatar.gaussians())
    assert torch.allclose(old.colors, (avatar.gaussians().colors + 0.125).clamp(0, 1), atol=2e-3)


def test_damaged_residuals(avatar: Avatar, some: Residuals, tmp_path: Path) -> None:
    path = tmp_path / "a.flexavatar"
    for damaged in (replace(some, colors=some.colors[:-1]), replace(some, lids=some.lids[:5])):
        replace(avatar, residuals=damaged).save(path)
        with pytest.raises(BadAvatarFile, match="damaged"):
            Avatar.load(path)


def test_people_with_and_without_residuals_mix(avatar: Avatar, some: Residuals) -> None:
    fine, coarse = replace(avatar, residuals=some), replace(avatar, residuals=None)
    old = replace(avatar, residuals=Residuals.of_colors(torch.full((len(avatar.colors), 3), 0.1)))
    half = interpolate([fine, coarse], [0.5, 0.5]).residuals
    assert half is not None and torch.allclose(half.colors, some.colors / 2)
    assert torch.allclose(half.lids, some.lids), "the only lids there are"
    mixed = interpolate([fine, old], [0.25, 0.75]).residuals
    assert mixed is not None and torch.allclose(mixed.colors, 0.25 * some.colors + 0.075, atol=1e-6)
    assert interpolate([coarse, coarse], [0.5, 0.5]).residuals is None


def test_lids_under_a_fringe_are_skin() -> None:
    """Strands before the eyes are no skin to take a lid's colour from."""
    skin, green = torch.tensor([0.7, 0.55, 0.45]), torch.tensor([0.2, 0.8, 0.1])
    places = subdivision().spread(Rig.load().anchors.positions(Rig.load().mean))
    strands = (places[:, 1] > 0.012) & (places[:, 0].remainder(0.02) < 0.01)
    colors = torch.where(strands[:, None], green, skin)
    upper = parts().lashes[subdivision().parent][lid_shares()[0]] == 0
    lids = closed_lids(colors, torch.zeros(len(colors)))[upper]
    assert strands.any() and (lids - skin).abs().mean(-1).quantile(0.9) < 0.02  # 0.055 if strands counted
