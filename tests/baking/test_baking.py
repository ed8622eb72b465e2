"""Baking: deltas that reproduce the decoder, playback that is what docs/bundle.md says."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from flexavatar.avatar import Avatar
from flexavatar.baking import BakedAvatar, bake, bake_error
from flexavatar.baking.bake import aligned, bake_measured, visible_splats
from flexavatar.baking.baked import target_weights
from flexavatar.baking.error import true_decodes
from flexavatar.baking.samples import driving_expressions, mixed_expressions
from flexavatar.expression import ARKIT_BLENDSHAPES, BLENDSHAPE_INDEX, Expression
from flexavatar.gaussians import Gaussians
from flexavatar.rig import Rig
from flexavatar.rotations import quaternion_exp, quaternion_log, quaternion_product, quaternions, rotation_from_angles

SPLATS = 400
HIDDEN = 50  # splats that no expression shows
JAW, SMILE = BLENDSHAPE_INDEX["jawOpen"], BLENDSHAPE_INDEX["mouthSmileLeft"]


class Toy:
    """A decoder of a few splats in front of the default camera, whose every field follows the expression."""

    def __init__(self, product: float = 0.0) -> None:
        random = torch.Generator().manual_seed(1)
        draw = lambda *shape: torch.rand(*shape, generator=random)  # noqa: E731
        self.product = product  # metres that jawOpen * mouthSmileLeft adds
        self.means = (draw(SPLATS, 3) - 0.5) * torch.tensor([0.15, 0.2, 0.05]) - torch.tensor([0.0, 0.05, 0.0])
        self.move = (draw(52, SPLATS, 3) - 0.5) * 0.02 * (draw(52, SPLATS, 1) < 0.2)
        self.quats = torch.nn.functional.normalize(draw(SPLATS, 4) - 0.5, dim=-1)
        self.turns = (draw(52, SPLATS, 3) - 0.5) * 0.2 * (draw(52, SPLATS, 1) < 0.1)
        self.scales = torch.tensor([8e-3, 5e-3, 2e-3]) * (0.8 + 0.2 * draw(SPLATS, 1))
        self.colors = 0.2 + 0.6 * draw(SPLATS, 3)
        self.opacities = torch.full((SPLATS,), 0.9)
        self.opacities[:HIDDEN] = 0.0
        self.torso = (draw(SPLATS) < 0.3).float() * draw(SPLATS)

    def gaussians(self, expression: Expression | None = None) -> Gaussians:
        expression = expression or Expression.neutral()
        w, rotation, joint = expression.blendshapes, expression.head_rotation, Rig.load().neck_joint
        means = self.means + (w @ self.move.flatten(1)).view(-1, 3)
        means = means + self.product * w[JAW] * w[SMILE] * torch.tensor([0.0, 1.0, 0.0])
        means = means + self.torso[:, None] * ((means - joint) @ rotation + joint - means)
        torso_turn = quaternion_exp(self.torso[:, None] * quaternion_log(quaternions(rotation.mT)))
        turned = quaternion_product(quaternion_exp((w @ self.turns.flatten(1)).view(-1, 3)), self.quats)
        scales = self.scales * (1 + 0.5 * w[JAW])
        colors = self.colors * (1 - 0.3 * w[SMILE])
        return Gaussians(
            means, quaternion_product(torso_turn, turned), scales, self.opacities * (1 - 0.2 * w[SMILE]), colors
        )


def bake_toy(toy: Toy) -> BakedAvatar:
    return bake_measured(toy, true_decodes(toy, driving_expressions(every=40), visible_splats(toy)))


@pytest.fixture(scope="module")
def baked() -> BakedAvatar:
    return bake_toy(Toy())


def apart(a: Gaussians, b: Gaussians) -> dict[str, float]:
    """Largest difference of each field; of rotations, the angle in radians."""
    angle = 2 * (a.quats * b.quats).sum(-1).abs().clamp_max(1).acos()
    fields = {n: float((getattr(a, n) - getattr(b, n)).abs().max()) for n in ("means", "scales", "colors", "opacities")}
    return fields | {"angle": float(angle.max())}


def by_the_document(baked: BakedAvatar, expression: Expression) -> Gaussians:
    """The evaluation of docs/bundle.md, step by step and dense."""
    x = target_weights(expression.blendshapes, baked.correctives)

    def total(group: str, base: Tensor) -> Tensor:
        if group not in baked.deltas:
            return base
        deltas, result = baked.deltas[group], base.clone()
        targets = torch.arange(len(x)).repeat_interleave(deltas.counts)
        for target, splat, value in zip(targets, deltas.splats, deltas.values, strict=True):
            result[splat] += x[target] * value
        return result

    plain, joint, rotation = baked.neutral, baked.neck_joint, expression.head_rotation
    means = total("means", plain.means)
    quats = quaternion_product(quaternion_exp(total("rotations", torch.zeros_like(means))), plain.quats)
    share = baked.torso_weights[:, None]
    means = means + share * ((means - joint) @ rotation + joint - means)
    quats = quaternion_product(quaternion_exp(share * quaternion_log(quaternions(rotation.mT))), quats)
    opacities = total("opacities", plain.opacities[:, None])[:, 0].clamp(0, 1)
    scales = total("scales", plain.scales).clamp_min(1e-5)
    return Gaussians(means, quats, scales, opacities, total("colors", plain.colors).clamp(0, 1))


def test_a_linear_decoder_is_reproduced(baked: BakedAvatar) -> None:
    toy = Toy()
    expression = Expression(mixed_expressions()[20], rotation_from_angles(20, 5, 3))
    truth = toy.gaussians(expression).select(visible_splats(toy))
    error = apart(baked.gaussians(expression), truth)
    assert error["means"] < 2e-4  # metres: the tolerances of the dropped deltas, summed
    assert error["scales"] < 1e-4
    assert error["colors"] < 0.01 and error["opacities"] < 0.01
    assert error["angle"] < 0.1  # turns do not add up exactly
    assert baked.report is not None and baked.report.psnr_face > 35 and baked.report.mean_mm < 0.05
    assert baked.correctives == () and baked.report.deltas == "one-hot"


def test_invisible_splats_are_dropped_and_the_torso_is_found(baked: BakedAvatar) -> None:
    assert len(baked.neutral) == SPLATS - HIDDEN
    assert torch.allclose(baked.torso_weights, Toy().torso[HIDDEN:], atol=2e-3)


def test_a_product_of_two_blendshapes_becomes_a_corrective() -> None:
    toy = Toy(product=0.03)
    baked = bake_toy(toy)
    assert ("jawOpen", "mouthSmileLeft") in baked.correctives
    assert baked.report is not None and baked.report.deltas == "fitted with correctives"
    expression = Expression.of({"jawOpen": 0.7, "mouthSmileLeft": 0.5})
    truth = toy.gaussians(expression).select(visible_splats(toy))
    without = replace(baked, correctives=(), deltas={k: _only_blendshapes(v) for k, v in baked.deltas.items()})
    assert (
        apart(baked.gaussians(expression), truth)["means"] < 0.2 * apart(without.gaussians(expression), truth)["means"]
    )


def _only_blendshapes(deltas):
    kept = int(deltas.counts[:52].sum())
    return replace(deltas, counts=deltas.counts[:52], splats=deltas.splats[:kept], values=deltas.values[:kept])


def test_playback_is_what_the_document_says(baked: BakedAvatar) -> None:
    for weights, rotation in zip(
        mixed_expressions()[8:11], (torch.eye(3), *map(rotation_from_angles, (30, -15))), strict=True
    ):
        expression = Expression(weights, rotation)
        error = apart(baked.gaussians(expression), by_the_document(baked, expression))
        assert error.pop("angle") < 2e-3  # acos near 1
        assert max(error.values()) < 2e-6


def test_axes_keep_their_names() -> None:
    torch.manual_seed(0)
    like = torch.nn.functional.normalize(torch.randn(50, 4), dim=-1)
    scales = torch.rand(50, 3)
    near = quaternion_product(quaternion_exp(0.4 * torch.rand(50, 3)), like)
    swap = torch.tensor([0.5**0.5, 0.0, 0.0, 0.5**0.5]).expand(50, 4)  # 90 degrees about z: x and y change places
    quats, ordered = aligned(quaternion_product(near, swap), scales[:, [1, 0, 2]], like)
    assert torch.allclose((quats * near).sum(-1).abs(), torch.ones(50), atol=1e-5)
    assert torch.equal(ordered, scales)


def test_rotation_vectors_round_trip() -> None:
    torch.manual_seed(0)
    vectors = 3 * (torch.rand(100, 3) - 0.5)
    vectors[0], vectors[1] = 0, 1e-8
    assert torch.allclose(quaternion_log(quaternion_exp(vectors)), vectors, atol=1e-5)


def test_the_fit_sees_none_of_the_clips() -> None:
    clips = driving_expressions(every=12).blendshapes
    assert torch.cdist(clips[clips.sum(-1) > 0.2], mixed_expressions()).min() > 0.05
    assert mixed_expressions().shape[1] == len(ARKIT_BLENDSHAPES)


def test_a_real_avatar_quickly_baked(avatar_file: Path, baked_example: BakedAvatar) -> None:
    avatar, baked = Avatar.load(avatar_file), baked_example
    report = bake_error(baked, true_decodes(avatar, driving_expressions(every=60), visible_splats(avatar)))
    assert report.psnr_face > 45 and report.psnr_face_worst > 38
    assert report.mean_mm < 0.02 and report.p99_mm < 0.1
    assert baked.metadata["model"] == "rig" and "settings" not in baked.metadata
    difference = baked.render(Expression.of("smile")).astype(int) - avatar.render(Expression.of("smile"))
    assert np.abs(difference).mean() < 0.5


@pytest.mark.slow
def test_a_real_avatar_measured_and_at_video_rate(avatar_file: Path) -> None:
    avatar = Avatar.load(avatar_file)
    baked = bake(avatar)
    assert baked.report is not None
    assert baked.report.psnr_face >= 50 and baked.report.p99_mm < 0.1
    expressions = [Expression(mixed_expressions()[i], torch.eye(3)) for i in range(40)]
    baked.render(expressions[0])
    seconds = []
    for expression in expressions:
        start = time.perf_counter()
        baked.render(expression, device="cpu")
        seconds.append(time.perf_counter() - start)
    assert sorted(seconds)[10] < 1 / 25  # the quicker quarter: other work on the machine slows the rest
