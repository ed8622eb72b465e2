"""Measure how an avatar gains from more photos, on synthetic heads: docs/views.png and docs/views.md.

Needs the synthetic heads' assets (FLEXAVATAR_DATA) and matplotlib.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from flexavatar import Avatar
from flexavatar.camera import Camera
from flexavatar.reconstruction import DifferentPeople, NothingUsable, capture
from flexavatar.render import render
from flexavatar.rig import Rig
from flexavatar.synthetic import HeadAssets, SyntheticHead, SyntheticHeads
from flexavatar.tracking import FaceTracker

SIZE = 512  # pixels
BACKGROUND = (0.5, 0.5, 0.5)
CHIN = 152  # MediaPipe's landmark
PHOTO_YAWS = (0, 35, -35, 60, -55, 18, -18, 48)  # degrees, in the order in which photos are added
COUNTS = (1, 2, 4, 8)
HEADS, MEASURED_HEADS = 12, 8  # of so many eval heads, the first ones whose face is found in the first photo
HELD_OUT = ((-50, 0), (-25, 5), (10, -5), (27, 0), (50, 0), (80, 0))  # yaw, pitch


def aligned(camera: Camera, avatar: Avatar, head: SyntheticHead) -> Camera:
    """The camera that sees the avatar where `camera` sees the head: scale and place cannot be known from photos."""
    rig = Rig.load()
    own = rig.landmarks(rig.pose(avatar.shape, avatar.neutral_blendshapes)).double()
    true = rig.landmarks(head.vertices()).double()
    weight = rig.landmark_weights.double()[:, None] / rig.landmark_weights.double().sum()
    own_middle, true_middle = (weight * own).sum(0), (weight * true).sum(0)
    u, spread, vh = torch.linalg.svd((weight * (true - true_middle)).T @ (own - own_middle))
    scale = spread.sum() / (weight * (own - own_middle) ** 2).sum()
    rotation = u @ vh
    old = camera.world_to_camera.double()
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3] = old[:3, :3] @ rotation
    moved = true_middle - scale * rotation @ own_middle
    matrix[:3, 3] = (old[:3, :3] @ moved + old[:3, 3]) / scale
    return Camera(matrix.float(), camera.intrinsics, camera.width, camera.height)


def head_psnr(avatar: Avatar, head: SyntheticHead, yaw: float, pitch: float) -> float:
    """PSNR in dB over the head's pixels above the chin, hair included."""
    camera = Camera.orbit(yaw, pitch, SIZE)
    truth = head.render(camera, None, BACKGROUND)
    drawn = render(avatar.gaussians(), aligned(camera, avatar, head), BACKGROUND).rgb.clamp(0, 1)
    inside = truth.alpha[0].clone()
    chin = float(camera.project(Rig.load().landmarks(head.vertices()))[0][CHIN, 1])
    inside[round(chin) :] = 0
    squared = (drawn - truth.rgb.clamp(0, 1)).square().mean(0)
    return -10 * math.log10(float((squared * inside).sum() / inside.sum()))


def photo(head: SyntheticHead, yaw: float) -> np.ndarray:
    rgb = head.render(Camera.orbit(yaw, 0, SIZE), None, BACKGROUND).rgb.clamp(0, 1)
    return (rgb * 255 + 0.5).to(torch.uint8).permute(1, 2, 0).numpy()


def measured(numbers: Iterable[int], count: int) -> dict[int, list[float]]:
    """PSNR by the number of photos of the first `count` heads whose face is found in the first photo."""
    heads = SyntheticHeads(HeadAssets.load(), split="eval")
    rows: dict[int, list[float]] = {}
    with FaceTracker() as tracker:
        for number in numbers:
            if len(rows) == count:
                break
            head = heads[number]
            photos = [photo(head, yaw) for yaw in PHOTO_YAWS]
            row = []
            for given in COUNTS:
                try:
                    avatar = capture(photos[:given], tracker=tracker).avatar
                except (NothingUsable, DifferentPeople) as error:
                    print(f"head {number} is left out: {error}")
                    break
                row.append(float(np.mean([head_psnr(avatar, head, yaw, pitch) for yaw, pitch in HELD_OUT])))
            if len(row) == len(COUNTS):
                rows[number] = row
                print(number, [round(value, 2) for value in row], flush=True)
    return rows


def main() -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--heads", type=int, nargs="+", default=list(range(HEADS)), help="numbers of eval heads")
    parser.add_argument("--count", type=int, default=MEASURED_HEADS, help="heads to measure")
    parser.add_argument("--folder", type=Path, default=Path("docs"))
    args = parser.parse_args()
    rows = measured(args.heads, args.count)
    if not rows:
        raise SystemExit("No head could be measured.")
    mean = np.mean(list(rows.values()), axis=0)
    figure, axes = pyplot.subplots(figsize=(5, 3.4), layout="constrained")
    for values in rows.values():
        axes.plot(COUNTS, np.array(values) - values[0], color="0.75", linewidth=1)
    axes.plot(COUNTS, mean - mean[0], color="black", marker="o", label=f"mean of {len(rows)} heads")
    axes.set(xlabel="photos given", ylabel="gain in PSNR over one photo, dB", xticks=COUNTS)
    axes.legend(frameon=False)
    figure.savefig(args.folder / "views.png", dpi=150)
    lines = [
        "# What more photos are worth",
        "",
        f"Rig avatars of {len(rows)} synthetic heads that nobody picked (`scripts/plot_views.py`: the first of the"
        f" evaluation heads 0 to {HEADS - 1}",
        "whose face is found in the first photo), seen from six directions that no photo shows: PSNR in dB over the"
        " head above the",
        "chin, hair included, after aligning scale and place. Photos are added at yaws of "
        + ", ".join(str(yaw) for yaw in PHOTO_YAWS)
        + " degrees; those in which no face",
        "is found (often the one at 60) are left out by the capture, as they are for users.",
        "",
        "How far hair stands off is told by the silhouette: of one photo above and beside the head, of more of them all"
        " round.",
        "",
        "![Gain over one photo against the number of photos](views.png)",
        "",
        "| head | " + " | ".join(f"{n} photo" + "s" * (n > 1) for n in COUNTS) + " |",
        "| --- |" + " ---: |" * len(COUNTS),
        *(f"| {head} | " + " | ".join(f"{v:.2f}" for v in values) + " |" for head, values in rows.items()),
        "| mean | " + " | ".join(f"{v:.2f}" for v in mean) + " |",
        "",
    ]
    (args.folder / "views.md").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
