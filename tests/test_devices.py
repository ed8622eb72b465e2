"""Everything that may run on a GPU: on a pretended one with the same result as on the CPU, and with `-m gpu` on one."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from flexavatar.avatar import Avatar
from flexavatar.avatar.residuals import Residuals
from flexavatar.baking import BakedAvatar, bake
from flexavatar.baking.bake import bake_measured
from flexavatar.baking.error import true_decodes
from flexavatar.baking.samples import driving_expressions, mixed_expressions
from flexavatar.driving import drive
from flexavatar.driving.interpolation import morph
from flexavatar.errors import RendererUnavailable
from flexavatar.expression import Expression
from flexavatar.model.flex_s import FlexSObservation
from flexavatar.model.pretrained import NetworkSource, load_network
from flexavatar.motion import load_clip
from flexavatar.pipeline import DEFAULT_MODEL, FlexAvatarPipeline
from flexavatar.reconstruction.fit import FitSettings
from flexavatar.reconstruction.held_out import likeness_to
from flexavatar.reconstruction.network_avatar import create_network_avatar, observe
from flexavatar.reconstruction.observation import observe_face
from flexavatar.reconstruction.rig_avatar import create_rig_avatar
from flexavatar.rig import Rig
from flexavatar.rig.parts import _parts, parts
from flexavatar.rig.rig import _load
from flexavatar.rig.subdivision import _subdivision, subdivision
from flexavatar.settings import Device
from flexavatar.tracking import TrackedFace
from flexavatar.training.config import LossWeights, read_config
from flexavatar.training.records import stack
from flexavatar.training.sampling import RecordPool
from flexavatar.training.trainer import Trainer
from tests.conftest import EXAMPLE
from tests.pretended_cuda import CUDA, DevicesMix, PretendedCuda, is_cuda, pretended_cuda
from tests.reconstruction.test_fit import fit_head
from tests.training.training_records import made_record

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["pretended_cuda"]

SMILE = Expression.of("smile")
STEPS = (2, 3)  # of the deformation and of single Gaussians


@dataclass(frozen=True)
class Person:
    tracked: TrackedFace
    rig: Avatar
    seen: FlexSObservation
    made: Avatar  # by the network, refined to two views in a few steps


@pytest.fixture(scope="module")
def person(pipeline: FlexAvatarPipeline) -> Person:
    tracked = pipeline.track(EXAMPLE)
    rig, photo = create_rig_avatar([tracked], displace_hair=False)
    seen = observe(tracked, rig, photo)
    return Person(tracked, rig, seen, _made(tracked, rig, seen, "cpu"))


def _made(tracked: TrackedFace, rig: Avatar, seen: FlexSObservation, device: Any) -> Avatar:
    """Of one photo twice, so that all that several views need is there."""
    views = [tracked, tracked]
    return create_network_avatar(NetworkSource.of(DEFAULT_MODEL), rig, seen, views, 0, STEPS, device=device)


def _source(person: Person) -> NetworkSource:
    assert person.made.network is not None
    return person.made.network.source


def _tensors(value: Any) -> Iterator[Tensor]:
    """Those of an avatar, baked or not, in a fixed order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for name in sorted(value):
            yield from _tensors(value[name])
    elif hasattr(value, "__dataclass_fields__"):
        for field in fields(value):
            yield from _tensors(getattr(value, field.name))


def same(here: Any, there: Any) -> bool:
    """Whether two have equal tensors, both on the CPU."""
    pairs = list(zip(_tensors(here), _tensors(there), strict=True))
    return bool(pairs) and all(not is_cuda(b) and torch.equal(a, b) for a, b in pairs)


ONE, TWO = torch.rand(3, 3), torch.rand(3, 3)


@pytest.mark.parametrize(
    "mix",
    [
        lambda one, two: one + two,
        lambda one, two: two @ one,
        lambda one, two: torch.cat([one, two]),
        lambda one, two: torch.where(one > 0, two, 0.0),
        lambda one, two: torch.nn.functional.linear(two, one),
        lambda one, two: two[one.argmax(1)],
        lambda one, two: one.__setitem__(0, two[0]),
        lambda one, two: one.numpy(),
        lambda one, two: one[0].mul_(two[0]),
        lambda one, two: sum(row @ other for row, other in zip(one, two, strict=True)),
        lambda one, two: torch.randn(3, generator=torch.Generator(), device=one.device),
        lambda one, two: torch.nn.Linear(3, 3).to(one.device)(two),
        lambda one, two: torch.nn.Linear(3, 3)(one),
        lambda one, two: Rig.load(device=one.device).turn_torso(Rig.load().mean, two),
    ],
)
def test_pretended_devices_do_not_mix(mix: Callable, pretended_cuda: PretendedCuda) -> None:
    with pytest.raises((DevicesMix, TypeError)):
        mix(ONE.to("cuda"), TWO)


def test_what_a_gpu_allows_is_allowed(pretended_cuda: PretendedCuda) -> None:
    one = ONE.to("cuda")
    assert one.device == CUDA and ONE.device.type == "cpu" and one.to(CUDA) is one
    for made in (
        one * torch.tensor(2.0),
        one[TWO.argmax(1)],
        torch.zeros_like(one),
        one.new_zeros(2),
        [*one][0],
        one.mT,
    ):
        assert is_cuda(made)
    one[0] = 1.0
    assert not is_cuda(one.cpu()) and not torch.equal(one.cpu(), ONE)


def test_avatars_decode_on_a_gpu(person: Person, pretended_cuda: PretendedCuda) -> None:
    raised = replace(person.rig, hair_displacement=torch.full((len(Rig.load().mean),), 0.01))
    for avatar in (person.rig, raised, person.made):
        there = avatar.to("cuda")
        assert there.device == CUDA and there.to("cuda") is there and same(avatar, there.to("cpu"))
        assert same(avatar.gaussians(SMILE), there.gaussians(SMILE).to("cpu"))
        assert all(is_cuda(value) for value in vars(there.gaussians()).values())
        assert np.array_equal(avatar.render(SMILE, size=64, device="cpu"), avatar.render(SMILE, size=64, device="cuda"))


def test_what_is_loaded_to_draw_serves_a_fit(
    person: Person, pretended_cuda: PretendedCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flexavatar.model.pretrained._loaded", OrderedDict())
    for made in (_load, _parts, _subdivision):
        made.cache_clear()
    person.made.render(size=32, device="cuda")
    assert is_cuda(_fitted(person, "cuda"))
    cached = (Rig.load(device=CUDA), parts(CUDA), subdivision(CUDA), *load_network(_source(person), CUDA).parameters())
    assert not any(tensor.is_inference() for value in cached for tensor in _tensors(value))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a CUDA GPU")
def test_a_missing_gpu_is_named(person: Person) -> None:
    for compute in (person.made.render, partial(bake, person.made)):
        with pytest.raises(RendererUnavailable, match="no CUDA GPU"):
            compute(device="cuda")


def test_network_avatars_are_made_on_a_gpu(person: Person, pretended_cuda: PretendedCuda) -> None:
    made = _made(person.tracked, person.rig, person.seen, "cuda")
    assert pretended_cuda.drawn > sum(STEPS)
    assert same(person.made, made) and np.array_equal(person.made.thumbnail, made.thumbnail)
    assert likeness_to(made, [person.tracked]) == likeness_to(made.to("cuda"), [person.tracked])


def test_pipelines_compute_on_their_device(person: Person, pretended_cuda: PretendedCuda) -> None:
    with FlexAvatarPipeline.from_pretrained(device="cuda") as pipeline:
        pipeline.build(person.tracked, quality="instant")
        assert pretended_cuda.drawn == 1  # the thumbnail
        captured = pipeline.capture([EXAMPLE, EXAMPLE], "instant")
        assert pretended_cuda.drawn == 2 and not any(is_cuda(tensor) for tensor in _tensors(captured.avatar))
        pipeline.create(EXAMPLE, quality="instant", device="cpu")
        assert pretended_cuda.drawn == 2


def test_codes_are_fitted_on_a_gpu(person: Person, pretended_cuda: PretendedCuda) -> None:
    code = _fitted(person, "cuda")
    assert is_cuda(code) and torch.equal(code.cpu(), _fitted(person, "cpu"))


def _fitted(person: Person, device: str) -> Tensor:
    avatar = person.made.to(device)
    assert avatar.network is not None
    settings = FitSettings(steps=2)
    view = observe_face(person.tracked, person.rig.neutral_blendshapes, 64)
    model = load_network(avatar.network.source, device)
    return fit_head(model, avatar.encoded(avatar.network), [view, view], settings)[0].code


@pytest.mark.slow
def test_avatars_are_quickly_baked_on_a_gpu(person: Person, pretended_cuda: PretendedCuda) -> None:
    assert same(bake(person.rig, "quick", "cpu"), bake(person.rig, "quick", "cuda"))


def test_avatars_are_baked_on_a_gpu(
    person: Person, pretended_cuda: PretendedCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = mixed_expressions()[::12]
    monkeypatch.setattr(sys.modules[bake.__module__], "mixed_expressions", lambda: few)
    splats = torch.arange(0, len(person.rig.colors), 20)
    here, there = (_measured(person.rig, splats, device) for device in ("cpu", "cuda"))
    assert same(here, there) and here.report == there.report and pretended_cuda.drawn


def _measured(avatar: Avatar, splats: Tensor, device: str) -> BakedAvatar:
    avatar = avatar.to(device)
    return bake_measured(avatar, true_decodes(avatar, driving_expressions(every=100), splats.to(device)))


def test_avatars_move_and_morph_on_a_gpu(
    person: Person, pretended_cuda: PretendedCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = _videos(person, "cpu", monkeypatch), _videos(person, "cuda", monkeypatch)
    assert pretended_cuda.drawn == sum(map(len, there))
    assert all(np.array_equal(a, b) and np.ptp(b) > 100 for a, b in zip(here, there, strict=True))


def _videos(person: Person, device: Device, monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """The frames of a driven avatar and of two morphs."""
    videos: list[np.ndarray] = []
    kept = lambda path, frames, *_: videos.append(np.stack([*frames])) or ()  # noqa: E731
    monkeypatch.setattr("flexavatar.io.write_video", kept)
    drive(person.made, load_clip("talk")[20:22], "talk.mp4", size=64, device=device)
    flat = replace(person.made, residuals=Residuals.none(len(person.made.colors)))
    raised = replace(person.rig, hair_displacement=torch.full((len(Rig.load().mean),), 0.01))
    for pair in ([person.made, flat], [raised, person.rig]):
        morph("morph.mp4", pair, 0.1, 20, [SMILE, Expression.neutral()], 30, 64, device=device)
    return videos


def test_networks_are_trained_on_a_gpu(tmp_path: Path, pretended_cuda: PretendedCuda) -> None:
    weights = LossWeights(position=1, color=1, copied=1, spread=1, presence=1, pixels=1, ssim=1, alpha=1, drift=1)
    config = read_config("smoke")
    stages = tuple(stage.model_copy(update={"losses": weights}) for stage in config.stages)
    config = config.model_copy(update={"stages": stages})
    seen = stack([made_record(0)], [[0, 1]]) | {"backgrounds": torch.ones(1, 3)}
    losses = []
    for device in ("cpu", "cuda"):
        accelerator = SimpleNamespace(
            device=torch.device(device), prepare=lambda *prepared: prepared, backward=lambda loss: loss.backward()
        )
        trainer = Trainer(config, RecordPool((), ()), tmp_path, cast("Accelerator", accelerator))
        losses.append([trainer._step(seen) for _ in range(2)])
    for here, there in zip(*losses, strict=True):
        assert here.keys() == there.keys() and all(is_cuda(loss) for loss in there.values())
        # Adam's fused step, which a GPU takes, rounds otherwise.
        assert [float(loss) for loss in there.values()] == pytest.approx([float(loss) for loss in here.values()], 1e-3)


gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")]


class TestOnARealGpu:
    """The same without pretence. Its sums round otherwise, and so does gsplat."""

    pytestmark = gpu

    def test_create(self, person: Person) -> None:
        made = _made(person.tracked, person.rig, person.seen, "cuda")
        assert all(tensor.device.type == "cpu" for tensor in _tensors(made))
        assert made.network is not None and person.made.network is not None
        assert_close(made.network.code, person.made.network.code, 0.02)
        shown = [likeness_to(avatar, [person.tracked])[0] for avatar in (made, person.made)]
        assert shown[0] == pytest.approx(shown[1], abs=0.3)
        assert alike(made.thumbnail, person.made.thumbnail)

    def test_capture(self, tmp_path: Path) -> None:
        with FlexAvatarPipeline.from_pretrained(device="cuda") as pipeline:
            captured = pipeline.capture([EXAMPLE, EXAMPLE], "fast")
        assert all(tensor.device.type == "cpu" for tensor in _tensors(captured.avatar))
        captured.avatar.save(tmp_path / "head.flexavatar")

    def test_decode_and_render(self, person: Person) -> None:
        here, there = person.made.gaussians(SMILE), person.made.to("cuda").gaussians(SMILE)
        assert there.means.is_cuda
        assert_close(there.means.cpu(), here.means, 2e-4)
        assert_close(there.colors.cpu(), here.colors, 0.02)
        assert alike(*(person.made.render(SMILE, 20, size=256, device=device) for device in ("cpu", "cuda")))

    def test_fit(self, person: Person) -> None:
        code = _fitted(person, "cuda")
        assert code.is_cuda
        assert_close(code.cpu(), _fitted(person, "cpu"), 0.05)

    def test_drive_and_morph(self, person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
        here, there = _videos(person, "cpu", monkeypatch), _videos(person, "cuda", monkeypatch)
        assert all(alike(a, b) for a, b in zip(here, there, strict=True))

    def test_bake(self, person: Person) -> None:
        here, there = (bake(person.rig, "quick", device) for device in ("cpu", "cuda"))
        assert there.neutral.means.device.type == "cpu"
        assert_close(there.gaussians(SMILE).means, here.gaussians(SMILE).means, 2e-4)
        assert alike(*(baked.render(SMILE, size=256, device="cpu") for baked in (here, there)))
        splats = torch.arange(0, len(person.rig.colors), 20)
        reports = [_measured(person.rig, splats, device).report for device in ("cpu", "cuda")]
        assert reports[0] is not None and reports[1] is not None
        assert reports[1].psnr_face == pytest.approx(reports[0].psnr_face, abs=0.5)


def assert_close(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    """All but one in a thousand: near a threshold a rounding decides."""
    apart = (actual - expected).abs().flatten().sort().values
    assert apart[int(0.999 * (len(apart) - 1))] < tolerance, apart[-1]


def alike(here: np.ndarray, there: np.ndarray) -> bool:
    """Whether pictures are equal by 35 dB."""
    return float(np.square(here.astype(float) - there).mean()) < 255**2 / 10**3.5
