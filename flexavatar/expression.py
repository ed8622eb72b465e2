"""Expressions: 52 ARKit blendshape weights and the head's rotation relative to the torso."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from flexavatar.rotations import decode_rotation_6d

# Apple's ARFaceAnchor.BlendShapeLocation, in the order of its documentation. Left is the subject's left.
ARKIT_BLENDSHAPES: tuple[str, ...] = (
    "eyeBlinkLeft", "eyeLookDownLeft", "eyeLookInLeft", "eyeLookOutLeft", "eyeLookUpLeft", "eyeSquintLeft",
    "eyeWideLeft", "eyeBlinkRight", "eyeLookDownRight", "eyeLookInRight", "eyeLookOutRight", "eyeLookUpRight",
    "eyeSquintRight", "eyeWideRight", "jawForward", "jawLeft", "jawRight", "jawOpen", "mouthClose",
    "mouthFunnel", "mouthPucker", "mouthLeft", "mouthRight", "mouthSmileLeft", "mouthSmileRight",
    "mouthFrownLeft", "mouthFrownRight", "mouthDimpleLeft", "mouthDimpleRight", "mouthStretchLeft",
    "mouthStretchRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper",
    "mouthPressLeft", "mouthPressRight", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthUpperUpLeft",
    "mouthUpperUpRight", "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft",
    "browOuterUpRight", "cheekPuff", "cheekSquintLeft", "cheekSquintRight", "noseSneerLeft",
    "noseSneerRight", "tongueOut",
)  # fmt: skip
BLENDSHAPE_INDEX: dict[str, int] = {name: i for i, name in enumerate(ARKIT_BLENDSHAPES)}
BLINKS = [BLENDSHAPE_INDEX["eyeBlinkLeft"], BLENDSHAPE_INDEX["eyeBlinkRight"]]
NEUTRAL_SHAPES = (
    "mouthRollLower", "mouthRollUpper", "mouthPressLeft", "mouthPressRight", "mouthShrugLower", "mouthShrugUpper",
    "mouthFrownLeft", "mouthFrownRight", "mouthLeft", "mouthRight", "mouthPucker", "browDownLeft", "browDownRight",
    "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff", "eyeSquintLeft", "eyeSquintRight",
)  # fmt: skip
MAX_NEUTRAL = 0.6  # what of a resting shape may be anatomy
PRESETS: dict[str, dict[str, float]] = {
    "neutral": {},
    "smile": {
        "mouthSmileLeft": 0.8, "mouthSmileRight": 0.8, "cheekSquintLeft": 0.5, "cheekSquintRight": 0.5,
        "eyeSquintLeft": 0.25, "eyeSquintRight": 0.25, "mouthUpperUpLeft": 0.2, "mouthUpperUpRight": 0.2,
    },
    "open mouth": {"jawOpen": 0.8, "mouthLowerDownLeft": 0.2, "mouthLowerDownRight": 0.2},
    "blink": {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0},
    "wink": {"eyeBlinkLeft": 1.0, "cheekSquintLeft": 0.6, "mouthSmileLeft": 0.6, "mouthSmileRight": 0.25},
    "surprise": {
        "browInnerUp": 0.9, "browOuterUpLeft": 0.9, "browOuterUpRight": 0.9, "eyeWideLeft": 0.8,
        "eyeWideRight": 0.8, "jawOpen": 0.45, "mouthFunnel": 0.2,
    },
    "angry": {
        "browDownLeft": 1.0, "browDownRight": 1.0, "noseSneerLeft": 0.5, "noseSneerRight": 0.5,
        "mouthPressLeft": 0.6, "mouthPressRight": 0.6, "eyeSquintLeft": 0.4, "eyeSquintRight": 0.4,
    },
    "sad": {
        "browInnerUp": 0.9, "mouthFrownLeft": 0.8, "mouthFrownRight": 0.8, "mouthShrugLower": 0.4,
        "eyeLookDownLeft": 0.3, "eyeLookDownRight": 0.3,
    },
    "kiss": {"mouthPucker": 0.9, "mouthFunnel": 0.2},
}  # fmt: skip


def opposite(name: str) -> str:
    """The blendshape of the other side; the same name for one that has no side."""
    for side, other in (("Left", "Right"), ("Right", "Left")):
        if name.endswith(side):
            return name.removesuffix(side) + other
    return name


@dataclass(frozen=True)
class Expression:
    """One expression or a batch of them: the code z of the paper for `flex-s` (52 + 6 numbers)."""

    blendshapes: Tensor  # [..., 52] 0..1, in the order of ARKIT_BLENDSHAPES
    head_rotation: Tensor  # [..., 3, 3] head relative to torso; identity = facing straight ahead

    @staticmethod
    def neutral() -> Expression:
        """The face at rest, looking straight ahead."""
        return Expression(torch.zeros(len(ARKIT_BLENDSHAPES)), torch.eye(3))

    @staticmethod
    def of(weights: Mapping[str, float] | str, head_rotation: Tensor | None = None) -> Expression:
        """From named weights, or the name of a preset. Raises ValueError for a name that ARKit has not."""
        if isinstance(weights, str):
            if weights not in PRESETS:
                raise ValueError(f"No preset expression {weights!r}; choose one of {', '.join(PRESETS)}.")
            weights = PRESETS[weights]
        unknown = sorted(set(weights) - set(ARKIT_BLENDSHAPES))
        if unknown:
            raise ValueError(f"Unknown blendshapes {', '.join(unknown)}; ARKit's names look like 'jawOpen'.")
        values = torch.zeros(len(ARKIT_BLENDSHAPES))
        for name, weight in weights.items():
            values[BLENDSHAPE_INDEX[name]] = float(weight)
        return Expression(values.clamp(0, 1), torch.eye(3) if head_rotation is None else head_rotation)

    def code(self) -> Tensor:
        """The 58-dim expression code [..., 58]: blendshapes, then the first two rows of the rotation (6D)."""
        return torch.cat([self.blendshapes, self.head_rotation[..., :2, :].flatten(-2)], -1)

    @staticmethod
    def from_code(code: Tensor) -> Expression:
        """The inverse of `code`; a 6D rotation that is not orthonormal is made so."""
        n = len(ARKIT_BLENDSHAPES)
        return Expression(code[..., :n], decode_rotation_6d(code[..., n:]))

    def to(self, device: torch.device | str | None = None) -> Expression:
        """The same expression on another device."""
        return Expression(self.blendshapes.to(device), self.head_rotation.to(device))


def with_neutral(blendshapes: Tensor, neutral: Tensor) -> Tensor:
    """Blendshapes e + n (1 - e) [..., 52] of a face with neutral blendshapes n [52] in an expression e [..., 52].

    The neutral ones fade as an expression takes their place, so that a full weight still means a full deformation.
    """
    return blendshapes + neutral * (1 - blendshapes)


def neutral_of(blendshapes: Tensor) -> Tensor:
    """The part [52] of a photo's blendshapes [52] that belongs to the person rather than to the moment.

    From one photo nobody can tell thin lips from lips rolled in. Taking these ambiguous shapes for the
    person keeps the look of the photo; open jaws, smiles and closed eyes are taken for the moment.
    """
    neutral = torch.zeros_like(blendshapes, dtype=torch.float32)
    for name in NEUTRAL_SHAPES:
        index = BLENDSHAPE_INDEX[name]
        neutral[index] = float(blendshapes[index].clamp(0, MAX_NEUTRAL))
    return neutral


def above_neutral(blendshapes: Tensor, neutral: Tensor) -> Tensor:
    """The expression (b - n) / (1 - n) [..., 52] that on top of neutral blendshapes n [52] gives tracked ones b.

    `Avatar.gaussians` mixes these into every expression, so what was tracked must not hold them a second time.
    """
    return ((blendshapes - neutral) / (1 - neutral)).clamp(0, 1)
