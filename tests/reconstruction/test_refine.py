"""Refining an avatar to its photos: what they show becomes sharp, what they do not show keeps together with it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import pytest
import torch

from flexavatar.avatar import Avatar
from flexavatar.evaluation.close_up import front_alpha
from flexavatar.evaluation.metrics import detail
from flexavatar.expression import Expression
from flexavatar.io.images import read_image
from flexavatar.metrics import psnr
from flexavatar.pipeline import FlexAvatarPipeline
from flexavatar.progress import Progress
from flexavatar.reconstruction.held_out import draw_view, expression_of, over_white
from flexavatar.reconstruction.observation import observe_close_up
from flexavatar.reconstruction.refine import RefineParams, refine
from flexavatar.reconstruction.rig_avatar import create_rig_avatar
from flexavatar.render import render
from flexavatar.rig import Rig
from flexavatar.rig.parts import parts
from flexavatar.rig.subdivision import subdivision
from flexavatar.tracking import TrackedFace
from tests.conftest import EXAMPLE

QUICK = RefineParams(deform_steps=8, steps=15)


@dataclass(frozen=True)
class Case:
    tracked: TrackedFace
    avatar: Avatar
    refined: Avatar
    shares: list[float]


@pytest.fixture(scope="module")
def case(pipeline: FlexAvatarPipeline) -> Case:
    tracked = pipeline.track(EXAMPLE)
    avatar, _ = create_rig_avatar([tracked], displace_hair=False)
    shares: list[float] = []
    refined = replace(
        avatar,
        residuals=refine(avatar, [tracked], params=QUICK, progress=Progress(lambda stage, share: shares.append(share))),
    )
    return Case(tracked, avatar, refined, shares)


def face_mask(tracked: TrackedFace, size: int) -> torch.Tensor:
    """1 inside the outline of the landmarks, [size, size]."""
    outline = cv2.convexHull((tracked.landmarks * size / 512).astype(np.int32))
    return torch.from_numpy(cv2.fillConvexPoly(np.zeros((size, size), np.float32), outline, 1.0))


def sharpness(avatar: Avatar, tracked: TrackedFace) -> float:
    target, _ = over_white(tracked, 512)
    return detail(draw_view(avatar, tracked, size=512), target, face_mask(tracked, 512))["detail"]


def test_the_photo_is_met_at_its_own_resolution(case: Case) -> None:
    for size in (256, 512):
        target, _ = over_white(case.tracked, size)
        before, after = (
            psnr(draw_view(one, case.tracked, size=size), target, face_mask(case.tracked, size))
            for one in (case.avatar, case.refined)
        )
        assert after > before + 2
    assert sharpness(case.refined, case.tracked) > sharpness(case.avatar, case.tracked) + 0.1


def test_progress(case: Case) -> None:
    assert case.shares == sorted(case.shares) and case.shares[-1] == 1.0
    assert len(case.shares) == QUICK.deform_steps + QUICK.steps


def test_nothing_shows_through_the_face(case: Case) -> None:
    vertices = Rig.load().pose(case.avatar.shape, case.avatar.neutral_blendshapes)
    alpha, face = front_alpha(case.refined.gaussians(), vertices)
    assert 100 * float((1 - alpha[face]).mean()) < 1.0


def test_gaussians_of_the_face_never_shrink(case: Case) -> None:
    residuals = case.refined.residuals
    assert residuals is not None
    core = parts().core[subdivision().parent] > 0.99
    assert residuals.log_scales[core].min() > -0.01
    assert residuals.offsets[core].norm(dim=-1).max() < 0.005


def test_what_is_hidden_stays_in_place(case: Case) -> None:
    residuals = case.refined.residuals
    assert residuals is not None
    behind = subdivision().apply(case.avatar.gaussians()).means[:, 2] < -0.15
    assert residuals.offsets[behind].norm(dim=-1).median() < 0.003
    assert residuals.colors[behind].abs().median() < 0.1


def test_closed_lids_are_skin(case: Case) -> None:
    """An open eye's lashes, white and iris must not be painted onto its lids."""
    residuals = case.refined.residuals
    assert residuals is not None
    skin = case.refined.gaussians().colors[parts().core[subdivision().parent] > 0.99].median(0).values
    distance = (residuals.lids - skin).abs().mean(-1)
    assert distance.median() < 0.12 and residuals.lids.mean(-1).quantile(0.99) < skin.mean() + 0.25
    still = replace(case.refined, residuals=replace(residuals, lids=residuals.lids[:0]))
    blink = Expression.of("blink")
    assert np.abs(still.render(blink, size=128).astype(int) - case.refined.render(blink, size=128)).max() > 10


def test_creases_of_the_smile_fade(case: Case) -> None:
    residuals = case.refined.residuals
    assert residuals is not None and residuals.creases.min() < -0.05 and residuals.creases.max() <= 0
    lasting = replace(
        case.refined, residuals=replace(residuals, creases=residuals.creases[:0], worn=residuals.worn[:0])
    )
    smiling, neutral = (
        [one.render(expression, size=256).astype(int) for one in (lasting, case.refined)]
        for expression in (expression_of(case.refined, case.tracked), Expression.neutral())
    )
    assert np.abs(smiling[0] - smiling[1]).max() <= 1
    assert (neutral[1] - neutral[0]).max() > 10 and (neutral[1] - neutral[0]).min() >= -3


def test_cancelling_keeps_what_there_is(case: Case) -> None:
    asked = []
    stopping = Progress(stop=lambda: asked.append(1) or len(asked) >= 3)
    refined = refine(case.avatar, [case.tracked], params=QUICK, progress=stopping)
    assert len(asked) <= 4 and refined.colors.abs().max() > 0
    with pytest.raises(ValueError, match="at least one photo"):
        refine(case.avatar, [])


def sampled(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Bilinear values [N] at points [N, 2] in pixels."""
    x, y = (points.T - 0.5).astype(np.float32)[:, :, None]
    return cv2.remap(picture.astype(np.float32), x, y, cv2.INTER_LINEAR)


def test_large_photos_have_a_close_up(pipeline: FlexAvatarPipeline, case: Case) -> None:
    assert case.tracked.close is None, "the example is small"
    photo = cv2.resize(read_image(EXAMPLE), (2048, 2048), interpolation=cv2.INTER_CUBIC)
    tracked = pipeline.track(photo)
    close = tracked.close
    assert close is not None and close.image.shape[0] == close.camera.width > 500
    # Head and close-up see the same points.
    points = Rig.load().landmarks(Rig.load().pose(tracked.shape, tracked.blendshapes))
    small, near = tracked.camera.project(points)[0].numpy(), close.camera.project(points)[0].numpy()
    assert near.min() > 0 and near.max() < close.camera.width
    far = sampled(tracked.image.mean(-1), small)
    fine = sampled(cv2.GaussianBlur(close.image, (0, 0), 1.5).mean(-1), near)
    assert np.abs(far - fine).mean() < 4
    observed = observe_close_up(tracked, case.avatar.neutral_blendshapes)
    assert observed is not None and observed.image.shape[1:] == close.image.shape[:2] and observed.matte.mean() > 0.5
    start = replace(case.avatar, shape=tracked.shape)
    fitted = replace(start, residuals=refine(start, [tracked], params=QUICK))
    inside = observed.matte[0] * observed.weight[0]
    target = observed.image * observed.matte + 1 - observed.matte
    scores = []
    for one in (start, fitted):
        with torch.inference_mode():
            drawn = render(one.gaussians(expression_of(one, tracked)), observed.camera).rgb
        scores.append(psnr(drawn, target, inside))
    assert scores[1] > scores[0] + 3


def test_two_photos_are_as_sharp_as_one(case: Case) -> None:
    """The second is darker and tracked a little apart."""
    camera = case.tracked.camera
    shifted = camera.world_to_camera.clone()
    shifted[0, 3] += 0.002
    other = replace(
        case.tracked,
        image=(case.tracked.image * 0.85).astype(np.uint8),
        camera=replace(camera, world_to_camera=shifted),
    )
    more = RefineParams(deform_steps=16, steps=30)
    both = replace(case.avatar, residuals=refine(case.avatar, [case.tracked, other], params=more))
    one, two = (sharpness(made, case.tracked) for made in (case.refined, both))
    assert two > one - 0.12
    inside = face_mask(case.tracked, 256) > 0
    light = [draw_view(made, case.tracked)[:, inside].mean() for made in (case.refined, both)]
    assert abs(float(light[0] - light[1])) < 0.02, "the light is that of the first"
