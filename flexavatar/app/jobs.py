"""Long work that a visitor may stop."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Jobs:
    """For each owner (a visitor's tab) the signal that stops the work it started last."""

    def __init__(self) -> None:
        self._stops: dict[str, threading.Event] = {}
        self._lock = threading.Lock()

    def announce(self, owner: str) -> None:
        """Work is about to queue; from now on `stop` reaches it, also while it waits."""
        with self._lock:
            self._stops[owner] = threading.Event()

    @contextmanager
    def running(self, owner: str) -> Iterator[threading.Event]:
        """The stop signal of the work announced last."""
        with self._lock:
            stop = self._stops.setdefault(owner, threading.Event())
        try:
            yield stop
        finally:
            with self._lock:
                if self._stops.get(owner) is stop:
                    del self._stops[owner]

    def stop(self, owner: str) -> None:
        """Ask the work of `owner` to stop, if there is any."""
        with self._lock:
            if owner in self._stops:
                self._stops[owner].set()

    def stop_all(self, visitor: str) -> None:
        """Stop the work of all tabs of a visitor who left; their owners start with the visitor's id."""
        with self._lock:
            for owner, stop in self._stops.items():
                if owner.startswith(visitor):
                    stop.set()
