"""Merging unwrapped photos: exposure made equal, detail from the best view, outliers outvoted, borders unseen."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from flexavatar.camera import Camera
from flexavatar.rig import Rig
from flexavatar.texture.merge import merge
from flexavatar.texture.unwrap import Unwrapped
from flexavatar.tracking import TrackedFace

SHAPE = (256, 256)


@pytest.fixture(scope="module")
def rig() -> Rig:
    return Rig.load()


@pytest.fixture(scope="module")
def pattern() -> np.ndarray:
    """Colours that vary slowly and finely, mid grey on average."""
    rng = np.random.default_rng(0)
    slow = cv2.GaussianBlur(rng.normal(size=(*SHAPE, 3)).astype(np.float32), (0, 0), 25)
    fine = cv2.GaussianBlur(rng.normal(size=(*SHAPE, 1)).astype(np.float32), (0, 0), 1.5)[..., None]
    return (0.45 + 0.08 * slow / slow.std() + 0.06 * fine / fine.std()).clip(0.1, 0.85).astype(np.float32)


def view(error: float = 0.005) -> TrackedFace:
    return TrackedFace(
        image=np.zeros((512, 512, 3), np.uint8),
        matte=np.ones((512, 512), np.float32),
        crop=(0.0, 0.0, 512.0),
        landmarks=np.zeros((478, 2)),
        scores=torch.zeros(52),
        shape=torch.zeros(60),
        blendshapes=torch.zeros(52),
        head_rotation=torch.eye(3),
        camera=Camera.orbit(0, 0, 512),
        error=error,
    )


def unwrapped(color: np.ndarray, weight: np.ndarray) -> Unwrapped:
    return Unwrapped(color.astype(np.float32), weight.astype(np.float32), np.zeros((*SHAPE, 2), np.float32))


def halves() -> tuple[np.ndarray, np.ndarray]:
    """Trust that falls from one side to the other, with an overlap in the middle."""
    ramp = np.broadcast_to(np.linspace(1.4, -0.4, 256).clip(0, 1), SHAPE)
    return ramp, ramp[:, ::-1]


def test_one_view_is_left_alone(rig, pattern):
    photo = unwrapped(pattern, np.ones(SHAPE))
    assert merge([photo], [view()], rig) is photo


def test_exposure_and_white_balance_follow_the_first_view(rig, pattern):
    right, left = halves()
    tinted = pattern * np.array([0.7, 0.8, 0.95])
    merged = merge([unwrapped(pattern, right), unwrapped(tinted, left)], [view(), view()], rig)
    known = rig.atlas.valid.numpy() & (np.maximum(right, left) > 0.3)
    assert np.abs(merged.color - pattern)[known].mean() < 0.01
    assert np.abs(tinted - pattern)[known].mean() > 0.05, "the views do differ"


def test_a_shifted_view_leaves_no_ghost(rig, pattern):
    """Where the better view is clear, detail is its own; an average would have lost contrast."""
    shifted = np.roll(pattern, 4, axis=1)
    weights = np.full(SHAPE, 1.0), np.full(SHAPE, 0.5)
    merged = merge([unwrapped(pattern, weights[0]), unwrapped(shifted, weights[1])], [view(), view()], rig).color
    inside = cv2.erode(rig.atlas.valid.numpy().astype(np.uint8), np.ones((9, 9), np.uint8)) > 0

    def detail(image: np.ndarray) -> np.ndarray:
        return (image - cv2.GaussianBlur(image, (0, 0), 3))[inside]

    assert detail(merged).std() > 0.9 * detail(pattern).std()
    average = detail((2 * pattern + shifted) / 3)
    assert average.std() < 0.85 * detail(pattern).std(), "an average is duller"


def test_a_step_of_light_between_views_makes_no_border(rig):
    """Light that differs only locally cannot be a gain; the border between the views must be drawn out."""
    flat = np.full((*SHAPE, 3), 0.5)
    brighter = flat + 0.1 * np.linspace(0, 1, 256)[None, :, None]
    right, left = halves()
    merged = merge([unwrapped(flat, right), unwrapped(brighter, left)], [view(), view()], rig).color
    inside = cv2.erode(rig.atlas.valid.numpy().astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    steps = np.abs(np.diff(merged.mean(-1), axis=1))[inside[:, 1:]]
    assert steps.max() < 0.01


def test_what_most_views_do_not_show_is_outvoted(rig, pattern):
    hand = pattern.copy()
    hand[60:120, 90:160] = (0.9, 0.2, 0.2)
    full = np.ones(SHAPE)
    photos = [unwrapped(hand, full), *(unwrapped(pattern, 0.9 * full) for _ in range(3))]
    merged = merge(photos, [view()] * 4, rig).color
    assert np.abs(merged - pattern)[75:105, 105:145].mean() < 0.05


def test_badly_tracked_views_count_less(rig, pattern):
    other = pattern[::-1]
    full = np.ones(SHAPE)
    merged = merge([unwrapped(pattern, full), unwrapped(other, full)], [view(), view(error=0.04)], rig).color
    known = rig.atlas.valid.numpy()
    assert np.abs(merged - pattern)[known].mean() < 0.3 * np.abs(merged - other)[known].mean()


def test_a_torso_seen_from_the_side_is_not_trusted(rig, pattern):
    from flexavatar.rig.regions import atlas_regions
    from flexavatar.rotations import rotation_from_angles

    side = replace(view(), head_rotation=rotation_from_angles(yaw=45))
    full = np.ones(SHAPE)
    red = np.broadcast_to(np.array([0.8, 0.3, 0.3]), (*SHAPE, 3))
    merged = merge([unwrapped(pattern, 0.6 * full), unwrapped(red, full)], [view(), side], rig).color
    torso = atlas_regions(rig).torso > 0.99
    assert np.abs(merged - pattern)[torso].mean() < 0.03
