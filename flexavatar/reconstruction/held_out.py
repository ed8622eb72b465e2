"""How well an avatar shows frames that it was not made from."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import torch
from torch import Tensor

from flexavatar.avatar import Avatar
from flexavatar.avatar.drawing import draw
from flexavatar.expression import Expression, above_neutral
from flexavatar.metrics import psnr, ssim
from flexavatar.tracking import TrackedFace

MEASURED_SIZE = 256  # pixels


def likeness_to(avatar: Avatar, views: Sequence[TrackedFace]) -> tuple[float, float]:
    """Mean PSNR (dB, over the pixels of the mattes) and SSIM (over the crops) of the avatar in the place of `views`.

    Pictures and avatar are compared at 256 px over white; the avatar is drawn on its device. Raises ValueError for no
    views.
    """
    if not views:
        raise ValueError("There are no views to measure with.")
    scores = []
    for view in views:
        picture, matte = over_white(view)
        drawn = draw_view(avatar, view)
        scores.append((psnr(drawn, picture, matte), ssim(drawn, picture)))
    return sum(s[0] for s in scores) / len(scores), sum(s[1] for s in scores) / len(scores)


def draw_view(
    avatar: Avatar, view: TrackedFace, expression: Expression | None = None, size: int = MEASURED_SIZE
) -> Tensor:
    """The avatar as the view's camera sees it, over white: RGB [3, size, size] on the CPU.

    Default expression: the view's. Drawn on the avatar's device.
    """
    expression = expression or expression_of(avatar, view)
    return draw(avatar, expression, view.camera.resized(size, size)).rgb.clamp(0, 1).cpu()


def expression_of(avatar: Avatar, view: TrackedFace) -> Expression:
    """The expression that, on top of the avatar's resting face, gives the view's blendshapes."""
    return Expression(above_neutral(view.blendshapes, avatar.neutral_blendshapes.cpu()), view.head_rotation)


def over_white(view: TrackedFace, size: int = MEASURED_SIZE) -> tuple[Tensor, Tensor]:
    """The view's person over white [3, size, size] and the matte [size, size]."""
    shape = (size, size)
    image = torch.from_numpy(cv2.resize(view.image, shape, interpolation=cv2.INTER_AREA)).permute(2, 0, 1) / 255
    matte = torch.from_numpy(cv2.resize(view.matte, shape, interpolation=cv2.INTER_AREA))
    return image * matte + 1 - matte, matte
