"""The benchmark measures what it says."""

import time

import pytest

from flexavatar.evaluation.benchmark import benchmark_models, benchmark_renderers, time_work


def test_measure_gives_the_median_and_the_spread() -> None:
    naps = iter([0.0, 0.0, 0.01, 0.03, 0.02])
    timing = time_work("naps", lambda: time.sleep(next(naps)), repeats=3)
    assert timing.fastest == pytest.approx(0.01, abs=8e-3)
    assert timing.median == pytest.approx(0.02, abs=8e-3)
    assert timing.slowest == pytest.approx(0.03, abs=8e-3)


def test_renderers() -> None:
    rows = list(benchmark_renderers(backends=["cpu"], sizes=(32, 48), gaussians=100, repeats=3))
    assert [row.what for row in rows] == [
        f"cpu renderer {size} px, 100 Gaussians: {way}" for size in (32, 48) for way in ("forward", "backward")
    ]
    assert all(0 < row.fastest <= row.median <= row.slowest for row in rows)


def test_flex_s() -> None:
    rows = {row.what: row.median for row in benchmark_models(["flex-s"], repeats=1)}
    assert list(rows) == [
        "flex-s encode", "flex-s decode", "flex-s decode + render 512 px", "flex-s fitting step 256 px",
    ]  # fmt: skip
    # A step decodes and draws; each is measured once here, and another process may have slowed down either.
    assert 0 < rows["flex-s decode"] < 8 * rows["flex-s fitting step 256 px"]
