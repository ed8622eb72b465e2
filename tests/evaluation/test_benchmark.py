"""The benchmark measures what it says."""

import time
from types import SimpleNamespace

import pytest

from flexavatar.evaluation import benchmark
from flexavatar.evaluation.benchmark import benchmark_models, benchmark_renderers, time_work


def test_measure_gives_the_median_and_the_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    naps, clock = iter([0.0, 0.0, 0.01, 0.03, 0.02]), [0.0]

    def nap() -> None:
        clock[0] += next(naps)

    monkeypatch.setattr(benchmark, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    timing = time_work("naps", nap, repeats=3)
    assert timing.fastest == pytest.approx(0.01)
    assert timing.median == pytest.approx(0.02)
    assert timing.slowest == pytest.approx(0.03)


def test_renderers() -> None:
    rows = list(benchmark_renderers(backends=["cpu"], sizes=(32, 48), gaussians=100, repeats=3))
    assert [row.what for row in rows] == [
        f"cpu renderer {size} px, 100 Gaussians: {way}" for size in (32, 48) for way in ("forward", "backward")
    ]
    assert all(0 < row.fastest <= row.median <= row.slowest for row in rows)


def test_flex_s(monkeypatch: pytest.MonkeyPatch) -> None:
    # Of this process alone: beside other work the wall clock of single runs says little.
    monkeypatch.setattr(benchmark, "time", SimpleNamespace(perf_counter=time.process_time))
    rows = {row.what: row.median for row in benchmark_models(["flex-s"], repeats=1)}
    assert list(rows) == [
        "flex-s encode", "flex-s decode", "flex-s decode + render 512 px", "flex-s fitting step 256 px",
    ]  # fmt: skip
    assert rows["flex-s decode"] < rows["flex-s fitting step 256 px"]
