"""Trains networks on a CUDA GPU that is there for minutes: all cores make records from the first second, and every
network learns from the growing pool, its schedule dealt out over the time.

usage: python scripts/train_in_minutes.py OUT --minutes 10 [--portraits FOLDER] [--run NAME[:MODEL] ...]

A run is a preset's name, with a MODEL folder to start from. Needs FLEXAVATAR_DATA. Leaves OUT/NAME/model, its log and
sheets; called again with more minutes it goes on from OUT.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

CHECKS = 16  # held-out heads


def flexavatar(log: Path, *arguments: str | Path, niceness: int = 0) -> subprocess.Popen[bytes]:
    """The trainers only feed the GPU, and must not wait for a core: what makes records is nicer than they are."""
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "flexavatar", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=log.open("ab"), stderr=subprocess.STDOUT, preexec_fn=lambda: os.nice(niceness)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, required=True, help="from start to end")
    parser.add_argument("--portraits", type=Path, help="photos of one face each")
    parser.add_argument("--run", action="append", default=[], metavar="NAME[:MODEL]", help="default: gpu")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of every run's configuration")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 1) - 2))
    given = parser.parse_args()
    started = time.monotonic()
    left = lambda: given.minutes - (time.monotonic() - started) / 60  # noqa: E731
    out, pool, check = given.out, given.out / "pool", given.out / "check"

    kinds = [("heads", "--synthetic", "1000000", given.workers)]
    if given.portraits:
        kinds.append(("portraits", "--portraits", given.portraits, max(1, given.workers // 4)))
    making = [
        flexavatar(out / f"{name}.log", "prepare", pool, kind, what, "--workers", str(workers), niceness=5)
        for name, kind, what, workers in kinds
    ]
    try:
        checking = flexavatar(
            out / "check.log", "prepare", check, "--synthetic", str(CHECKS), "--split", "eval", "--workers", "3"
        )
        if checking.wait():
            sys.exit(f"The records for checks were not made; see {out / 'check.log'}.")
        print(f"checks ready after {60 * (given.minutes - left()):.0f} s", flush=True)
        training = []
        for run in given.run or ["gpu"]:
            name, _, model = run.partition(":")
            options = [part for change in given.set for part in ("--set", change)]
            options += ["--init", model] if model and not (out / name / "state").is_dir() else []
            training.append(
                flexavatar(
                    out / f"{name}.log", "train", out / name, "--config", name, "--pool", pool, "--check", check,
                    "--resident", "--paced", "--minutes", f"{left():.3f}", *options,
                )
            )  # fmt: skip
        failed = [process.args for process in training if process.wait()]
        records = len(list(pool.glob("*.safetensors")))
        print(f"{records} records, {60 * (given.minutes - left()):.0f} s; failed: {failed or 'none'}", flush=True)
    finally:
        for process in making:
            process.terminate()


if __name__ == "__main__":
    main()
