"""Records kept in the memory of the trainer's device while others still make them.

Reading files keeps a large GPU waiting, and one that is there for minutes cannot wait until a pool is full.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import torch
from torch import Tensor

from flexavatar.training.config import TrainingConfig
from flexavatar.training.mirroring import mirrored
from flexavatar.training.records import BadRecord, TrainingRecord, stack
from flexavatar.training.sampling import PORTRAIT, SYNTHETIC

log = logging.getLogger(__name__)
POLL_SECONDS = 0.5  # seconds between looks at the folder


class ResidentPool:
    """The records of a folder that may still grow, on one device: 4.1 MB each.

    What a step sees depends on when records arrive: such a run cannot be repeated to the bit.
    """

    def __init__(self, folder: Path, fewest: int = 64, patience: float = 600.0) -> None:
        """`fewest` records of a kind are there before the first batch that has some.

        patience: seconds to wait for them.
        """
        self.folder, self.fewest, self.patience = folder, fewest, patience
        self._records: dict[str, list[TrainingRecord]] = {SYNTHETIC: [], PORTRAIT: []}
        self._random = random.Random(0)

    def __len__(self) -> int:
        return sum(map(len, self._records.values()))

    def feed(
        self, config: TrainingConfig, start: int, rank: int, processes: int, device: torch.device
    ) -> Callable[[int], dict[str, Tensor]]:
        """As `RecordPool.feed`, on the device; each process keeps all records and draws its own share."""
        self._random = random.Random(f"{config.seed}/{start}/{rank}")
        threading.Thread(target=self._collect, args=(device,), daemon=True).start()
        return lambda step: self._batch(config, step, processes)

    def _batch(self, config: TrainingConfig, step: int, processes: int) -> dict[str, Tensor]:
        stage, _ = config.at(step)
        count = max(1, stage.batch // processes)
        multiview = round(stage.multiview * count)
        chosen = []
        for kind, wanted in ((SYNTHETIC, multiview), (PORTRAIT, count - multiview)):
            if wanted:
                self._wait(kind)
                chosen += self._random.choices(self._records[kind], k=wanted)
        views = [self._random.choices(range(len(record.cameras)), k=stage.views) for record in chosen]
        return stack(chosen, views) | {"backgrounds": torch.rand(count, 3)}

    def _wait(self, kind: str) -> None:
        waited = 0.0
        while len(self._records[kind]) < self.fewest:
            if waited > self.patience:
                raise BadRecord(
                    f"After {waited:.0f} s there are {len(self._records[kind])} records {kind} in {self.folder}, and "
                    f"training waits for {self.fewest}. Is `flexavatar prepare` running?"
                )
            time.sleep(POLL_SECONDS)
            waited += POLL_SECONDS

    def _collect(self, device: torch.device) -> None:
        seen: set[Path] = set()
        while True:
            for kind, records in self._records.items():
                for path in sorted(set(self.folder.glob(kind)) - seen):
                    seen.add(path)
                    try:
                        record = TrainingRecord.load(path)
                    except BadRecord as error:
                        log.warning("%s", error)
                        continue
                    # Every other one: in a pool without end both sides are equally often seen.
                    record = mirrored(record) if len(records) % 2 else record
                    moved = {field.name: getattr(record, field.name).to(device) for field in fields(record)}
                    records.append(replace(record, **moved))
            time.sleep(POLL_SECONDS)
