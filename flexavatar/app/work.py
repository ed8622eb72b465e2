"""How callbacks queue, tell their progress and are stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from flexavatar.app.messages import with_clear_errors
from flexavatar.app.studio import Studio
from flexavatar.errors import Cancelled
from flexavatar.progress import Progress, Tell

# Separate queues: whoever makes an avatar does not wait for somebody else's long video.
SHORT: dict[str, Any] = {"concurrency_id": "short", "concurrency_limit": 2, "api_visibility": "private"}
LONG: dict[str, Any] = {"concurrency_id": "long", "concurrency_limit": 2, "api_visibility": "private"}
PREVIEW: dict[str, Any] = {
    "concurrency_id": "preview",
    "concurrency_limit": 2,
    "show_progress": "hidden",
    "trigger_mode": "always_last",  # while a slider moves, draw its latest position only
    "api_visibility": "private",
}
# Only the queue tells the page of a changed gr.State, so that its `change` follows.
QUEUED: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
AT_ONCE: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}

_MIN_SHARE = 0.03  # of the work, before what is done foretells what remains


def teller(progress: gr.Progress) -> Tell:
    """A `Tell` for gradio's progress bar: stage, share of the work and, once it can be estimated, the time left."""
    start = time.monotonic()

    def tell(stage: str, share: float) -> None:
        left = (time.monotonic() - start) / share * (1 - share) if share >= _MIN_SHARE else 0.0
        progress(share, desc=stage.capitalize() + (f" · about {duration(left)} left" if left else ""))

    return tell


def duration(seconds: float) -> str:
    """ "8 seconds", "3 minutes": as precise as an estimate is."""
    if seconds < 90:
        count = max(round(seconds), 1)
        return f"{count} second{'s' * (count != 1)}"
    return f"{round(seconds / 60)} minutes"


def stoppable(
    studio: Studio,
    tab: str,
    start: gr.Button,
    stop: gr.Button,
    work: Callable[..., Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    show_progress_on: Any,
) -> None:
    """Let `start` run `work(progress, *inputs)`, and `stop` stop that progress."""

    def owner(request: gr.Request) -> str:
        return f"{request.session_hash}/{tab}"

    def on_start(request: gr.Request) -> tuple[gr.Button, gr.Button]:
        studio.jobs.announce(owner(request))
        return gr.Button(interactive=False), gr.Button(interactive=True)

    def on_stop(request: gr.Request) -> gr.Button:
        studio.jobs.stop(owner(request))
        return gr.Button(interactive=False)

    @with_clear_errors
    def on_work(request: gr.Request, *values: Any, progress: gr.Progress = gr.Progress()) -> Any:  # noqa: B008
        with studio.jobs.running(owner(request)) as stopped:
            try:
                return work(Progress(teller(progress), stopped.is_set), *values)
            except Cancelled as cancelled:
                gr.Info(str(cancelled), title="Stopped")
                return gr.skip()

    started = start.click(on_start, None, [start, stop], **AT_ONCE)
    done = started.then(on_work, [*inputs], [*outputs], show_progress_on=show_progress_on, **LONG)
    # After a failure gradio 6.31 calls `failure` only; `then` is said to be called in any case.
    for finished in (done.then, done.failure):
        finished(lambda: (gr.Button(interactive=True), gr.Button(interactive=False)), None, [start, stop], **AT_ONCE)
    stop.click(on_stop, None, stop, **AT_ONCE)


def stop_on_leaving(studio: Studio) -> Callable[[gr.Request], None]:
    """For `Blocks.unload`: nobody waits for the work of a closed page."""

    def leave(request: gr.Request) -> None:
        if request.session_hash:
            studio.jobs.stop_all(request.session_hash)

    return leave
