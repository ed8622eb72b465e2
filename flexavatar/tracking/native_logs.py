"""Keeping what native libraries print off the user's terminal.

MediaPipe, TensorFlow Lite and absl write to the file descriptor of stderr when a network is made and first used, the
same lines at every start, and have no switch for it in Python.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import tempfile
import threading
from collections.abc import Iterator

log = logging.getLogger(__name__)

_LINES = re.compile(rb"[IWEF]\d{4} \d\d:|WARNING: (?:All log|Logging before)|INFO: Created TensorFlow|\s*$")
_lock = threading.RLock()
_STDERR = 2


@contextlib.contextmanager
def quiet_native_logs() -> Iterator[None]:
    """Within the block native libraries' log lines do not reach stderr; with this module's INFO switched on they do.

    Whatever else is written to stderr meanwhile, by any thread, comes at the end of the block. Blocks of several
    threads wait for each other.
    """
    if log.isEnabledFor(logging.INFO):
        yield
        return
    with _lock, contextlib.ExitStack() as stack:
        try:
            kept = os.dup(_STDERR)
            stack.callback(os.close, kept)
            written = stack.enter_context(tempfile.TemporaryFile())
            os.dup2(written.fileno(), _STDERR)
        except OSError:  # no stderr, or nowhere to write to
            yield
            return
        try:
            yield
        finally:
            os.dup2(kept, _STDERR)
            written.seek(0)
            others = [line for line in written.read().splitlines(keepends=True) if not _LINES.match(line)]
            with contextlib.suppress(OSError):
                os.write(_STDERR, b"".join(others))
