"""Pictures of whatever has Gaussians for an expression."""

from __future__ import annotations

from typing import Protocol

import torch

from flexavatar.camera import Camera
from flexavatar.expression import Expression
from flexavatar.gaussians import Gaussians
from flexavatar.render import Rendering, render
from flexavatar.rig import head_motion
from flexavatar.settings import WHITE, Color


class Decoder(Protocol):
    """An `Avatar`, a baked one, or anything else that decodes expressions."""

    def gaussians(self, expression: Expression | None = None) -> Gaussians:
        """The Gaussians that show an expression, neutral by default."""
        ...


class Still:
    """What a decoder shows for one expression (None: neutral), decoded once for pictures from many sides."""

    def __init__(self, decoder: Decoder, expression: Expression | None = None) -> None:
        with torch.inference_mode():
            self._gaussians = decoder.gaussians(expression)

    def gaussians(self, expression: Expression | None = None) -> Gaussians:
        """The Gaussians decoded at first, whatever the expression."""
        return self._gaussians


def draw(
    decoder: Decoder,
    expression: Expression | None,
    camera: Camera,
    background: Color = WHITE,
    device: torch.device | None = None,
) -> Rendering:
    """Draw a head with an expression (None: neutral), without gradients; the camera is in the canonical head frame.

    Drawn on `device`, by default where the decoder's Gaussians lie.
    """
    with torch.inference_mode():
        gaussians = decoder.gaussians(expression)
        if device is not None:
            gaussians = gaussians.to(device)
        return render(gaussians, camera.to(gaussians.means.device), background)


def fixed_to_torso(camera: Camera, expression: Expression) -> Camera:
    """The camera for `draw` that stands still relative to the torso, so that the head is seen turning on its neck."""
    return camera.with_head_motion(head_motion(expression.head_rotation))
