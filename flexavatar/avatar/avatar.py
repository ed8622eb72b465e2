"""An avatar: a person's head that can be posed, rendered, saved and exported."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from flexavatar.avatar.drawing import Still, draw, fixed_to_torso
from flexavatar.avatar.residuals import Residuals, crease_shares, lid_shares
from flexavatar.camera import Camera
from flexavatar.errors import BadAvatarFile, CannotWrite
from flexavatar.expression import ARKIT_BLENDSHAPES, Expression, with_neutral
from flexavatar.gaussians import Gaussians
from flexavatar.rig import Appearance, Rig
from flexavatar.rig.hair_displacement import raised
from flexavatar.rig.subdivision import subdivision
from flexavatar.settings import WHITE, Color, Device, to_device, torch_device

if TYPE_CHECKING:
    from flexavatar.io import SplatOptions
    from flexavatar.model.flex_s import EncodedHead
    from flexavatar.model.pretrained import NetworkSource
    from flexavatar.rig.anchors import SurfaceAnchors

AVATAR_SUFFIXES = (".flexavatar", ".ply", ".splat", ".spz", ".png", ".mp4")
THUMBNAIL_SIZE = 256
FIELDS = {"rest": "neutral_blendshapes", "volume": "hair_displacement"}  # by their names in files


def _no_thumbnail() -> np.ndarray:
    return np.zeros((THUMBNAIL_SIZE, THUMBNAIL_SIZE, 3), np.uint8)


@dataclass(frozen=True)
class AvatarCode:
    """A person as a network sees them, and the network that can decode it."""

    code: Tensor  # [T, D] the avatar code A
    detail: Tensor  # [G, C] features of the photo at the texels
    source: NetworkSource


@dataclass(frozen=True)
class Avatar(Appearance):
    """A head of one Gaussian per texel of the rig's atlas: on the rig's surface, or where a network puts them.

    Residuals divide the texels of the face and change every Gaussian. Animated by 52 ARKit blendshapes; the head's
    rotation relative to the torso keeps the shoulders in place. G is the number of valid texels of the rig.
    """

    thumbnail: np.ndarray = field(default_factory=_no_thumbnail)  # uint8 [256, 256, 3]
    metadata: Mapping[str, Any] = field(default_factory=dict)  # model, how and from what it was made; JSON values
    network: AvatarCode | None = None  # what a network knows beyond the rig avatar
    # [V] metres that hair raises the rig's vertices; see flexavatar.rig.hair_displacement.
    hair_displacement: Tensor | None = None
    residuals: Residuals | None = None  # what photos know beyond the rig and the network

    @property
    def device(self) -> torch.device:
        """The device of all its tensors, on which it decodes."""
        return self.colors.device

    def to(self, device: torch.device | str) -> Avatar:
        """This avatar with its tensors on `device`; itself if they are there already."""
        return self if self.colors.to(device) is self.colors else to_device(self, device)

    @cached_property
    def anchors(self) -> SurfaceAnchors:
        """The rig's anchors, as large as the raised surface needs them."""
        rig = Rig.load(device=self.device)
        if self.hair_displacement is None:
            return rig.anchors
        return rig.anchors.stretched(raised(rig.mean, self.hair_displacement), self.hair_displacement > 0)

    def gaussians(self, expression: Expression | None = None) -> Gaussians:
        """The head with an expression (default neutral), in the canonical head frame, on the avatar's device.

        A batched expression [B] gives batched Gaussians [B, G]. Head rotation turns the *torso* the other way,
        since the head itself never moves in this frame; `head_motion` is the camera's share.
        """
        expression = (expression or Expression.neutral()).to(self.device)
        plain = self.unrefined(expression)
        return plain if self.residuals is None else self.residuals.apply(plain, expression.blendshapes)

    def unrefined(self, expression: Expression | None = None) -> Gaussians:
        """Gaussians [..., G] as of `gaussians`, before residuals divide and change them: one for each texel."""
        expression = (expression or Expression.neutral()).to(self.device)
        if self.network is not None:
            return self._decoded(self.network, expression)
        rig = Rig.load(device=self.device)
        blendshapes = with_neutral(expression.blendshapes, self.neutral_blendshapes)
        vertices = rig.turn_torso(
            raised(rig.pose(self.shape, blendshapes), self.hair_displacement), expression.head_rotation
        )
        frames = self.anchors.frames(vertices)
        batch = frames.means.shape[:-2]
        return Gaussians(
            frames.means,
            frames.quats,
            frames.scales,
            self.opacities.expand(*batch, -1),
            self.colors.expand(*batch, -1, -1),
        )

    def _decoded(self, network: AvatarCode, expression: Expression) -> Gaussians:
        from flexavatar.model.pretrained import load_network

        batch = expression.blendshapes.shape[:-1]
        flat = Expression.from_code(expression.code().reshape(-1, expression.code().shape[-1]))
        with torch.no_grad():
            head = self.encoded(network).repeated(network.code[None], len(flat.blendshapes))
            gaussians = load_network(network.source, self.device).decode(head, flat)
        return Gaussians(**{name: value.reshape(*batch, *value.shape[1:]) for name, value in vars(gaussians).items()})

    def encoded(self, network: AvatarCode) -> EncodedHead:
        """The input of `FlexS.decode` for this avatar, as a batch of one."""
        from flexavatar.model.flex_s import EncodedHead

        batch = {name: value[None] for name, value in self.appearance().items()}
        return EncodedHead(**batch, code=network.code[None], detail=network.detail[None])

    def render(
        self,
        expression: Expression | None = None,
        yaw: float = 0.0,
        pitch: float = 0.0,
        size: int = 512,
        background: Color = WHITE,
        camera: Camera | None = None,
        device: Device = "auto",
    ) -> np.ndarray:
        """A picture, uint8 [H, W, 3]. `yaw` and `pitch` as in `Camera.orbit`; `camera` replaces them.

        The camera stands still relative to the torso, so `expression.head_rotation` is seen as the head
        turning on its neck.
        """
        expression = expression or Expression.neutral()
        camera = fixed_to_torso(camera or Camera.orbit(yaw, pitch, size), expression)
        return draw(self.to(torch_device(device)), expression, camera, background).pixels()

    def with_thumbnail(self, device: Device = "auto") -> Avatar:
        """The same with a picture of itself, drawn on `device`."""
        return replace(self, thumbnail=self.render(size=THUMBNAIL_SIZE, device=device))

    def turntable(
        self,
        path: str | Path,
        size: int = 512,
        seconds: float = 4.0,
        fps: int = 25,
        expression: Expression | None = None,
        background: Color = WHITE,
        device: Device = "auto",
    ) -> None:
        """Write an MP4 in which the camera goes once around the head. Raises CannotWrite."""
        from flexavatar.io import write_video

        count = max(round(seconds * fps), 2)
        expression = expression or Expression.neutral()
        still = Still(self.to(torch_device(device)), expression)
        cameras = (Camera.orbit(360 * i / count, 0, size) for i in range(count))
        frames = (draw(still, None, fixed_to_torso(camera, expression), background).pixels() for camera in cameras)
        write_video(path, frames, fps)

    def animate(
        self,
        path: str | Path,
        expressions: Iterable[Expression],
        size: int = 512,
        fps: float = 25,
        yaw: float = 0.0,
        background: Color = WHITE,
        device: Device = "auto",
    ) -> None:
        """Write an MP4 of one frame per expression. Raises CannotWrite."""
        from flexavatar.io import write_video

        camera, avatar = Camera.orbit(yaw, 0, size), self.to(torch_device(device))
        looks = {"camera": camera, "background": background, "device": device}
        write_video(path, (avatar.render(expression, **looks) for expression in expressions), fps)

    def save(self, path: str | Path) -> None:
        """Write a `.flexavatar` file, atomically. Raises CannotWrite."""
        from flexavatar.avatar.avatar_file import write_avatar_file

        tensors = {
            "shape": self.shape,
            "rest": self.neutral_blendshapes,
            "colors": self.colors.half(),
            "opacities": self.opacities.half(),
        }
        if self.hair_displacement is not None:
            tensors["volume"] = self.hair_displacement.half()
        metadata = dict(self.metadata)
        if self.network is not None:
            tensors |= {name: getattr(self.network, name).half() for name in ("code", "detail")}
            metadata["network"] = asdict(self.network.source)
        if self.residuals is not None:
            values = {f.name: getattr(self.residuals, f.name) for f in fields(Residuals)}
            tensors |= {f"residual_{name}": value.half() for name, value in values.items()}
        write_avatar_file(path, tensors, metadata, self.thumbnail)

    @staticmethod
    def load(path: str | Path) -> Avatar:
        """Read a `.flexavatar` file. Raises BadAvatarFile. Its network is looked for when it has to decode."""
        from flexavatar.avatar.avatar_file import read_avatar_file

        file = read_avatar_file(path)
        rig = Rig.load()
        anchors = len(rig.anchors)
        shapes, blendshapes = len(rig.shape_basis), len(rig.expression_deltas)
        wanted = {"shape": (shapes,), "rest": (blendshapes,), "colors": (anchors, 3), "opacities": (anchors,)}
        if "volume" in file.tensors:
            wanted["volume"] = (len(rig.mean),)
        for name, size in wanted.items():
            if name not in file.tensors or tuple(file.tensors[name].shape) != size:
                raise BadAvatarFile(
                    f"{path} was made with another rig (its {name!r} does not fit). Create it anew from the photo."
                )
        values = {FIELDS.get(name, name): file.tensors[name].float() for name in wanted}
        metadata = dict(file.metadata)
        try:
            network = _avatar_code(file.tensors, metadata.pop("network", None), anchors)
            residuals = _residuals(file.tensors, anchors)
        except (KeyError, TypeError, ValueError) as error:
            raise BadAvatarFile(f"{path} is damaged: its code cannot be read ({error}).") from error
        return Avatar(**values, thumbnail=file.thumbnail, metadata=metadata, network=network, residuals=residuals)

    def export(
        self,
        path: str | Path,
        expression: Expression | None = None,
        device: Device = "auto",
        splats: SplatOptions | None = None,
    ) -> None:
        """Write the format that the suffix names: .ply .splat .spz .png .mp4 (turntable) .flexavatar.

        `splats` says how .spz and .ply are written for readers that need it otherwise.

        Raises CannotWrite, also for an unknown suffix.
        """
        from flexavatar.io import SPLAT_SUFFIXES, write_image, write_splats

        suffix = Path(path).suffix.lower()
        if suffix in SPLAT_SUFFIXES:
            write_splats(path, self.gaussians(expression), splats)
        elif suffix == ".png":
            write_image(path, self.render(expression, device=device))
        elif suffix == ".mp4":
            self.turntable(path, expression=expression, device=device)
        elif suffix == ".flexavatar":
            self.save(path)
        else:
            raise CannotWrite(f"Cannot export {path}: the suffix must be one of {', '.join(AVATAR_SUFFIXES)}.")


def _avatar_code(tensors: Mapping[str, Tensor], source: Any, anchors: int) -> AvatarCode | None:
    """The avatar code in a file, if any. Raises KeyError, TypeError or ValueError."""
    from flexavatar.model.pretrained import NetworkSource

    if source is None:
        return None
    code, detail = (tensors[name].float() for name in ("code", "detail"))
    if code.ndim != 2 or detail.ndim != 2 or len(detail) != anchors:
        raise ValueError(f"code {list(code.shape)}, detail {list(detail.shape)}")
    return AvatarCode(code, detail, NetworkSource.from_json(source))


def _residuals(tensors: Mapping[str, Tensor], anchors: int) -> Residuals | None:
    """The residuals in a file, if any. Raises KeyError or ValueError."""
    if "corrections" in tensors:  # files of version 0.1 knew colours alone
        found = Residuals.of_colors(tensors["corrections"].float())
        counts = (anchors,)
    elif "residual_colors" in tensors:
        names = [f.name for f in fields(Residuals) if f.name not in ("creases", "worn")]
        if "residual_creases" in tensors:  # older files lack them
            names += ["creases", "worn"]
        found = Residuals(**{name: tensors[f"residual_{name}"].float() for name in names})
        counts = (anchors, len(subdivision()))
    else:
        return None
    shapes = [tuple(getattr(found, f.name).shape) for f in fields(Residuals)]
    count, lids, creases = len(found), len(found.lids), len(found.creases)
    quarters = len(crease_shares()[1]) if creases else 0
    own = [(count, 3), (count, 3), (count,), (count, 3), (lids, 3), (creases, 3), (quarters, len(ARKIT_BLENDSHAPES))]
    if count not in counts or shapes != own:
        raise ValueError(f"residuals {shapes}")
    if lids not in (0, len(lid_shares()[0])):
        raise ValueError(f"{lids} lids")
    if creases and creases != len(crease_shares()[0]):
        raise ValueError(f"{creases} creases")
    return found
