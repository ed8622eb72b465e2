"""A baked avatar: neutral Gaussians and sparse deltas, evaluated as docs/bundle.md says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from flexavatar.avatar.drawing import draw, fixed_to_torso
from flexavatar.baking import kernels
from flexavatar.camera import Camera
from flexavatar.expression import BLENDSHAPE_INDEX, Expression
from flexavatar.gaussians import Gaussians
from flexavatar.render.threads import run_on_threads
from flexavatar.rotations import quaternion_log, quaternions
from flexavatar.settings import WHITE, Color, Device, torch_device

if TYPE_CHECKING:
    from flexavatar.baking.error import BakeReport

GROUPS = {"means": 3, "rotations": 3, "scales": 3, "colors": 3, "opacities": 1}  # what deltas change: components
MINIMUM_SCALE = 1e-5  # metres; sums of deltas may shrink a Gaussian, but not below this

Corrective = tuple[str, ...]  # blendshapes whose weights are multiplied; a name may occur twice


@dataclass(frozen=True)
class SparseDeltas:
    """What each of T targets (blendshapes, then correctives) adds at weight 1 to one group of values, without zeros."""

    counts: Tensor  # [T] int64: how many splats each target changes; their sum is M
    splats: Tensor  # [M] int64: these splats, target by target, ascending within a target
    values: Tensor  # [M, C]: metres, radians (rotation vectors in the canonical frame) or 0..1

    def by_splat(self, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The same deltas ordered by splat: where each of `count` splats begins [N + 1], targets [M], values [M, C]."""
        targets = torch.arange(len(self.counts), dtype=torch.int32).repeat_interleave(self.counts)
        order = self.splats.argsort(stable=True)
        starts = torch.zeros(count + 1, dtype=torch.int64)
        starts[1:] = self.splats.bincount(minlength=count).cumsum(0)
        return starts.numpy(), targets[order].numpy(), self.values[order].numpy()

    @staticmethod
    def of(dense: Tensor, tolerance: float) -> SparseDeltas:
        """Those of dense deltas [T, N, C] that are longer than `tolerance`."""
        targets, splats = (dense.norm(dim=-1) > tolerance).nonzero(as_tuple=True)
        return SparseDeltas(targets.bincount(minlength=len(dense)), splats, dense[targets, splats].contiguous())


@dataclass(frozen=True)
class BakedAvatar:
    """A head of N Gaussians that is animated without decoding: in the browser, or here at video rate."""

    neutral: Gaussians  # [N] canonical head frame, facing straight ahead
    torso_weights: Tensor  # [N] 0 = moves with the head, 1 = stays with the torso
    neck_joint: Tensor  # [3] metres, pivot of the head's rotation relative to the torso
    deltas: Mapping[str, SparseDeltas]  # by name of GROUPS; a group that nothing changes is missing
    correctives: tuple[Corrective, ...]
    thumbnail: np.ndarray  # uint8 [H, W, 3]
    metadata: Mapping[str, Any]  # public facts; JSON values
    report: BakeReport | None = None  # error against true decodes

    def gaussians(self, expression: Expression | None = None) -> Gaussians:
        """The head with one expression (default neutral), in the canonical head frame, as `Avatar.gaussians`."""
        expression = expression or Expression.neutral()
        weights = target_weights(expression.blendshapes, self.correctives).float().numpy()
        plain = self.neutral
        means = self._summed("means", plain.means, weights)
        quats = plain.quats.numpy().copy()
        run_on_threads(
            kernels.turn, -(-len(plain) // kernels.CHUNK),
            self._summed("rotations", torch.zeros_like(plain.means), weights),
            self.torso_weights.numpy(), self.neck_joint.numpy(),
            expression.head_rotation.contiguous().numpy(),
            quaternion_log(quaternions(expression.head_rotation.mT)).numpy(),
            means, quats,
        )  # fmt: skip
        return Gaussians(
            torch.from_numpy(means),
            torch.from_numpy(quats),
            torch.from_numpy(self._summed("scales", plain.scales, weights, MINIMUM_SCALE)),
            torch.from_numpy(self._summed("opacities", plain.opacities[:, None], weights, 0, 1)[:, 0]),
            torch.from_numpy(self._summed("colors", plain.colors, weights, 0, 1)),
        )

    def _summed(
        self, group: str, base: Tensor, weights: np.ndarray, low: float = -np.inf, high: float = np.inf
    ) -> np.ndarray:
        """base [N, C] plus the weighted deltas of a group, within low..high."""
        total = base.numpy().copy()
        if group in self.deltas:
            limits = np.float32(low), np.float32(high)
            items = -(-len(total) // kernels.CHUNK)
            run_on_threads(kernels.add_deltas, items, *self._by_splat[group], weights, *limits, total)
        return total

    @cached_property
    def _by_splat(self) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
        return {group: deltas.by_splat(len(self.neutral)) for group, deltas in self.deltas.items()}

    def render(
        self,
        expression: Expression | None = None,
        yaw: float = 0.0,
        pitch: float = 0.0,
        size: int = 512,
        background: Color = WHITE,
        device: Device = "auto",
    ) -> np.ndarray:
        """A picture, uint8 [size, size, 3]; the parameters are those of `Avatar.render`."""
        expression = expression or Expression.neutral()
        camera = fixed_to_torso(Camera.orbit(yaw, pitch, size), expression)
        return draw(self, expression, camera, background, torch_device(device)).pixels()


def target_weights(blendshapes: Tensor, correctives: Iterable[Corrective]) -> Tensor:
    """Weights [..., T] of all targets: blendshapes [..., 52], then the products that the correctives name."""
    products = [blendshapes[..., [BLENDSHAPE_INDEX[name] for name in factors]].prod(-1) for factors in correctives]
    return torch.cat([blendshapes, *(product[..., None] for product in products)], -1)
