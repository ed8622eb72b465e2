"""What ZeroGPU's other process does, without its GPU: work arrives pickled, and everything it tells leaves pickled.

Imports nothing of the package before `spaces` is hidden, which would take hold of torch there.
"""

from __future__ import annotations

import pickle
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any


def serve(calls: Connection) -> None:
    sys.modules["spaces"] = None  # type: ignore[assignment]
    from flexavatar.app.gpu import _messages

    while (call := calls.recv_bytes()) != b"":
        for message in _messages(*pickle.loads(call)):
            calls.send_bytes(pickle.dumps(message))
        calls.send_bytes(pickle.dumps(None))


def count(to: int, progress: Callable[[str, float], bool], device: str) -> tuple[int, str]:
    """Counts, a hundredth of a second each, until it is stopped."""
    for number in range(to):
        if not progress("counting", number / to):
            return number, device
        time.sleep(0.01)
    return to, device


class TwoArguments(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def fail(error: str, **_: Any) -> None:
    from flexavatar.errors import NoFaceFound

    raise NoFaceFound(error) if error else TwoArguments(1, 2)
