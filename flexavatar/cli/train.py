"""`flexavatar train`: train flex-s on prepared records."""

from __future__ import annotations

import argparse
from pathlib import Path

from flexavatar.cli.common import Commands, Result, UsageError

PACKAGES = ("accelerate", "tensorboard")


def add_parser(commands: Commands, common: argparse.ArgumentParser) -> None:
    train = commands.add_parser("train", parents=[common], help="train flex-s on records that `prepare` made")
    train.add_argument("run", type=Path, help="folder of the run; if it has begun, it goes on where it was")
    train.add_argument("--config", default="cpu", help="a preset (cpu, gpu, smoke) or a .toml file (default: cpu)")
    train.add_argument("--pool", type=Path, required=True, help="folder of the records")
    train.add_argument("--check", type=Path, metavar="POOL", help="folder of records that are only validated on")
    train.add_argument("--init", type=Path, metavar="MODEL", help="folder of a model to start from")
    train.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="e.g. stages.uv.steps=100")
    train.add_argument("--until", type=int, metavar="STEP", help="stop there; the same command goes on later")
    train.add_argument("--minutes", type=float, help="stop after so many; the same command goes on later")
    train.add_argument("--paced", action="store_true", help="deal the run's steps out over --minutes")
    train.add_argument("--resident", action="store_true", help="keep records on the device; the pool may still grow")
    train.set_defaults(command=_run)


def _run(args: argparse.Namespace) -> Result:
    import importlib.util

    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"Training needs {' and '.join(missing)}: pip install 'flexavatar[train]'.")
    from accelerate import Accelerator
    from accelerate.utils import DistributedDataParallelKwargs

    from flexavatar.model.pretrained import from_pretrained
    from flexavatar.training.config import BadConfig, read_config
    from flexavatar.training.records import TrainingRecord
    from flexavatar.training.resident import ResidentPool
    from flexavatar.training.sampling import RecordPool
    from flexavatar.training.trainer import Trainer

    if args.paced and args.minutes is None:
        raise UsageError("--paced deals the steps out over --minutes: say how many.")
    config = read_config(args.config, args.set)
    pool = ResidentPool(args.pool) if args.resident else RecordPool.of(args.pool)
    checks = [] if args.check is None else RecordPool.of(args.check).mixed(config.check_records)
    model = None if args.init is None else from_pretrained(args.init)
    if model is not None and model.config != config.network:
        raise BadConfig(f"{args.init} is another network than the configuration describes. Change its [model] section.")
    # Some weights exist only for the released layout and never get a gradient.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    accelerator = Accelerator(log_with="tensorboard", project_dir=args.run, kwargs_handlers=[unused])
    accelerator.init_trackers("tensorboard")
    trainer = Trainer(config, pool, args.run, accelerator, [TrainingRecord.load(path) for path in checks], model)
    progress = trainer.train(args.until, args.minutes, args.paced)
    accelerator.end_training()
    return {
        "model": str(args.run / "model"),
        "step": progress.step,
        "of": config.steps,
        "hours": round(progress.seconds / 3600, 3),
    }
