"""Mattes in closed form, and the colours of what they cut out."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from flexavatar.errors import ModelUnavailable
from flexavatar.tracking.closed_form import closed_form_alpha, foreground
from flexavatar.tracking.matte import MatteParams, PersonMatting, doubtful, patches
from flexavatar.tracking.segmentation import U2NetP, check_segmenter, open_segmenter
from tests.conftest import EXAMPLE

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
    image, alpha = PersonMatting().cut_out(white, np.zeros((32, 32), np.float32), np.full((478, 2), 16.0))
    assert np.array_equal(image, white) and not alpha.any()


CHIN = 260  # row of a 512 px crop


def confidence() -> np.ndarray:
    """A head and a body [512, 512], sure but for an outline as soft as a small network's."""
    person = np.zeros((512, 512), np.float32)
    cv2.circle(person, (256, 180), 90, 1.0, -1)
    cv2.rectangle(person, (120, 300), (400, 511), 1.0, -1)
    cv2.rectangle(person, (220, 250), (290, 310), 1.0, -1)
    return cv2.GaussianBlur(person, (0, 0), 3)


def removed(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    params = MatteParams()
    return patches(first, second, doubtful(first, 1.0, params), CHIN, 1.0, params)


def test_a_patch_that_both_doubt_goes_and_outlines_stay() -> None:
    person, seen = confidence(), confidence()
    seen[100:240, 400:500] = 0.5
    gone = removed(seen, person)
    assert gone[110:230, 410:490].all()
    assert not gone[:, :390].any(), "the outline is unsure as well, but the second opinion knows no hairs"
    assert not removed(seen, seen).any(), "hair that both see stays"


def test_what_only_the_second_opinion_doubts_stays() -> None:
    bodiless = confidence()
    bodiless[300:] = 0
    assert not removed(confidence(), bodiless).any()
    stained = confidence()
    cv2.circle(stained, (180, 420), 20, 0.5, -1)
    assert not removed(stained, bodiless).any(), "a hole within clothes is none of the background's"


def test_the_middle_of_a_patch_goes_only_on_a_good_word() -> None:
    person, seen = confidence(), confidence()
    seen[100:240, 400:500] = 0.5
    seen[140:200, 430:470] = 1.0
    assert removed(seen, person)[150:190, 440:460].all()
    bodiless = person.copy()
    bodiless[300:] = 0
    gone = removed(seen, bodiless)
    assert not gone[150:190, 440:460].any() and gone[110:130, 410:490].all()


def test_a_second_opinion_that_loses_hair_does_not_count() -> None:
    person, seen = confidence(), confidence()
    seen[100:240, 400:500] = 0.5
    person[:140] = 0
    assert not removed(seen, person).any()


def test_a_second_opinion_is_asked_only_where_it_may_matter(second_opinion: None) -> None:
    asked: list[int] = []
    matter = PersonMatting()
    second: Any = lambda photo: asked.append(1) or confidence()  # noqa: E731
    seen = confidence()
    first: Any = lambda photo: seen  # noqa: E731
    matter._second, matter._segmenter = second, first
    photo, face = np.zeros((512, 512, 3), np.uint8), np.array([[256.0, 180.0], [256.0, CHIN]])
    matter.cut_out(photo, np.ones((512, 512), np.float32), face)
    assert not asked
    seen[100:240, 400:500] = 0.5
    _, alpha = matter.cut_out(photo, np.ones((512, 512), np.float32), face)
    assert asked and not alpha[110:230, 420:490].any() and alpha[180, 256] == 1


@pytest.mark.parametrize("name", ["", "u2netp", "rembg", "rembg:", "selfie "])
def test_no_name_of_a_matte(name: str) -> None:
    with pytest.raises(ValueError, match="rembg:MODEL"):
        check_segmenter(name)


class FakeSession:
    """As much of a session of rembg as is used."""

    def __init__(self, local: bool = True) -> None:
        self.is_local = lambda: local

    def predict(self, picture: Image.Image) -> list[Image.Image]:
        left = Image.new("L", picture.size)
        left.paste(255, (0, 0, picture.width // 2, picture.height))
        return [Image.new("L", picture.size, 51), left]


@pytest.fixture
def rembg(monkeypatch: pytest.MonkeyPatch) -> Any:
    fake: Any = ModuleType("rembg")
    inside: Any = ModuleType("rembg.sessions")
    inside.sessions = {"birefnet-portrait": FakeSession(), "far": FakeSession(local=False)}
    fake.new_session = inside.sessions.get
    monkeypatch.setitem(sys.modules, "rembg", fake)
    monkeypatch.setitem(sys.modules, "rembg.sessions", inside)
    return fake


def test_any_model_of_rembg(rembg: Any) -> None:
    segmenter = open_segmenter("rembg:birefnet-portrait")
    found = segmenter(np.zeros((4, 6, 3), np.uint8))
    assert found.shape == (4, 6) and found.dtype == np.float32
    assert (found[:, :3] == 1).all() and np.allclose(found[:, 3:], 0.2)
    segmenter.close()
    assert segmenter(np.zeros((4, 6, 3), np.uint8)).shape == (4, 6)


@pytest.mark.parametrize("name", ["birefnet-portrai", "far"])
def test_models_that_rembg_does_not_have_here(rembg: Any, name: str) -> None:
    with pytest.raises(ModelUnavailable, match="It has birefnet-portrait"):
        PersonMatting(f"rembg:{name}")


def test_a_failed_download_is_explained(rembg: Any) -> None:
    def fail(name: str) -> None:
        raise ConnectionError("no route to host")

    rembg.new_session = fail
    with pytest.raises(ModelUnavailable, match="no route to host.*check the network"):
        PersonMatting("rembg:birefnet-portrait")


@pytest.mark.slow  # rembg's import compiles PyMatting
@pytest.mark.timeout(900)
def test_u2netp_is_that_of_rembg(monkeypatch: pytest.MonkeyPatch) -> None:
    from flexavatar.tracking.landmarks import model_path

    monkeypatch.setenv("U2NET_HOME", model_path(""))
    from rembg import new_session

    photo = Image.open(EXAMPLE).convert("RGB")
    expected = np.asarray(new_session("u2netp").predict(photo)[0], np.float32) / 255
    assert np.abs(U2NetP()(np.asarray(photo)) - expected).mean() < 1e-3
