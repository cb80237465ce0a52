"""Optional speed: finufft, numba and threads, found when a task runs; every task also works without them."""

from __future__ import annotations

import importlib.util
import os
import re
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

_DISABLED = set(filter(None, os.environ.get("MEDIMGAI_CT_WITHOUT", "").split(",")))
"""Packages to do without although they are installed, for tests and comparisons."""


def has(package: str) -> bool:
    """Whether an optional package can be used."""
    return package not in _DISABLED and importlib.util.find_spec(package) is not None


def threads() -> int:
    """Number of threads to compute with: the processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return max(1, os.cpu_count() or 1)


@lru_cache(maxsize=64)
def compiled(function):
    """A kernel of plain loops, compiled by numba (kept on disk for the next start) and free of Python's lock."""
    import numba

    return numba.njit(nogil=True, fastmath={"reassoc", "contract", "arcp", "nsz"}, cache=True)(function)


def parallel(work, items, context=None, message: str = "", check=None):
    """Run ``work(item)`` for all items on :func:`threads` threads, reporting progress and stopping at a cancel.

    ``check`` is called after each item instead where there is no progress to report.

    Raises
    ------
    Cancelled
        After the items already begun have ended.
    """
    items = list(items)
    count = threads()
    if count == 1 or len(items) == 1:
        for number, item in enumerate(items):
            work(item)
            _report(context, (number + 1) / len(items), message, check)
        return
    with ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            for number, future in enumerate(futures):
                future.result()
                _report(context, (number + 1) / len(items), message, check)
        except BaseException:
            for future in futures:
                future.cancel()
            raise


def _report(context, fraction, message, check):
    if context is not None:
        context.progress(fraction, message)
    if check is not None:
        check()


def free_memory_bytes(device: str = "cpu") -> int | None:
    """Memory that can be had without swapping, on the device too, or None where the system does not tell."""
    free = [n for n in (_system_memory(), _control_group_memory()) if n is not None]
    if device == "cuda":
        import torch

        free.append(torch.cuda.mem_get_info()[0])
    return min(free, default=None)


def _system_memory() -> int | None:
    try:
        with open("/proc/meminfo") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return _memory_elsewhere()


def _control_group_memory(folder: str = "/sys/fs/cgroup") -> int | None:
    """What a container's limit leaves (control groups, version 2)."""
    try:
        limit, used = (Path(folder, f"memory.{name}").read_text().strip() for name in ("max", "current"))
        cache = re.search(r"^inactive_file (\d+)$", Path(folder, "memory.stat").read_text(), re.MULTILINE)
    except OSError:
        return None
    return None if limit == "max" else max(0, int(limit) - int(used) + (int(cache[1]) if cache else 0))


def _memory_elsewhere() -> int | None:
    if importlib.util.find_spec("psutil") is None:
        return None
    import psutil

    return int(psutil.virtual_memory().available)
