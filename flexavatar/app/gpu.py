"""Hugging Face ZeroGPU: borrow a GPU for whole tasks, with progress and a way to stop them."""

from __future__ import annotations

import logging
import math
import os
import pickle
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, Literal

from flexavatar.errors import FlexAvatarError
from flexavatar.progress import Progress, Tell

if TYPE_CHECKING:
    from flexavatar.settings import Device

log = logging.getLogger(__name__)
MAX_SECONDS = 300.0  # seconds that a task may ask for
Message = tuple[Literal["progress", "made", "failed"], Any]


def zero_gpu() -> bool:
    """Whether this process may borrow a GPU, and has none of its own."""
    return bool(os.environ.get("SPACES_ZERO_GPU"))


def device_outside(device: Device) -> Device:
    """Where to compute outside of `borrowed`: there, ZeroGPU shows torch a GPU that cannot be used."""
    return "cpu" if zero_gpu() else device


def borrowed(
    work: Callable[..., Any],
    seconds: float,
    progress: Progress | Tell | None = None,
    device: Device = "auto",
) -> Any:
    """Call `work(progress=, device=)`, on a borrowed GPU where there is ZeroGPU; returns and raises what it does.

    There it runs in another process: `work` (a `functools.partial` of a module's function) and its result must
    pickle. `seconds` is how long it will take on the GPU. `progress` is told, and asked, on this thread.
    """
    if not zero_gpu():
        return work(progress=Progress.of(progress), device=device)
    progress = Progress.of(progress)
    result: Message | None = None
    with tempfile.TemporaryDirectory() as folder:
        stop = Path(folder) / "stop"
        for kind, value in _on_gpu(work, stop, seconds, device):
            if kind != "progress":
                result = kind, value
                continue
            if not progress(*value):
                stop.touch()  # the one thing that reaches a process of whose generator the next value is awaited
    if result is None:
        raise FlexAvatarError("The GPU was taken back before the work was done. Try again.")
    if result[0] == "failed":
        raise result[1]
    return result[1]


def _seconds(work: Callable[..., Any], stop: Path, seconds: float, device: Device) -> int:
    """The duration to ask ZeroGPU for, in whole seconds; less is counted if the work ends sooner."""
    return math.ceil(min(seconds, MAX_SECONDS))


def _messages(work: Callable[..., Any], stop: Path, seconds: float, device: Device) -> Iterator[Message]:
    """The work's progress, then its result or error."""
    messages: SimpleQueue[Message] = SimpleQueue()

    def run() -> None:
        try:
            told = Progress(lambda *told: messages.put(("progress", told)), stop.exists)
            made = work(progress=told, device=device)
            messages.put(("made", made))
        except Exception as error:
            messages.put(("failed", _picklable(error)))

    if zero_gpu():
        import torch

        torch.set_num_threads(1)  # the process is a fork, in which OpenMP's threads are gone
    Thread(target=run, daemon=True).start()
    while True:
        message = messages.get()
        yield message
        if message[0] != "progress":
            return


def _picklable(error: Exception) -> Exception:
    """The error, or one with its words: ZeroGPU would lose the work with a message that does not pickle."""
    try:
        pickle.loads(pickle.dumps(error))  # its own bytes
    except Exception:
        log.exception("An error of borrowed work does not pickle: %r", error, exc_info=error)
        return FlexAvatarError(str(error)) if isinstance(error, FlexAvatarError) else RuntimeError(repr(error))
    return error


def _lent(
    function: Callable[[Callable[..., Any], Path, float, Device], Iterator[Message]],
) -> Callable[[Callable[..., Any], Path, float, Device], Iterator[Message]]:
    """`spaces.GPU`, which wants to be applied when the app starts, and does nothing where there is no ZeroGPU."""
    try:
        import spaces
    except ImportError:  # only Spaces need it
        return function
    return spaces.GPU(function, duration=_seconds)


_on_gpu = _lent(_messages)
