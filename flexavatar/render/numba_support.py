"""Numba details that the kernels share: a writable cache, an atomic counter, a fast exponential."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

logger = logging.getLogger(__name__)


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


def _numba_cache_folders() -> list[Path]:
    """Where Numba itself would keep compiled kernels, in its order."""
    user_cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    return [*([Path(chosen)] if chosen else []), Path(__file__).parent / "__pycache__", user_cache / "numba"]


def prepare_cache() -> None:
    """Point Numba at a temporary cache folder where none of its own is writable (it would refuse to compile).

    Must run before a kernel is defined.
    """
    if any(_writable(folder) for folder in _numba_cache_folders()):
        return
    # The cache holds pickles, so a folder that another user could have prepared is no option.
    folder = tempfile.mkdtemp(prefix="flexavatar-numba-")
    logger.info("No writable folder for compiled kernels; using %s. Set NUMBA_CACHE_DIR to keep them.", folder)
    os.environ["NUMBA_CACHE_DIR"] = folder
    numba.config.CACHE_DIR = folder  # pyright: ignore[reportAttributeAccessIssue]


def _add(typingctx, counters, index, count):
    """Atomically add `count` to counters[index] (an int64 array) and return the value before."""

    def codegen(context, builder, signature, args):
        array = context.make_array(signature.args[0])(context, builder, args[0])
        index, step = (context.cast(builder, args[i], signature.args[i], types.int64) for i in (1, 2))
        return builder.atomic_rmw("add", cgutils.gep_inbounds(builder, array.data, index), step, "acq_rel")

    return types.int64(counters, index, count), codegen


_atomic_add: Any = intrinsic(_add)


@njit(inline="always")
def take_item(counters):
    """The next item to work on; see `threads.run_on_threads`."""
    return _atomic_add(counters, 0, 1)


@njit(inline="always")
def finish_item(counters):
    """Count one more item as done; `counters` as of `run_on_threads`."""
    _atomic_add(counters, 1, 1)


def _bitcast(typingctx, bits):
    """The float32 whose bits are those of an int32."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.int32), codegen


_float_from_bits: Any = intrinsic(_bitcast)

_LOG2_E = np.float32(1.4426950408889634)
_HALF = np.float32(0.5)
_LOWEST = np.float32(-80.0)
_C0, _C1, _C2, _C3, _C4, _C5 = (np.float32(np.log(2.0) ** i / f) for i, f in enumerate((1, 1, 2, 6, 24, 120)))


@njit(inline="always")
def fast_exp(x):
    """exp of a float32 x <= 0 to about 2e-6 relative; math.exp would keep the pixel loops from vectorising."""
    y = max(x, _LOWEST) * _LOG2_E
    whole = np.int32(y - _HALF)
    f = y - np.float32(whole)
    power = ((((_C5 * f + _C4) * f + _C3) * f + _C2) * f + _C1) * f + _C0
    return power * _float_from_bits((whole + np.int32(127)) << np.int32(23))
