"""Between people: exact at the ends, halfway in between, and videos that go from one to the other."""

from dataclasses import replace
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from flexavatar.avatar import Avatar
from flexavatar.driving.interpolation import interpolate, mix_expressions, morph
from flexavatar.errors import Cancelled
from flexavatar.expression import Expression
from flexavatar.progress import Progress
from flexavatar.rotations import rotation_from_angles


@pytest.fixture(scope="module")
def pair(avatar_file: Path) -> tuple[Avatar, Avatar]:
    one = Avatar.load(avatar_file)
    torch.manual_seed(0)
    return one, replace(
        one,
        shape=one.shape + torch.randn_like(one.shape),
        colors=1 - one.colors,
        neutral_blendshapes=one.neutral_blendshapes * 0,
    )


def test_ends_are_exact(pair) -> None:
    assert interpolate(pair, [1, 0]) is pair[0]
    assert interpolate(pair, [0.0, 1.0]) is pair[1]


def test_halfway_every_point_lies_halfway(pair) -> None:
    one, two = pair
    middle = interpolate([replace(one, neutral_blendshapes=two.neutral_blendshapes), two], [0.5, 0.5])
    points = [
        avatar.gaussians().means for avatar in (replace(one, neutral_blendshapes=two.neutral_blendshapes), middle, two)
    ]
    assert torch.allclose(points[1], (points[0] + points[2]) / 2, atol=1e-6)
    assert torch.allclose(middle.colors, torch.full_like(middle.colors, 0.5), atol=1e-3)
    assert middle.thumbnail.std() > 0


def test_three_people(pair) -> None:
    mixed = interpolate([*pair, pair[0]], [0.25, 0.5, 0.25])
    assert torch.allclose(mixed.shape, (pair[0].shape + pair[1].shape) / 2, atol=1e-5)
    assert mixed.metadata["settings"] == {"interpolated": [0.25, 0.5, 0.25]}


@pytest.mark.parametrize("weights", [[0.5], [0.7, 0.7], [1.5, -0.5], [0.2, 0.3, 0.5]])
def test_bad_weights_are_refused(pair, weights) -> None:
    with pytest.raises(ValueError, match="weight"):
        interpolate(pair, weights)


def test_expressions_mix_with_their_rotations() -> None:
    ends = [Expression.neutral(), Expression.of("smile", rotation_from_angles(yaw=40))]
    middle = mix_expressions(ends, [0.5, 0.5])
    assert torch.allclose(middle.head_rotation, rotation_from_angles(yaw=20), atol=1e-5)
    assert torch.allclose(middle.blendshapes, ends[1].blendshapes / 2)


def test_morph_goes_from_one_to_the_other(pair, tmp_path: Path) -> None:
    path, seen = tmp_path / "morph.mp4", []
    expressions = [Expression.neutral(), Expression.of("smile")]
    morph(
        path,
        pair,
        seconds=0.4,
        fps=10,
        expressions=expressions,
        size=128,
        progress=lambda stage, share: seen.append(share),
    )
    frames = iio.imread(path)
    assert len(frames) == 5 and seen[-1] == 1
    for frame, avatar, expression in ((frames[0], pair[0], expressions[0]), (frames[-1], pair[1], expressions[1])):
        error = np.abs(frame.astype(float) - avatar.render(expression, size=128)).mean()
        assert error < 6


def test_stopped_morph_leaves_nothing(pair, tmp_path: Path) -> None:
    with pytest.raises(Cancelled):
        morph(tmp_path / "morph.mp4", pair, seconds=1, size=64, progress=Progress(stop=lambda: True))
    assert not list(tmp_path.iterdir())
