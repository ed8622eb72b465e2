"""Author the built-in driving clips: `python scripts/author_clips.py [FOLDER]`.

Every clip is a set of ARKit curves drawn by eased keys, plus what keeps a face alive: blinks, small eye movements, a
head that never stands quite still, sides that differ a little. The same numbers come out on every run.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from flexavatar.expression import ARKIT_BLENDSHAPES, BLENDSHAPE_INDEX
from flexavatar.motion import Motion, write_motion
from flexavatar.motion.files import CLIP_FPS, clip_path
from flexavatar.rotations import from_angles

Keys = list[tuple[float, float]]  # (second, value)

# Mouth poses of speech, by the sound they belong to.
VISEMES: dict[str, dict[str, float]] = {
    "-": {},
    "a": {"jawOpen": 0.62, "mouthLowerDown": 0.35, "mouthUpperUp": 0.2},
    "e": {"jawOpen": 0.4, "mouthStretch": 0.3, "mouthSmile": 0.2, "mouthLowerDown": 0.35, "mouthUpperUp": 0.15},
    "i": {"jawOpen": 0.2, "mouthSmile": 0.4, "mouthStretch": 0.3, "mouthLowerDown": 0.35, "mouthUpperUp": 0.2},
    "o": {"jawOpen": 0.48, "mouthFunnel": 0.6, "mouthPucker": 0.35},
    "u": {"jawOpen": 0.2, "mouthPucker": 0.9, "mouthFunnel": 0.45},
    "m": {"mouthPress": 0.4, "mouthRollLower": 0.35, "mouthRollUpper": 0.25},
    "f": {"jawOpen": 0.1, "mouthRollLower": 0.6, "mouthUpperUp": 0.35},
    "l": {"jawOpen": 0.34, "mouthLowerDown": 0.3},
    "s": {"jawOpen": 0.1, "mouthStretch": 0.28, "mouthLowerDown": 0.35, "mouthUpperUp": 0.2},
    "r": {"jawOpen": 0.22, "mouthPucker": 0.5, "mouthFunnel": 0.4},
}
SIDED = ("mouthLowerDown", "mouthUpperUp", "mouthStretch", "mouthSmile", "mouthPress")
# Hello, nice to meet you. ... So this is what I look like. (second, sound, stress)
SENTENCE = [
    (0.25, "-", 1.0), (0.45, "e", 0.8), (0.56, "l", 0.8), (0.74, "o", 1.0), (0.95, "-", 0.6), (1.10, "s", 0.7),
    (1.24, "a", 1.0), (1.40, "i", 0.8), (1.52, "s", 0.9), (1.62, "u", 0.6), (1.72, "m", 1.0), (1.86, "i", 1.0),
    (1.98, "s", 0.8), (2.14, "u", 1.0), (2.36, "-", 0.8), (2.75, "-", 1.0), (2.90, "s", 0.8), (3.04, "o", 0.9),
    (3.18, "s", 0.8), (3.28, "i", 0.8), (3.38, "s", 0.8), (3.48, "i", 0.7), (3.60, "s", 0.8), (3.72, "u", 0.9),
    (3.84, "a", 0.9), (3.94, "s", 0.8), (4.06, "a", 1.1), (4.20, "i", 0.8), (4.32, "l", 0.9), (4.46, "u", 1.1),
    (4.60, "s", 0.5), (4.74, "l", 0.8), (4.88, "a", 1.0), (5.00, "i", 0.8), (5.12, "s", 0.7), (5.32, "-", 1.0),
]  # fmt: skip


class Author:
    """The curves of one clip under construction."""

    def __init__(self, seconds: float, seed: int) -> None:
        self.seconds = seconds
        self.times = np.arange(round(seconds * CLIP_FPS)) / CLIP_FPS
        self._curves = {name: np.zeros_like(self.times) for name in ARKIT_BLENDSHAPES}
        self._angles = {name: np.zeros_like(self.times) for name in ("yaw", "pitch", "roll")}
        self._random = np.random.default_rng(seed)

    def add(self, name: str, values: np.ndarray) -> None:
        self._curves[name] = self._curves[name] + values

    def key(self, name: str, keys: Keys) -> None:
        """One curve through eased keys."""
        self.add(name, eased(self.times, keys))

    def both(self, name: str, keys: Keys, right: float = 0.92, delay: float = 0.02) -> None:
        """A pair of curves; the right side does a little less, a little later."""
        self.key(name + "Left", keys)
        self.key(name + "Right", [(time + delay, right * value) for time, value in keys])

    def turn(self, angle: str, keys: Keys) -> None:
        """Degrees of yaw (positive to the subject's left), pitch (down) or roll (to the subject's right)."""
        self._angles[angle] = self._angles[angle] + eased(self.times, keys)

    def blink(self, *starts: float) -> None:
        """Both lids fall in 80 ms, stay for a moment and rise in 200 ms; the brows give in a little."""
        for start in starts:
            keys = [(start, 0.0), (start + 0.08, 1.0), (start + 0.13, 1.0), (start + 0.21, 0.45), (start + 0.33, 0.0)]
            lid = eased(self.times, keys)
            for side, lag in (("Left", 0), ("Right", 0)):
                name = "eyeBlink" + side
                self._curves[name] = np.maximum(self._curves[name], np.roll(lid, lag))
            self.both("browDown", [(time, 0.08 * value) for time, value in keys])

    def gaze(self, horizontal: Keys, vertical: Keys) -> None:
        """Where the eyes look in the head, -1..1: positive to the subject's left, and up. Eyes jump."""
        x, y = jumps(self.times, horizontal), jumps(self.times, vertical)
        for side, inwards in (("Left", -x), ("Right", x)):
            self.add("eyeLookIn" + side, inwards.clip(0))
            self.add("eyeLookOut" + side, (-inwards).clip(0))
            self.add("eyeLookUp" + side, y.clip(0))
            self.add("eyeLookDown" + side, (-y).clip(0))
            self.add("eyeBlink" + side, 0.22 * (-y).clip(0))  # the upper lid goes down with the eye

    def live(self, sway: float = 1.0) -> None:
        """Small movements of the head, the eyes and the brows, from and to stillness."""
        window = np.minimum(1, np.minimum(self.times, self.seconds - self.times) / 0.4)
        for angle, degrees in (("yaw", 1.3), ("pitch", 0.9), ("roll", 0.8)):
            self._angles[angle] = self._angles[angle] + sway * degrees * window * self._drift()
        looks = [(time, float(self._random.normal(0, 0.035))) for time in np.arange(0.3, self.seconds - 0.3, 0.7)]
        ups = [(time, float(self._random.normal(0, 0.025))) for time, _ in looks]
        self.gaze([(0, 0), *looks, (self.seconds - 0.2, 0)], [(0, 0), *ups, (self.seconds - 0.2, 0)])
        for name, most in (("browInnerUp", 0.05), ("mouthLeft", 0.03), ("mouthSmileLeft", 0.03)):
            self.add(name, most * window * self._drift().clip(0))

    def motion(self) -> Motion:
        shapes = torch.zeros(len(self.times), len(ARKIT_BLENDSHAPES))
        for name, values in self._curves.items():
            shapes[:, BLENDSHAPE_INDEX[name]] = torch.from_numpy(values).float().clamp(0, 1)
        turns = [torch.from_numpy(self._angles[name]).float() for name in ("yaw", "pitch", "roll")]
        return Motion(shapes, from_angles(*turns), CLIP_FPS)

    def _drift(self) -> np.ndarray:
        """A slow, smooth, irregular curve of about -1..1."""
        waves = [(0.17, 0.6), (0.41, 0.4), (0.83, 0.2)]
        phases = self._random.uniform(0, 2 * math.pi, len(waves))
        drift = np.zeros_like(self.times)
        for (frequency, size), phase in zip(waves, phases, strict=True):
            drift += size * np.sin(2 * math.pi * frequency * self.times + phase)
        return drift


def eased(times: np.ndarray, keys: Keys) -> np.ndarray:
    """Values at `times` between keys; speed is zero at every key."""
    at, values = np.array([k[0] for k in keys]), np.array([k[1] for k in keys])
    after = np.searchsorted(at, times, side="right").clip(1, len(at) - 1)
    share = ((times - at[after - 1]) / (at[after] - at[after - 1])).clip(0, 1)
    return values[after - 1] + share * share * (3 - 2 * share) * (values[after] - values[after - 1])


def jumps(times: np.ndarray, keys: Keys) -> np.ndarray:
    """Values at `times` that stay until the next key and get there within 70 ms."""
    stepped: Keys = [keys[0]]
    for time, value in keys[1:]:
        stepped += [(time, stepped[-1][1]), (time + 0.07, value)]
    return eased(times, stepped)


def talk() -> Author:
    author = Author(6.0, 1)
    poses = np.zeros((len(author.times), len(ARKIT_BLENDSHAPES)))
    total = np.full(len(author.times), 1e-6)
    for time, sound, stress in [(0.0, "-", 1.0), *SENTENCE, (6.0, "-", 1.0)]:
        # Neighbouring sounds blend into each other; closed lips are short and win.
        width = 0.035 if sound == "m" else 0.12 if sound == "-" else 0.055
        weight = (2.5 if sound == "m" else 1.0) * np.exp(-(((author.times - time) / width) ** 2) / 2)
        total += weight
        for name, value in VISEMES[sound].items():
            for side, part in (("Left", 1.0), ("Right", 0.9)) if name in SIDED else (("", 1.0),):
                poses[:, BLENDSHAPE_INDEX[name + side]] += weight * value * stress * part
    for name, index in BLENDSHAPE_INDEX.items():
        author.add(name, poses[:, index] / total)
    author.both(
        "mouthSmile", [(0, 0), (0.5, 0.14), (1.3, 0.08), (2.3, 0.26), (2.8, 0.1), (5.2, 0.1), (5.5, 0.3), (6, 0)]
    )
    author.both("cheekSquint", [(1.9, 0), (2.3, 0.2), (2.8, 0), (5.2, 0), (5.5, 0.25), (6, 0)])
    author.key(
        "browInnerUp", [(0.3, 0), (0.55, 0.35), (1.0, 0.05), (1.25, 0.2), (1.9, 0), (3.9, 0), (4.1, 0.4), (4.7, 0)]
    )
    author.both("browOuterUp", [(0.3, 0), (0.55, 0.25), (1.0, 0), (3.9, 0), (4.1, 0.3), (4.7, 0)], right=0.7)
    author.turn("pitch", [(0.2, 0), (0.5, -3), (0.8, 3), (1.2, 0), (1.3, 2.5), (1.7, 0), (2.1, 3), (2.6, 0), (3.0, -1),
                          (3.9, 0), (4.1, 4), (4.5, 0), (4.9, 3), (5.4, -1), (6, 0)])  # fmt: skip
    author.turn("yaw", [(0, 0), (0.6, 3), (1.5, -2), (2.4, -4), (2.9, -4), (3.6, 4), (4.8, 2), (5.5, 0), (6, 0)])
    author.turn("roll", [(0, 0), (1.2, 1.5), (2.3, 4), (3.2, -1), (4.3, -2.5), (5.4, 2), (6, 0)])
    author.gaze([(0, 0), (2.55, -0.3), (2.95, 0.0)], [(0, 0), (2.55, 0.2), (2.95, 0.0)])
    author.blink(0.15, 2.5, 4.62, 5.5)
    author.live()
    return author


def laugh() -> Author:
    author = Author(4.5, 2)
    author.both("mouthSmile", [(0.1, 0), (0.5, 0.55), (0.8, 0.9), (2.6, 0.8), (3.5, 0.4), (4.4, 0)], right=0.9)
    author.both("cheekSquint", [(0.2, 0), (0.8, 0.8), (2.6, 0.6), (3.5, 0.2), (4.3, 0)])
    author.both("eyeSquint", [(0.2, 0), (0.8, 0.6), (2.6, 0.45), (3.5, 0.1), (4.2, 0)])
    author.both("eyeBlink", [(0.5, 0), (0.9, 0.3), (1.6, 0.45), (2.4, 0.25), (3.0, 0)])
    author.both("mouthUpperUp", [(0.5, 0), (0.9, 0.3), (2.4, 0.25), (3.0, 0)])
    author.both("mouthLowerDown", [(0.5, 0), (0.9, 0.25), (2.4, 0.2), (3.0, 0)])
    author.both("noseSneer", [(0.5, 0), (0.9, 0.25), (2.2, 0.15), (2.9, 0)], right=0.7)
    author.both("mouthDimple", [(0.2, 0), (0.8, 0.3), (3.4, 0.2), (4.3, 0)])
    author.key("browInnerUp", [(0.3, 0), (0.7, 0.3), (1.3, 0.1), (2.2, 0.25), (3.2, 0)])
    beats = [0.75, 0.97, 1.18, 1.39, 1.61, 1.84, 2.08, 2.34]
    heights = [0.45, 0.55, 0.52, 0.5, 0.42, 0.36, 0.28, 0.2]
    jaw: Keys = [(0.55, 0.0)]
    nod: Keys = [(0.55, 0.0)]
    for beat, height in zip(beats, heights, strict=True):
        jaw += [(beat, height), (beat + 0.11, 0.45 * height)]
        nod += [(beat, 2.6 * height), (beat + 0.11, -1.6 * height)]
    author.key("jawOpen", [*jaw, (2.8, 0.04), (3.3, 0)])
    author.turn("pitch", [*nod, (2.8, 0)])
    author.turn("pitch", [(0.3, 0), (1.0, -7), (1.7, -6), (2.4, 3), (3.1, 4), (4.2, 0)])
    author.turn("roll", [(0.3, 0), (1.1, 4), (2.0, -2), (3.0, 2), (4.3, 0)])
    author.turn("yaw", [(0.5, 0), (1.4, 5), (2.5, -3), (3.4, 0)])
    author.gaze([(0, 0), (2.3, 0.25), (2.95, 0)], [(0, 0), (2.3, -0.3), (2.95, 0)])
    author.blink(0.3, 2.9, 3.75)
    author.live(0.8)
    return author


def surprise() -> Author:
    author = Author(4.0, 3)
    author.key("browInnerUp", [(0.7, 0), (0.9, 0.95), (2.0, 0.8), (2.7, 0.2), (3.6, 0)])
    author.both("browOuterUp", [(0.7, 0), (0.92, 0.9), (2.0, 0.7), (2.7, 0.1), (3.4, 0)], right=0.85)
    author.both("eyeWide", [(0.68, 0), (0.85, 0.9), (1.9, 0.65), (2.4, 0)])
    author.key("jawOpen", [(0.75, 0), (1.0, 0.65), (1.35, 0.52), (2.0, 0.38), (2.5, 0.06), (3.0, 0)])
    author.key("mouthFunnel", [(0.8, 0), (1.1, 0.25), (2.0, 0.15), (2.5, 0)])
    author.both("mouthSmile", [(2.0, 0), (2.7, 0.55), (3.2, 0.45), (3.9, 0)], right=0.85)
    author.both("cheekSquint", [(2.2, 0), (2.8, 0.4), (3.9, 0)])
    author.both("mouthUpperUp", [(2.2, 0), (2.7, 0.15), (3.3, 0)])
    author.turn("pitch", [(0.7, 0), (0.95, -7), (1.3, -5), (2.1, -3), (2.7, 3), (3.8, 0)])
    author.turn("yaw", [(0.7, 0), (1.0, -2), (2.0, -3), (2.8, 2), (3.8, 0)])
    author.turn("roll", [(2.1, 0), (2.8, 4), (3.9, 0)])
    author.blink(0.45, 2.05, 2.45, 3.5)
    author.live(0.7)
    return author


def look_around() -> Author:
    author = Author(6.5, 4)
    # The eyes go first; while the head follows they turn back in it and keep the target.
    author.gaze(
        [(0, 0), (0.4, 0.65), (0.6, 0.5), (0.75, 0.3), (1.6, -0.65), (1.85, -0.45), (2.1, -0.3), (3.1, 0.1),
         (4.2, 0.15), (5.2, 0)],
        [(0, 0), (0.4, 0.08), (1.6, 0.0), (3.1, 0.6), (3.35, 0.4), (4.2, -0.6), (4.45, -0.4), (5.2, 0)],
    )  # fmt: skip
    author.turn(
        "yaw", [(0.45, 0), (1.0, 17), (1.6, 18), (2.4, -19), (3.1, -20), (3.7, 2), (4.2, 3), (5.2, 4), (5.9, 0)]
    )
    author.turn("pitch", [(0.5, 0), (1.0, 1), (3.15, 0), (3.7, -10), (4.2, -10), (4.9, 9), (5.2, 9), (5.9, 0)])
    author.turn("roll", [(0.5, 0), (1.1, -3), (1.7, -2), (2.4, 3), (3.1, 2), (3.8, -1), (5.2, 1), (6, 0)])
    author.key("browInnerUp", [(3.05, 0), (3.4, 0.4), (4.2, 0.3), (4.5, 0)])
    author.both("browOuterUp", [(3.05, 0), (3.4, 0.3), (4.2, 0.25), (4.5, 0)], right=0.8)
    author.both("browDown", [(4.3, 0), (4.7, 0.2), (5.3, 0)])
    author.key("mouthLeft", [(0.7, 0), (1.2, 0.12), (1.7, 0)])
    author.key("mouthPucker", [(2.3, 0), (2.7, 0.15), (3.2, 0)])
    author.both("mouthSmile", [(5.2, 0), (5.7, 0.3), (6.4, 0)])
    author.blink(0.38, 1.6, 3.08, 4.25, 5.2)
    author.live(0.5)
    return author


def wink() -> Author:
    author = Author(3.5, 5)
    author.key("mouthSmileLeft", [(0.5, 0), (1.1, 0.7), (1.9, 0.65), (2.6, 0.3), (3.4, 0)])
    author.key("mouthSmileRight", [(0.6, 0), (1.2, 0.35), (1.9, 0.35), (2.6, 0.2), (3.4, 0)])
    author.key("mouthDimpleLeft", [(0.7, 0), (1.15, 0.35), (1.9, 0.3), (2.7, 0)])
    author.key("mouthLeft", [(0.8, 0), (1.2, 0.15), (2.0, 0)])
    author.key("eyeBlinkLeft", [(1.05, 0), (1.2, 1.0), (1.5, 1.0), (1.72, 0.15), (1.95, 0)])
    author.key("cheekSquintLeft", [(0.9, 0), (1.2, 0.85), (1.5, 0.85), (2.0, 0.25), (2.8, 0)])
    author.key("eyeSquintLeft", [(0.95, 0), (1.2, 0.6), (1.5, 0.6), (1.9, 0.1), (2.5, 0)])
    author.key("browDownLeft", [(1.0, 0), (1.2, 0.35), (1.5, 0.35), (1.8, 0)])
    author.key("eyeSquintRight", [(1.05, 0), (1.25, 0.15), (1.5, 0.15), (1.8, 0)])
    author.key("browOuterUpRight", [(1.6, 0), (1.9, 0.45), (2.3, 0.3), (2.8, 0)])
    author.key("browInnerUp", [(1.6, 0), (1.9, 0.25), (2.7, 0)])
    author.turn("roll", [(0.5, 0), (1.2, -6), (1.7, -5), (2.3, 1), (3.2, 0)])
    author.turn("yaw", [(0.5, 0), (1.2, -5), (1.8, -4), (2.8, 0)])
    author.turn("pitch", [(0.9, 0), (1.25, 4), (1.7, -2), (2.5, 0)])
    author.blink(0.35, 2.6)
    author.live(0.8)
    return author


CLIPS: dict[str, Callable[[], Author]] = {
    "talk": talk, "laugh": laugh, "surprise": surprise, "look_around": look_around, "wink": wink
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="Author the built-in driving clips.")
    parser.add_argument("folder", nargs="?", type=Path, help="where to write (default: the package)")
    folder = parser.parse_args().folder or clip_path("talk").parent
    for name, author in CLIPS.items():
        write_motion(folder / f"{name}.csv", author().motion())


if __name__ == "__main__":
    main()
