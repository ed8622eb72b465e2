"""Creases of a photo's expression are found, and only they."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from flexavatar.avatar.residuals import Residuals
from flexavatar.expression import BLINKS, Expression
from flexavatar.gaussians import Gaussians
from flexavatar.reconstruction.creases import compressed, creases_of, missing_light
from flexavatar.rig import Rig
from flexavatar.rig.parts import parts
from flexavatar.rig.subdivision import subdivision

SKIN, DARK = torch.tensor([0.75, 0.58, 0.48]), 0.6
SMILE = Expression.of(
    {"mouthSmileLeft": 0.9, "mouthSmileRight": 0.9, "mouthUpperUpLeft": 0.5, "mouthUpperUpRight": 0.5}
)
SHAPE, REST = torch.zeros(len(Rig.load().shape_basis)), torch.zeros(52)


def places() -> Tensor:
    """Of the S Gaussians on the mean head, metres."""
    return subdivision().spread(Rig.load().anchors.positions(Rig.load().mean))


def face(marks: Tensor) -> Gaussians:
    """Skin [S] with dark marks [S] in 0..1."""
    own = places()
    flat = torch.zeros_like(own)
    return Gaussians(own, torch.cat([flat, flat[:, :1]], 1), flat, flat[:, 0], SKIN * (1 - (1 - DARK) * marks[:, None]))


def residuals_of(head: Gaussians, expression: Expression = SMILE) -> Residuals:
    creases, worn = creases_of(SHAPE, REST, expression.blendshapes, head.colors, torch.ones(len(head)))
    none = Residuals.none(len(head))
    return Residuals(none.offsets, none.log_scales, none.opacities, none.colors, none.lids, creases, worn)


def fold() -> Tensor:
    """A line [S] beside each corner of the mouth, 2.5 mm wide, where a smile compresses the cheek."""
    x, y, _ = places().unbind(-1)
    return ((x.abs() - 0.034).abs() < 0.00125) * ((y + 0.06).abs() < 0.014) * 1.0


def spot(x: float, y: float, radius: float) -> Tensor:
    """[S], on the face's front."""
    return ((places()[:, :2] - torch.tensor([x, y])).norm(dim=-1) < radius) * 1.0


def contrast(head: Gaussians, marks: Tensor) -> float:
    """How much darker the marks are than the skin."""
    return float(1 - head.colors[marks > 0].mean() / SKIN.mean())


def test_folds_fade_with_the_smile() -> None:
    head = face(fold())
    residuals = residuals_of(head)
    neutral, smiling = (residuals.apply(head, blendshapes) for blendshapes in (REST, SMILE.blendshapes))
    assert contrast(neutral, fold()) < 0.5 * contrast(head, fold())
    assert torch.allclose(smiling.colors, head.colors, atol=1e-5)


@pytest.mark.parametrize("mark", [(0.0, 0.05, 0.002), (0.02, 0.05, 0.004), (0.036, -0.055, 0.002)])
def test_moles_stay(mark: tuple[float, float, float]) -> None:
    """On the forehead, and where a smile folds the cheek."""
    head = face(spot(*mark))
    changed = residuals_of(head).apply(head, REST)
    assert contrast(changed, spot(*mark)) > 0.9 * contrast(head, spot(*mark))


def test_lines_where_nothing_is_compressed_stay() -> None:
    """Neither a smile nor a neutral face folds the forehead."""
    x, y, z = places().unbind(-1)
    line = ((y - 0.055).abs() < 0.00125) * (x.abs() < 0.03) * (z > -0.05) * 1.0
    head = face(line)
    assert torch.allclose(residuals_of(head).apply(head, REST).colors, head.colors, atol=1e-3)
    for nothing in (residuals_of(face(fold()), Expression.neutral()), residuals_of(face(0 * line))):
        assert not len(nothing.creases) and not len(nothing.worn)


def test_raised_brows_fold_the_forehead_and_smiles_the_cheeks() -> None:
    core = parts().creasing > 0.99
    y = Rig.load().anchors.positions(Rig.load().mean)[:, 1]
    brows = Expression.of({"browInnerUp": 1.0, "browOuterUpLeft": 1.0, "browOuterUpRight": 1.0})
    for expression, upper in ((brows, True), (SMILE, False)):
        amount = compressed(SHAPE, REST, expression.blendshapes).amount
        above, below = amount[core & (y > 0.02)].quantile(0.9), amount[core & (y < -0.02)].quantile(0.9)
        assert (above > 2 * below) == upper and max(above, below) > 0.05


def test_blinking_brings_no_creases() -> None:
    worn = residuals_of(face(fold())).worn
    assert not worn[:, BLINKS].any() and worn.amin() >= 0
    assert float((worn[:2] @ SMILE.blendshapes - 1).abs().max()) < 1e-5


def test_soft_shadows_are_no_creases() -> None:
    shade = 0.7 + 0.3 * torch.sigmoid(places()[:, :1] / 0.004)
    assert missing_light(SKIN * shade)[parts().creasing[subdivision().parent] > 0.99].max() < 0.04
