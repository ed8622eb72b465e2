"""Several photos or a clip of one person: frames chosen, people compared, views merged, reasons given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from flexavatar.avatar import Avatar
from flexavatar.errors import Cancelled, NoFaceFound, UnreadableVideo
from flexavatar.expression import Expression
from flexavatar.io import write_video
from flexavatar.io.videos import VideoInfo, read_video_info
from flexavatar.progress import Progress
from flexavatar.reconstruction import (
    CaptureSettings,
    DifferentPeople,
    NothingUsable,
    best_frame,
    capture,
    estimate_seconds,
    views,
)
from flexavatar.reconstruction.frames import choose_frames, head_angles, note_frame, sharpness
from flexavatar.reconstruction.held_out import expression_of, likeness_to
from flexavatar.rotations import rotation_from_angles
from flexavatar.tracking import FaceTracker
from flexavatar.tracking.identity import SAME_PERSON, aligned, identity_net, identity_similarity
from flexavatar.tracking.joint import fit_person
from flexavatar.tracking.people import strangers
from flexavatar.tracking.tracker import FaceCrop
from tests.conftest import EXAMPLE

GREY = (0.5, 0.55, 0.6)


@pytest.fixture(scope="module")
def tracker():
    with FaceTracker() as tracker:
        yield tracker


@pytest.fixture(scope="module")
def person(pipeline) -> Avatar:
    return pipeline.create(EXAMPLE)


@pytest.fixture(scope="module")
def shot(person: Avatar) -> Callable[..., np.ndarray]:
    """Photos of the example person's avatar."""

    def take(yaw: float = 0.0, expression: str = "neutral", size: int = 320) -> np.ndarray:
        return person.render(Expression.of(expression), yaw=yaw, size=size, background=GREY)

    return take


@pytest.fixture(scope="module")
def clip(shot, tmp_path_factory) -> Path:
    """A head that turns from side to side and smiles; four frames are blurred, three are empty."""
    frames = [shot(30 * np.sin(i / 4), "smile" if i % 10 > 6 else "neutral") for i in range(26)]
    for i in range(8, 12):
        frames[i] = cv2.GaussianBlur(frames[i], (0, 0), 4)
    for i in range(16, 19):
        frames[i] = np.full_like(frames[i], 120)
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write_video(path, iter(frames), 12)
    return path


def test_photos_share_one_shape_and_say_what_was_used(shot, tracker):
    told: list[tuple[str, float]] = []
    result = capture([shot(0), shot(30), shot(-30)], tracker=tracker, progress=lambda *step: told.append(step))
    assert len(result.used) == 3 and not result.dropped and not result.stopped
    assert result.psnr is None, "three photos are too few to keep any from the avatar"
    shares = [share for _, share in told]
    assert shares == sorted(shares) and told[-1][0] == "done" and shares[-1] == 1
    assert result.avatar.metadata["settings"]["used"] == list(result.used)
    assert result.avatar.render(size=64).shape == (64, 64, 3)


def test_faces_of_one_person_share_a_shape_and_keep_their_poses(shot, tracker):
    faces = tracker.track_crops([tracker.crop_face(shot(yaw)) for yaw in (0, 40, -40)])
    assert torch.equal(faces[0].shape, faces[2].shape)
    yaw, _ = head_angles(torch.stack([face.head_rotation for face in faces]))
    assert abs(yaw[0]) < 6 and -50 < yaw[1] < -30 and 30 < yaw[2] < 50, "a camera at the left sees a head turned right"


def test_unusable_photos_are_left_out_with_reasons(shot, tracker, photos):
    front = shot(0)
    given = [front, photos["no_face"], photos["truncated"], front.copy(), shot(25)]
    result = capture(given, tracker=tracker)
    assert len(result.used) == 2
    assert len(result.dropped) == 3
    assert "No face" in result.dropped["photo 2 (no_face.jpg)"]
    assert "damaged" in result.dropped["photo 3 (truncated.jpg)"]
    assert result.dropped["photo 4"] == "the same picture as photo 1"


def test_no_usable_photo_lists_every_reason(tracker, photos):
    with pytest.raises(NothingUsable, match="photo 1"):
        capture([photos["no_face"], photos["text"]], tracker=tracker)
    with pytest.raises(NothingUsable, match="No photos"):
        capture([], tracker=tracker)


def test_one_photo_is_enough(shot, tracker):
    assert capture([shot(0)], tracker=tracker).used == ("photo 1",)


def test_a_video(clip, tracker):
    result = capture(clip, CaptureSettings(frames=10, looked_at=60, texture_views=4), tracker=tracker)
    assert 6 <= len(result.used) <= 8
    assert len(result.held_out) == 2
    assert result.psnr is not None and result.psnr > 14
    assert result.ssim is not None and 0.7 < result.ssim <= 1
    reasons = list(result.dropped.values())
    assert reasons.count("blurred") >= 3
    assert "no face found" in reasons
    assert result.avatar.metadata["settings"]["base"] in result.used


def test_a_stopped_video_gives_the_best_so_far(clip, tracker):
    asked = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) > 12

    result = capture(clip, "fast", progress=Progress(stop=stop), tracker=tracker)
    assert result.stopped and 1 <= len(result.used) <= 8
    with pytest.raises(Cancelled):
        capture(clip, "fast", progress=Progress(stop=lambda: True), tracker=_Blind())  # type: ignore[arg-type]


class _Blind(FaceTracker):
    def follow(self, frames, choose=None):
        for _ in frames:
            yield None


def test_a_video_without_a_face_and_no_video(tmp_path, tracker):
    path = tmp_path / "grey.mp4"
    write_video(path, iter([np.full((64, 64, 3), 100, np.uint8)] * 5), 10)
    with pytest.raises(NoFaceFound, match="5 frames"):
        capture(path, tracker=tracker)
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(UnreadableVideo):
        capture(tmp_path / "text.mp4", tracker=tracker)


def test_one_frame_is_a_video(shot, tmp_path, tracker):
    path = tmp_path / "one.mp4"
    write_video(path, iter([shot(0)]), 10)
    result = capture(path, tracker=tracker)
    assert len(result.used) == 1 and result.psnr is None


@pytest.fixture(scope="module")
def couple(shot, tmp_path_factory) -> Path:
    """A second in which two people look into the camera, the larger one to the left, after and before emptiness."""
    empty = np.full((256, 512, 3), 20, np.uint8)
    small = cv2.resize(255 - shot(0, size=256), (192, 192))
    both = np.hstack([shot(0, size=256), np.pad(small, ((32, 32), (32, 32), (0, 0)), mode="edge")])
    path = tmp_path_factory.mktemp("couple") / "couple.mp4"
    write_video(path, [*[empty] * 9, *[both] * 6, *[empty] * 9], 12)
    return path


@pytest.mark.parametrize("face", [None, 0, 1])
def test_the_best_frame_of_whom_one_wants(couple, tracker, face):
    found = best_frame(couple, tracker, Progress(), face)
    assert (found.crop.left > 200) == (face == 1)


def test_the_face_of_a_video_reaches_the_avatar(couple, tracker, monkeypatch):
    seen: list[FaceCrop] = []
    monkeypatch.setattr(views, "_tracked", lambda crops, *_: seen.extend(crops.values()) or pytest.skip("enough"))
    with pytest.raises(NoFaceFound, match="no face number 5; the first frame shows 2"):
        best_frame(couple, tracker, Progress(), 5)
    with pytest.raises(pytest.skip.Exception):
        capture(couple, "fast", tracker=tracker, face=1)
    assert seen and all(found.crop.left > 200 for found in seen)


def test_who_is_seen_for_a_moment_only_is_looked_at_closer(couple, tracker):
    """At two frames a second there is one with a face."""
    watched = views._watched(couple, read_video_info(couple), 2.0, tracker, Progress(), None)
    assert watched.rate == 12 and len(watched.notes) == 6


def test_a_video_instead_of_a_photo_gives_its_best_frame(couple, pipeline):
    assert pipeline.track(couple, 1).crop[0] > 200


def _crops(tracker, images) -> list[FaceCrop]:
    return [tracker.crop_face(image, "largest") for image in images]


def test_frames_cover_the_poses_and_the_base_is_frontal(shot, tracker):
    yaws = [0, 2, 3, -1, 1, 30, 31, -30, 15, -15, 2, 1]
    notes = [note_frame(i, found) for i, found in enumerate(_crops(tracker, [shot(yaw) for yaw in yaws]))]
    choice = choose_frames(notes, tracker.model, count=5)
    assert len(choice.used) == 5 and not choice.held_out
    chosen = [yaws[i] for i in choice.used]
    assert max(chosen) >= 30 and min(chosen) <= -30, "farthest points come first"
    assert abs(yaws[choice.base]) <= 3
    all_frames = choose_frames(notes, tracker.model, count=900)
    assert len(all_frames.held_out) == 2 and not set(all_frames.held_out) & set(all_frames.used)
    assert all_frames.base in all_frames.used


def test_closed_eyes_are_no_base(shot, tracker):
    notes = [note_frame(i, found) for i, found in enumerate(_crops(tracker, [shot(0, "blink"), shot(12)]))]
    assert choose_frames(notes, tracker.model).base == 1


def test_sharpness_falls_with_blur_and_not_with_brightness(shot, tracker):
    image = shot(0)
    landmarks = tracker.crop_face(image).face.landmarks[:, :2]
    sharp = sharpness(image, landmarks)
    assert sharpness(cv2.GaussianBlur(image, (0, 0), 2), landmarks) < 0.35 * sharp
    assert sharpness((image * 0.6).astype(np.uint8), landmarks) == pytest.approx(sharp, rel=0.15)


def test_a_shape_of_three_views_is_one_and_near_the_truth(person, shot, tracker):
    crops = _crops(tracker, [shot(0), shot(25), shot(-25)])
    landmarks = torch.from_numpy(np.stack([found.landmarks for found in crops]))
    scores = torch.from_numpy(np.stack([found.face.scores for found in crops]))
    fit = fit_person(tracker.model, landmarks, scores, (512, 512))
    assert torch.equal(fit.shape[0], fit.shape[2])
    yaw, _ = head_angles(fit.head_rotation)
    assert np.abs(yaw - [0, -25, 25]).max() < 6


def test_head_angles_are_those_of_the_rotation():
    turned = torch.stack([rotation_from_angles(yaw=30), rotation_from_angles(pitch=20)])
    yaw, pitch = head_angles(turned)
    assert yaw == pytest.approx([30, 0], abs=1e-3) and pitch == pytest.approx([0, 20], abs=1e-3)


def test_the_resting_face_is_not_counted_twice(person, tracker, shot):
    face = tracker.track_image(shot(0))
    expression = expression_of(person, face)
    shown = expression.blendshapes + person.neutral_blendshapes * (1 - expression.blendshapes)
    assert (shown - torch.maximum(face.blendshapes, person.neutral_blendshapes)).abs().max() < 1e-5


def test_measuring_prefers_the_right_avatar(person, tracker, shot):
    face = tracker.track_image(shot(10))
    psnr, ssim = likeness_to(person, [face])
    worse, worse_ssim = likeness_to(replace(person, colors=person.colors.mean(0).expand_as(person.colors)), [face])
    assert psnr > worse + 3 and ssim > worse_ssim
    with pytest.raises(ValueError, match="no views"):
        likeness_to(person, [])


def test_identity_tells_people_apart(shot, tracker):
    front = shot(0)
    assert identity_similarity(front, shot(25)) > SAME_PERSON + 0.1
    assert identity_similarity(front, (front * 0.7).astype(np.uint8)) > 0.8
    crops = _crops(tracker, [front, shot(20), shot(-20)])
    assert strangers(crops) == {}


def test_strangers_are_left_out_and_a_mixed_group_is_refused(shot, tracker, monkeypatch):
    crops = _crops(tracker, [shot(0)]) * 5

    class Names:
        """An identity network that is told who is in the pictures."""

        def __init__(self, people: list[int]) -> None:
            self._people = iter(people)

        def embed(self, image: np.ndarray, landmarks: np.ndarray) -> torch.Tensor:
            return torch.eye(8)[next(self._people)]

    def told(people: list[int]) -> None:
        names = Names(people)
        monkeypatch.setattr("flexavatar.tracking.people.identity_net", lambda: names)

    told([3, 3, 5, 3, 3])
    assert list(strangers(crops)) == [2]
    told([0, 0, 1, 1, 2])
    with pytest.raises(DifferentPeople, match="one person only"):
        strangers(crops)
    told([0, 1])
    with pytest.raises(DifferentPeople):
        strangers(crops[:2])


def test_identity_has_gradients_and_finds_the_eyes(shot, tracker):
    found = tracker.crop_face(shot(0))
    image = (torch.tensor(found.pixels).permute(2, 0, 1)[None] / 255).requires_grad_()
    landmarks = torch.from_numpy(found.landmarks)[None].float()
    identity_net()(image, landmarks).sum().backward()
    assert image.grad is not None and image.grad.abs().sum() > 0
    # A picture that is black but for the irises has its light where the network expects eyes.
    dots = torch.zeros(1, 3, 512, 512)
    for point in landmarks[0, [468, 473]].round().long().tolist():
        dots[..., point[1] - 3 : point[1] + 4, point[0] - 3 : point[0] + 4] = 1
    row, column = divmod(int(aligned(dots, landmarks)[0, 0, :, :56].argmax()), 56)
    assert abs(row - 51.6) < 4 and abs(column - 38.3) < 4


@pytest.mark.parametrize("quality", ["fast", "balanced", "best"])
def test_estimates_grow_with_the_work(quality):
    short, long = VideoInfo(640, 480, 30, 5), VideoInfo(1920, 1080, 30, 60)
    assert 0 < estimate_seconds(1, quality) < estimate_seconds(20, quality)
    assert estimate_seconds(short, quality) < estimate_seconds(long, quality)
    assert estimate_seconds(long, "fast") < estimate_seconds(long, "best")
    with pytest.raises(ValueError, match="balanced"):
        CaptureSettings.of("quick")  # type: ignore[arg-type]
