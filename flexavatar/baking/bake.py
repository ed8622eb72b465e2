"""From any decoder of expressions to neutral Gaussians, sparse deltas and the correctives that pay."""

from __future__ import annotations

import itertools
import logging
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from flexavatar import __version__
from flexavatar.avatar.drawing import Decoder
from flexavatar.baking.baked import GROUPS, BakedAvatar, Corrective, SparseDeltas, target_weights
from flexavatar.baking.error import TrueDecodes, bake_error, true_decodes
from flexavatar.baking.samples import candidate_correctives, driving_expressions, mixed_expressions
from flexavatar.expression import ARKIT_BLENDSHAPES, Expression
from flexavatar.gaussians import Gaussians
from flexavatar.rig import Rig
from flexavatar.rotations import (
    conjugate,
    quaternion_exp,
    quaternion_log,
    quaternion_product,
    quaternions,
    rotation_from_angles,
)
from flexavatar.settings import to_device, torch_device

if TYPE_CHECKING:
    from flexavatar.avatar import Avatar
    from flexavatar.settings import Device

log = logging.getLogger(__name__)

Effort = Literal["quick", "measured"]

MIN_OPACITY = 1 / 255  # the renderers leave out what is fainter
TOLERANCES = {"means": 2e-5, "rotations": 0.01, "scales": 1e-5, "colors": 2e-3, "opacities": 2e-3}  # units of GROUPS


@dataclass(frozen=True)
class BakeParams:
    """When fits and correctives are worth having."""

    max_correctives: int = 12
    min_share: float = 0.01  # of the error left by the deltas: what a corrective must explain to become a candidate
    min_gain: float = 0.5  # dB on the face for which a fit or correctives are worth having
    color_as_length: float = 2e-3  # metres of misplacement that count as much as a colour off by 1
    prior: float = 0.02  # samples' worth of trust in zero, for a corrective


@dataclass(frozen=True)
class _Samples:
    """Decoded expressions as differences from the neutral face, in the terms of GROUPS, 13 numbers per splat."""

    blendshapes: Tensor  # [S, 52]
    residual: Tensor  # [S, N, 13] float16: what the one-hot deltas leave unexplained


def bake(avatar: Avatar, effort: Effort = "measured", device: Device = "auto") -> BakedAvatar:
    """Bake an avatar, which is used through `gaussians` alone, so that any model's avatar will do.

    "quick" takes the differences at each blendshape's full weight ("one-hot") and measures nothing. "measured" lets
    three candidates compete on the built-in driving clips: one-hot, deltas fitted to mixed expressions as well,
    and these with correctives. The simplest that no other beats by 0.5 dB on the face wins; the report tells all.
    Expressions are decoded and compared on `device`; the result lies on the CPU, where it is evaluated.
    """
    avatar = avatar.to(torch_device(device))
    if effort == "quick":
        baked = _bake_one_hot(avatar)
    else:
        baked = bake_measured(avatar, true_decodes(avatar, driving_expressions(), visible_splats(avatar)))
    return replace(
        baked,
        thumbnail=avatar.thumbnail,
        metadata={"model": avatar.metadata["model"], "generator": f"flexavatar {__version__}"},
    )


def _bake_one_hot(avatar: Decoder) -> BakedAvatar:
    neutral = avatar.gaussians(Expression.neutral())
    deltas = _one_hot_deltas(avatar, neutral, torch.arange(len(neutral.means), device=neutral.means.device))
    # As `visible_splats`, of what is decoded anyway.
    splats = ((neutral.opacities + deltas[..., -1].amax(0).clamp_min(0)) > MIN_OPACITY).nonzero()[:, 0]
    shown = neutral.select(splats)
    return _assembled(shown, _torso_weights(avatar, shown, splats), deltas[:, splats], ())


def bake_measured(avatar: Decoder, truth: TrueDecodes, params: BakeParams = BakeParams()) -> BakedAvatar:
    """Bake the splats that `truth` names, and choose between the candidates by its pictures."""
    neutral = avatar.gaussians(Expression.neutral()).select(truth.splats)
    one_hot = _one_hot_deltas(avatar, neutral, truth.splats)
    samples = _decode_samples(avatar, neutral, truth.splats, one_hot)
    chosen = choose_correctives(samples, _length_weights(neutral, params.color_as_length), params)
    torso = _torso_weights(avatar, neutral, truth.splats)
    candidates: dict[str, tuple[Tensor, tuple[Corrective, ...]]] = {
        "one-hot": (one_hot, ()),
        "fitted": (_fitted(samples, one_hot, (), params.prior), ()),
    }
    if chosen:
        candidates["fitted with correctives"] = (_fitted(samples, one_hot, chosen, params.prior), chosen)

    best, face_decibels = None, {}
    for name, (dense, correctives) in candidates.items():
        baked = _assembled(neutral, torso, dense, correctives)
        report = replace(bake_error(baked, truth), deltas=name)
        face_decibels[name] = report.psnr_face
        log.info("baked %s: %.2f dB on the face, %.3f mm", name, report.psnr_face, report.mean_mm)
        if best is None or report.psnr_face > best[1].psnr_face + params.min_gain:
            best = baked, report
    assert best is not None
    return replace(best[0], report=replace(best[1], candidates=tuple(face_decibels.items())))


def visible_splats(avatar: Decoder) -> Tensor:
    """Indices [N] of the Gaussians that are visible in the neutral face or at full weight of some blendshape."""
    opacities = avatar.gaussians(Expression.neutral()).opacities
    for weights in torch.eye(len(ARKIT_BLENDSHAPES)):
        opacities = torch.maximum(opacities, avatar.gaussians(_expression(weights)).opacities)
    return (opacities > MIN_OPACITY).nonzero()[:, 0]


def choose_correctives(samples: _Samples, lengths: Tensor, params: BakeParams) -> tuple[Corrective, ...]:
    """Greedily, the products that explain most of what blendshapes alone cannot; lengths [N, 13] weigh the errors.

    All is computed from the inner products [S, S] of the samples' errors, so that hundreds of candidates cost nothing.
    """
    count = len(samples.residual)
    gram = lengths.new_zeros(count, count)
    for part, weight in zip(samples.residual.split(4096, 1), lengths.split(4096), strict=True):
        flat = (part.float() * weight).flatten(1)
        gram += flat @ flat.T
    if not float(gram.trace()) > 0:
        return ()
    basis = _orthonormal(samples.blendshapes)
    gram = _without(gram, basis)
    least = params.min_share * gram.trace()
    names = candidate_correctives()
    columns = target_weights(samples.blendshapes, names)[:, len(ARKIT_BLENDSHAPES) :]
    columns = columns - basis @ (basis.T @ columns)
    chosen: list[Corrective] = []
    while len(chosen) < params.max_correctives:
        size = columns.square().sum(0)
        # The prior keeps products that hardly occur among the samples from being trusted.
        explained = ((gram @ columns) * columns).sum(0) / (size + params.prior)
        best = int(explained.argmax())
        if explained[best] < least:
            break
        chosen.append(names[best])
        direction = columns[:, best : best + 1] / columns[:, best].norm()
        gram = _without(gram, direction)
        columns = columns - direction @ (direction.T @ columns)
    return tuple(chosen)


def _one_hot_deltas(avatar: Decoder, neutral: Gaussians, splats: Tensor) -> Tensor:
    """Differences [52, N, 13] at the full weight of each blendshape."""
    deltas = []
    for weights in torch.eye(len(ARKIT_BLENDSHAPES)):
        halfway = avatar.gaussians(_expression(weights / 2)).select(splats)
        near = aligned(halfway.quats, halfway.scales, neutral.quats)[0]  # large turns are followed in two steps
        deltas.append(_difference(avatar.gaussians(_expression(weights)).select(splats), neutral, near))
    return torch.stack(deltas)


def _decode_samples(avatar: Decoder, neutral: Gaussians, splats: Tensor, one_hot: Tensor) -> _Samples:
    blendshapes = torch.cat([torch.eye(len(ARKIT_BLENDSHAPES)) / 2, mixed_expressions()]).to(one_hot.device)
    residual = []
    for weights in blendshapes:
        expected = (weights @ one_hot.flatten(1)).view(one_hot.shape[1:])
        near = quaternion_product(quaternion_exp(expected[:, 3:6]), neutral.quats)
        found = _difference(avatar.gaussians(_expression(weights)).select(splats), neutral, near)
        residual.append((found - expected).half())
    return _Samples(blendshapes, torch.stack(residual))


def _difference(gaussians: Gaussians, neutral: Gaussians, near: Tensor) -> Tensor:
    """Differences [N, 13] from the neutral face; `near` [N, 4] is where the rotations are expected."""
    quats, scales = aligned(gaussians.quats, gaussians.scales, near)
    # By way of the expected rotation, so that the vector does not jump where the whole turn passes 180 degrees.
    expected = quaternion_log(quaternion_product(near, conjugate(neutral.quats)))
    turn = quaternion_log(quaternion_product(quats, conjugate(near)))
    small = quaternion_log(quaternion_product(quats, conjugate(neutral.quats)))
    rotation = torch.where((small - expected).norm(dim=-1, keepdim=True) < 2, small, expected + turn)
    return torch.cat(
        [
            gaussians.means - neutral.means,
            rotation,
            scales - neutral.scales,
            gaussians.colors - neutral.colors,
            (gaussians.opacities - neutral.opacities)[:, None],
        ],
        -1,
    )


def _fitted(samples: _Samples, one_hot: Tensor, correctives: tuple[Corrective, ...], trust: float) -> Tensor:
    """Deltas [T, N, 13] that explain the samples best; the full blendshapes, so far exact, are samples too."""
    shapes = len(one_hot)
    whole = torch.eye(shapes, device=one_hot.device)
    features = target_weights(torch.cat([samples.blendshapes, whole]), correctives)
    prior = features.new_zeros(features.shape[1])
    prior[shapes:] = trust
    solve = torch.linalg.solve(features.T @ features + prior.diag(), features.T)[:, : len(samples.blendshapes)]
    dense = torch.cat([one_hot, one_hot.new_zeros(len(correctives), *one_hot.shape[1:])])
    for start in range(0, dense.shape[1], 4096):
        part = slice(start, start + 4096)
        dense[:, part] += torch.einsum("ts,snc->tnc", solve, samples.residual[:, part].float())
    return dense


def _assembled(neutral: Gaussians, torso: Tensor, dense: Tensor, correctives: tuple[Corrective, ...]) -> BakedAvatar:
    """The baked avatar, on the CPU."""
    deltas = {}
    for (group, _), values in zip(GROUPS.items(), dense.split(list(GROUPS.values()), -1), strict=True):
        sparse = to_device(SparseDeltas.of(values, TOLERANCES[group]), "cpu")
        if len(sparse.splats):
            deltas[group] = sparse
    nothing = torch.zeros(1, 1, 3, dtype=torch.uint8).numpy()
    joint = Rig.load().neck_joint
    return BakedAvatar(neutral.to("cpu"), torso.cpu(), joint, deltas, correctives, nothing, {})


def _torso_weights(avatar: Decoder, neutral: Gaussians, splats: Tensor) -> Tensor:
    """How far [N] each splat turns with the torso, 0..1, by least squares over a few head rotations."""
    device = splats.device
    joint = Rig.load(device=device).neck_joint
    product, square = (torch.zeros(len(splats), device=device) for _ in range(2))
    for yaw, pitch in ((25.0, 0.0), (-25.0, 0.0), (0.0, 15.0), (0.0, -15.0)):  # degrees
        rotation = rotation_from_angles(yaw, pitch).to(device)
        turned = avatar.gaussians(Expression(torch.zeros(len(ARKIT_BLENDSHAPES)), rotation)).means[splats]
        way = (neutral.means - joint) @ rotation + joint - neutral.means
        product += ((turned - neutral.means) * way).sum(-1)
        square += way.square().sum(-1)
    weights = (product / square.clamp_min(1e-9)).clamp(0, 1)
    return torch.where(weights < 1e-3, 0.0, weights)


def _length_weights(neutral: Gaussians, color_as_length: float) -> Tensor:
    """Factors [N, 13] that turn differences into metres on the surface, less for fainter splats."""
    size = neutral.scales.amax(-1, keepdim=True)
    one = torch.ones_like(size)
    color = color_as_length * one
    columns = [one.expand(-1, 3), size.expand(-1, 3), one.expand(-1, 3), color.expand(-1, 3), color]
    return torch.cat(columns, -1) * neutral.opacities[:, None].clamp_min(0.1)


def _orthonormal(columns: Tensor) -> Tensor:
    """An orthonormal basis of the span of columns [S, F]."""
    u, values, _ = torch.linalg.svd(columns, full_matrices=False)
    return u[:, values > 1e-4 * values[0]]


def _without(gram: Tensor, basis: Tensor) -> Tensor:
    """Inner products [S, S] of the samples after the span of an orthonormal basis [S, F] is projected out."""
    left = gram - basis @ (basis.T @ gram)
    return left - (left @ basis) @ basis.T


def _expression(blendshapes: Tensor) -> Expression:
    return Expression(blendshapes, torch.eye(3, device=blendshapes.device))


def aligned(quats: Tensor, scales: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """The same ellipsoids, their axes named and signed so that the rotation comes nearest to `like`.

    quats [N, 4], scales [N, 3], like [N, 4]. The axes of an ellipsoid have no order and no sign: a Gaussian that a
    smile makes longer than wide may swap two of them, which is no rotation by 90 degrees.
    """
    turns, orders = (table.to(quats.device) for table in _relabellings())
    # The real part of conj(like) * quats * turn is the cosine of half the angle between them.
    apart = quaternion_product(conjugate(quats), like)
    best = (apart @ turns.T).abs().argmax(-1)
    return quaternion_product(quats, turns[best]), scales.gather(-1, orders[best])


@cache
def _relabellings() -> tuple[Tensor, Tensor]:
    """The 24 rotations [24, 4] that map the axes onto each other, and the old axis [24, 3] at each new place."""
    matrices, orders = [], []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            matrix = torch.zeros(3, 3)
            matrix[list(order), range(3)] = torch.tensor(signs)
            if torch.det(matrix) > 0:
                matrices.append(matrix)
                orders.append(order)
    return quaternions(torch.stack(matrices)), torch.tensor(orders)
