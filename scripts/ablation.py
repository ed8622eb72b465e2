"""Train flex-s without its parts, each for the same short budget, and measure what is lost: docs/ablation.md.

    python scripts/ablation.py RUNS --pool POOL            # trains and measures; goes on where it was stopped
    python scripts/ablation.py RUNS --pool POOL --only ours monocular

Needs the records of `flexavatar prepare`, and FLEXAVATAR_DATA for measuring.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

VARIANTS: dict[str, tuple[str, ...]] = {
    "ours": (),
    "monocular": ("stages.all.multiview=0.0", "bias_sinks=false"),  # with sinks, the one asked for was never trained
    "multi-view": ("stages.all.multiview=1.0",),
    "no bias sinks": ("bias_sinks=false",),
    "no StyleGAN path": ("model.styled=false",),
    "anchors at rest": ('model.anchors="rest"',),
    "no unwrapped queries": ('model.queries="points"',),
    "no skip": ("model.detail_channels=0",),
}
RIG, FITTED = "rig avatar", "ours, fitted"
ROWS = (RIG, *[name for name in VARIANTS if name != "ours"], "ours", FITTED)
SYNTHETIC, PORTRAITS = "synthetic", "portraits"


def command(*arguments: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "flexavatar", *map(str, arguments)], check=True)


def trained(name: str, runs: Path, pool: Path, config: str, budget: list[str]) -> Path:
    run = runs / name.replace(" ", "-").replace(",", "")
    changes = [argument for change in (*VARIANTS[name], *budget) for argument in ("--set", change)]
    command("train", run, "--config", config, "--pool", pool, *changes)
    return run / "model"


def measured(name: str, model: Path | None, quality: str, runs: Path, heads: int, count: int) -> dict[str, dict]:
    """The means of both evaluations, measured once."""
    found = {}
    portraits = Path(os.environ["FLEXAVATAR_DATA"]) / "portraits" / "val"
    for kind, what in (
        (SYNTHETIC, ("--synthetic", "--heads", heads)),
        (PORTRAITS, ("--portraits", portraits, "--count", count)),
    ):
        output = runs / "figures" / f"{name.replace(' ', '-').replace(',', '')}-{kind}.json"
        output.parent.mkdir(parents=True, exist_ok=True)
        if not output.exists():
            command("evaluate", *map(str, what), "--model", model or "rig", "--quality", quality, "-o", output)
        found[kind] = json.loads(output.read_text(encoding="utf-8"))["means"]
    return found


def table(figures: dict[str, dict[str, dict]]) -> list[str]:
    columns = (
        ("45°: PSNR", SYNTHETIC, "45", "psnr"),
        ("90°: PSNR", SYNTHETIC, "90", "psnr"),
        ("180°: PSNR", SYNTHETIC, "180", "psnr"),
        ("90°: IoU", SYNTHETIC, "90", "iou"),
        ("180°: IoU", SYNTHETIC, "180", "iou"),
        ("photo: PSNR", PORTRAITS, "input view", "psnr"),
        ("0°: CSIM", PORTRAITS, "0 degrees", "csim"),
        ("±30°: CSIM", PORTRAITS, "+-30 degrees", "csim"),
        ("AED", PORTRAITS, "cross-reenactment", "aed"),
    )
    lines = ["| | " + " | ".join(title for title, *_ in columns) + " |", "| --- |" + " ---: |" * len(columns)]
    for name, found in figures.items():
        values = [found[kind].get(group, {}).get(metric) for _, kind, group, metric in columns]
        cells = ["" if value is None else f"{value:.3f}" if abs(value) < 2 else f"{value:.2f}" for value in values]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--pool", type=Path, required=True)
    parser.add_argument("--config", default="ablation")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of every variant's training")
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--heads", type=int, default=16)
    parser.add_argument("--count", type=int, default=24, help="portraits")
    parser.add_argument("--output", type=Path, default=Path("docs/ablation.md"))
    args = parser.parse_args()
    args.runs.mkdir(parents=True, exist_ok=True)
    figures = {}
    for name in args.only:
        source = "ours" if name == FITTED else name
        model = None if name == RIG else trained(source, args.runs, args.pool, args.config, args.set)
        quality = "fast" if name == FITTED else "instant"
        figures[name] = measured(name, model, quality, args.runs, args.heads, args.count)
        print(f"{name} is measured", flush=True)
    text = [
        "# What each part is worth",
        "",
        f"{args.heads} held-out synthetic heads (views at 45, 90 and 180 degrees with new expressions; PSNR in dB over",
        f"the whole picture, matte IoU) and {args.count} held-out portraits (PSNR within the matte, CSIM of SFace, AED",
        "of cross-reenactment); each network trained for the same short time and not fitted, but for the last row (30",
        "steps of fitting). docs/evaluation.md explains the metrics.",
        "",
        *table(figures),
        "",
        f"Made by `{' '.join(['python', *sys.argv])}`.",
        "",
    ]
    args.output.write_text("\n".join(text), encoding="utf-8")


if __name__ == "__main__":
    main()
