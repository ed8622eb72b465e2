"""What a capture tells while it works, and how it is stopped."""

from __future__ import annotations

import time
from collections.abc import Callable

Progress = Callable[[str, float, float], None]  # (name of the stage, share of all work done 0..1, seconds remaining)
Cancel = Callable[[], bool]  # asked between steps; true ends the work with what there is

# Share of all work but fitting that is done when a stage starts; a stage that is skipped takes no time.
STAGES = {"watching the video": 0.0, "finding faces": 0.0, "collecting frames": 0.45, "comparing people": 0.6,
          "cutting out": 0.65, "merging views": 0.85, "measuring": 0.95, "done": 1.0}  # fmt: skip
FITTING = "fitting"  # of a network's avatar, between merging and measuring


class Reporter:
    """Turns progress within stages into shares of all work, with the time that remains."""

    def __init__(self, progress: Progress | None, cancelled: Cancel | None, estimate: float, fitting: float) -> None:
        self._progress = progress
        self._cancelled = cancelled
        self._estimate = estimate  # seconds for everything
        self._fitting = fitting / estimate  # share of it that is fitting
        self._start = time.perf_counter()
        self.stopped = False

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._start

    def __call__(self, stage: str, share: float = 0.0) -> bool:
        """Tell that `share` of the stage is done; False once the caller wants to stop."""
        share = min(max(share, 0.0), 1.0)
        if stage == FITTING:
            first, following, fitted = STAGES["measuring"], STAGES["measuring"], share
        else:
            names = list(STAGES)
            first, fitted = STAGES[stage], float(names.index(stage) >= names.index("measuring"))
            following = min((STAGES[n] for n in names[names.index(stage) + 1 :] if STAGES[n] > first), default=1.0)
        done = (first + (following - first) * share) * (1 - self._fitting) + fitted * self._fitting
        if self._progress is not None:
            self._progress(stage, done, self._remaining(done))
        if not self.stopped and self._cancelled is not None and self._cancelled():
            self.stopped = True
        return not self.stopped

    def _remaining(self, done: float) -> float:
        """At first what was estimated, then more and more what the work so far foretells."""
        foretold = self.seconds / done * (1 - done) if done > 0.05 else self._estimate
        return (1 - done) * max(self._estimate - self.seconds, 0.0) + done * foretold
