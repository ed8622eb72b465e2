"""An avatar: a person's head that can be posed, rendered, saved and exported."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from flexavatar.avatar.residuals import Residuals, crease_shares, lid_shares
from flexavatar.camera import Camera
from flexavatar.errors import BadAvatarFile, CannotWrite, RendererUnavailable
from flexavatar.expression import ARKIT_BLENDSHAPES, BLENDSHAPE_INDEX, Expression, with_rest
from flexavatar.gaussians import Gaussians
from flexavatar.rig import Rig
from flexavatar.rig.hair_displacement import raised
from flexavatar.rig.move import moved
from flexavatar.rig.subdivision import subdivision

if TYPE_CHECKING:
    from flexavatar.baking import BakedAvatar
    from flexavatar.driving import Driven
    from flexavatar.model.flex_s import EncodedHead
    from flexavatar.model.source import NetworkSource
    from flexavatar.motion import Motion
    from flexavatar.rig.anchors import SurfaceAnchors
    from flexavatar.tracking import TrackedFace

Device = Literal["auto", "cpu", "cuda"]
AVATAR_SUFFIXES = (".flexavatar", ".ply", ".splat", ".spz", ".png", ".mp4")
THUMBNAIL_SIZE = 256
RESTING_SHAPES = (
    "mouthRollLower", "mouthRollUpper", "mouthPressLeft", "mouthPressRight", "mouthShrugLower", "mouthShrugUpper",
    "mouthFrownLeft", "mouthFrownRight", "mouthLeft", "mouthRight", "mouthPucker", "browDownLeft", "browDownRight",
    "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff", "eyeSquintLeft", "eyeSquintRight",
)  # fmt: skip
MOST_REST = 0.6


@dataclass(frozen=True)
class NetworkCode:
    """A person as a network sees them, and the network that can decode it."""

    code: Tensor  # [T, D] the avatar code A
    detail: Tensor  # [G, C] features of the photo at the texels
    source: NetworkSource


@dataclass(frozen=True)
class Avatar:
    """A head of one Gaussian per texel of the rig's atlas: on the rig's surface, or where a network puts them.

    Residuals divide the texels of the face and change every Gaussian. Animated by 52 ARKit blendshapes; the head's
    rotation relative to the torso keeps the shoulders in place. G is the number of valid texels of the rig.
    """

    shape: Tensor  # [K] standard deviations of the rig's shape space
    rest: Tensor  # [52] blendshapes that this person's resting face has on the rig
    colors: Tensor  # [G, 3] RGB 0..1
    opacities: Tensor  # [G] 0..1
    thumbnail: np.ndarray  # uint8 [256, 256, 3]
    metadata: Mapping[str, Any] = field(default_factory=dict)  # model, how and from what it was made; JSON values
    network: NetworkCode | None = None  # what a network knows beyond the rig avatar
    volume: Tensor | None = None  # [V] metres that hair raises the rig's vertices; see flexavatar.rig.hair_displacement
    residuals: Residuals | None = None  # what photos know beyond the rig and the network

    @property
    def device(self) -> torch.device:
        """Where all its tensors lie, and so where it decodes."""
        return self.colors.device

    def to(self, device: torch.device | str) -> Avatar:
        """The same on `device`, which is itself if it lies there."""
        return self if self.colors.to(device) is self.colors else moved(self, device)

    @cached_property
    def anchors(self) -> SurfaceAnchors:
        """The rig's anchors, as large as the raised surface needs them."""
        rig = Rig.load(device=self.device)
        if self.volume is None:
            return rig.anchors
        return rig.anchors.stretched(raised(rig.mean, self.volume), self.volume > 0)

    def gaussians(self, expression: Expression | None = None) -> Gaussians:
        """The head with an expression (default neutral), in the canonical head frame, on the avatar's device.

        A batched expression [B] gives batched Gaussians [B, G]. Head rotation turns the *torso* the other way,
        since the head itself never moves in this frame; `head_motion` is the camera's share.
        """
        expression = (expression or Expression.neutral()).to(self.device)
        plain = self.unrefined(expression)
        return plain if self.residuals is None else self.residuals.apply(plain, expression.blendshapes)

    def unrefined(self, expression: Expression | None = None) -> Gaussians:
        """`gaussians` without the residuals: one a texel."""
        expression = (expression or Expression.neutral()).to(self.device)
        if self.network is not None:
            return self._decoded(self.network, expression)
        rig = Rig.load(device=self.device)
        blendshapes = with_rest(expression.blendshapes, self.rest)
        vertices = rig.turn_torso(raised(rig.pose(self.shape, blendshapes), self.volume), expression.head_rotation)
        frames = self.anchors.frames(vertices)
        batch = frames.means.shape[:-2]
        return Gaussians(
            frames.means,
            frames.quats,
            frames.scales,
            self.opacities.expand(*batch, -1),
            self.colors.expand(*batch, -1, -1),
        )

    def _decoded(self, network: NetworkCode, expression: Expression) -> Gaussians:
        from flexavatar.model.source import load_network

        batch = expression.blendshapes.shape[:-1]
        flat = Expression.from_code(expression.code().reshape(-1, expression.code().shape[-1]))
        with torch.no_grad():
            head = self.encoded(network).repeated(network.code[None], len(flat.blendshapes))
            gaussians = load_network(network.source, self.device).decode(head, flat)
        return Gaussians(**{name: value.reshape(*batch, *value.shape[1:]) for name, value in vars(gaussians).items()})

    def encoded(self, network: NetworkCode) -> EncodedHead:
        """What a network decodes, as a batch of one."""
        from flexavatar.model.flex_s import EncodedHead

        return EncodedHead(
            code=network.code[None],
            detail=network.detail[None],
            shape=self.shape[None],
            rest=self.rest[None],
            colors=self.colors[None],
            opacities=self.opacities[None],
        )

    def render(
        self,
        expression: Expression | None = None,
        yaw: float = 0.0,
        pitch: float = 0.0,
        size: int = 512,
        background: tuple[float, float, float] = (1.0, 1.0, 1.0),
        camera: Camera | None = None,
        device: Device = "auto",
    ) -> np.ndarray:
        """A picture, uint8 [H, W, 3]. `yaw` and `pitch` as in `Camera.orbit`; `camera` replaces them.

        The camera stands still relative to the torso, so `expression.head_rotation` is seen as the head
        turning on its neck.
        """
        from flexavatar.render import render

        expression = expression or Expression.neutral()
        camera = camera or Camera.orbit(yaw, pitch, size)
        camera = camera.moved(head_motion(expression.head_rotation))
        target = torch_device(device)
        with torch.inference_mode():
            picture = render(self.to(target).gaussians(expression), camera.to(target), background)
            return picture.pixels()

    def turntable(
        self,
        path: str | Path,
        size: int = 512,
        seconds: float = 4.0,
        fps: int = 25,
        expression: Expression | None = None,
        background: tuple[float, float, float] = (1.0, 1.0, 1.0),
        device: Device = "auto",
    ) -> None:
        """Write an MP4 in which the camera goes once around the head. Raises CannotWrite."""
        count = max(round(seconds * fps), 2)
        yaws = [360 * i / count for i in range(count)]
        self._write_video(path, ((expression, Camera.orbit(yaw, 0, size)) for yaw in yaws), fps, background, device)

    def animate(
        self,
        path: str | Path,
        expressions: Iterable[Expression],
        size: int = 512,
        fps: float = 25,
        yaw: float = 0.0,
        background: tuple[float, float, float] = (1.0, 1.0, 1.0),
        device: Device = "auto",
    ) -> None:
        """Write an MP4 of one frame per expression. Raises CannotWrite."""
        camera = Camera.orbit(yaw, 0, size)
        self._write_video(path, ((expression, camera) for expression in expressions), fps, background, device)

    def drive(self, driver: Motion | str | Path, path: str | Path, **options: Any) -> Driven:
        """Write a video of the avatar moving like a video, a motion or a clip; see `flexavatar.driving.drive`."""
        from flexavatar.driving import drive

        return drive(self, driver, path, **options)

    def _write_video(self, path, shots: Iterable[tuple[Expression | None, Camera]], fps, background, device) -> None:
        from flexavatar.io import write_video

        def frames() -> Iterator[np.ndarray]:
            avatar = self.to(torch_device(device))
            for expression, camera in shots:
                yield avatar.render(expression, camera=camera, background=background, device=device)

        write_video(path, frames(), fps)

    def save(self, path: str | Path) -> None:
        """Write a `.flexavatar` file, atomically. Raises CannotWrite."""
        from flexavatar.avatar.avatar_file import write_avatar_file

        tensors = {
            "shape": self.shape,
            "rest": self.rest,
            "colors": self.colors.half(),
            "opacities": self.opacities.half(),
        }
        if self.volume is not None:
            tensors["volume"] = self.volume.half()
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
        """Read a `.flexavatar` file. Raises BadAvatarFile; an absent network only when it is needed."""
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
        values = {name: file.tensors[name].float() for name in wanted}
        metadata = dict(file.metadata)
        try:
            network = _network_code(file.tensors, metadata.pop("network", None), anchors)
            residuals = _residuals(file.tensors, anchors)
        except (KeyError, TypeError, ValueError) as error:
            raise BadAvatarFile(f"{path} is damaged: its code cannot be read ({error}).") from error
        return Avatar(**values, thumbnail=file.thumbnail, metadata=metadata, network=network, residuals=residuals)

    def bake(self, effort: Literal["quick", "measured"] = "measured", device: Device = "auto") -> BakedAvatar:
        """The avatar as neutral Gaussians and deltas, which animate without decoding; see `flexavatar.baking.bake`."""
        from flexavatar.baking import bake

        return bake(self, effort, device)

    def export(self, path: str | Path, expression: Expression | None = None, device: Device = "auto") -> None:
        """Write the format that the suffix names: .ply .splat .spz .png .mp4 (turntable) .flexavatar.

        Raises CannotWrite, also for an unknown suffix.
        """
        from flexavatar.io import SPLAT_SUFFIXES, write_image, write_splats

        suffix = Path(path).suffix.lower()
        if suffix in SPLAT_SUFFIXES:
            write_splats(path, self.gaussians(expression))
        elif suffix == ".png":
            write_image(path, self.render(expression, device=device))
        elif suffix == ".mp4":
            self.turntable(path, expression=expression, device=device)
        elif suffix == ".flexavatar":
            self.save(path)
        else:
            raise CannotWrite(f"Cannot export {path}: the suffix must be one of {', '.join(AVATAR_SUFFIXES)}.")


def _network_code(tensors: Mapping[str, Tensor], source: Any, anchors: int) -> NetworkCode | None:
    """Raises KeyError, TypeError or ValueError."""
    from flexavatar.model.source import NetworkSource

    if source is None:
        return None
    code, detail = (tensors[name].float() for name in ("code", "detail"))
    if code.ndim != 2 or detail.ndim != 2 or len(detail) != anchors:
        raise ValueError(f"code {list(code.shape)}, detail {list(detail.shape)}")
    return NetworkCode(code, detail, NetworkSource.from_json(source))


def _residuals(tensors: Mapping[str, Tensor], anchors: int) -> Residuals | None:
    """Raises KeyError or ValueError."""
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


def create_rig_avatar(tracked: TrackedFace, settings: Mapping[str, Any] | None = None, volume: bool = True) -> Avatar:
    """The rig avatar of a tracked photo.

    With `volume` the hair stands off the rig as far as the silhouette tells; a network that has volume of its own
    expects the bare rig.
    """
    from flexavatar.reconstruction.silhouette import volume_of
    from flexavatar.texture import texture_from_photo

    height = volume_of([tracked]) if volume else None
    texture = texture_from_photo(tracked, Rig.load(), height)
    avatar = Avatar(
        shape=tracked.shape.float(),
        rest=resting_face(tracked.blendshapes),
        colors=texture.colors,
        opacities=texture.opacities,
        thumbnail=np.zeros((THUMBNAIL_SIZE, THUMBNAIL_SIZE, 3), np.uint8),
        metadata={"model": "rig", "settings": dict(settings or {})},
        volume=height,
    )
    return replace(avatar, thumbnail=avatar.render(size=THUMBNAIL_SIZE, device="cpu"))


def resting_face(blendshapes: Tensor) -> Tensor:
    """What of a photo's blendshapes [52] belongs to the person rather than to the moment, [52].

    From one photo nobody can tell thin lips from lips rolled in. Taking these ambiguous shapes for the
    person keeps the look of the photo; open jaws, smiles and closed eyes are taken for the moment.
    """
    rest = torch.zeros_like(blendshapes, dtype=torch.float32)
    for name in RESTING_SHAPES:
        index = BLENDSHAPE_INDEX[name]
        rest[index] = float(blendshapes[index].clamp(0, MOST_REST))
    return rest


def above_rest(blendshapes: Tensor, rest: Tensor) -> Tensor:
    """The expression [..., 52] that, on top of a resting face [52], gives the tracked blendshapes [..., 52].

    `Avatar.gaussians` mixes the rest into every expression, so what was tracked must not hold it a second time.
    """
    return ((blendshapes - rest) / (1 - rest)).clamp(0, 1)


def head_motion(head_rotation: Tensor) -> Tensor:
    """Rigid motion [..., 4, 4] that turns the canonical head about its neck joint by rotations [..., 3, 3]."""
    joint = Rig.load().neck_joint.to(head_rotation.device)
    motion = torch.eye(4, device=head_rotation.device).repeat(*head_rotation.shape[:-2], 1, 1)
    motion[..., :3, :3] = head_rotation
    motion[..., :3, 3] = joint - head_rotation @ joint
    return motion


def torch_device(device: Device) -> torch.device:
    """The device to compute on; "auto" takes CUDA where there is one.

    Raises RendererUnavailable where "cuda" is asked for and there is none.
    """
    if device == "auto":
        device = "cuda" if cuda_available() else "cpu"
    elif device == "cuda" and not cuda_available():
        raise RendererUnavailable("This machine has no CUDA GPU that torch can use. Use device 'cpu' or 'auto'.")
    return torch.device(device)


def cuda_available() -> bool:
    return torch.cuda.is_available()
