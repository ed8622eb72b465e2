"""Multi-view records: a synthetic head photographed, tracked with the tracker's errors, and seen from all sides."""

from __future__ import annotations

from dataclasses import replace

import torch

from flexavatar.camera import Camera
from flexavatar.expression import Expression, above_neutral
from flexavatar.reconstruction.network_avatar import observe
from flexavatar.reconstruction.rig_avatar import create_rig_avatar
from flexavatar.synthetic import (
    SyntheticHead,
    SyntheticHeads,
    photo_camera,
    sample_camera,
    sample_expression,
    tracked_face,
)
from flexavatar.synthetic.sampling import sample_head_rotation
from flexavatar.tracking import TrackedFace
from flexavatar.tracking.crop import CROP_SIZE
from flexavatar.training.photo import Tone, flawed
from flexavatar.training.records import TrainingRecord

PHOTO_SPREAD, PHOTO_TURN, TAIL = 12.0, 45.0, 0.2  # degrees of the photo's yaw; share of photos turned up to PHOTO_TURN
UNSEEN_ANGLE = 70.0  # degrees: beyond, nothing of the photo is seen


def synthetic_record(heads: SyntheticHeads, index: int, views: int = 4, size: int = 256) -> TrainingRecord:
    """The record of head `index`, with `views` target views of size x size pixels; the same whenever it is asked for.

    The photo has what cameras and files do to it; its tone is also that of the targets, since a network that is to
    show the person as photographed must not correct the light.
    """
    head, generator = heads[index], heads.generator(index, "record")
    tone = Tone.sample(generator)
    before, after = sample_expression(generator), sample_expression(generator)
    first = Expression(before.blendshapes, sample_head_rotation(generator))
    same = _uniform(generator) < 0.25
    second = first if same else Expression(after.blendshapes, sample_head_rotation(generator))
    tracked = _photographed(head, first, tone, generator)
    avatar, unwrapped = create_rig_avatar([tracked], displace_hair=False)
    target = Expression(above_neutral(head.blendshapes(second), avatar.neutral_blendshapes), second.head_rotation)

    camera = Camera.stack(_cameras(head, second, views, size, generator))
    with torch.inference_mode():
        posed = _lit_as_seen(head, tracked, first, second).posed(second)
        drawn, labels = posed.render(camera, (0.0, 0.0, 0.0)), posed.labels()
    solid = drawn.alpha.clamp(1e-4, 1)
    toned = tone((drawn.rgb / solid).movedim(1, -1)).movedim(-1, 1) * drawn.alpha
    return TrainingRecord.build(
        observe(tracked, avatar, unwrapped),
        target,
        camera,
        torch.cat([toned, drawn.alpha], 1),
        torch.ones(views, 1, size, size),
        replace(labels, colors=tone(labels.colors.permute(1, 2, 0)).permute(2, 0, 1)),
    )


def _lit_as_seen(head: SyntheticHead, photo: TrackedFace, first: Expression, second: Expression) -> SyntheticHead:
    """The head with even light where a photo of the `first` expression does not show it, posed in the `second`."""
    toward = -photo.camera.world_to_camera[:3, :3].T @ photo.camera.world_to_camera[:3, 3]
    toward = torch.nn.functional.normalize(toward, dim=0)
    return replace(head, light=head.light.evened(first.head_rotation @ toward, second.head_rotation @ toward))


def _photographed(head: SyntheticHead, expression: Expression, tone: Tone, generator: torch.Generator) -> TrackedFace:
    yaw = PHOTO_SPREAD * float(torch.randn((), generator=generator))
    if _uniform(generator) < TAIL:
        yaw = PHOTO_TURN * (2 * _uniform(generator) - 1)
    pitch = 6.0 * float(torch.randn((), generator=generator))
    camera = _facing_camera(head, expression, yaw, pitch)
    tracked = tracked_face(head, expression, camera, jitter=_uniform(generator), generator=generator)
    picture = tone(torch.from_numpy(tracked.image).float() / 255).numpy()
    return replace(tracked, image=flawed(picture, generator))


def _cameras(
    head: SyntheticHead, expression: Expression, count: int, size: int, generator: torch.Generator
) -> list[Camera]:
    """One as photos are taken, one that sees what no photo shows, the others anywhere."""
    turn = PHOTO_SPREAD * float(torch.randn((), generator=generator))
    cameras = [_facing_camera(head, expression, turn, 0.0, size)]
    if count > 1:
        side = UNSEEN_ANGLE + (180 - UNSEEN_ANGLE) * _uniform(generator)
        sign = 1 if _uniform(generator) < 0.5 else -1
        cameras.append(Camera.orbit(sign * side, 10 * float(torch.randn((), generator=generator)), size))
    return cameras + [sample_camera(generator, size) for _ in range(count - 2)]


def _facing_camera(
    head: SyntheticHead, expression: Expression, yaw: float, pitch: float, size: int = CROP_SIZE
) -> Camera:
    """A photo's camera that sees the face turned by `yaw` degrees, wherever the torso points."""
    rotation = expression.head_rotation
    on_neck = float(torch.rad2deg(torch.atan2(rotation[0, 2], rotation[2, 2])))
    return photo_camera(head, expression, on_neck - yaw, pitch, size)


def _uniform(generator: torch.Generator) -> float:
    return float(torch.rand((), generator=generator))
