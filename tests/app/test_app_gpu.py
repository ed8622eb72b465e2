"""ZeroGPU: whole tasks in another process to which nothing but pickles goes, with a stand-in for it."""

from __future__ import annotations

import functools
import multiprocessing
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from flexavatar.app import gpu
from flexavatar.app.gpu import borrowed
from flexavatar.app.studio import Studio
from flexavatar.errors import NoFaceFound
from flexavatar.expression import Expression
from flexavatar.pipeline import FlexAvatarPipeline
from flexavatar.progress import Progress
from tests.app.lent_process import count, fail, serve
from tests.conftest import EXAMPLE


class StandIn:
    """`spaces.GPU(duration=...)(gpu._messages)`, and what it was asked for."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        context = multiprocessing.get_context("spawn")
        self._calls, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs,), daemon=True)
        self._process.start()

    def __call__(self, *call: object) -> Iterator[gpu.Message]:
        self.seconds.append(gpu._seconds(*call))  # type: ignore[arg-type]
        self._calls.send_bytes(pickle.dumps(call))
        while (message := pickle.loads(self._calls.recv_bytes())) is not None:
            yield message

    def close(self) -> None:
        self._calls.send_bytes(b"")
        self._process.join(20)


@pytest.fixture(scope="module")
def process() -> Iterator[StandIn]:
    stand_in = StandIn()
    yield stand_in
    stand_in.close()


@pytest.fixture
def zero_gpu(process: StandIn, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    monkeypatch.setenv("SPACES_ZERO_GPU", "1")
    monkeypatch.setattr(gpu, "_on_gpu", process)
    process.seconds.clear()
    return process


def test_work_tells_its_progress_and_is_stopped(zero_gpu: StandIn) -> None:
    told: list[tuple[str, float]] = []
    tell = lambda *values: told.append(values)  # noqa: E731
    assert borrowed(functools.partial(count, 5), 9.0, tell, "cpu") == (5, "cpu")
    assert told == [("counting", number / 5) for number in range(5)]
    stopped_at, _ = borrowed(functools.partial(count, 100_000), 1e4, Progress(tell, lambda: len(told) > 8), "cpu")
    assert 3 <= stopped_at < 100_000
    assert zero_gpu.seconds == [9.0, gpu.MAX_SECONDS]


def test_errors_come_back_as_they_are(zero_gpu: StandIn) -> None:
    with pytest.raises(NoFaceFound, match="nobody"):
        borrowed(functools.partial(fail, "nobody"), 1.0, device="cpu")
    with pytest.raises(RuntimeError, match="1 and 2"):  # one that does not pickle
        borrowed(functools.partial(fail, ""), 1.0, device="cpu")


def test_without_zero_gpu_work_stays_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPACES_ZERO_GPU", raising=False)
    monkeypatch.setattr(gpu, "_on_gpu", None)
    assert borrowed(functools.partial(count, 1), 1.0, lambda *told: None, "cpu") == (1, "cpu")
    monkeypatch.setitem(sys.modules, "spaces", None)
    assert gpu._lent(gpu._messages) is gpu._messages


def test_avatars_are_created_in_another_process(zero_gpu: StandIn) -> None:
    told: list[str] = []
    with FlexAvatarPipeline.from_pretrained(device="cpu") as pipeline:
        studio = Studio(pipeline)
        made, tracked = studio.create(EXAMPLE, quality="instant", progress=lambda stage, _: told.append(stage))
        assert told[-1] == "done" and len(zero_gpu.seconds) == 1
        studio.capture([EXAMPLE, EXAMPLE], "instant")
        assert len(zero_gpu.seconds) == 2
        pipeline.compute = None
        here = pipeline.build(tracked, quality="instant")
    network = studio.store.get(made).avatar.network
    assert network is not None and here.network is not None
    assert torch.allclose(network.code, here.network.code, atol=1e-3)


def test_avatars_are_baked_and_moved_in_another_process(zero_gpu: StandIn, studio: Studio, avatar_file: Path) -> None:
    key, stages = studio.open(avatar_file), []
    assert Path(studio.bundle(key)).stat().st_size > 1e6
    enough = lambda: stages.count("animating the avatar") > 5  # noqa: E731
    tell = lambda stage, _: stages.append(stage)  # noqa: E731
    driven = studio.drive(key, "talk", size=32, progress=Progress(tell, enough))
    assert 5 <= driven.frames < 180 and "Stopped" in driven.warnings[-1]
    assert len(iio.imread(driven.video, plugin="FFMPEG")) == driven.frames
    frames = iio.imread(studio.morph([key, key], Expression.neutral(), seconds=0.2, size=32), plugin="FFMPEG")
    assert len(frames) == 6 and np.ptp(frames) > 100
    assert len(iio.imread(studio.turntable(key, Expression.neutral(), 0.2, 32), plugin="FFMPEG")) == 5
    assert len(zero_gpu.seconds) == 4 and all(15 <= seconds < 60 for seconds in zero_gpu.seconds)
