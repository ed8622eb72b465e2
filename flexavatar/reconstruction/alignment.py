"""Several photos of one head differ in light and are tracked a little apart: gains and small motions of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from flexavatar.camera import HEAD_CENTER
from flexavatar.gaussians import Gaussians
from flexavatar.reconstruction.observation import FitObservation
from flexavatar.render import render
from flexavatar.rig.parts import parts
from flexavatar.rotations import quaternion_product, quaternions, rotation_exp


@dataclass(frozen=True)
class AlignmentParams:
    """Learning rates, and weights of the penalties, of the motion and the gains of each view."""

    motion_rate: float = 5e-4  # radians and metres
    tone_rate: float = 5e-3  # logarithm of gains
    motion_pull: float = 1.0  # to no motion
    tone_pull: float = 0.02  # to the first tone
    strongest_tone: float = 0.7  # logarithm of a gain that is believed before any fit


class Alignment:
    """Gains and motions of V views, learned; those of the view `base` stay as they are: it has the avatar's light."""

    def __init__(
        self,
        heads: Sequence[Gaussians],
        views: Sequence[FitObservation],
        base: int,
        params: AlignmentParams = AlignmentParams(),
    ) -> None:
        """`heads` are the Gaussians [G] of the rig's texels as each of the `views` expresses them."""
        count, device = len(views), heads[0].means.device
        self._base, self._count, self._params = base, count, params
        self._motions = torch.zeros(count, 6, device=device, requires_grad=count > 1)
        self._start = torch.zeros(count, 3, device=device)
        if count > 1:
            tones = torch.stack([_tone(head, view) for head, view in zip(heads, views, strict=True)])
            self._start = (tones[base] - tones).clamp(-params.strongest_tone, params.strongest_tone)
        self._tones = self._start.clone().requires_grad_(count > 1)

    def groups(self) -> list[dict[str, Any]]:
        """Parameter groups for an optimiser; empty if there is one view."""
        if self._count == 1:
            return []
        rates = (self._params.motion_rate, self._params.tone_rate)
        return [{"params": [t], "lr": r} for t, r in zip((self._motions, self._tones), rates, strict=True)]

    def aligned(self, gaussians: Gaussians, index: int) -> Gaussians:
        """Gaussians [G] with the learned motion of the view `index`."""
        if index == self._base:
            return gaussians
        return rigidly_moved(gaussians._map(lambda t: t[None]), self._motions[index][None])[0]

    def toned(self, image: Tensor, index: int) -> Tensor:
        """The photo [3, H, W] of the view `index` with its learned gains, as if in the light of the base."""
        if index == self._base:
            return image
        return (image * self._tones[index].exp()[:, None, None]).clamp(0, 1)

    def pull(self) -> Tensor:
        """Penalty (scalar) on motions, and on changes of the gains from those that were measured at first."""
        motions, tones = self._motions.square().mean(), (self._tones - self._start).square().mean()
        return self._params.motion_pull * motions + self._params.tone_pull * tones


@torch.no_grad()
def _tone(head: Gaussians, view: FitObservation) -> Tensor:
    """Median logarithm [3] of the ratios of the photo's colours to the head's, where the head shows its face.

    Against the head, since hair before a face is darker in both.
    """
    core = parts(head.means.device).core[:, None].expand(-1, 3)
    face = render(replace(head, colors=core.contiguous()), view.camera).rgb[:1] * view.matte * view.weight
    there = (face > 0.5)[0]
    if int(there.sum()) < 50:
        return view.image.new_zeros(3)
    drawn = render(head, view.camera).rgb
    ratio = (view.image.clamp_min(0.02) / drawn.clamp_min(0.02)).log()
    return ratio[:, there].median(1).values


def rigidly_moved(gaussians: Gaussians, motions: Tensor) -> Gaussians:
    """Gaussians [B, G] turned and shifted about the head's centre by motions [B, 6] (radians, metres)."""
    if not motions.requires_grad and not motions.any():
        return gaussians
    rotation = rotation_exp(motions[:, :3])
    center = motions.new_tensor(HEAD_CENTER)
    return replace(
        gaussians,
        means=(gaussians.means - center) @ rotation.mT + center + motions[:, None, 3:],
        quats=quaternion_product(quaternions(rotation)[:, None], gaussians.quats),
    )
