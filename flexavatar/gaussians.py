"""The one representation of a set of 3D Gaussians: always activated values, canonical head frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

SH_DC = 0.28209479177387814  # the constant spherical harmonic, 1 / (2 sqrt(pi)), as files and checkpoints hold colours


@dataclass(frozen=True)
class Gaussians:
    """G Gaussians with any (shared) leading batch shape.

    Values are *activated*: metres, unit quaternions, opacities and colours in 0..1. File writers do
    the conversion to log-scales, logits and spherical-harmonic coefficients.
    """

    means: Tensor  # [..., G, 3] metres, canonical head frame (+x subject's left, +y up, +z out of the face)
    quats: Tensor  # [..., G, 4] unit, order w, x, y, z
    scales: Tensor  # [..., G, 3] metres, standard deviations along the rotated axes
    opacities: Tensor  # [..., G] 0..1
    colors: Tensor  # [..., G, 3] RGB, 0..1

    def __len__(self) -> int:
        return self.means.shape[-2]

    @property
    def batch_shape(self) -> torch.Size:
        """The leading dimensions, () of a single set."""
        return self.means.shape[:-2]

    def _map(self, fn) -> Gaussians:
        return Gaussians(**{f.name: fn(getattr(self, f.name)) for f in fields(self)})

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Gaussians:
        """The same Gaussians on another device, or of another type of floats."""
        return self._map(lambda t: t.to(device=device, dtype=dtype))

    def detach(self) -> Gaussians:
        """The same Gaussians without their history of gradients."""
        return self._map(lambda t: t.detach())

    def __getitem__(self, index) -> Gaussians:
        """Index the leading batch dimensions (not the Gaussians; use `select` for those)."""
        if not self.batch_shape:
            raise IndexError("These Gaussians have no batch dimension; use select() to pick Gaussians.")
        return self._map(lambda t: t[index])

    def select(self, index: Tensor) -> Gaussians:
        """Pick Gaussians by boolean mask [G] or integer index [N]."""
        return Gaussians(
            means=self.means[..., index, :],
            quats=self.quats[..., index, :],
            scales=self.scales[..., index, :],
            opacities=self.opacities[..., index],
            colors=self.colors[..., index, :],
        )

    @staticmethod
    def stack(items: Sequence[Gaussians]) -> Gaussians:
        """Stack equally sized sets along a new leading batch dimension."""
        return Gaussians(**{f.name: torch.stack([getattr(g, f.name) for g in items]) for f in fields(Gaussians)})

    @staticmethod
    def cat(items: Sequence[Gaussians]) -> Gaussians:
        """Concatenate sets of the same batch shape into one set."""
        dims = {"opacities": -1}
        return Gaussians(
            **{f.name: torch.cat([getattr(g, f.name) for g in items], dims.get(f.name, -2)) for f in fields(Gaussians)}
        )
