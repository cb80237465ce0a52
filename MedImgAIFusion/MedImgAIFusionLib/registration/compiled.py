"""Loops compiled by numba where it is installed; every function that uses them also has a NumPy and SciPy form."""

from __future__ import annotations

import importlib.util
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np

_WITHOUT = set(filter(None, os.environ.get("MEDIMGAI_REGISTRATION_WITHOUT", "").split(",")))
"""Packages to do without although they are installed, for tests and comparisons."""
_lock = threading.Lock()
_ready: dict = {}


def has_numba() -> bool:
    """Whether loops can be compiled."""
    return "numba" not in _WITHOUT and importlib.util.find_spec("numba") is not None


def compiled(function):
    """The compiled form of a function of plain loops, free of Python's lock; None without numba.

    Kept on disk for the next start wherever a folder for it can be written.
    """
    with _lock:
        if function not in _ready:
            _ready[function] = _compile(function) if has_numba() else None
        return _ready[function]


def _compile(function):
    try:
        import numba
    except ImportError:
        # Installed, but not for this version of Python or NumPy.
        return None
    options = {"nogil": True, "fastmath": {"reassoc", "contract", "arcp", "nsz"}}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:
        # No folder for the cache can be written.
        return numba.njit(**options)(function)


_WORTH_SHARING = 200_000
"""Voxels from which several threads share a loop."""


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_threads(), "voxels")


def _threads() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def spread(kernel, shape, *inputs, into=None, numbers=()):
    """Run a kernel of :mod:`.kernels` over all slices, by several threads where that pays.

    Parameters
    ----------
    kernel : compiled function
        Called as ``kernel(*inputs, result, *numbers, first, stop)``.
    shape : tuple
        Of the float32 result; its third axis from the end is the slices.
    into : ndarray, optional
        The result; made here if None.

    Returns
    -------
    ndarray
    """
    inputs = [np.ascontiguousarray(a) if isinstance(a, np.ndarray) else a for a in inputs]
    result = np.empty(shape, np.float32) if into is None else into
    depth, size = shape[-3], int(np.prod(shape[-3:]))
    count = 1 if size < _WORTH_SHARING else min(_threads(), depth)
    ends = [depth * n // count for n in range(count + 1)]
    if count == 1:
        kernel(*inputs, result, *numbers, 0, depth)
    else:
        jobs = [_pool().submit(kernel, *inputs, result, *numbers, a, b) for a, b in zip(ends, ends[1:])]
        for job in jobs:
            job.result()
    return result
