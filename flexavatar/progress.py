"""How far long work is, and whether to go on: the one object that long work tells and asks."""

from __future__ import annotations

from collections.abc import Callable

Tell = Callable[[str, float], object]  # (name of the stage, share of all work that is done, 0..1)


class Progress:
    """Reports the progress of long work to its caller, and whether the caller wants it to stop.

    The work calls it with the name of a stage and the share 0..1 of all work that is done, and ends when it returns
    False. `tell` gets both values. `stop` is called without arguments, until it first returns True.
    """

    def __init__(self, tell: Tell | None = None, stop: Callable[[], bool] | None = None) -> None:
        self._tell, self._stop = tell, stop
        self.stopped = False  # the caller wanted to stop

    @staticmethod
    def of(progress: Progress | Tell | None) -> Progress:
        """`progress` itself, or a Progress that calls a plain function; for None, one that does nothing."""
        return progress if isinstance(progress, Progress) else Progress(progress)

    def __call__(self, stage: str, share: float) -> bool:
        """`tell`, and return whether the work shall go on."""
        self.tell(stage, share)
        return not self.asked_to_stop()

    def tell(self, stage: str, share: float) -> None:
        """Report the stage, and the share 0..1 of all work that is done, without asking whether to stop."""
        if self._tell is not None:
            self._tell(stage, min(max(share, 0.0), 1.0))

    def asked_to_stop(self) -> bool:
        """Whether the caller wants to stop; once true, it stays so."""
        if not self.stopped and self._stop is not None:
            self.stopped = self._stop()
        return self.stopped

    def part(self, start: float, end: float) -> Progress:
        """A Progress for a part of the work: its shares 0..1 are reported as `start`..`end` of the whole."""
        return Progress(lambda stage, share: self.tell(stage, start + (end - start) * share), self.asked_to_stop)

    def unstoppable(self) -> Progress:
        """A Progress that reports the same and never stops, for work that must be completed in any case."""
        return Progress(self.tell)
