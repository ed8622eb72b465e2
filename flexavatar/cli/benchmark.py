"""`flexavatar benchmark`: how fast the networks and renderers are here."""

from __future__ import annotations

import argparse

from flexavatar.cli.common import Commands, Result, add_device


def add_parser(commands: Commands, common: argparse.ArgumentParser) -> None:
    benchmark = commands.add_parser("benchmark", parents=[common], help="time the networks and renderers")
    benchmark.add_argument(
        "--preset", choices=("flex-s", "flex-1"), action="append", help="may be repeated (default: both)"
    )
    benchmark.add_argument("--repeats", type=int, default=5, help="of which the median counts (default: 5)")
    benchmark.add_argument("--compile", action="store_true", help="decode through torch.compile")
    add_device(benchmark)
    benchmark.set_defaults(command=_run)


def _run(args: argparse.Namespace) -> Result:
    import torch

    from flexavatar.evaluation.benchmark import Preset, benchmark_models, benchmark_renderers, peak_memory
    from flexavatar.settings import resolve_device

    device = resolve_device(args.device)
    presets: list[Preset] = args.preset or ["flex-s", "flex-1"]
    where = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    result: Result = {"device": where}
    networks = benchmark_models(presets, device, args.repeats, args.compile)
    for timing in (*networks, *benchmark_renderers(repeats=args.repeats)):
        result[timing.what] = f"{1e3 * timing.median:.1f} ms ({1e3 * timing.fastest:.1f} - {1e3 * timing.slowest:.1f})"
    result["peak memory"] = f"{peak_memory():.2f} GB"
    return result
