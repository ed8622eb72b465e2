"""Mattes in closed form, and the colours of what they cut out."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from flexavatar.tracking.closed_form import closed_form_alpha, foreground
from flexavatar.tracking.matte import Matter

SIZE = 96  # pixels


@pytest.fixture
def composite() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A photo [S, S, 3] of a red thing with strands as thin as hair before a green wall; its colours and its alpha."""
    large = np.zeros((4 * SIZE, 4 * SIZE), np.float32)
    middle = 2 * SIZE
    cv2.circle(large, (middle, middle), SIZE, 1.0, -1)
    for angle in np.linspace(0, 2 * np.pi, 40, endpoint=False):
        tip = (middle + 1.35 * SIZE * np.array([np.cos(angle), np.sin(angle)])).astype(int)
        cv2.line(large, (middle, middle), (int(tip[0]), int(tip[1])), 1.0, 3)
    alpha = cv2.resize(large, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    shade = np.linspace(0.5, 0.9, SIZE, dtype=np.float32)[:, None, None]
    person = shade * np.array([1.0, 0.2, 0.1], np.float32) * np.ones((SIZE, SIZE, 3), np.float32)
    wall = (1.3 - shade) * np.array([0.2, 0.9, 0.4], np.float32)
    return alpha[..., None] * person + (1 - alpha[..., None]) * wall, person, alpha


def coarse(alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a small network makes of the alpha: soft by 8 pixels; and where it is unsure."""
    soft = cv2.GaussianBlur((alpha > 0.5).astype(np.float32), (0, 0), 4)
    return soft, (soft > 0.02) & (soft < 0.98)


def test_strands_are_found(composite) -> None:
    photo, _, alpha = composite
    soft, unsure = coarse(alpha)
    found = closed_form_alpha(photo, np.where(unsure, soft, np.round(soft)), unsure)
    assert np.abs(found - alpha)[unsure].mean() < 0.25 * np.abs(soft - alpha)[unsure].mean()
    assert found.dtype == np.float32 and found.min() >= 0 and found.max() <= 1


def test_what_is_known_stays(composite) -> None:
    photo, _, alpha = composite
    soft, unsure = coarse(alpha)
    found = closed_form_alpha(photo, soft, unsure)
    assert np.array_equal(found[~unsure], soft[~unsure])
    assert np.array_equal(closed_form_alpha(photo, soft, np.zeros_like(unsure)), soft)


def test_nothing_is_known_of_a_tiny_picture() -> None:
    guess = np.full((2, 5), 0.4, np.float32)
    assert np.array_equal(closed_form_alpha(np.zeros((2, 5, 3)), guess, guess > 0), guess)


def test_the_wall_is_taken_out_of_the_colours(composite) -> None:
    photo, person, alpha = composite
    clean = foreground(photo, alpha)
    mixed = (alpha > 0.1) & (alpha < 0.9)
    before, after = (np.abs(colors - person)[mixed].mean() for colors in (photo, clean))
    assert after < 0.3 * before
    assert np.abs(clean - photo)[alpha == 1].max() < 0.02, "the person themselves stays as they are"


def test_a_crop_without_a_photo_has_no_matte() -> None:
    white = np.full((32, 32, 3), 255, np.uint8)
    image, alpha = Matter().cut_out(white, np.zeros((32, 32), np.float32), np.full((478, 2), 16.0))
    assert np.array_equal(image, white) and not alpha.any()
