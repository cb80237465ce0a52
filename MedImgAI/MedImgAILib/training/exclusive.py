"""One training at a time in a folder."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

from ..core import OutputError

LOCK = "training.lock"
"""Name of the file by which a process holds a folder; it stays, empty, when the training has ended."""


@contextmanager
def alone_in(folder: Path):
    """Hold a folder, which is made if need be, against other processes; it is free again however this one ends.

    Where the file system knows no locks, nothing is held.

    Raises
    ------
    OutputError
        If another training holds it, or it cannot be written.
    """
    import filelock

    lock = filelock.FileLock(folder / LOCK, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except filelock.Timeout as error:
        raise OutputError(
            f"Another training is at work in the folder {folder}; wait until it has ended, or choose another folder."
        ) from error
    except NotImplementedError:
        pass
    except OSError as error:
        raise OutputError(f"The folder {folder} cannot be written: {error.strerror or error}.") from error
    try:
        yield
    finally:
        lock.release()
