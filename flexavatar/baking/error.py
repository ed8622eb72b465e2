"""Error of a baked avatar against true decodes, in decibels and millimetres."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flexavatar.avatar.drawing import Decoder, fixed_to_torso
from flexavatar.camera import Camera
from flexavatar.expression import Expression
from flexavatar.gaussians import Gaussians
from flexavatar.metrics import decibels
from flexavatar.render import render

SIZE = 512  # pixels
YAWS = (0.0, 35.0, -35.0)  # degrees; the frames take turns
# The face in the canonical head frame, metres: from the chin (of an open mouth) to the brows, ear to ear.
FACE = torch.tensor([[x, y, z] for x in (-0.075, 0.075) for y in (-0.15, 0.06) for z in (-0.03, 0.03)])


@dataclass(frozen=True)
class BakeReport:
    """Error over frames of driving clips; decibels at 512 px, the views alternating between front and 35 degrees."""

    frames: int
    psnr_face: float  # dB of the mean squared error over the face's rectangle in all frames
    psnr_face_worst: float  # dB, the worst frame
    psnr_picture: float  # dB over whole pictures
    mean_mm: float  # position error of the splats that move by 0.1 mm or more in a frame
    p99_mm: float
    deltas: str = ""  # "one-hot", "fitted" or "fitted with correctives": the candidate that was chosen
    candidates: tuple[tuple[str, float], ...] = ()  # face dB of each candidate


@dataclass(frozen=True)
class TrueDecodes:
    """The pictures and positions that candidates are compared with."""

    expressions: Expression  # [B]
    pictures: Tensor  # uint8 [B, 3, H, W]
    means: Tensor  # [B, N, 3]
    neutral: Tensor  # [N, 3]
    splats: Tensor  # [N] which of the avatar's Gaussians the baked avatar keeps


def true_decodes(avatar: Decoder, expressions: Expression, splats: Tensor) -> TrueDecodes:
    """Decode and draw the expressions [B] with all Gaussians; `splats` [N] are those to compare positions of.

    On the device that the avatar decodes on.
    """
    pictures, means = [], []
    for i in range(len(expressions.blendshapes)):
        gaussians = avatar.gaussians(_one(expressions, i))
        pictures.append(_picture(gaussians, expressions, i))
        means.append(gaussians.means[splats])
    neutral = avatar.gaussians(Expression.neutral()).means[splats]
    return TrueDecodes(expressions, torch.stack(pictures), torch.stack(means), neutral, splats)


def bake_error(baked: Decoder, truth: TrueDecodes) -> BakeReport:
    """The error of `baked` against true decodes."""
    face, whole, distances = [], [], []
    for i, picture in enumerate(truth.pictures):
        gaussians = baked.gaussians(_one(truth.expressions, i)).to(truth.means.device)
        error = (_picture(gaussians, truth.expressions, i).float() - picture.float()).div(255).square()
        top, bottom, left, right = _face_rectangle(_camera(truth.expressions, i))
        face.append(error[:, top:bottom, left:right].mean())
        whole.append(error.mean())
        moving = (truth.means[i] - truth.neutral).norm(dim=-1) >= 1e-4
        distances.append((gaussians.means - truth.means[i]).norm(dim=-1)[moving])
    squares, apart = torch.stack(face), torch.cat(distances).double() * 1000
    return BakeReport(
        frames=len(squares),
        psnr_face=_rounded(squares.mean()),
        psnr_face_worst=_rounded(squares.max()),
        psnr_picture=_rounded(torch.stack(whole).mean()),
        mean_mm=round(float(apart.mean()), 4) if len(apart) else 0.0,
        p99_mm=round(float(apart.kthvalue(max(round(0.99 * len(apart)), 1)).values), 4) if len(apart) else 0.0,
    )


def _one(expressions: Expression, i: int) -> Expression:
    return Expression(expressions.blendshapes[i], expressions.head_rotation[i])


def _camera(expressions: Expression, i: int) -> Camera:
    return fixed_to_torso(Camera.orbit(YAWS[i % len(YAWS)], 0, SIZE), _one(expressions, i))


def _picture(gaussians: Gaussians, expressions: Expression, i: int) -> Tensor:
    with torch.inference_mode():
        rgb = render(gaussians, _camera(expressions, i)).rgb
    return (rgb.clamp(0, 1) * 255 + 0.5).to(torch.uint8)


def _face_rectangle(camera: Camera) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of the face in the picture."""
    corners = camera.project(FACE)[0].clamp(0, SIZE)
    (left, top), (right, bottom) = corners.amin(0).int().tolist(), corners.amax(0).int().tolist()
    return top, bottom, left, right


def _rounded(mean_square: Tensor) -> float:
    return round(min(decibels(float(mean_square)), 99.0), 2)  # JSON could not hold that of equal pictures
