"""Spherical-harmonic light: irradiance of a sky and a few lamps, up to the second order."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from flexavatar.settings import to_device

# Cosine-lobe factors of the orders 0, 1, 2 over pi (Ramamoorthi and Hanrahan 2001).
_LOBE = (1.0, 2 / 3, 1 / 4)
FADED = (-0.15, 0.35)  # cosine to the photo's camera: where its light has faded, and from where it is whole
USUAL, EXPOSED = (1.0, 1.35), 0.9  # irradiance from the front; how far exposure makes up for what is beyond
DIRECTIONS = 256  # over which light is averaged


@dataclass(frozen=True)
class Light:
    """Light in the frame of the torso, so it stands still when the head turns."""

    coefficients: Tensor  # [9, 3] RGB of the irradiance; 1 in all directions leaves colours as they are
    direction: Tensor  # [3] unit, towards the strongest lamp
    strength: float  # of that lamp
    gamma: float  # exponent of the camera's tone curve
    even: Tensor | None = None  # [3] RGB of the irradiance of all that looks away from `seen_from`
    seen_from: Tensor | None = None  # [3] unit

    def to(self, device: torch.device | str) -> Light:
        """The same light on another device."""
        return to_device(self, device)

    def irradiance(self, normals: Tensor) -> Tensor:
        """[..., 3] RGB at unit normals [..., 3]."""
        light = (_harmonics(normals) @ self.coefficients).clamp_min(0.05)
        return light if self.even is None else self.even + self.whole(normals)[..., None] * (light - self.even)

    def whole(self, normals: Tensor) -> Tensor:
        """How much [...] of the lamps' light is left at unit normals [..., 3], 0..1; see `evened`."""
        if self.seen_from is None:
            return torch.ones_like(normals[..., 0])
        low, high = FADED
        share = ((normals @ self.seen_from - low) / (high - low)).clamp(0, 1)
        return share * share * (3 - 2 * share)

    def evened(self, photographed_from: Tensor, seen_from: Tensor) -> Light:
        """The light that an avatar is to have: what a photo does not show is lit evenly at the photo's exposure.

        What lies in the dark, or beside a coloured lamp, where the camera did not see it would be an invention.
        Unit vectors [3] towards the photo's camera: when it was taken, and in today's pose of the head.
        """
        sphere = _sphere(DIRECTIONS).to(photographed_from.device)
        weights = (sphere @ photographed_from).clamp_min(0)
        even = (weights[:, None] * self.irradiance(sphere)).sum(0) / weights.sum()
        return replace(self, even=even, seen_from=seen_from)


def sample_light(generator: torch.Generator, contrast: float, gain: float) -> Light:
    """A sky and up to three lamps. `contrast` 0..1 is the lamps' share: low for colours that hold light already.

    `gain` multiplies the exposure. Some heads have one strong lamp, from anywhere, and little sky.
    """
    uniform = lambda *size: torch.rand(*size, generator=generator)  # noqa: E731
    normal = lambda *size: torch.randn(*size, generator=generator)  # noqa: E731
    lamps = int(torch.randint(1, 4, (), generator=generator))
    directions = normal(lamps, 3) * torch.tensor([0.9, 0.5, 0.9]) + torch.tensor([0.0, 0.45, 0.5])
    directions = torch.nn.functional.normalize(directions, dim=-1)
    power = uniform(lamps) + 0.15
    hard = float(uniform(())) < 0.15  # before a single strong lamp
    if hard:
        power = power * (torch.arange(lamps) == 0)
    power = (max(contrast, 0.8) if hard else contrast * float(uniform(()))) * power / power.sum() * 1.6
    tint = 1 + 0.07 * normal(lamps, 3)
    sky = torch.zeros(9, 3)
    sky[0] = (1 - 0.55 * power.sum()) * math.sqrt(4 * math.pi) * (1 + 0.03 * normal(3))
    sky[1] = 0.12 * contrast * uniform(())  # brighter from above
    lobes = torch.tensor([_LOBE[0]] + [_LOBE[1]] * 3 + [_LOBE[2]] * 5)[:, None] * math.pi
    coefficients = sky + lobes * torch.einsum("kc,kl,k->lc", tint, _harmonics(directions), power)
    exposure = float(torch.exp(0.2 * normal(())))
    front = _sphere(DIRECTIONS)[:, 2:].clamp_min(0)
    level = (front * (_harmonics(_sphere(DIRECTIONS)) @ coefficients).clamp_min(0.05)).sum() / front.sum()
    # Cameras, too, adapt the exposure to a face in the dark or the glare, though not all the way.
    adapted = float((level.clamp(*USUAL) / level) ** EXPOSED)
    coefficients = coefficients * gain * min(exposure, 1.2) * adapted
    strongest = int(power.argmax())
    gamma = float(torch.exp(0.14 * normal(())))
    return Light(coefficients, directions[strongest], float(power[strongest]), gamma)


def _sphere(count: int) -> Tensor:
    """Unit vectors [count, 3], evenly spread (a Fibonacci lattice)."""
    height = 1 - (2 * torch.arange(count) + 1) / count
    turn = math.pi * (3 - math.sqrt(5)) * torch.arange(count)
    around = (1 - height.square()).sqrt()
    return torch.stack([around * torch.cos(turn), height, around * torch.sin(turn)], -1)


def _harmonics(d: Tensor) -> Tensor:
    """The nine real spherical harmonics [..., 9] at unit directions [..., 3]."""
    x, y, z = d.unbind(-1)
    return torch.stack(
        [torch.full_like(x, 0.282095), 0.488603 * y, 0.488603 * z, 0.488603 * x, 1.092548 * x * y, 1.092548 * y * z,
         0.315392 * (3 * z * z - 1), 1.092548 * x * z, 0.546274 * (x * x - y * y)], -1,
    )  # fmt: skip
