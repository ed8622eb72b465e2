"""How people move and where cameras stand."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from flexavatar.camera import FIELD_OF_VIEW, HEAD_CENTER, VIEW_HEIGHT, Camera
from flexavatar.expression import ARKIT_BLENDSHAPES, BLENDSHAPE_INDEX, Expression, opposite
from flexavatar.rotations import rotation_from_angles

# What faces do together; a sampled expression mixes a few of these. Sides are drawn with a small difference.
_POSED: tuple[dict[str, float], ...] = (
    {"mouthSmile": 0.9, "cheekSquint": 0.6, "eyeSquint": 0.35, "mouthUpperUp": 0.3, "mouthDimple": 0.2},
    {"mouthSmile": 0.8, "jawOpen": 0.35, "cheekSquint": 0.7, "mouthUpperUp": 0.45, "mouthLowerDown": 0.3},
    {"browInnerUp": 0.8, "browOuterUp": 0.8, "eyeWide": 0.6, "jawOpen": 0.3},
    {"browDown": 0.9, "noseSneer": 0.4, "mouthPress": 0.5, "eyeSquint": 0.4},
    {"browInnerUp": 0.7, "mouthFrown": 0.7, "mouthShrugLower": 0.4},
    {"mouthPucker": 0.9, "mouthFunnel": 0.3},
    {"noseSneer": 0.8, "mouthUpperUp": 0.6, "browDown": 0.4, "eyeSquint": 0.5},
    {"cheekPuff": 0.8, "mouthPucker": 0.3},
    {"mouthStretch": 0.7, "browInnerUp": 0.4, "eyeWide": 0.5, "jawOpen": 0.2},
    {"jawOpen": 0.9, "mouthLowerDown": 0.3, "mouthUpperUp": 0.15},
    {"jawOpen": 0.6, "tongueOut": 0.8},
    {"eyeBlink": 1.0},
)
_VISEMES: tuple[dict[str, float], ...] = (
    {"jawOpen": 0.45, "mouthLowerDown": 0.25},
    {"jawOpen": 0.2, "mouthStretch": 0.4, "mouthSmile": 0.2, "mouthLowerDown": 0.25},
    {"jawOpen": 0.3, "mouthFunnel": 0.6},
    {"jawOpen": 0.12, "mouthPucker": 0.7, "mouthFunnel": 0.3},
    {"mouthClose": 0.1, "mouthPress": 0.35, "mouthRollUpper": 0.3, "mouthRollLower": 0.3},
    {"mouthRollLower": 0.5, "mouthUpperUp": 0.3, "jawOpen": 0.08},
    {"jawOpen": 0.15, "mouthUpperUp": 0.25, "mouthLowerDown": 0.3},
)
_SIDED = {name.removesuffix("Left") for name in ARKIT_BLENDSHAPES if name.endswith("Left") and opposite(name) != name}
_EYES_SPREAD = 0.35  # standard deviation of gaze, in units of a full look to the side


def sample_expression(generator: torch.Generator) -> Expression:
    """An expression with the head straight: calm, posed, talking, single extremes, with gaze and blinks.

    Sparse, correlated as faces are, left and right tied; one in twelve is a random extreme.
    """
    weights = torch.zeros(len(ARKIT_BLENDSHAPES))
    kind = _uniform(generator)
    if kind < 0.22:
        _add(weights, _pick(_POSED, generator), 0.25 * _uniform(generator), generator)
    elif kind < 0.55:
        _add(weights, _pick(_POSED, generator), 0.3 + 0.8 * _uniform(generator), generator)
        if _uniform(generator) < 0.3:
            _add(weights, _pick(_POSED, generator), 0.4 * _uniform(generator), generator)
    elif kind < 0.92:
        _add(weights, _pick(_VISEMES, generator), 0.4 + 0.7 * _uniform(generator), generator)
        _add(weights, _pick(_VISEMES, generator), 0.5 * _uniform(generator), generator)
        _add(weights, _pick(_POSED, generator), 0.35 * _uniform(generator), generator)
    else:
        for _ in range(3):
            name = ARKIT_BLENDSHAPES[int(torch.randint(len(ARKIT_BLENDSHAPES), (), generator=generator))]
            value = 0.5 + 0.5 * _uniform(generator)
            for side in {name, opposite(name)} if _uniform(generator) < 0.6 else {name}:
                weights[BLENDSHAPE_INDEX[side]] = value
    weights += (torch.rand(weights.shape, generator=generator) < 0.06) * 0.15 * _uniform(generator)
    _look(weights, generator)
    if _uniform(generator) < 0.08:
        for side in ("Left", "Right"):
            weights[BLENDSHAPE_INDEX["eyeBlink" + side]] = 0.3 + 0.7 * _uniform(generator)
    # Lids that are shut cannot be wide open, too.
    for side in ("Left", "Right"):
        weights[BLENDSHAPE_INDEX["eyeWide" + side]] *= 1 - weights[BLENDSHAPE_INDEX["eyeBlink" + side]].clamp(0, 1)
    return Expression(weights.clamp(0, 1), torch.eye(3))


def sample_head_rotation(generator: torch.Generator) -> Tensor:
    """Rotation [3, 3] of the head relative to the torso: mostly small, seldom up to what a neck can do."""
    spread = 0.35 if _uniform(generator) < 0.5 else 1.0
    yaw, pitch, roll = (spread * torch.randn(3, generator=generator) * torch.tensor([22.0, 11.0, 8.0])).tolist()
    return rotation_from_angles(_within(yaw, 60), _within(pitch, 28), _within(roll, 25))


def sample_camera(
    generator: torch.Generator, size: int = 256, front: float = 0.7, view_height: float = VIEW_HEIGHT
) -> Camera:
    """A camera of the canonical head anywhere around it, elevation -30..40 degrees.

    `front` is the share of cameras in the front hemisphere. Distance and aim vary by some percent.
    """
    ahead = _uniform(generator) < front
    yaw = 180 * (_uniform(generator) - 0.5) + (0 if ahead else 180)
    pitch = -30 + 70 * _uniform(generator) if _uniform(generator) < 0.5 else _within(10 * _normal(generator) + 3, 28)
    aim = [c + 0.012 * _normal(generator) for c in HEAD_CENTER]
    return Camera.orbit(
        yaw, pitch, size, view_height * (0.85 + 0.35 * _uniform(generator)), (aim[0], aim[1], aim[2]), FIELD_OF_VIEW
    )


def _add(weights: Tensor, parts: dict[str, float], amount: float, generator: torch.Generator) -> None:
    skew = 0.12 * _normal(generator)
    for name, value in parts.items():
        value = value * amount * (1 + 0.25 * _normal(generator))
        if name in _SIDED:
            weights[BLENDSHAPE_INDEX[name + "Left"]] += max(value * (1 + skew), 0)
            weights[BLENDSHAPE_INDEX[name + "Right"]] += max(value * (1 - skew), 0)
        else:
            weights[BLENDSHAPE_INDEX[name]] += max(value, 0)


def _look(weights: Tensor, generator: torch.Generator) -> None:
    """Both eyes to one point; looking down lowers the lids a little by itself in the rig."""
    aside, up = _EYES_SPREAD * _normal(generator), 0.7 * _EYES_SPREAD * _normal(generator)
    inward, outward = ("Left", "Right") if aside > 0 else ("Right", "Left")
    # Positive `aside` looks to the subject's right: the left eye inwards, the right eye outwards.
    weights[BLENDSHAPE_INDEX["eyeLookIn" + inward]] = abs(aside)
    weights[BLENDSHAPE_INDEX["eyeLookOut" + outward]] = abs(aside)
    for side in ("Left", "Right"):
        weights[BLENDSHAPE_INDEX["eyeLook" + ("Up" if up > 0 else "Down") + side]] = abs(up)


def _pick(choices: tuple[dict[str, float], ...], generator: torch.Generator) -> dict[str, float]:
    return choices[int(torch.randint(len(choices), (), generator=generator))]


def _uniform(generator: torch.Generator) -> float:
    return float(torch.rand((), generator=generator))


def _normal(generator: torch.Generator) -> float:
    return float(torch.randn((), generator=generator))


def _within(value: float, limit: float) -> float:
    """Soft clamp to +-limit."""
    return limit * math.tanh(value / limit)
