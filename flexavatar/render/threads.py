"""How many threads the CPU renderer uses, and running a kernel on them.

The kernels release the GIL and take their work items from a shared counter, so Python threads are
enough. This avoids Numba's own threading layers, of which one aborts the process on concurrent calls
and another kills forked children; and a helper thread that gets no core merely takes no items.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

_lock = threading.Lock()
_threads: int | None = None
_pool: ThreadPoolExecutor | None = None
_pool_key: tuple[int, int] | None = None  # process, helpers


def thread_count() -> int:
    """Threads per image: `set_threads`, else FLEXAVATAR_THREADS, else as many as PyTorch uses (16 at most)."""
    if _threads is not None:
        return _threads
    setting = os.environ.get("FLEXAVATAR_THREADS", "").strip()
    if not setting:
        return min(torch.get_num_threads(), 16)  # one image has too little work for more
    if not setting.isdigit() or int(setting) < 1:
        raise ValueError(f"FLEXAVATAR_THREADS must be a whole number of at least 1, got {setting!r}.")
    return int(setting)


def set_threads(threads: int | None) -> None:
    """Set the thread count of the CPU renderer in this process; None returns to the default."""
    global _threads
    if threads is not None and threads < 1:
        raise ValueError(f"The renderer needs at least one thread, got {threads}.")
    _threads = threads


def _helpers(count: int) -> ThreadPoolExecutor:
    """The pool of helper threads; made anew after a fork (threads do not survive one) or a new count."""
    global _pool, _pool_key
    with _lock:
        if _pool is None or _pool_key != (os.getpid(), count):
            if _pool is not None and _pool_key is not None and _pool_key[0] == os.getpid():
                _pool.shutdown(wait=False)
            _pool = ThreadPoolExecutor(count, thread_name_prefix="flexavatar-render")
            _pool_key = (os.getpid(), count)
        return _pool


def run_on_threads(kernel: Callable[..., None], items: int, *args: Any) -> None:
    """Call `kernel(counters, *args)` on every thread until all of `items` are done.

    A kernel takes an item by adding to counters[0], atomically, and returns when that reaches `items`; it
    adds to counters[1] for each item that it finished.
    """
    counters = np.zeros(2, np.int64)
    threads = thread_count()
    if min(threads, items) < 2:
        kernel(counters, *args)
        return
    pool = _helpers(threads - 1)
    futures = [pool.submit(kernel, counters, *args) for _ in range(min(threads, items) - 1)]
    kernel(counters, *args)
    # Wait for items, not for helpers: on a busy machine one may only now get a core, to find nothing to do.
    for future in futures:
        while counters[1] < items and not future.cancel():
            try:
                future.result(timeout=0.001)
                break
            except TimeoutError:
                continue
    for future in futures:
        future.cancel()
