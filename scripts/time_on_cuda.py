"""What a CUDA GPU is worth: creating, drawing, driving and baking the example, and steps of training, in seconds.

usage: python scripts/time_on_cuda.py [--device cuda] [--quick]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import torch

from flexavatar.avatar import Avatar
from flexavatar.baking import bake
from flexavatar.camera import Camera
from flexavatar.driving import drive
from flexavatar.evaluation.benchmark import time_work
from flexavatar.expression import Expression
from flexavatar.motion import load_clip
from flexavatar.pipeline import FlexAvatarPipeline
from flexavatar.render import render
from flexavatar.settings import Device
from flexavatar.training.config import Stage, read_config
from flexavatar.training.records import stack
from flexavatar.training.sampling import RecordPool
from flexavatar.training.trainer import Trainer

ROOT = Path(__file__).parents[1]


def show(what: str, seconds: float, note: str = "") -> None:
    print(f"{what:60s} {seconds:9.4f} s  {note}", flush=True)


def timed(what: str, work: Callable[[], object], runs: int = 1) -> object:
    """The first run holds what is loaded and compiled once."""
    result: object = None
    for run in range(runs):
        start = time.perf_counter()
        result = work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        show(what, time.perf_counter() - start, "first" if run == 0 and runs > 1 else "")
    return result


def avatars(device: Device, quick: bool) -> None:
    """Creating, drawing, driving, baking."""
    made: object = None
    with FlexAvatarPipeline.from_pretrained(device=device) as pipeline:
        tracked = pipeline.track(ROOT / "examples" / "astronaut.png")
        for quality in ("instant",) if quick else ("instant", "fast", "balanced", "best"):
            made = timed(f"create {quality}, tracked already", lambda q=quality: pipeline.build(tracked, quality=q), 2)
    assert isinstance(made, Avatar)
    there = made.to(device)
    camera = Camera.orbit(20, 0, 512).to(device)
    smile = Expression.of("smile")
    with torch.inference_mode():
        decoded = there.gaussians(smile)
        for name, work in (
            ("decode", lambda: there.gaussians(smile)),
            (f"render 512 px, {len(decoded.means)} Gaussians", lambda: render(decoded, camera)),
        ):
            time_of = time_work(name, work)
            show(time_of.what, time_of.median)
    with tempfile.TemporaryDirectory() as folder:
        clip = load_clip("talk")[:20] if quick else load_clip("talk")
        start = time.perf_counter()
        drive(made, clip, Path(folder) / "talk.mp4", size=512, device=device)
        show("drive, a frame of 512 px", (time.perf_counter() - start) / len(clip), f"{len(clip)} frames")
    for effort in ("quick",) if quick else ("quick", "measured"):
        timed(f"bake {effort}", lambda e=effort: bake(made, e, device))


def training(device: Device, quick: bool) -> None:
    """Steps of both networks on copies of one record; 256 px."""
    sys.path.insert(0, str(ROOT))
    from tests.training import training_records

    training_records.SIZE = 256
    record = training_records.made_record(0)
    for preset, batch in (("cpu", 8), ("cpu", 32), ("cpu", 128), ("gpu", 48), ("gpu", 128)):
        if quick and (preset, batch) != ("cpu", 8):
            continue
        config = read_config(preset)
        for stage in config.stages:
            if stage.losses.perceptual:
                continue  # its features are downloaded
            stage = Stage.model_validate({**stage.model_dump(), "batch": batch, "views": 1})
            one = config.model_copy(update={"stages": (stage,)})
            accelerator = SimpleNamespace(
                device=torch.device(device), prepare=lambda *made: made, backward=lambda loss: loss.backward()
            )
            try:
                trainer = Trainer(one, RecordPool((), ()), Path("nowhere"), accelerator)  # type: ignore[arg-type]
                stacked = stack([record] * batch, [[0]] * batch)
                given = {name: tensor.to(device) for name, tensor in stacked.items()}
                given["labelled"] = stacked["labelled"]
                given["backgrounds"] = torch.ones(batch, 3, device=device)
                time_of = time_work(f"train {preset} {stage.name}, batch {batch}", lambda: trainer._step(given), 3)  # noqa: B023
            except torch.OutOfMemoryError:
                print(f"train {preset} {stage.name}, batch {batch}: out of memory", flush=True)
                continue
            most = torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else 0
            show(time_of.what, time_of.median, f"{batch / time_of.median:.1f} records/s, {most:.1f} GB")
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--quick", action="store_true", help="a rehearsal: the least of everything")
    parser.add_argument("--only", choices=("avatars", "training"))
    given = parser.parse_args()
    for part in (avatars, training):
        if given.only in (None, part.__name__):
            part(given.device, given.quick)
