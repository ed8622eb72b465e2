"""Monocular records: portraits of which only the one view exists, tracked once and kept in a compact cache."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from flexavatar.camera import Camera
from flexavatar.errors import FlexAvatarError
from flexavatar.expression import Expression
from flexavatar.files import atomic_path
from flexavatar.io.images import read_image
from flexavatar.reconstruction.network_avatar import observe
from flexavatar.reconstruction.observation import observe_face
from flexavatar.reconstruction.rig_avatar import create_rig_avatar
from flexavatar.tracking.tracker import TRACKING_VERSION, TrackedFace
from flexavatar.training.photo import Tone, flawed
from flexavatar.training.records import TrainingRecord

if TYPE_CHECKING:
    from flexavatar.tracking import FaceTracker

log = logging.getLogger(__name__)
SIZE = 320  # pixels of the side of a cached head crop
JPEG_QUALITY = 92
MAX_ERROR = 0.012  # face heights: worse tracks teach the network to correct the tracker
MAX_YAW = 55.0  # degrees
FORMAT = 1  # of the cached files


def track_portraits(photos: Sequence[Path], cache: Path) -> Iterator[Path]:
    """Track every photo and its mirror image; yields the files of those that can be learned from.

    What this version of the tracker has left in the cache is not tracked again, nor are photos in which it found no
    clear face.
    """
    from flexavatar.tracking import FaceTracker

    folder = cache / f"portraits-{FORMAT}-tracked-{TRACKING_VERSION}"
    folder.mkdir(parents=True, exist_ok=True)
    with FaceTracker() as tracker:
        for photo in photos:
            for mirrored in (False, True):
                path = folder / f"{photo.stem}{'-mirrored' * mirrored}.safetensors"
                refused = path.with_suffix(".refused")
                if not path.exists() and not refused.exists():
                    _track(tracker, photo, mirrored, path, refused)
                if path.exists():
                    yield path


def portrait_record(path: Path, generator: torch.Generator, size: int = 256) -> TrainingRecord:
    """The record of a tracked portrait, its tone and flaws drawn by `generator`. Raises FlexAvatarError."""
    tracked = _read(path)
    tone = Tone.sample(generator, strength=0.5)
    image = tone(torch.from_numpy(tracked.image).float() / 255).numpy()
    clean = replace(tracked, image=(image.clip(0, 1) * 255 + 0.5).astype(np.uint8))
    photo = replace(tracked, image=flawed(image, generator))
    avatar, unwrapped = create_rig_avatar([photo], displace_hair=False)
    seen = observe_face(clean, avatar.neutral_blendshapes, size)
    picture = torch.cat([seen.image * seen.matte, seen.matte])
    camera = Camera.stack([seen.camera])
    expression = Expression.from_code(seen.expression)
    return TrainingRecord.build(
        observe(photo, avatar, unwrapped), expression, camera, picture[None], seen.weight[None], labels=None
    )


def _track(tracker: FaceTracker, photo: Path, mirrored: bool, path: Path, refused: Path) -> None:
    try:
        picture = read_image(photo)
        tracked = tracker.track_image(np.ascontiguousarray(picture[:, ::-1]) if mirrored else picture)
    except FlexAvatarError as error:
        log.info("%s is left out: %s", photo.name, error)
        refused.write_text(str(error), encoding="utf-8")
        return
    rotation = tracked.head_rotation
    yaw = float(torch.rad2deg(torch.atan2(rotation[0, 2], rotation[2, 2])))
    if tracked.error > MAX_ERROR or abs(yaw) > MAX_YAW:
        reason = f"yaw {yaw:.0f} degrees, error {tracked.error:.4f}"
        log.info("%s is left out: %s", photo.name, reason)
        refused.write_text(reason, encoding="utf-8")
        return
    _write(tracked, path)


def _write(tracked: TrackedFace, path: Path) -> None:
    image = cv2.resize(tracked.image, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    known = np.ones_like(tracked.matte) if tracked.known is None else tracked.known
    masks = np.vstack([cv2.resize(mask, (SIZE, SIZE), interpolation=cv2.INTER_AREA) for mask in (tracked.matte, known)])
    stored = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    mask = cv2.imencode(".png", (masks * 255).round().astype(np.uint8))[1]
    scale = SIZE / tracked.camera.height
    tensors = {
        "image": torch.from_numpy(stored.ravel()),
        "masks": torch.from_numpy(mask.ravel()),
        "landmarks": torch.from_numpy(tracked.landmarks * scale).float(),
        "scores": tracked.scores.float(),
        "shape": tracked.shape.float(),
        "blendshapes": tracked.blendshapes.float(),
        "head_rotation": tracked.head_rotation.float().contiguous(),
        "world_to_camera": tracked.camera.world_to_camera.float().contiguous(),
        "intrinsics": tracked.camera.resized(SIZE, SIZE).intrinsics.float().contiguous(),
        "error": torch.tensor(tracked.error),
    }
    with atomic_path(path) as part:
        save_file(tensors, part)


def _read(path: Path) -> TrackedFace:
    try:
        stored = load_file(path)
        image = cv2.imdecode(stored["image"].numpy(), cv2.IMREAD_COLOR)
        masks = cv2.imdecode(stored["masks"].numpy(), cv2.IMREAD_GRAYSCALE)
        if image is None or masks is None:
            raise KeyError("image")
        matte, known = np.split(masks.astype(np.float32) / 255, 2)
        return TrackedFace(
            image=np.ascontiguousarray(image[..., ::-1]),
            matte=matte,
            known=known,
            crop=(0.0, 0.0, float(SIZE)),
            landmarks=stored["landmarks"].numpy(),
            scores=stored["scores"],
            shape=stored["shape"],
            blendshapes=stored["blendshapes"],
            head_rotation=stored["head_rotation"],
            camera=Camera(stored["world_to_camera"], stored["intrinsics"], SIZE, SIZE),
            error=float(stored["error"]),
        )
    except (OSError, SafetensorError, KeyError, TypeError, cv2.error) as error:
        raise FlexAvatarError(f"The tracked portrait {path} cannot be read ({error}). Delete it.") from error
