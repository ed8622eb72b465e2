"""The expressions that a bake is fitted to, and those that it is measured on."""

from __future__ import annotations

import itertools
from functools import cache

import torch
from torch import Tensor

from flexavatar.baking.baked import Corrective
from flexavatar.expression import ARKIT_BLENDSHAPES, BLENDSHAPE_INDEX, PRESETS, Expression, opposite

_FREQUENT = (
    "jawOpen", "mouthClose", "mouthFunnel", "mouthPucker", "mouthSmileLeft", "mouthSmileRight", "mouthRollLower",
    "mouthRollUpper", "mouthStretchLeft", "mouthStretchRight", "mouthLowerDownLeft", "mouthLowerDownRight",
    "mouthUpperUpLeft", "mouthUpperUpRight", "eyeBlinkLeft", "eyeBlinkRight", "eyeSquintLeft", "eyeSquintRight",
    "eyeLookDownLeft", "eyeLookDownRight", "cheekSquintLeft", "cheekSquintRight",
)  # fmt: skip
_GROUPS = ("eye", "brow", "cheek", "jaw", "mouth", "nose")


@cache
def mixed_expressions(count: int = 48, seed: int = 6) -> Tensor:
    """Blendshapes [S, 52] of presets and `count` random faces of people who talk: a few shapes, half of them symmetric.

    None of the clips that a bake is measured on goes into them.
    """
    generator = torch.Generator().manual_seed(seed)
    uniform = lambda low, high: low + (high - low) * float(torch.rand((), generator=generator))  # noqa: E731
    presets = torch.stack([Expression.of(name).blendshapes for name in PRESETS if name != "neutral"])
    mixes = []
    for _ in range(count):
        mix = uniform(0, 0.8) * presets[int(torch.randint(len(presets), (), generator=generator))]
        for _ in range(5):
            frequent = uniform(0, 1) < 0.7
            names = _FREQUENT if frequent else ARKIT_BLENDSHAPES
            name = names[int(torch.randint(len(names), (), generator=generator))]
            weight = uniform(0.1, 0.9)
            other = weight * uniform(0.7, 1.0) if uniform(0, 1) < 0.5 else uniform(0, 0.9)
            mix[BLENDSHAPE_INDEX[name]] = weight
            if opposite(name) != name:
                mix[BLENDSHAPE_INDEX[opposite(name)]] = other
        mix[BLENDSHAPE_INDEX["mouthClose"]] = mix[BLENDSHAPE_INDEX["mouthClose"]].clamp_max(
            float(mix[BLENDSHAPE_INDEX["jawOpen"]])  # ARKit closes the lips over an open jaw, never beyond
        )
        mixes.append(mix)
    return torch.cat([presets, torch.stack(mixes)]).clamp(0, 1)


@cache
def candidate_correctives() -> tuple[Corrective, ...]:
    """Squares of all blendshapes, and products of two that move the same part of the face."""
    squares = [(name, name) for name in ARKIT_BLENDSHAPES]
    pairs = [
        pair for pair in itertools.combinations(ARKIT_BLENDSHAPES, 2) if _neighbours(*pair) and not _opposed(*pair)
    ]
    return (*squares, *pairs)


def _neighbours(a: str, b: str) -> bool:
    part = lambda name: next((g for g in _GROUPS if name.startswith(g)), name)  # noqa: E731
    near = {"jaw": "mouth", "nose": "mouth", "brow": "eye", "tongueOut": "mouth"}
    return near.get(part(a), part(a)) == near.get(part(b), part(b)) or "cheek" in (part(a), part(b))


def _opposed(a: str, b: str) -> bool:
    """One on the left and one on the right, which is no pair unless it is the same shape on both sides."""
    sides = {name.removesuffix("Left") != name for name in (a, b) if opposite(name) != name}
    return len(sides) == 2 and opposite(a) != b


@cache
def driving_expressions(every: int = 12) -> Expression:
    """Every `every`-th frame of the built-in driving clips, as one batch of expressions [B]."""
    from flexavatar.motion import CLIP_NAMES, load_clip

    clips = [load_clip(name)[every // 2 :: every] for name in CLIP_NAMES]
    return Expression(
        torch.cat([clip.blendshapes for clip in clips]), torch.cat([clip.head_rotation for clip in clips])
    )
