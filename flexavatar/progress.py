"""How far long work is, and whether to go on: the one object that long work tells and asks."""

from __future__ import annotations

from collections.abc import Callable

Tell = Callable[[str, float], object]  # (name of the stage, share of all work that is done, 0..1)


class Progress:
    """Work calls it with the name of a stage and the share of all work that is done; False means that it shall stop.

    `tell` hears both; `stop` is asked, and once it has said yes it is not asked again.
    """

    def __init__(self, tell: Tell | None = None, stop: Callable[[], bool] | None = None) -> None:
        self._tell, self._stop = tell, stop
        self.stopped = False  # the caller wanted to stop

    @staticmethod
    def of(progress: Progress | Tell | None) -> Progress:
        """The same, or one that tells a plain function, or nobody."""
        return progress if isinstance(progress, Progress) else Progress(progress)

    def __call__(self, stage: str, share: float) -> bool:
        """Tell, then ask whether to go on."""
        self.tell(stage, share)
        return not self.asked_to_stop()

    def tell(self, stage: str, share: float) -> None:
        """Say that `share` 0..1 of the whole work is done, and what is going on."""
        if self._tell is not None:
            self._tell(stage, min(max(share, 0.0), 1.0))

    def asked_to_stop(self) -> bool:
        """Whether the caller wants to stop; once true, it stays so."""
        if not self.stopped and self._stop is not None:
            self.stopped = self._stop()
        return self.stopped

    def part(self, start: float, end: float) -> Progress:
        """For a part of the work, whose shares 0..1 are `start`..`end` of the whole."""
        return Progress(lambda stage, share: self.tell(stage, start + (end - start) * share), self.asked_to_stop)

    def unstoppable(self) -> Progress:
        """For what has to be done even after the caller wanted to stop."""
        return Progress(self.tell)
