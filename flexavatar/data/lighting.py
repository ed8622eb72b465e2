"""Spherical-harmonic light: irradiance of a sky and a few lamps, up to the second order."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

# Cosine-lobe factors of the orders 0, 1, 2 over pi (Ramamoorthi and Hanrahan 2001).
_LOBE = (1.0, 2 / 3, 1 / 4)


@dataclass(frozen=True)
class Light:
    """Light in the frame of the torso, so it stands still when the head turns."""

    coefficients: Tensor  # [9, 3] RGB of the irradiance; 1 in all directions leaves colours as they are
    direction: Tensor  # [3] unit, towards the strongest lamp
    strength: float  # of that lamp
    gamma: float  # exponent of the camera's tone curve

    def to(self, device: torch.device | str) -> Light:
        return Light(self.coefficients.to(device), self.direction.to(device), self.strength, self.gamma)

    def irradiance(self, normals: Tensor) -> Tensor:
        """[..., 3] RGB at unit normals [..., 3]."""
        return (_harmonics(normals) @ self.coefficients).clamp_min(0.05)


def sample_light(generator: torch.Generator, contrast: float, gain: float) -> Light:
    """A sky and up to three lamps. `contrast` 0..1 is the lamps' share: low for colours that hold light already.

    `gain` multiplies the exposure.
    """
    uniform = lambda *size: torch.rand(*size, generator=generator)  # noqa: E731
    normal = lambda *size: torch.randn(*size, generator=generator)  # noqa: E731
    lamps = int(torch.randint(1, 4, (), generator=generator))
    directions = normal(lamps, 3) * torch.tensor([0.9, 0.5, 0.9]) + torch.tensor([0.0, 0.45, 0.5])
    directions = torch.nn.functional.normalize(directions, dim=-1)
    power = uniform(lamps) + 0.15
    power = contrast * float(uniform(())) * power / power.sum() * 1.6
    tint = 1 + 0.07 * normal(lamps, 3)
    sky = torch.zeros(9, 3)
    sky[0] = (1 - 0.55 * power.sum()) * math.sqrt(4 * math.pi) * (1 + 0.03 * normal(3))
    sky[1] = 0.12 * contrast * uniform(())  # brighter from above
    lobes = torch.tensor([_LOBE[0]] + [_LOBE[1]] * 3 + [_LOBE[2]] * 5)[:, None] * math.pi
    coefficients = sky + lobes * torch.einsum("kc,kl,k->lc", tint, _harmonics(directions), power)
    exposure = float(torch.exp(0.2 * normal(())))
    coefficients = coefficients * gain * min(exposure, 1.2)
    strongest = int(power.argmax())
    gamma = float(torch.exp(0.14 * normal(())))
    return Light(coefficients, directions[strongest], float(power[strongest]), gamma)


def _harmonics(d: Tensor) -> Tensor:
    """The nine real spherical harmonics [..., 9] at unit directions [..., 3]."""
    x, y, z = d.unbind(-1)
    return torch.stack(
        [torch.full_like(x, 0.282095), 0.488603 * y, 0.488603 * z, 0.488603 * x, 1.092548 * x * y, 1.092548 * y * z,
         0.315392 * (3 * z * z - 1), 1.092548 * x * z, 0.546274 * (x * x - y * y)], -1,
    )  # fmt: skip
