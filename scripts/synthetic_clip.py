"""Write a clip of a synthetic head that talks, for `flexavatar evaluate --video`: nobody's face, and a known motion.

Needs the synthetic heads' assets (FLEXAVATAR_DATA).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from flexavatar.camera import Camera
from flexavatar.evaluation.faces import as_pixels
from flexavatar.io import write_video
from flexavatar.motion import CLIP_NAMES, Motion, load_clip
from flexavatar.rig.rig import head_motion
from flexavatar.synthetic import HeadAssets, SyntheticHead, SyntheticHeads

BACKGROUND = (0.62, 0.66, 0.7)


def pictures(head: SyntheticHead, motion: Motion, size: int) -> Iterator[np.ndarray]:
    """Frames uint8 [size, size, 3]."""
    for expression in motion.expressions():
        camera = Camera.orbit(0, 0, size).with_head_motion(head_motion(expression.head_rotation))
        with torch.inference_mode():
            yield as_pixels(head.render(camera, expression, BACKGROUND).rgb)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.mp4")
    parser.add_argument("--head", type=int, default=6, help='number of the head in the "eval" split (default: 6)')
    parser.add_argument("--clip", choices=CLIP_NAMES, default="talk")
    parser.add_argument("--size", type=int, default=384, help="pixels")
    args = parser.parse_args()
    head = SyntheticHeads(HeadAssets.load(), "eval")[args.head]
    motion = load_clip(args.clip).resampled(15.0)
    write_video(args.output, pictures(head, motion, args.size), motion.fps)


if __name__ == "__main__":
    main()
