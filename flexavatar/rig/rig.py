"""The morphable head: loads the committed asset and poses it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file
from torch import Tensor

from flexavatar.rig.move import moved

if TYPE_CHECKING:
    from flexavatar.rig.anchors import SurfaceAnchors

PART_NAMES = ("skin", "eye_left", "eye_right", "teeth_upper", "teeth_lower", "tongue", "lashes")
# Atlas regions. "mouth" and "sockets" are the parts of the skin chart that are hidden while the mouth is
# closed and the eyes are in place; -1 in the map means that no surface is there.
REGION_NAMES = ("head", "mouth", "sockets", "eye_left", "eye_right", "teeth_upper", "teeth_lower", "tongue")
ATLAS_SIZE = 256
HEAD_AXIS = (0.0, -0.075)  # metres, x and z of the vertical axis that angles around the head turn about


@dataclass(frozen=True)
class Atlas:
    """256 x 256 sampling of the rig's surface; row 0 is the top, column 0 the subject's right side.

    The skin is one chart without any seam: the face is enlarged around its centre, the back of the head lies
    towards the top edge and the bust's rim is the border. The strip at the bottom holds eyes, tongue, teeth.
    """

    triangle: Tensor  # [256, 256] int64, -1 where no surface is
    barycentric: Tensor  # [256, 256, 3]
    region: Tensor  # [256, 256] int64 index into REGION_NAMES, -1 where no surface is
    uv: Tensor  # [V, 2] texel coordinates of the vertices, in 0..1 of the square

    @cached_property
    def valid(self) -> Tensor:
        """Texels with surface [256, 256]; G of them are true, and that order is the order of the Gaussians."""
        return self.triangle >= 0


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
        from flexavatar.rig.anchors import surface_anchors

        return surface_anchors(self)

    def to(self, device: torch.device | str) -> Rig:
        """A copy on `device`, with its anchors."""
        rig = moved(self, device)
        # Computed on the CPU and moved, since their construction mixes in CPU constants.
        object.__setattr__(rig, "anchors", moved(self.anchors, device))
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
