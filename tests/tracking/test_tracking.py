"""Tracking: the fit recovers what it should, conventions, errors, and real photographs."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from flexavatar.errors import FaceTooSmall, NoFaceFound, SeveralFacesFound
from flexavatar.expression import BLENDSHAPE_INDEX
from flexavatar.motion.record import _recropped
from flexavatar.rig import Rig
from flexavatar.rotations import rotation_from_angles
from flexavatar.tracking import FaceTracker
from flexavatar.tracking.crop import CROP_SIZE, HeadCrop, cut, head_crop
from flexavatar.tracking.fit import FRONTAL, LandmarkModel, _Problem, _State, face_extent, fit_landmarks
from flexavatar.tracking.matte import PersonMatting
from tests.conftest import EXAMPLE

SIZE = (512, 512)


@pytest.fixture(scope="module")
def model() -> LandmarkModel:
    return LandmarkModel.of(Rig.load())


@pytest.fixture(scope="module")
def tracker():
    with FaceTracker() as tracker:
        yield tracker


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    return np.asarray(Image.open(EXAMPLE).convert("RGB"))


def observe(
    model: LandmarkModel, rotation: torch.Tensor, shape: torch.Tensor, blendshapes: torch.Tensor
) -> torch.Tensor:
    """Landmark pixels [B, 478, 2] of known heads, 1.2 m away."""
    from flexavatar.camera import FIELD_OF_VIEW, intrinsics

    world = torch.tensor(FRONTAL, dtype=torch.float64) @ rotation.double()
    points = model.points(shape, blendshapes) @ world.mT + torch.tensor([0.01, 0.02, 1.2], dtype=torch.float64)
    image = points @ intrinsics(FIELD_OF_VIEW, *SIZE).double().T
    return image[..., :2] / image[..., 2:]


def random_head(model: LandmarkModel, count: int, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    shape = 0.8 * torch.randn(count, len(model.shape_basis), generator=generator, dtype=torch.float64)
    blendshapes = torch.zeros(count, 52, dtype=torch.float64)
    blendshapes[:, BLENDSHAPE_INDEX["jawOpen"]] = 0.4
    blendshapes[:, BLENDSHAPE_INDEX["mouthSmileLeft"]] = 0.7
    rotation = torch.stack([rotation_from_angles(yaw=12 * i - 15, pitch=5 * i, roll=3) for i in range(count)])
    return rotation, shape, blendshapes


def test_fit_recovers_pose_expression_and_shape(model):
    rotation, shape, blendshapes = random_head(model, 3)
    pixels = observe(model, rotation, shape, blendshapes)
    fit = fit_landmarks(model, pixels, blendshapes, SIZE)
    assert fit.error.max() < 2e-3
    angle = torch.arccos(
        (((fit.head_rotation @ rotation.double().mT).diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).clamp(-1, 1)
    )
    assert torch.rad2deg(angle).max() < 2.0
    assert (fit.blendshapes - blendshapes).abs().mean() < 0.03


def test_head_rotation_signs(model):
    """A head that turns to the subject's left shows its nose to the right of the image centre of its eyes."""
    shape, neutral = (
        torch.zeros(1, len(model.shape_basis), dtype=torch.float64),
        torch.zeros(1, 52, dtype=torch.float64),
    )
    pixels = observe(model, rotation_from_angles(yaw=20)[None], shape, neutral)[0]
    assert pixels[1, 0] > pixels[[33, 263], 0].mean() + 5
    assert pixels[263, 0] > pixels[33, 0], "the subject's left eye is at the right of the image"
    fit = fit_landmarks(model, pixels[None], neutral, SIZE)
    assert torch.allclose(fit.head_rotation[0], rotation_from_angles(yaw=20).double(), atol=0.02)


def test_jacobian_matches_finite_differences(model):
    rotation, shape, blendshapes = random_head(model, 1)
    world = torch.tensor(FRONTAL, dtype=torch.float64) @ rotation.double()
    state = _State(world, torch.tensor([[0.01, 0.02, 1.2]], dtype=torch.float64), shape, blendshapes)
    from flexavatar.camera import FIELD_OF_VIEW, intrinsics
    from flexavatar.rotations import rotation_exp

    observed = observe(model, rotation, shape, blendshapes)
    problem = _Problem(
        model,
        observed,
        blendshapes,
        intrinsics(FIELD_OF_VIEW, *SIZE).double(),
        torch.ones(1, 478, 1, dtype=torch.float64),
    )
    jacobian = problem.jacobian(state)[0]
    step = 1e-6
    for column in (0, 1, 2, 3, 5, 6 + BLENDSHAPE_INDEX["jawOpen"], 6 + 52, 6 + 52 + 17):
        delta = torch.zeros(6 + 52 + len(model.shape_basis), dtype=torch.float64)
        delta[column] = step

        def moved(d):
            return _State(
                rotation_exp(d[None, :3]) @ state.rotation,
                state.translation + d[None, 3:6],
                state.shape + d[None, 58:],
                state.blendshapes + d[None, 6:58],
            )

        numeric = (problem.residuals(moved(delta)) - problem.residuals(moved(-delta)))[0] / (2 * step)
        assert (numeric - jacobian[:, column]).abs().max() < 1e-4 * jacobian[:, column].abs().max() + 1e-6, column


def test_batch_equals_loop(model):
    rotation, shape, blendshapes = random_head(model, 3)
    pixels = observe(model, rotation, shape, blendshapes)
    together = fit_landmarks(model, pixels, blendshapes, SIZE)
    for i in range(3):
        single = fit_landmarks(model, pixels[i : i + 1], blendshapes[i : i + 1], SIZE)
        assert torch.allclose(single.blendshapes, together.blendshapes[i : i + 1], atol=1e-3)
        assert torch.allclose(single.rotation, together.rotation[i : i + 1], atol=1e-4)


def test_fits_in_several_threads_leave_the_thread_count_alone(model):
    rotation, shape, blendshapes = random_head(model, 2)
    pixels = observe(model, rotation, shape, blendshapes)
    before = torch.get_num_threads()
    with ThreadPoolExecutor(4) as pool:
        fits = list(pool.map(lambda _: fit_landmarks(model, pixels, blendshapes, SIZE), range(8)))
    assert torch.get_num_threads() == before
    assert all(torch.allclose(fits[0].rotation, f.rotation) for f in fits)


def test_a_new_crop_keeps_the_head_in_place(model):
    rotation, shape, blendshapes = random_head(model, 1)
    old, new = HeadCrop(100, 50, 400), HeadCrop(140, 30, 460)
    fit = fit_landmarks(model, observe(model, rotation, shape, blendshapes), blendshapes, SIZE)
    moved = replace(fit, translation=_recropped(fit.translation, old, new))
    origin = torch.zeros(1, 3)
    before, after = (f.camera(*SIZE)[0].project(origin)[0].numpy() for f in (fit, moved))
    assert np.allclose(old.to_source(before), new.to_source(after), atol=1e-2)
    assert torch.allclose(moved.translation[0, 2], fit.translation[0, 2] * 460 / 400)


def test_shared_shape_is_shared(model):
    rotation, shape, blendshapes = random_head(model, 3)
    shape = shape[:1].expand_as(shape)
    fit = fit_landmarks(model, observe(model, rotation, shape, blendshapes), blendshapes, SIZE, shape="shared")
    assert torch.equal(fit.shape[0], fit.shape[2])
    assert fit.error.max() < 3e-3


def test_astronaut(second_opinion, tracker, astronaut):
    tracked = tracker.track_image(astronaut)
    assert tracked.image.shape == (CROP_SIZE, CROP_SIZE, 3)
    assert tracked.matte.shape == (CROP_SIZE, CROP_SIZE)
    assert tracked.error < 0.007
    face = np.round(tracked.landmarks[[1, 152, 10]]).astype(int)
    assert (tracked.matte[face[:, 1], face[:, 0]] > 0.9).all()
    assert tracked.blendshapes[BLENDSHAPE_INDEX["mouthSmileLeft"]] > 0.3, "she smiles"
    left, top, size = tracked.crop
    assert size > 0 and left < 300 and top < 200
    rig = Rig.load()
    points = rig.landmarks(rig.pose(tracked.shape, tracked.blendshapes))
    distance = tracked.camera.project(points)[0].numpy() - tracked.landmarks
    height = float(face_extent(torch.from_numpy(tracked.landmarks)))
    assert np.median(np.linalg.norm(distance, axis=1)) / height < 0.007


def test_small_face_in_a_large_photo(tracker, astronaut):
    photo = np.full((2400, 3200, 3), 90, np.uint8)
    photo[1700 : 1700 + 512, 2400 : 2400 + 512] = astronaut
    tracked = tracker.track_image(photo)
    assert 2300 < tracked.crop[0] + tracked.crop[2] / 2 < 2900


def test_a_video_finds_the_face_again(tracker, astronaut):
    empty = np.full_like(astronaut, 90)
    crops = tracker.follow([astronaut, empty, empty, empty, astronaut])
    assert [found is not None for found in crops] == [True, False, False, False, True]


def test_matte_reaches_the_photo_edge_and_covers_a_close_face(tracker, astronaut):
    close = np.ascontiguousarray(astronaut[30:200, 100:330])
    tracked = tracker.track_image(close)
    at = np.round(tracked.landmarks).astype(int).clip(0, CROP_SIZE - 1)
    assert (tracked.matte[at[:, 1], at[:, 0]] > 0.5).mean() > 0.95
    left, top, size = tracked.crop
    bottom = int((close.shape[0] - top) * CROP_SIZE / size) - 2
    middle = int(tracked.landmarks[152, 0])
    assert tracked.matte[bottom, middle] > 0.9, "the neck is cut by the photo's edge, not faded out before it"


def test_face_that_fills_the_frame(tracker, astronaut):
    tracked = tracker.track_image(np.ascontiguousarray(astronaut[55:215, 150:290]))
    assert tracked.error < 0.02


def test_two_faces(tracker, astronaut):
    pair = np.concatenate([astronaut, astronaut[:, ::-1]], 1)
    with pytest.raises(SeveralFacesFound) as caught:
        tracker.track_image(pair)
    assert len(caught.value.boxes) == 2
    first, second = tracker.track_image(pair, face=0), tracker.track_image(pair, face=1)
    assert abs(first.crop[0] - second.crop[0]) > 200
    assert tracker.track_image(pair, face="largest").crop == first.crop
    with pytest.raises(NoFaceFound, match="number 7"):
        tracker.track_image(pair, face=7)


@pytest.mark.parametrize("kind", ["noise", "flat", "smiley"])
def test_no_face(tracker, kind):
    image = np.full((300, 400, 3), 128, np.uint8)
    if kind == "noise":
        image = np.random.default_rng(0).integers(0, 255, image.shape, dtype=np.uint8)
    if kind == "smiley":
        y, x = np.mgrid[:300, :400]
        image[(x - 200) ** 2 + (y - 150) ** 2 < 100**2] = (250, 220, 40)
        for cx in (165, 235):
            image[(x - cx) ** 2 + (y - 120) ** 2 < 100] = 0
    with pytest.raises(NoFaceFound, match="photo"):
        tracker.track_image(image)


def test_face_too_small(tracker, astronaut):
    tiny = np.asarray(Image.fromarray(astronaut).resize((128, 128)))
    with pytest.raises((FaceTooSmall, NoFaceFound)):
        tracker.track_image(tiny)


def test_crop_reaches_beyond_the_photo_without_bleeding(tracker, astronaut):
    tracked = tracker.track_image(np.ascontiguousarray(astronaut[40:300, 100:350]))
    outside = tracked.image[0, 0]
    assert (outside == 255).all() and tracked.matte[0, 0] == 0


def test_matte_models_agree_on_the_person(tracker, astronaut):
    tracked = tracker.track_image(astronaut)
    other = PersonMatting("rembg:u2netp").cut_out(
        tracked.image, np.ones((CROP_SIZE,) * 2, np.float32), tracked.landmarks
    )[1]
    overlap = np.minimum(tracked.matte, other).sum() / np.maximum(tracked.matte, other).sum()
    assert overlap > 0.6


def test_head_crop_covers_hair_and_shoulders(tracker, astronaut):
    tracked = tracker.track_image(astronaut)
    low, high = tracked.landmarks.min(0), tracked.landmarks.max(0)
    height = high[1] - low[1]
    assert low[1] > 0.8 * height and CROP_SIZE - high[1] > 0.6 * height
    pixels, known = cut(astronaut, head_crop(np.concatenate([np.asarray(tracked.landmarks), np.zeros((478, 1))], 1)))
    assert pixels.shape[:2] == known.shape


DATA = os.environ.get("FLEXAVATAR_DATA")


@pytest.mark.slow
@pytest.mark.skipif(not DATA, reason="FLEXAVATAR_DATA is not set")
def test_validation_portraits(tracker):
    files = sorted((Path(DATA or "") / "portraits" / "val").glob("*.jpg"))
    assert files
    errors, seconds, covered = [], [], []
    for file in files:
        image = np.asarray(Image.open(file).convert("RGB"))
        start = time.perf_counter()
        tracked = tracker.track_image(image, "largest")
        seconds.append(time.perf_counter() - start)
        errors.append(tracked.error)
        at = np.round(tracked.landmarks).astype(int).clip(0, CROP_SIZE - 1)
        covered.append((tracked.matte[at[:, 1], at[:, 0]] > 0.5).mean())
    assert np.median(errors) < 0.007
    assert np.median(seconds) < 0.5
    assert min(covered) > 0.9
