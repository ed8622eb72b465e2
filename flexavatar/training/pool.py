"""Filling a folder with training records, on as many CPU cores as there are."""

from __future__ import annotations

import logging
import multiprocessing
import os
import time
import zlib
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flexavatar.errors import FlexAvatarError

if TYPE_CHECKING:
    from flexavatar.synthetic import SyntheticHeads
    from flexavatar.synthetic.heads import Split

log = logging.getLogger(__name__)
SINGLE = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")}


@dataclass(frozen=True)
class Plan:
    """The records that a pool shall hold."""

    folder: Path
    synthetic: int = 0  # records of heads 0, 1, ...
    portraits: tuple[Path, ...] = ()  # tracked portraits, as `track_portraits` gives them
    variants: int = 1  # records of each portrait
    split: Split = "train"
    seed: int = 0
    views: int = 4
    size: int = 256  # pixels of the target views

    def files(self) -> list[Path]:
        """All records in the order in which they are made: both kinds grow together."""
        synthetic = [self.folder / f"synthetic-{number:06d}.safetensors" for number in range(self.synthetic)]
        portraits = [
            self.folder / f"portrait-{path.stem}-{variant}.safetensors"
            for variant in range(self.variants)
            for path in self.portraits
        ]
        placed = [(i / len(kind), file) for kind in (synthetic, portraits) for i, file in enumerate(kind)]
        return [file for _, file in sorted(placed, key=lambda item: item[0])]


@dataclass(frozen=True)
class Filled:
    """The outcome of `fill_pool`."""

    made: int
    there_before: int
    failed: dict[str, str]  # file name and why
    seconds: float


def fill_pool(plan: Plan, workers: int = 1, minutes: float | None = None) -> Filled:
    """Make the records that are missing, for at most so many minutes; the same plan goes on later.

    A record depends on its number and the seed alone. Each worker is a process with one thread.
    """
    plan.folder.mkdir(parents=True, exist_ok=True)
    files = plan.files()
    missing = [file for file in files if not file.exists()]
    started = time.monotonic()
    made, failed = 0, {}
    before = {name: os.environ.get(name) for name in SINGLE}
    os.environ.update(SINGLE)  # inherited by the workers; in a running process it would come too late
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(plan,)) as executor:
            todo, running = iter(missing), {}
            while True:
                late = minutes is not None and time.monotonic() - started > 60 * minutes
                while not late and len(running) < 2 * workers and (file := next(todo, None)) is not None:
                    running[executor.submit(_make, file)] = file
                if not running:
                    break
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    file = running.pop(future)
                    reason = future.result()
                    if reason is None:
                        made += 1
                        if made % 50 == 0:
                            log.info("%d of %d records, %.2f a second", made, len(missing), _rate(made, started))
                    else:
                        failed[file.name] = reason
                        log.info("%s is left out: %s", file.name, reason)
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    return Filled(made, len(files) - len(missing), failed, time.monotonic() - started)


def _rate(made: int, started: float) -> float:
    return made / max(time.monotonic() - started, 1e-6)


_worker: _Worker | None = None


class _Worker:
    """What a process needs, loaded once."""

    def __init__(self, plan: Plan) -> None:
        import torch

        from flexavatar.render import set_threads

        torch.set_num_threads(1)
        set_threads(1)  # else every worker draws on all cores, and they wait for each other
        self.plan = plan
        self.portraits = {path.stem: path for path in plan.portraits}
        self._heads: SyntheticHeads | None = None

    def make(self, file: Path) -> None:
        import torch

        from flexavatar.synthetic import HeadAssets, SyntheticHeads
        from flexavatar.training.portraits import portrait_record
        from flexavatar.training.synthetic import synthetic_record

        kind, _, name = file.stem.partition("-")
        if kind == "synthetic":
            if self._heads is None:
                self._heads = SyntheticHeads(HeadAssets.load(), self.plan.split, self.plan.seed)
            record = synthetic_record(self._heads, int(name), self.plan.views, self.plan.size)
        else:
            seed = zlib.crc32(f"{self.plan.seed}/{name}".encode())
            path = self.portraits[name.rpartition("-")[0]]
            record = portrait_record(path, torch.Generator().manual_seed(seed), self.plan.size)
        record.save(file)


def _start(plan: Plan) -> None:
    global _worker
    _worker = _Worker(plan)


def _make(file: Path) -> str | None:
    """None, or why there is no such record."""
    assert _worker is not None
    try:
        _worker.make(file)
    except FlexAvatarError as error:
        return str(error)
    return None
