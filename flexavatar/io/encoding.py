"""What the splat formats share: the frame they are written in, and raw against activated values.

Frames. The package's canonical head frame is right, up, back as seen by someone who looks at the face (RUB: y up,
the face looks along +z). Files of Gaussians carry no frame, so each format has a customary one:

* `.ply` and `.splat`: right, down, forward (RDF), the OpenCV frame of the captures that 3DGS was trained on. SuperSplat
  turns these files by 180 degrees on loading; gsplat.js (gradio's Model3D) shows them with y down, its first view
  looking along +z, that is at the face. Spark changes nothing: give its mesh the quaternion (1, 0, 0, 0).
* `.spz`: RUB by specification, the frame of three.js. Spark shows these upright as they are.

The writers follow these customs and the readers undo them, so a head is upright wherever its format is read as usual.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from flexavatar.errors import BadSplatFile
from flexavatar.gaussians import SH_DC, Gaussians

SpzVersion = Literal[2, 3, 4]
ShDegree = Literal[0, 1, 2, 3]
MAX_GAUSSIANS = 10_000_000  # more is no head, but a damaged or hostile header
_MIN_SCALE = 1e-9  # metres; keeps the logarithm finite
_MIN_OPACITY = 1e-7  # distance from 0 and 1 that keeps the logit finite in float32


@dataclass(frozen=True)
class SplatOptions:
    """How splats are written, for the reader they are for."""

    spz_version: SpzVersion = 3  # older readers know 2 only, the newest 4
    ply_sh: ShDegree = 0  # of the spherical harmonics that a .ply has columns for, all zero; some readers want all of 3


def prepare(gaussians: Gaussians) -> Gaussians:
    """Check and normalise for writing: one unbatched set, float32, on the CPU, unit quaternions.

    Raises ValueError for a batch, an empty set or non-finite values: these are mistakes of the caller, not of the user.
    """
    if gaussians.batch_shape:
        raise ValueError("A file holds one set of Gaussians; pick one of the batch by indexing.")
    if len(gaussians) == 0:
        raise ValueError("There are no Gaussians to write.")
    plain = gaussians.detach().to("cpu", torch.float32)
    if not is_finite(plain):
        raise ValueError("The Gaussians hold values that are not finite; they cannot be written.")
    return Gaussians(plain.means, unit(plain.quats), plain.scales, plain.opacities, plain.colors)


def turned_over(gaussians: Gaussians) -> Gaussians:
    """The same Gaussians in a frame turned by 180 degrees about x: RUB to RDF, and back again.

    Both the frame and the local axes of each Gaussian turn, so the signs of y and z change and nothing is rounded.
    """
    return Gaussians(
        means=gaussians.means * torch.tensor([1.0, -1.0, -1.0]),
        quats=gaussians.quats * torch.tensor([1.0, 1.0, -1.0, -1.0]),
        scales=gaussians.scales,
        opacities=gaussians.opacities,
        colors=gaussians.colors,
    )


def raw_values(gaussians: Gaussians) -> tuple[Tensor, Tensor, Tensor]:
    """Log-scales [G, 3], opacity logits [G] and spherical-harmonic DC colours [G, 3], all finite."""
    return (
        gaussians.scales.clamp(min=_MIN_SCALE).log(),
        gaussians.opacities.clamp(_MIN_OPACITY, 1 - _MIN_OPACITY).logit(),
        (gaussians.colors - 0.5) / SH_DC,
    )


def activated(means: Tensor, log_scales: Tensor, quats: Tensor, logits: Tensor, sh_dc: Tensor) -> Gaussians:
    """The inverse of `raw_values`: Gaussians from what the files hold. Raises BadSplatFile if a value is not finite."""
    gaussians = Gaussians(
        means=means,
        quats=unit(quats),
        scales=log_scales.exp(),
        opacities=logits.sigmoid(),
        colors=(sh_dc * SH_DC + 0.5).clamp(0, 1),
    )
    return checked(gaussians)


def checked(gaussians: Gaussians) -> Gaussians:
    """Pass on Gaussians that were read from a file. Raises BadSplatFile if a value is not finite."""
    if not is_finite(gaussians):
        raise BadSplatFile("The file holds values that are not finite; it is damaged. Export it again.")
    return gaussians


def is_finite(gaussians: Gaussians) -> bool:
    """Whether all values are finite."""
    values = (gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, gaussians.colors)
    return all(bool(value.isfinite().all()) for value in values)


def unit(quats: Tensor) -> Tensor:
    """Unit quaternions [..., 4] wxyz; a quaternion of length zero becomes the identity."""
    norm = quats.norm(dim=-1, keepdim=True)
    identity = torch.tensor([1.0, 0.0, 0.0, 0.0])
    return torch.where(norm > 1e-12, quats / norm.clamp(min=1e-12), identity)
