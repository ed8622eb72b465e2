"""Cameras in the OpenCV convention. The only module that knows about viewing directions and axes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

FIELD_OF_VIEW = 20.0  # degrees; the tracker and every default view use it
HEAD_CENTER = (0.0, -0.05, -0.07)  # metres, canonical head frame: what the default views look at
VIEW_HEIGHT = 0.48  # metres of the head frame that a default view shows from top to bottom


@dataclass(frozen=True)
class Camera:
    """One camera, or a batch of cameras that share an image size.

    OpenCV axes (x right, y down, z forward). Rigid head motion lives here, never in the Gaussians.
    Pixel centres are at integer + 0.5, so the image spans 0..width and 0..height.
    """

    world_to_camera: Tensor  # [..., 4, 4]
    intrinsics: Tensor  # [..., 3, 3] pixels
    width: int
    height: int

    @property
    def batch_shape(self) -> torch.Size:
        """The leading dimensions, () of a single camera."""
        return self.world_to_camera.shape[:-2]

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Camera:
        """The same cameras on another device, or of another type of floats."""
        return Camera(
            self.world_to_camera.to(device, dtype), self.intrinsics.to(device, dtype), self.width, self.height
        )

    def __getitem__(self, index) -> Camera:
        return Camera(self.world_to_camera[index], self.intrinsics[index], self.width, self.height)

    @staticmethod
    def stack(cameras: list[Camera]) -> Camera:
        """One batch [B] of single cameras. Raises ValueError where their image sizes differ."""
        sizes = {(c.width, c.height) for c in cameras}
        if len(sizes) != 1:
            raise ValueError(f"Cameras of one batch must share an image size, got {sorted(sizes)}.")
        return Camera(
            torch.stack([c.world_to_camera for c in cameras]),
            torch.stack([c.intrinsics for c in cameras]),
            cameras[0].width,
            cameras[0].height,
        )

    @staticmethod
    def orbit(
        yaw: float = 0.0,
        pitch: float = 0.0,
        size: int | tuple[int, int] = 512,
        view_height: float = VIEW_HEIGHT,
        center: tuple[float, float, float] = HEAD_CENTER,
        field_of_view: float = FIELD_OF_VIEW,
    ) -> Camera:
        """A camera on a sphere around the head that looks at `center`.

        `yaw` and `pitch` in degrees: yaw 0 sees the face, yaw 90 the subject's left ear, yaw 180 the
        back of the head; positive pitch looks from above. `size` is the image side, or (width, height).
        The distance is chosen so that `view_height` metres fill the image from top to bottom.
        """
        width, height = (size, size) if isinstance(size, int) else size
        distance = view_height / 2 / math.tan(math.radians(field_of_view / 2))
        a, b = math.radians(yaw), math.radians(pitch)
        target = torch.tensor(center, dtype=torch.float32)
        offset = torch.tensor([math.sin(a) * math.cos(b), math.sin(b), math.cos(a) * math.cos(b)])
        # Camera y points down the image; at the poles "up" is the direction away from the face.
        forward = -offset
        down = torch.tensor([math.sin(a) * math.sin(b), -math.cos(b), math.cos(a) * math.sin(b)])
        right = torch.linalg.cross(down, forward)
        rotation = torch.stack([right, down, forward])
        matrix = torch.eye(4)
        matrix[:3, :3] = rotation
        matrix[:3, 3] = -rotation @ (target + distance * offset)
        return Camera(matrix, intrinsics(field_of_view, width, height), width, height)

    def resized(self, width: int, height: int) -> Camera:
        """The same view in an image of another size."""
        scale = self.intrinsics.new_tensor([width / self.width, height / self.height, 1.0])
        return Camera(self.world_to_camera, self.intrinsics * scale[:, None], width, height)

    def with_head_motion(self, motion: Tensor) -> Camera:
        """The camera that sees a head at rest as this one would see it after a rigid `motion` [..., 4, 4]."""
        return Camera(self.world_to_camera @ motion, self.intrinsics, self.width, self.height)

    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels [..., N, 2] and depths [..., N] of world points [..., N, 3]."""
        seen = points @ self.world_to_camera[..., :3, :3].mT + self.world_to_camera[..., None, :3, 3]
        image = seen @ self.intrinsics.mT
        return image[..., :2] / image[..., 2:], seen[..., 2]


def intrinsics(field_of_view: float, width: int, height: int) -> Tensor:
    """Pinhole intrinsics [3, 3] whose `field_of_view` (degrees) spans the image height."""
    focal = height / 2 / math.tan(math.radians(field_of_view / 2))
    return torch.tensor([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])
