"""Fitting: the input view improves, what was not seen does not suffer, and every option does what it says."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from flexavatar.avatar import Avatar
from flexavatar.camera import Camera
from flexavatar.expression import Expression, above_neutral
from flexavatar.gaussians import Gaussians
from flexavatar.io.images import read_image
from flexavatar.model import read_config
from flexavatar.model.flex1 import Flex1
from flexavatar.model.flex_s import EncodedHead, FlexS
from flexavatar.progress import Progress
from flexavatar.reconstruction.alignment import rigidly_moved
from flexavatar.reconstruction.fit import FitResult, FitSettings, fit
from flexavatar.reconstruction.network_avatar import observe
from flexavatar.reconstruction.observation import FitObservation, observe_face
from flexavatar.reconstruction.rig_avatar import create_rig_avatar
from flexavatar.render import render
from flexavatar.rotations import rotation_from_angles
from flexavatar.tracking import FaceTracker, TrackedFace
from tests.conftest import EXAMPLE
from tests.model.flex1_reference import GOLDEN
from tests.model.test_pretrained import SMALL

SIZE = 96  # pixels


@dataclass(frozen=True)
class Case:
    """A synthetic head that differs from the avatar which was made of its photo, and a network that knows both."""

    tracked: TrackedFace
    avatar: Avatar
    model: FlexS
    head: EncodedHead
    truth: Gaussians

    def view(self, yaw: float = 0.0) -> FitObservation:
        camera = Camera.orbit(yaw, 0, SIZE)
        picture = render(self.truth, camera)
        return FitObservation(
            image=picture.rgb,
            matte=picture.alpha,
            weight=torch.ones(1, SIZE, SIZE),
            camera=camera,
            expression=Expression.neutral().code(),
        )

    @torch.no_grad()
    def psnr(self, head: EncodedHead, view: FitObservation) -> float:
        gaussians = self.model.decode(head, Expression.from_code(view.expression[None]))[0]
        return -10 * torch.log10((render(gaussians, view.camera).rgb - view.image).square().mean()).item()


def fit_head(
    model: FlexS,
    head: EncodedHead,
    views: list[FitObservation],
    settings: FitSettings,
    progress: Progress | None = None,
) -> tuple[EncodedHead, FitResult]:
    """`fit` for one person of flex-s."""

    def decode(code: Tensor, expressions: Tensor) -> Gaussians:
        return model.decode(head.repeated(code, len(expressions)), Expression.from_code(expressions))

    result = fit(decode, head.code, views, settings, progress=progress)
    return replace(head, code=result.code), result


def network(scale: float) -> FlexS:
    """A small network with random output layers: a stand-in for a trained one, whose code steers its Gaussians."""
    torch.manual_seed(0)
    model = FlexS(replace(SMALL, width=64))
    torch.nn.init.normal_(model.decoder.out.weight, std=scale)
    return model.freeze()


@pytest.fixture(scope="module")
def case() -> Case:
    with FaceTracker() as tracker:
        tracked = tracker.track_image(read_image(EXAMPLE))
    avatar, photo = create_rig_avatar([tracked], displace_hair=False)
    model = network(0.01)
    with torch.no_grad():
        head = model.encode(observe(tracked, avatar, photo))
    plain = avatar.gaussians()
    # Hair with volume in another colour, and a paler face: what the rig avatar does not say.
    hair = (plain.means[:, 1:] > 0.03).float()
    away = plain.means - plain.means.new_tensor([0.0, 0.0, -0.08])
    truth = replace(
        plain,
        means=plain.means + 0.01 * hair[:, :1] * torch.nn.functional.normalize(away, dim=-1),
        colors=(plain.colors * 0.8 + 0.1 + hair[:, :1] * plain.colors.new_tensor([0.15, 0.05, -0.05])).clamp(0, 1),
    )
    return Case(tracked, avatar, model, head, truth)


def quick(**changes) -> FitSettings:
    return replace(FitSettings(steps=6), **changes)


def test_hundred_steps_gain_three_decibels_and_harm_no_other_view(case: Case) -> None:
    seen, unseen = case.view(0), [case.view(yaw) for yaw in (-35, 35)]
    before = case.psnr(case.head, seen), [case.psnr(case.head, view) for view in unseen]
    fitted, result = fit_head(case.model, case.head, [seen], FitSettings(steps=100))
    assert case.psnr(fitted, seen) >= before[0] + 3
    for view, start in zip(unseen, before[1], strict=True):
        assert case.psnr(fitted, view) >= start
    assert result.losses[-1] < 0.7 * result.losses[0]


def test_only_the_code_changes(case: Case) -> None:
    weights = {name: tensor.clone() for name, tensor in case.model.state_dict().items()}
    start = case.head.code.clone()
    fitted, result = fit_head(case.model, case.head, [case.view()], quick())
    assert torch.equal(case.head.code, start) and not torch.equal(fitted.code, start)
    assert fitted.detail is case.head.detail and fitted.colors is case.head.colors
    assert all(torch.equal(tensor, weights[name]) for name, tensor in case.model.state_dict().items())


def test_the_same_seed_gives_the_same_code(case: Case) -> None:
    views = [case.view(yaw) for yaw in (-30, -10, 10, 30)]
    codes = [fit_head(case.model, case.head, views, quick(seed=seed))[0].code for seed in (3, 3, 8)]
    assert torch.equal(codes[0], codes[1])
    assert not torch.equal(codes[0], codes[2])


def test_cancelling_returns_the_best_so_far(case: Case) -> None:
    seen: list[float] = []
    _, result = fit_head(
        case.model, case.head, [case.view()], quick(steps=50),
        progress=Progress(lambda stage, share: seen.append(share), lambda: len(seen) >= 4),
    )  # fmt: skip
    assert result.stopped == "cancelled"
    assert seen == [step / 50 for step in (1, 2, 3, 4)] and len(result.losses) == 4
    pairs = [sum(result.losses[i : i + 2]) for i in range(3)]  # before white and before black
    assert result.best_step == 1 + pairs.index(min(pairs))


def test_stops_when_nothing_improves(case: Case) -> None:
    _, result = fit_head(case.model, case.head, [case.view()], quick(steps=50, learning_rate=1e-7, patience=5))
    assert result.stopped == "flat" and len(result.losses) == 7


def test_every_view_has_its_turn(case: Case) -> None:
    asked: list[float] = []
    views = [case.view(yaw) for yaw in (-30, 0, 30)]

    def decode(code: Tensor, expressions: Tensor) -> Gaussians:
        asked.extend(expressions[:, 0].tolist())
        return case.model.decode(case.head.repeated(code, len(expressions)), Expression.from_code(expressions))

    named = [
        replace(view, expression=view.expression + 0.01 * i * (torch.arange(58) == 0)) for i, view in enumerate(views)
    ]
    fit(decode, case.head.code, named, quick(steps=6, views_per_step=1))
    assert sorted(round(100 * value) for value in asked) == [0, 0, 1, 1, 2, 2]


def test_where_the_weight_is_zero_nothing_pulls(case: Case) -> None:
    view = case.view()
    ignored = replace(view, image=torch.rand_like(view.image), weight=torch.zeros_like(view.weight))
    _, result = fit_head(case.model, case.head, [ignored], quick(steps=2))
    assert result.losses[0] == pytest.approx(0, abs=1e-6)
    assert torch.equal(result.code, case.head.code)


def test_nothing_to_fit_is_refused(case: Case) -> None:
    with pytest.raises(ValueError, match="observation"):
        fit_head(case.model, case.head, [], quick())
    with pytest.raises(ValueError, match="step"):
        fit_head(case.model, case.head, [case.view()], quick(steps=0))


def test_observed_photo_matches_the_avatar_that_it_made(case: Case) -> None:
    view = observe_face(case.tracked, case.avatar.neutral_blendshapes, 128)
    gaussians = case.avatar.gaussians(Expression.from_code(view.expression))
    picture = render(gaussians, view.camera)
    inside = (view.matte > 0.9) & (view.weight > 0.5) & (picture.alpha > 0.9)
    error = (picture.rgb - view.image).abs().mean(0, keepdim=True)[inside].median()
    assert error < 0.04
    assert case.tracked.known is not None
    shown = torch.from_numpy(case.tracked.known[2::4, 2::4]) > 0
    assert not view.weight[0][~shown].any(), "beyond the photo's border nothing is known"
    assert view.weight[0, :64][shown[:64]].float().mean() > 0.97
    assert not view.weight[0][shown].all(), "the bust ends inside the picture"


def test_tracked_expression_is_met_again_on_top_of_the_rest(case: Case) -> None:
    rest, tracked = case.avatar.neutral_blendshapes, case.tracked.blendshapes.clamp(0, 1)
    own = above_neutral(tracked, rest)
    assert torch.allclose(own + rest * (1 - own), torch.maximum(tracked, rest), atol=1e-5)


def test_views_turn_about_the_head() -> None:
    gaussians = Gaussians(
        means=torch.tensor([[[0.0, -0.05, -0.07], [0.1, -0.05, -0.07]]]),
        quats=torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(1, 2, 4),
        scales=torch.full((1, 2, 3), 1e-3), opacities=torch.ones(1, 2), colors=torch.ones(1, 2, 3),
    )  # fmt: skip
    quarter = torch.tensor([[0.0, np.pi / 2, 0.0, 0.0, 0.0, 0.01]], dtype=torch.float32)
    turned = rigidly_moved(gaussians, quarter)
    assert torch.allclose(turned.means[0, 0], torch.tensor([0.0, -0.05, -0.06]), atol=1e-6)
    assert torch.allclose(turned.means[0, 1], torch.tensor([0.0, -0.05, -0.16]), atol=1e-6)
    assert torch.allclose(turned.quats[0, 0], torch.tensor([0.5**0.5, 0.0, 0.5**0.5, 0.0]), atol=1e-6)


def test_rotation_survives_the_expression_code() -> None:
    expression = Expression.of("smile", rotation_from_angles(20, -10, 5))
    again = Expression.from_code(expression.code())
    assert torch.allclose(again.head_rotation, expression.head_rotation, atol=1e-6)
    assert torch.equal(again.blendshapes, expression.blendshapes)


def test_flex_1_is_fitted_by_the_same_function() -> None:
    config = read_config(GOLDEN / "tiny_config.json")
    tiny = Flex1.load(GOLDEN / "tiny_state_dict.safetensors", GOLDEN / "tiny_template.obj", config)
    torch.manual_seed(0)
    code = torch.randn(config.n_tokens, 1, config.width)
    expression = torch.zeros(config.decoder.expression_dim)
    camera = Camera.orbit(0, 0, 48)

    def decode(code: Tensor, expressions: Tensor) -> Gaussians:
        return tiny.decode(code, expressions[None])[0]

    with torch.no_grad():
        goal = render(decode(torch.randn(config.n_tokens, 1, config.width), expression[None])[0], camera)
    view = FitObservation(goal.rgb.clamp(0, 1), goal.alpha, torch.ones(1, 48, 48), camera, expression)
    result: FitResult = fit(decode, code, [view], FitSettings(steps=20, learning_rate=0.05))
    assert result.code.shape == code.shape
    assert min(result.losses) < 0.9 * result.losses[0]
