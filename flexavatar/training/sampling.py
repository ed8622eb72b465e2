"""Which records a step sees: a function of the seed and the step alone, whatever the number of processes."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from flexavatar.training.config import BadConfig, TrainingConfig
from flexavatar.training.mirroring import mirrored
from flexavatar.training.records import BadRecord, TrainingRecord, stack

SYNTHETIC, PORTRAIT = "synthetic-*.safetensors", "portrait-*.safetensors"


@dataclass(frozen=True)
class RecordPool:
    """The records of a folder, by kind."""

    synthetic: tuple[Path, ...]
    portraits: tuple[Path, ...]

    @staticmethod
    def of(folder: Path) -> RecordPool:
        """All records in `folder`. Raises BadRecord if there are none."""
        pool = RecordPool(tuple(sorted(folder.glob(SYNTHETIC))), tuple(sorted(folder.glob(PORTRAIT))))
        if not pool.synthetic and not pool.portraits:
            raise BadRecord(f"There are no training records in {folder}. Make some with `flexavatar prepare`.")
        return pool

    def mixed(self, count: int) -> list[Path]:
        """The first `count` records, every third a portrait as long as there are both kinds."""
        portraits = min(count // 3, len(self.portraits))
        synthetic = min(count - portraits, len(self.synthetic))
        return [*self.synthetic[:synthetic], *self.portraits[: count - synthetic]]

    def feed(
        self, config: TrainingConfig, start: int, rank: int, processes: int, device: torch.device
    ) -> Callable[[int], dict[str, Tensor]]:
        """A function from a step to the stacked records of process `rank`; call it with every step from `start` on."""
        following = batches(self, config, start, rank, processes, device.type == "cuda")
        return lambda step: next(following)


@dataclass(frozen=True)
class Pick:
    """One record of a batch."""

    path: Path
    order: Tensor  # [16] random numbers: which views are taken
    background: Tensor  # [3] RGB 0..1, behind the target views
    in_mirror: bool  # whether its mirror image is taken


def picks(pool: RecordPool, config: TrainingConfig, step: int) -> list[Pick]:
    """The whole batch of a step. Raises BadConfig if the stage asks for a kind of record that the pool has not."""
    stage, _ = config.at(step)
    generator = torch.Generator().manual_seed(zlib.crc32(f"{config.seed}/{step}".encode()))
    multiview = round(stage.multiview * stage.batch)
    chosen = []
    for kind, files, count in (
        ("synthetic", pool.synthetic, multiview),
        ("portrait", pool.portraits, stage.batch - multiview),
    ):
        if count and not files:
            raise BadConfig(f"Stage {stage.name!r} needs {kind} records, and there are none. Prepare some.")
        if count:
            numbers = torch.randint(len(files), (count,), generator=generator).tolist()
            chosen += [files[number] for number in numbers]
    order, backgrounds = (
        torch.rand(stage.batch, 16, generator=generator),
        torch.rand(stage.batch, 3, generator=generator),
    )
    # Interleaved, so that every process gets its share of both kinds.
    places = torch.randperm(stage.batch, generator=generator).tolist()
    sides = torch.randint(2, (stage.batch,), generator=generator).tolist()
    return [Pick(chosen[place], order[place], backgrounds[place], bool(sides[place])) for place in places]


class Batches(Dataset):
    """Stacked records by step: the share of one process."""

    def __init__(self, pool: RecordPool, config: TrainingConfig, rank: int, processes: int) -> None:
        self.pool, self.config, self.rank, self.processes = pool, config, rank, processes

    def __len__(self) -> int:
        return self.config.steps

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        stage, _ = self.config.at(step)
        if stage.batch % self.processes:
            raise BadConfig(
                f"Stage {stage.name!r} has batches of {stage.batch}, which {self.processes} processes cannot share "
                "evenly. Choose a multiple."
            )
        mine = picks(self.pool, self.config, step)[self.rank :: self.processes]
        records = [_record(pick) for pick in mine]
        views = [_views(pick, record, stage.views) for pick, record in zip(mine, records, strict=True)]
        return stack(records, views) | {"backgrounds": torch.stack([pick.background for pick in mine])}


def batches(
    pool: RecordPool, config: TrainingConfig, start: int, rank: int = 0, processes: int = 1, pinned: bool = False
) -> Iterator[dict[str, Tensor]]:
    """The stacked records of process `rank` in each step from `start` on."""
    data = Batches(pool, config, rank, processes)
    loader = DataLoader(
        data,
        batch_size=None,
        sampler=range(start, len(data)),
        num_workers=config.workers,
        prefetch_factor=4 if config.workers else None,
        pin_memory=pinned,
    )
    return iter(loader)


def _record(pick: Pick) -> TrainingRecord:
    record = TrainingRecord.load(pick.path)
    return mirrored(record) if pick.in_mirror else record


def _views(pick: Pick, record: TrainingRecord, count: int) -> list[int]:
    """`count` of the record's views; some of them again if it has fewer."""
    available = len(record.cameras)
    order = pick.order[:available].argsort().tolist()
    return [order[i % available] for i in range(count)]
