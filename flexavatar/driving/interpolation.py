"""Between people: convex combinations of avatars (Eq. 25-27) and videos that morph from one into the next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from flexavatar.avatar import Avatar, AvatarCode
from flexavatar.avatar.residuals import Residuals
from flexavatar.camera import Camera
from flexavatar.errors import Cancelled
from flexavatar.expression import Expression
from flexavatar.progress import Progress, Tell
from flexavatar.rig import Rig
from flexavatar.rotations import nearest_rotation
from flexavatar.settings import Device, torch_device


def interpolate(avatars: Sequence[Avatar], weights: Sequence[float]) -> Avatar:
    """The avatar sum_i w_i a_i of two or more avatars.

    The weights are at least 0 and sum to 1. Avatar codes of one network mix like everything else (Eq. 25). The rig is
    linear in its shape, so halfway between two people every vertex lies halfway between theirs; resting faces, colours
    and opacities mix texel by texel. With a weight of 1 the result is that avatar.

    Raises ValueError for weights that do not fit, and for avatars of different networks.
    """
    if len(avatars) < 2 or len(avatars) != len(weights):
        raise ValueError(
            f"Interpolation takes two or more avatars and a weight each, not {len(avatars)} and {len(weights)}."
        )
    if min(weights) < 0 or abs(sum(weights) - 1) > 1e-3:
        raise ValueError(
            f"The weights must be at least 0 and sum to 1; these are {', '.join(f'{w:g}' for w in weights)}."
        )
    whole = [avatar for avatar, weight in zip(avatars, weights, strict=True) if weight >= 1]
    if whole:
        return whole[0]
    return _mixed(avatars, weights).with_thumbnail("cpu")


def morph(
    path: str | Path,
    avatars: Sequence[Avatar],
    seconds: float = 3.0,
    fps: float = 25.0,
    expressions: Sequence[Expression] | None = None,
    turn: float = 0.0,
    size: int = 512,
    background: tuple[float, float, float] = (1.0, 1.0, 1.0),
    device: Device = "auto",
    progress: Progress | Tell | None = None,
) -> None:
    """Write an MP4 that goes from each avatar to the next, `seconds` for each step, eased at both ends.

    `expressions` are the keys of the expression (one an avatar, neutral by default) and are interpolated with it,
    like the camera, which goes `turn` degrees around the head in all.

    Raises ValueError without two avatars, CannotWrite, or Cancelled when `progress` stops it: nothing is written then.
    """
    from flexavatar.io import write_video

    if len(avatars) < 2:
        raise ValueError("A morph needs two or more avatars.")
    keys = list(expressions or [Expression.neutral()] * len(avatars))
    if len(keys) != len(avatars):
        raise ValueError(f"Give one expression for each of the {len(avatars)} avatars, not {len(keys)}.")
    count = max(2, round(seconds * fps))
    total = count * (len(avatars) - 1) + 1

    told = Progress.of(progress)

    def frames() -> Iterator[np.ndarray]:
        keyed = [avatar.to(torch_device(device)) for avatar in avatars]
        for frame in range(total):
            if not told("drawing the morph", frame / total):
                raise Cancelled("The morph was stopped; nothing was written.")
            step = min(frame // count, len(avatars) - 2)
            share = _eased((frame - step * count) / count)
            pair = (1 - share, share)
            avatar = _mixed(keyed[step : step + 2], pair)
            expression = mix_expressions(keys[step : step + 2], pair)
            camera = Camera.orbit(turn * frame / (total - 1), 0, size)
            yield avatar.render(expression, camera=camera, background=background, device=device)

    write_video(path, frames(), fps)
    told.tell("done", 1.0)


def mix_expressions(expressions: Sequence[Expression], weights: Sequence[float]) -> Expression:
    """Weighted mean of blendshapes, and the rotation nearest to the weighted mean of the rotations."""
    blendshapes = _combined([e.blendshapes for e in expressions], weights)
    rotation = nearest_rotation(_combined([e.head_rotation for e in expressions], weights))
    return Expression(blendshapes, rotation)


def _mixed(avatars: Sequence[Avatar], weights: Sequence[float]) -> Avatar:
    mixed = {
        name: _combined([getattr(avatar, name) for avatar in avatars], weights) for name in avatars[0].appearance()
    }
    flat = torch.zeros(len(Rig.load().mean), device=avatars[0].device)
    hair_displacement = None
    if any(avatar.hair_displacement is not None for avatar in avatars):
        hair_displacement = _combined(
            [flat if avatar.hair_displacement is None else avatar.hair_displacement for avatar in avatars], weights
        )
    networks = [avatar.network for avatar in avatars if avatar.network is not None]
    network = None
    if networks:
        if len(networks) < len(avatars) or len({network.source.sha256 for network in networks}) > 1:
            raise ValueError("These avatars were made by different models. Create them with the same one to mix them.")
        mixed_codes = {
            name: _combined([getattr(network, name) for network in networks], weights) for name in ("code", "detail")
        }
        network = AvatarCode(**mixed_codes, source=networks[0].source)
    models = {str(avatar.metadata.get("model", "")) for avatar in avatars}
    metadata = {
        "model": models.pop() if len(models) == 1 else "mixed",
        "settings": {"interpolated": [round(float(weight), 4) for weight in weights]},
    }
    residuals = Residuals.mixed([avatar.residuals for avatar in avatars], weights)
    return Avatar(
        **mixed,
        thumbnail=avatars[0].thumbnail,
        metadata=metadata,
        network=network,
        hair_displacement=hair_displacement,
        residuals=residuals,
    )


def _combined(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    return sum((weight * tensor for tensor, weight in zip(tensors, weights, strict=True)), torch.zeros(()))


def _eased(share: float) -> float:
    return share * share * (3 - 2 * share)
