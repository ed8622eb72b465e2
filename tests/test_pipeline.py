"""The pipeline from a photo to an avatar: stages, threads, and photos that cannot be used."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from flexavatar import Avatar, FlexAvatarPipeline
from flexavatar.errors import (
    FlexAvatarError,
    ModelUnavailable,
    NoFaceFound,
    RendererUnavailable,
    SeveralFacesFound,
    UnreadableImage,
)
from tests.conftest import EXAMPLE

STAGES = ["reading photo", "finding the face", "cutting out", "tracking", "unwrapping", "done"]


def test_unknown_model_says_what_there_can_be() -> None:
    with pytest.raises(ModelUnavailable, match=r"no model 'flex-9'.*folder"):
        FlexAvatarPipeline.from_pretrained("flex-9")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA GPU")
def test_cuda_without_a_gpu_is_refused() -> None:
    with pytest.raises(RendererUnavailable, match="cpu"):
        FlexAvatarPipeline.from_pretrained(device="cuda")


def test_create_reports_its_stages_in_order(pipeline: FlexAvatarPipeline) -> None:
    reports: list[tuple[str, float]] = []
    avatar = pipeline.create(EXAMPLE, progress=lambda stage, share: reports.append((stage, share)))

    assert [stage for stage, _ in reports] == STAGES
    shares = [share for _, share in reports]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert len(avatar.gaussians()) > 10_000


def test_every_kind_of_source_gives_the_same_avatar(pipeline: FlexAvatarPipeline) -> None:
    pixels = np.asarray(Image.open(EXAMPLE).convert("RGB"))
    sources = [str(EXAMPLE), EXAMPLE.read_bytes(), pixels, Image.open(EXAMPLE)]
    expected = pipeline.create(EXAMPLE).gaussians()
    for source in sources:
        torch.testing.assert_close(pipeline.create(source).gaussians().means, expected.means)


def test_threads_share_one_pipeline(pipeline: FlexAvatarPipeline) -> None:
    expected = pipeline.create(EXAMPLE).render(size=96)
    with ThreadPoolExecutor(3) as pool:
        pictures = list(pool.map(lambda _: pipeline.create(EXAMPLE).render(size=96), range(3)))
    for picture in pictures:
        assert np.abs(picture.astype(int) - expected).max() <= 2


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("no_face", NoFaceFound),
        ("tiny", UnreadableImage),
        ("empty", UnreadableImage),
        ("truncated", UnreadableImage),
        ("text", UnreadableImage),
        ("bomb", UnreadableImage),
    ],
)
def test_unusable_photos(
    pipeline: FlexAvatarPipeline, photos: dict[str, Path], name: str, error: type[FlexAvatarError]
) -> None:
    with pytest.raises(error) as caught:
        pipeline.create(photos[name])
    assert str(caught.value).endswith(".")


def test_a_drawing_is_refused_or_drawn(pipeline: FlexAvatarPipeline, photos: dict[str, Path]) -> None:
    try:
        avatar = pipeline.create(photos["drawing"])
    except FlexAvatarError as error:
        assert "face" in str(error)
    else:
        assert isinstance(avatar, Avatar)


def test_of_an_animation_the_first_frame_counts(pipeline: FlexAvatarPipeline, photos: dict[str, Path]) -> None:
    assert len(pipeline.create(photos["animated"]).gaussians()) > 10_000


def test_two_faces_need_a_choice(pipeline: FlexAvatarPipeline, photos: dict[str, Path]) -> None:
    with pytest.raises(SeveralFacesFound) as caught:
        pipeline.create(photos["two_faces"])
    boxes = caught.value.boxes
    assert len(boxes) == 2
    assert all(left < right and top < bottom for left, top, right, bottom in boxes)

    for index, (left, _, right, _) in enumerate(boxes):
        crop_left, _, size = pipeline.track(photos["two_faces"], face=index).crop
        assert crop_left < (left + right) / 2 < crop_left + size
    largest = pipeline.track(photos["two_faces"], face="largest")
    assert largest.crop == pipeline.track(photos["two_faces"], face=0).crop
