"""What photos know of a head beyond its model: small changes of single Gaussians, which move with the face."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import torch
from torch import Tensor

from flexavatar.expression import ARKIT_BLENDSHAPES, BLINKS
from flexavatar.gaussians import Gaussians
from flexavatar.rig import Rig
from flexavatar.rig.parts import parts
from flexavatar.rig.regions import smooth_step
from flexavatar.rig.subdivision import subdivision
from flexavatar.rotations import rotation_matrices

ALMOST = 1e-4  # logits of opacities stay finite by it
QUARTERS = (0.0, 0.02), (-0.01, 0.01)  # metres: heights between lower and upper, sides between right and left of a face
PER_GAUSSIAN = ("offsets", "log_scales", "opacities", "colors")  # fields of residuals


@dataclass(frozen=True)
class Residuals:
    """Changes of the N Gaussians of a head: of its G texels, or of the S that `rig.subdivision` makes of them."""

    offsets: Tensor  # [N, 3] metres, along the Gaussian's own axes
    log_scales: Tensor  # [N, 3]
    opacities: Tensor  # [N] of the logit
    colors: Tensor  # [N, 3] RGB 0..1
    lids: Tensor  # [L, 3] RGB 0..1 of the L Gaussians of `lid_shares` when the eyes are closed; [0, 3]: as when open
    # Creases that came with the photo's expression, and go with it: what they add to `colors` of the C Gaussians of
    # `crease_shares`, [C, 3], and how much of those of each quarter of the face a blendshape brings, [4, 52]; or none.
    creases: Tensor = field(default_factory=lambda: torch.zeros(0, 3))
    worn: Tensor = field(default_factory=lambda: torch.zeros(0, len(ARKIT_BLENDSHAPES)))

    def __len__(self) -> int:
        return len(self.opacities)

    @staticmethod
    def none(count: int, device: torch.device | str = "cpu") -> Residuals:
        """N residuals of 0."""
        return Residuals.of_colors(torch.zeros(count, 3, device=device))

    @staticmethod
    def of_colors(colors: Tensor) -> Residuals:
        """Residuals that change colours [N, 3] alone."""
        return Residuals(
            torch.zeros_like(colors), torch.zeros_like(colors), torch.zeros_like(colors[:, 0]), colors, colors[:0]
        )

    @staticmethod
    def mixed(items: Sequence[Residuals | None], weights: Sequence[float]) -> Residuals | None:
        """The weighted sum of the residuals of several heads, some of which may have none."""
        known = [(item, weight) for item, weight in zip(items, weights, strict=True) if item is not None]
        if not known:
            return None
        if len({len(item) for item, _ in known}) > 1:
            known = [(item._divided(), weight) for item, weight in known]
        total = {
            name: torch.stack([weight * getattr(item, name) for item, weight in known]).sum(0) for name in PER_GAUSSIAN
        }
        # Absolute colours: heads that know theirs share the whole weight.
        lids = [(item.lids, weight) for item, weight in known if len(item.lids)]
        share = sum(weight for _, weight in lids) or 1.0
        mixed = torch.stack([weight / share * colors for colors, weight in lids]).sum(0) if lids else known[0][0].lids
        made = Residuals(**total, lids=mixed)
        # Heads without creases have some of no depth, but nothing to say about when to wear them.
        folded = [(item, weight) for item, weight in known if len(item.creases)]
        if not folded:
            return made
        share = sum(weight for _, weight in folded) or 1.0
        creases = torch.stack([weight * item.creases for item, weight in folded]).sum(0)
        worn = torch.stack([weight / share * item.worn for item, weight in folded]).sum(0)
        return replace(made, creases=creases, worn=worn)

    def _divided(self) -> Residuals:
        divided = subdivision(self.colors.device)
        if len(self) == len(divided):
            return self
        parent = divided.parent
        return replace(self, **{name: getattr(self, name)[parent] for name in PER_GAUSSIAN})

    def apply(self, gaussians: Gaussians, blendshapes: Tensor) -> Gaussians:
        """Gaussians [..., G] of a head with blendshapes [..., 52], as [..., N] with these changes."""
        device = gaussians.means.device
        if len(self) != len(gaussians):
            gaussians = subdivision(device).apply(gaussians)
        made = changed(gaussians, self)
        if not len(self.lids) and not len(self.creases):
            return made
        colors = made.colors.clone()
        if len(self.creases):
            index, quarters = crease_shares(device)
            gone = 1 - ((blendshapes @ self.worn.T).clamp(0, 1) @ quarters)[..., None]
            colors[..., index, :] = (colors[..., index, :] - gone * self.creases).clamp(0, 1)
        if len(self.lids):
            index, shares = lid_shares(device)
            closed = (blendshapes[..., BLINKS] @ shares).clamp(0, 1)[..., None]
            colors[..., index, :] = torch.lerp(colors[..., index, :], self.lids.expand(*closed.shape[:-1], 3), closed)
        return replace(made, colors=colors)


def changed(gaussians: Gaussians, by: Residuals) -> Gaussians:
    """Gaussians [..., N] changed by residuals of the same N; what they say of closed lids is left out."""
    turned = (rotation_matrices(gaussians.quats) @ by.offsets[..., None])[..., 0]
    return Gaussians(
        means=gaussians.means + turned,
        quats=gaussians.quats,
        scales=gaussians.scales * by.log_scales.exp(),
        opacities=faded(gaussians.opacities, by.opacities),
        colors=(gaussians.colors + by.colors).clamp(0, 1),
    )


def faded(opacities: Tensor, by: Tensor) -> Tensor:
    """Opacities [...] in 0..1 after `by` [...] is added to their logits."""
    return torch.sigmoid(_logit(opacities) + by)


def between(before: Gaussians, after: Gaussians) -> Residuals:
    """The residuals with which `changed` makes `after` of `before`, both [N], for equal rotations."""
    offsets = (rotation_matrices(before.quats).mT @ (after.means - before.means)[..., None])[..., 0]
    colors = after.colors - before.colors
    return Residuals(
        offsets,
        (after.scales / before.scales).log(),
        _logit(after.opacities) - _logit(before.opacities),
        colors,
        colors[:0],
    )


def _logit(opacities: Tensor) -> Tensor:
    return torch.logit(opacities.clamp(ALMOST, 1 - ALMOST))


def lid_shares(device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Which of the S Gaussians are lids, [L] int64, and how much of each the left and the right eye closes [2, L]."""
    return _lid_shares(str(device))


@lru_cache(maxsize=2)  # asked for with every expression that is drawn
def _lid_shares(device: str) -> tuple[Tensor, Tensor]:
    shares = parts(device).lids[:, subdivision(device).parent]
    index = (shares.amax(0) > 0).nonzero()[:, 0]
    return index, shares[:, index]


def crease_shares(device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Which of the S Gaussians may have creases, [C] int64, and the part [4, C] that each quarter has of them.

    Lower right, lower left, upper right and upper left of the face; the four sum to 1.
    """
    return _crease_shares(str(device))


@lru_cache(maxsize=2)
def _crease_shares(device: str) -> tuple[Tensor, Tensor]:
    rig = Rig.load()
    index = (parts(device).creasing[subdivision(device).parent] > 0).nonzero()[:, 0]
    places = rig.anchors.positions(rig.mean).to(device)
    x, y, _ = subdivision(device).spread(places)[index].unbind(-1)
    upper, left = (smooth_step(values, *border) for values, border in zip((y, x), QUARTERS, strict=True))
    return index, torch.stack([side * height for height in (1 - upper, upper) for side in (1 - left, left)])
