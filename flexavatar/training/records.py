"""Training records: all that one step needs to know of one person, prepared once and kept on disk.

Tracking, unwrapping and painting a photo take a hundred times longer than the network's step, so the trainer never
does them: it reads records. A record is one .safetensors file of 8-bit pictures and a few numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from flexavatar.camera import Camera
from flexavatar.errors import FlexAvatarError
from flexavatar.expression import Expression
from flexavatar.files import atomic_path
from flexavatar.model.decoder import BiasSink
from flexavatar.model.flex_s import FlexSObservation
from flexavatar.rig import Rig
from flexavatar.synthetic.labels import UVLabels

INVALID, VALID, RAISED = 0, 1, 2  # surface flags
DESCRIPTION = ("parts", "strands", "heights", "tones")  # fields that older records lack


class BadRecord(FlexAvatarError):
    """A training record cannot be used."""


@dataclass(frozen=True)
class Labels:
    """The truth at the rig's G texels, in the target's expression; see `UVLabels`."""

    positions: Tensor  # [..., G, 3] metres, canonical head frame
    colors: Tensor  # [..., G, 3] RGB 0..1
    flags: Tensor  # [..., G] uint8: INVALID, VALID (the rig shows) or RAISED (hair, cloth or a hat shows)
    parts: Tensor  # [..., G] uint8 index into PARTS; 0 too where a record says nothing of parts
    strands: Tensor  # [..., G, 3] unit, in `texel_frames`; 0 where there are none, or nothing is said of them
    heights: Tensor  # [..., G] metres over the rig
    tones: Tensor  # [..., G, 3] brightness before light 0..1 and its deviations along and across strands


@dataclass(frozen=True)
class TrainingRecord:
    """One person: the photo that the network is given, and V target views in one expression.

    All tensors are on the CPU. Of a monocular record the only target view is the photo itself and nothing is labelled.
    """

    photo: Tensor  # uint8 [3, S, S] the matted head crop on white
    photo_camera: Tensor  # float32 [7, 4]: world to camera, then the intrinsics, in pixels, in rows of 4
    shells: Tensor  # uint8 [18, 256, 256] `photo_shells`, -1..1 as 1..255
    shape: Tensor  # float32 [K]
    rest: Tensor  # float32 [52]
    colors: Tensor  # uint8 [G, 3] of the rig avatar
    opacities: Tensor  # uint8 [G] of the rig avatar
    blendshapes: Tensor  # float32 [52] of the target views, above rest
    head_rotation: Tensor  # float32 [3, 3] of the target views
    cameras: Tensor  # float32 [V, 7, 4] as `photo_camera`
    pictures: Tensor  # uint8 [V, 4, H, W] target views: RGB times alpha, alpha
    weights: Tensor  # uint8 [V, 1, H, W] where a target view can be compared with an avatar, 0..255
    positions: Tensor  # float16 [G, 3], or [0, 3] without labels
    label_colors: Tensor  # uint8 [G, 3], or [0, 3]
    flags: Tensor  # uint8 [G], or [0]
    # What records that were made before it was labelled say nothing of: then they have the length 0.
    parts: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.uint8))  # uint8 [G]
    strands: Tensor = field(
        default_factory=lambda: torch.zeros(0, 3, dtype=torch.uint8)
    )  # uint8 [G, 3] -1..1 as 1..255
    heights: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.float16))  # float16 [G] metres
    tones: Tensor = field(default_factory=lambda: torch.zeros(0, 3, dtype=torch.uint8))  # uint8 [G, 3]

    @property
    def labelled(self) -> bool:
        """Whether the record has labels of all texels, as those of synthetic heads do."""
        return len(self.flags) > 0

    @property
    def described(self) -> bool:
        """Whether its labels say what is seen, and not only where and in which colour."""
        return len(self.parts) > 0

    @property
    def bias_sink(self) -> BiasSink:
        """The bias sink that the record trains: "multiview" if it is labelled, else "monocular"."""
        return "multiview" if self.labelled else "monocular"

    @staticmethod
    def build(
        observation: FlexSObservation,
        expression: Expression,
        camera: Camera,
        pictures: Tensor,
        weights: Tensor,
        labels: UVLabels | None,
    ) -> TrainingRecord:
        """The record of one person, as small as it is kept.

        `observation` is a batch of one, `camera` [V], `pictures` [V, 4, H, W] premultiplied RGBA in 0..1,
        `weights` [V, 1, H, W], `expression` one, above the observation's rest.
        """
        valid = Rig.load().atlas.valid
        if labels is None:
            positions, colors, flags = torch.zeros(0, 3), torch.zeros(0, 3), torch.zeros(0, dtype=torch.uint8)
        else:
            positions, colors = (values.permute(1, 2, 0).cpu()[valid] for values in (labels.positions, labels.colors))
            flags = (labels.valid.to(torch.uint8) * (1 + labels.raised.to(torch.uint8))).cpu()[valid]
        seen = observation
        return TrainingRecord(
            photo=_bytes(seen.images[0]),
            photo_camera=_packed(seen.camera.resized(*seen.images.shape[-2:]))[0],
            shells=_bytes(seen.shells[0] * (127 / 255) + 128 / 255),
            shape=seen.shape[0].float().cpu(),
            rest=seen.neutral_blendshapes[0].float().cpu(),
            colors=_bytes(seen.colors[0]),
            opacities=_bytes(seen.opacities[0]),
            blendshapes=expression.blendshapes.float().cpu(),
            head_rotation=expression.head_rotation.float().cpu(),
            cameras=_packed(camera),
            pictures=_bytes(pictures),
            weights=_bytes(weights),
            positions=positions.half(),
            label_colors=_bytes(colors),
            flags=flags,
            **_description(labels, valid),
        )

    def save(self, path: Path) -> None:
        """Write the record. Raises CannotWrite."""
        with atomic_path(path) as part:
            save_file({f.name: getattr(self, f.name).contiguous() for f in fields(self)}, part)

    @staticmethod
    def load(path: Path) -> TrainingRecord:
        """Read a record. Raises BadRecord if the file is damaged or was made for another rig."""
        try:
            record = TrainingRecord(**load_file(path))
        except (OSError, SafetensorError, TypeError) as error:
            raise BadRecord(
                f"The training record {path} cannot be read ({error}). Prepare the records again."
            ) from error
        if len(record.opacities) != int(Rig.load().atlas.valid.sum()):
            raise BadRecord(f"The training record {path} was made for another rig. Prepare the records again.")
        return record


@dataclass(frozen=True)
class TrainingBatch:
    """B records with V target views each, on the trainer's device."""

    observation: FlexSObservation  # [B]
    expression: Expression  # [B] of the target views
    bias_sinks: tuple[BiasSink, ...]  # B
    camera: Camera  # [B, V]
    pictures: Tensor  # [B, V, 4, H, W] RGB times alpha, alpha, 0..1
    weights: Tensor  # [B, V, 1, H, W] 0..1
    labels: Labels  # [B, G]; all INVALID for records without labels


def stack(records: Sequence[TrainingRecord], views: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """B records as one dictionary of tensors, 8-bit as they are stored, with the chosen `views` of each."""
    count = len(records[0].opacities)
    stacked = {}
    for f in fields(TrainingRecord):
        values = [getattr(record, f.name) for record in records]
        if f.name in ("cameras", "pictures", "weights"):
            values = [value[list(chosen)] for value, chosen in zip(values, views, strict=True)]
        elif f.name in ("positions", "label_colors", "flags", *DESCRIPTION):
            nothing = 128 if f.name == "strands" else 0
            values = [value if len(value) else value.new_full((count, *value.shape[1:]), nothing) for value in values]
        stacked[f.name] = torch.stack(values)
    return stacked | {"labelled": torch.tensor([record.labelled for record in records])}


def unpack(stacked: dict[str, Tensor], device: torch.device | str) -> TrainingBatch:
    """The batch that `stack` packed, as floats on a device."""
    labelled = stacked["labelled"].tolist()
    on = {name: tensor.to(device, non_blocking=True) for name, tensor in stacked.items()}
    unit = lambda name: on[name].float() / 255  # noqa: E731
    photos, pictures = unit("photo"), unit("pictures")
    return TrainingBatch(
        observation=FlexSObservation(
            images=photos,
            camera=_unpacked(on["photo_camera"], photos),
            shells=(on["shells"].float() - 128) / 127,
            shape=on["shape"],
            neutral_blendshapes=on["rest"],
            colors=unit("colors"),
            opacities=unit("opacities"),
        ),
        expression=Expression(on["blendshapes"], on["head_rotation"]),
        bias_sinks=tuple("multiview" if known else "monocular" for known in labelled),
        camera=_unpacked(on["cameras"], pictures),
        pictures=pictures,
        weights=unit("weights"),
        labels=Labels(
            positions=on["positions"].float(),
            colors=unit("label_colors"),
            flags=on["flags"],
            parts=on["parts"],
            strands=(on["strands"].float() - 128) / 127,
            heights=on["heights"].float(),
            tones=unit("tones"),
        ),
    )


def _description(labels: UVLabels | None, valid: Tensor) -> dict[str, Tensor]:
    """The fields of a record that say what labels are, none of labels that do not."""
    if (
        labels is None
        or labels.parts is None
        or labels.strands is None
        or labels.heights is None
        or labels.tones is None
    ):
        return {}
    pick = lambda chart: chart.movedim(0, -1).cpu()[valid]  # noqa: E731
    return {
        "parts": labels.parts.cpu()[valid],
        "strands": _bytes(pick(labels.strands) * (127 / 255) + 128 / 255),
        "heights": labels.heights.cpu()[valid].half(),
        "tones": _bytes(pick(labels.tones)),
    }


def _bytes(values: Tensor) -> Tensor:
    return (values.detach().float().clamp(0, 1) * 255 + 0.5).to(torch.uint8).cpu()


def _packed(camera: Camera) -> Tensor:
    intrinsics = torch.nn.functional.pad(camera.intrinsics, (0, 1))
    return torch.cat([camera.world_to_camera, intrinsics], -2).float().cpu()


def _unpacked(packed: Tensor, pictures: Tensor) -> Camera:
    height, width = pictures.shape[-2:]
    return Camera(packed[..., :4, :], packed[..., 4:, :3].contiguous(), width, height)
