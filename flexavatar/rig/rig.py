"""The morphable head: loads the committed asset and poses it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from importlib.resources import files
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from flexavatar.rig.anchors import Atlas, SurfaceAnchors, surface_anchors
from flexavatar.settings import to_device

PART_NAMES = ("skin", "eye_left", "eye_right", "teeth_upper", "teeth_lower", "tongue", "lashes")
HEAD_AXIS = (0.0, -0.075)  # metres, x and z of the vertical axis that angles around the head turn about


@dataclass(frozen=True)
class Rig:
    """Linear head model in the canonical head frame (metres; +x subject's left, +y up, +z out of the face)."""

    mean: Tensor  # [V, 3]
    triangles: Tensor  # [F, 3] int64, counter-clockwise seen from outside
    parts: Tensor  # [F] index into PART_NAMES
    mirror: Tensor  # [V] int64: the same vertex on the other side
    shape_basis: Tensor  # [K, V, 3], scaled so that coefficients are N(0, 1) over the training heads
    expression_deltas: Tensor  # [52, V, 3] in the order of ARKIT_BLENDSHAPES, at weight 1
    neck_joint: Tensor  # [3] pivot of the head's rotation relative to the torso
    torso_weights: Tensor  # [V] 0 = moves with the head, 1 = stays with the torso
    landmark_vertices: Tensor  # [478, 3] int64: MediaPipe's landmarks as points on triangles
    landmark_barycentrics: Tensor  # [478, 3]
    landmark_weights: Tensor  # [478] 0..1, how well the landmark is pinned to the surface
    atlas: Atlas

    @staticmethod
    def load(path: str | Path | None = None, device: torch.device | str = "cpu") -> Rig:
        """The bundled rig, or one built by `python -m flexavatar.rig.build`. Loaded once per path and device."""
        return _load(str(path or files("flexavatar") / "assets" / "rig.safetensors"), str(device))

    @cached_property
    def anchors(self) -> SurfaceAnchors:
        """One Gaussian anchor per valid texel of the atlas."""
        return surface_anchors(self.mean, self.triangles, self.expression_deltas, self.atlas)

    def to(self, device: torch.device | str) -> Rig:
        """A copy on `device`, with its anchors."""
        rig = to_device(self, device)
        # Computed on the CPU and moved, since their construction mixes in CPU constants.
        object.__setattr__(rig, "anchors", to_device(self.anchors, device))
        return rig

    def pose(self, shape: Tensor, blendshapes: Tensor, head_rotation: Tensor | None = None) -> Tensor:
        """Vertices [..., V, 3] for shape [..., K] and blendshapes [..., 52].

        The head stays in the canonical frame; with `head_rotation` [..., 3, 3] (head relative to torso) the
        torso turns the other way about the neck joint, blended over the neck.
        """
        offsets = shape @ self.shape_basis.flatten(1) + blendshapes @ self.expression_deltas.flatten(1)
        vertices = self.mean + offsets.unflatten(-1, self.mean.shape)
        return vertices if head_rotation is None else self.turn_torso(vertices, head_rotation)

    def turn_torso(self, vertices: Tensor, head_rotation: Tensor) -> Tensor:
        """Counter-rotate the torso part of vertices [..., V, 3] by the inverse of `head_rotation`."""
        turned = (vertices - self.neck_joint) @ head_rotation + self.neck_joint
        return vertices + self.torso_weights[:, None] * (turned - vertices)

    def landmarks(self, vertices: Tensor) -> Tensor:
        """The 478 landmark positions [..., 478, 3] on posed vertices [..., V, 3]."""
        corners = vertices[..., self.landmark_vertices, :]
        return (corners * self.landmark_barycentrics[..., None]).sum(-2)

    def part_triangles(self, *names: str) -> Tensor:
        """Triangles [N, 3] of the named parts."""
        wanted = torch.tensor([PART_NAMES.index(n) for n in names])
        return self.triangles[torch.isin(self.parts.long(), wanted)]


@dataclass(frozen=True)
class Appearance:
    """A person on the rig, of G texels; all fields may have the same leading batch dimension."""

    shape: Tensor  # [..., K] standard deviations of the rig's shape space
    neutral_blendshapes: Tensor  # [..., 52] that this person's resting face has on the rig
    colors: Tensor  # [..., G, 3] RGB 0..1
    opacities: Tensor  # [..., G] 0..1

    @property
    def base(self) -> Tensor:
        """Colours and opacities [..., G, 4]."""
        return torch.cat([self.colors, self.opacities[..., None]], -1)

    def appearance(self) -> dict[str, Tensor]:
        """These fields by name, for making another value of the same person."""
        return {f.name: getattr(self, f.name) for f in fields(Appearance)}


@lru_cache(maxsize=4)
def _load(path: str, device: str) -> Rig:
    if device != "cpu":
        return _load(path, "cpu").to(device)
    tensors = load_file(path)
    atlas = {f.name: tensors.pop("atlas_" + f.name) for f in fields(Atlas)}
    integers = {"triangles", "mirror", "landmark_vertices", "triangle", "region"}
    convert = lambda name, t: t.long() if name in integers else t.float() if t.is_floating_point() else t  # noqa: E731
    return Rig(
        **{k: convert(k, v) for k, v in tensors.items()}, atlas=Atlas(**{k: convert(k, v) for k, v in atlas.items()})
    )


def head_motion(head_rotation: Tensor) -> Tensor:
    """Rigid motion [..., 4, 4] that turns the canonical head about its neck joint by rotations [..., 3, 3]."""
    joint = Rig.load().neck_joint.to(head_rotation.device)
    motion = torch.eye(4, device=head_rotation.device).repeat(*head_rotation.shape[:-2], 1, 1)
    motion[..., :3, :3] = head_rotation
    motion[..., :3, 3] = joint - head_rotation @ joint
    return motion
