"""Batches made in the background while the network computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Barrier


@dataclass(frozen=True, eq=False)
class Batch:
    """What the loop hands to the network.

    Parameters
    ----------
    inputs : (B, C, …) float32 tensor
    targets : tensor
        What the loss takes: (B, K, J, I) labels, or (B, classes) shares of the classes.
    names : tuple of B str
        Ids of the cases, for messages.
    """

    inputs: object
    targets: object
    names: tuple[str, ...] = ()


def prefetched(make: Callable, numbers, workers: int = 1, ahead: int = 2) -> Iterator:
    """``make(n)`` for each of the numbers, in order, ``ahead`` of them beforehand by threads.

    Threads, not processes: the work is done by libraries that release the interpreter's lock, the memory is shared, and
    nothing must be started anew inside Slicer.

    Parameters
    ----------
    make : callable
        What it raises is raised here when its turn has come.
    numbers : iterable of int
    workers : int
        0 makes each when it is asked for.
    """
    if not workers:
        yield from map(make, numbers)
        return
    numbers, waiting = iter(numbers), deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="loading", initializer=_one_thread)
    try:
        _start_all(pool, workers)
        for number in numbers:
            waiting.append(pool.submit(make, number))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_all(pool: ThreadPoolExecutor, workers: int):
    """Start the threads now, and give threads that others start later the number of cores that they had before."""
    import torch

    cores = torch.get_num_threads()
    together = Barrier(workers + 1)
    for _ in range(workers):
        pool.submit(together.wait)
    together.wait()
    torch.set_num_threads(cores)


def _one_thread():
    """A loading thread shall not take the cores on which the network computes."""
    import torch

    torch.set_num_threads(1)
    torch.get_num_threads()  # makes it this thread's own number; else its first operation takes the one set last
