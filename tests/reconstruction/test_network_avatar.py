"""Avatars by a network, from creation to file, with a small network of random weights in place of a trained one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from flexavatar.avatar import Avatar
from flexavatar.driving.interpolation import interpolate
from flexavatar.errors import BadAvatarFile, ModelUnavailable
from flexavatar.expression import Expression
from flexavatar.model.config import UpsamplerConfig
from flexavatar.model.flex_s import FLEX_S, FlexS
from flexavatar.model.pretrained import save_pretrained
from flexavatar.pipeline import FlexAvatarPipeline
from flexavatar.reconstruction.network_avatar import fit_steps
from tests.conftest import EXAMPLE

SMALL = replace(
    FLEX_S, width=32, n_image_layers=1, n_encoder_layers=1, n_decoder_layers=1,
    upsampler=UpsamplerConfig(4, 1024, 16, 1),
)  # fmt: skip


def save_network(folder: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    model = FlexS(SMALL)
    torch.nn.init.normal_(model.decoder.out.weight, std=0.02)
    save_pretrained(model, folder)
    return folder


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_network(tmp_path_factory.mktemp("network") / "small", 0)


@pytest.fixture(scope="module")
def stages() -> list[tuple[str, float]]:
    return []


@pytest.fixture(scope="module")
def avatar(network: Path, stages) -> Avatar:
    with FlexAvatarPipeline.from_pretrained(str(network), device="cpu") as pipeline:
        return pipeline.create(EXAMPLE, quality="fast", progress=lambda stage, share: stages.append((stage, share)))


def test_created_avatar_is_the_networks(avatar: Avatar, stages) -> None:
    assert avatar.network is not None and avatar.metadata["fitting_steps"] == sum(fit_steps("fast", 1))
    rig = replace(avatar, network=None)
    assert (avatar.gaussians().means - rig.gaussians().means).abs().max() > 1e-4
    assert "fitting" in dict(stages) and stages[-1] == ("done", 1.0)
    shares = [share for _, share in stages]
    assert shares == sorted(shares)


def test_batch_of_expressions(avatar: Avatar) -> None:
    smile = Expression.of("smile")
    pair = Expression(torch.stack([torch.zeros(52), smile.blendshapes]), torch.eye(3).repeat(2, 1, 1))
    both = avatar.gaussians(pair)
    assert both.batch_shape == (2,)
    assert torch.allclose(both[1].means, avatar.gaussians(smile).means, atol=1e-5)


def test_file_round_trip(avatar: Avatar, tmp_path: Path) -> None:
    path = tmp_path / "a.flexavatar"
    avatar.save(path)
    again = Avatar.load(path)
    assert again.network is not None and avatar.network is not None
    assert again.network.source == avatar.network.source and "network" not in again.metadata
    pictures = [a.render(Expression.of("smile"), yaw=30, size=128).astype(int) for a in (avatar, again)]
    assert np.abs(pictures[0] - pictures[1]).mean() < 0.5


def test_file_with_a_damaged_code(avatar: Avatar, tmp_path: Path) -> None:
    assert avatar.network is not None
    path = tmp_path / "a.flexavatar"
    replace(avatar, network=replace(avatar.network, detail=avatar.network.detail[:10])).save(path)
    with pytest.raises(BadAvatarFile, match="detail"):
        Avatar.load(path)


def test_other_weights_are_not_taken_for_the_avatars_own(avatar: Avatar, tmp_path: Path) -> None:
    assert avatar.network is not None
    other = save_network(tmp_path / "other", 1)
    for name, problem in ((str(other), "changed"), ("gone", "gone")):
        source = replace(avatar.network.source, sha256="0" * 64, name=name)
        with pytest.raises(ModelUnavailable, match=problem):
            replace(avatar, network=replace(avatar.network, source=source)).gaussians()


def test_several_photos_are_fitted_together(network: Path) -> None:
    told: list[tuple[str, float]] = []
    with FlexAvatarPipeline.from_pretrained(str(network), device="cpu") as pipeline:
        made = pipeline.capture([EXAMPLE, EXAMPLE], "fast", lambda stage, share: told.append((stage, share)))
        assert pipeline.fits and pipeline.estimate(2, "best") > pipeline.estimate(2, "balanced") + 20
    assert made.avatar.network is not None and made.avatar.metadata["fitting_steps"] > 0
    shares = [share for _, share in told]
    assert shares == sorted(shares) and told[-1] == ("done", 1.0)
    fitting = [share for stage, share in told if stage == "fitting"]
    assert fitting[-1] > fitting[0] + 0.2


def test_codes_interpolate(avatar: Avatar) -> None:
    assert avatar.network is not None
    other = replace(avatar, network=replace(avatar.network, code=-avatar.network.code))
    middle = interpolate([avatar, other], [0.25, 0.75])
    assert middle.network is not None
    assert avatar.residuals is not None and middle.residuals is not None
    assert avatar.residuals.colors.abs().max() > 0.01, "fitting changes colours"
    assert torch.allclose(middle.residuals.colors, avatar.residuals.colors, atol=1e-6)
    assert torch.allclose(middle.residuals.lids, avatar.residuals.lids, atol=1e-6)
    assert torch.allclose(middle.network.code, -0.5 * avatar.network.code, atol=1e-6)
    with pytest.raises(ValueError, match="different models"):
        interpolate([avatar, replace(avatar, network=None)], [0.5, 0.5])
