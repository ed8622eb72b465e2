"""Cards as one head wears them: coloured, scaled, lengthened, waved."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from flexavatar.data.cards import Cards

HAIR_CENTER = (0.0, 0.0, -0.085)  # metres: hair is scaled about the middle of the skull
LENGTHENED_BELOW = -0.02  # metres: where hair hangs free


@dataclass(frozen=True)
class Piece:
    """Cards as one head wears them."""

    cards: Cards
    colors: Tensor  # [S, 3] RGB 0..1 before light
    opacity: float = 0.985
    gloss: float = 0.0
    roundness: float = 0.0  # how much of the shading normal points away from `center` instead of off the card
    center: tuple[float, float, float] = HAIR_CENTER
    scale: float = 1.0  # of the splats
    stretch: tuple[float, float, float] = (1.0, 1.0, 1.0)  # about `center`
    length: float = 1.0  # of what hangs below LENGTHENED_BELOW
    wave: tuple[float, float, float] = (0.0, 0.0, 0.0)  # amplitude in metres, waves per metre, phase
    mirrored: bool = False  # the parting on the other side
    labelled: bool = True  # counts as the head's outermost surface

    def shaped(self, vertices: Tensor) -> Tensor:
        """Vertices [N, 3] after this head's variation of the style."""
        if self.mirrored:
            vertices = vertices * vertices.new_tensor([-1.0, 1.0, 1.0])
        center = vertices.new_tensor(self.center)
        moved = center + (vertices - center) * vertices.new_tensor(self.stretch)
        hanging = (moved[:, 1] - LENGTHENED_BELOW).clamp_max(0)
        drop = torch.stack([torch.zeros_like(hanging), (self.length - 1) * hanging, torch.zeros_like(hanging)], -1)
        amplitude, frequency, phase = self.wave
        if amplitude == 0:
            return moved + drop
        offset = torch.linspace(0, 4, 3, device=vertices.device)
        return moved + drop + amplitude * torch.sin(2 * math.pi * frequency * moved.roll(1, -1) + phase + offset)
