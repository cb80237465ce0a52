"""Private folders through which a worker process and its parent exchange arrays.

A root folder lies in shared memory where there is some (Linux), another in the temporary folder. The owner holds
a lock on a file in each, so that the roots of a process that died can be told from those in use and be swept.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from ..core import codec
from ..core.errors import ResourceError
from .worker_supervisor import PREFIX

RESULT = "result-"
"""How the names of the folders begin that a worker makes; a worker that is idle or dead needs none of them."""
_SHARED_MEMORY = Path("/dev/shm")
_LOCK = "lock"
_MARGIN = 64 << 20
"""Bytes left free on the medium."""


def base_folders() -> list[Path]:
    """Where roots may lie, the fastest first."""
    bases = [Path(tempfile.gettempdir())]
    if sys.platform == "linux" and os.access(_SHARED_MEMORY, os.W_OK):
        bases.insert(0, _SHARED_MEMORY)
    return bases


def free_bytes(folder: Path) -> int:
    """What can be written to ``folder``; in shared memory no more than the memory that is free."""
    free = shutil.disk_usage(folder).free
    if folder.is_relative_to(_SHARED_MEMORY):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                free = min(free, int(line.split()[1]) << 10)
    return free


def choose_root(roots: list[Path], size: int) -> Path:
    """The first root with room for ``size`` bytes.

    Raises
    ------
    ResourceError
        If none has.
    """
    for root in roots:
        if free_bytes(root) >= size + _MARGIN:
            return root
    raise ResourceError(
        f"There is no room for {size / 2**20:.0f} MB of image data in {roots[-1].parent}; free some space there."
    )


class Workspace:
    """The roots of one runner, locked while it lives."""

    def __init__(self):
        sweep()
        self.roots: list[Path] = []
        self._locks = []
        for base in base_folders():
            root = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
            self._locks.append(_lock(root / _LOCK))
            self.roots.append(root)

    def close(self):
        """Remove everything. Arrays that are still mapped stay valid."""
        for lock in self._locks:
            lock.close()
        roots, self.roots, self._locks = self.roots, [], []
        for root in roots:
            shutil.rmtree(root, ignore_errors=True)  # Windows keeps mapped files; the next start sweeps them

    def result_folder(self, name: str) -> Path | None:
        """The folder of this name that a worker made in a root; None if there is none.

        A message never brings a path: what is read and then removed lies in a root for certain.
        """
        if not re.fullmatch(RESULT + r"\w+", name):
            return None
        return next((root / name for root in self.roots if (root / name).is_dir()), None)

    def remove_results(self):
        """Remove what a worker left that did not get to hand over its results."""
        for root in self.roots:
            for folder in root.glob(RESULT + "*"):
                remove_data(folder)


def sweep():
    """Remove the roots of processes that are gone."""
    for base in base_folders():
        for root in base.glob(PREFIX + "*"):
            try:
                if _is_abandoned(root):
                    shutil.rmtree(root)
            except OSError:
                continue  # another user's, or swept by another process at the same time


def _lock(path: Path):
    """An open file that no other process can lock or, on Windows, remove."""
    file = open(path, "wb")  # noqa: SIM115
    if os.name == "posix":
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return file


def _is_abandoned(root: Path) -> bool:
    if root.is_symlink() or (os.name == "posix" and root.stat().st_uid != os.getuid()):
        return False
    path = root / _LOCK
    if not path.exists():
        return time.time() - root.stat().st_mtime > 60  # its owner may be about to make the lock
    if os.name != "posix":
        path.unlink()  # refused while the owner has it open
        return True
    import fcntl

    with open(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


def write_data(value, roots: list[Path], prefix: str, room_factor: int = 1) -> Path:
    """Store task data in a new folder, which is gone again if that fails.

    Parameters
    ----------
    value
        Anything that :func:`codec.encode` takes.
    roots : list of Path
        Where the folder may lie.
    prefix : str
        How its name begins.
    room_factor : int
        How many times the size of the arrays must be free.

    Raises
    ------
    ResourceError
        If there is no room.
    TypeError
        If the value cannot be sent.
    """
    arrays: list[np.ndarray] = []
    description = codec.encode(value, arrays)
    size = sum(array.nbytes for array in arrays)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=choose_root(roots, room_factor * size)))
    try:
        for number, array in enumerate(arrays):
            np.save(folder / f"{number}.npy", array, allow_pickle=False)
        (folder / "data.json").write_text(json.dumps({"arrays": len(arrays), "value": description}))
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise ResourceError(f"The image data could not be written to {folder.parent}: {error.strerror}.") from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def read_data(folder: Path, writable: bool):
    """What :func:`write_data` stored, its arrays memory-mapped.

    Parameters
    ----------
    folder : Path
    writable : bool
        True maps copy-on-write: the arrays may be written, the files stay as they are.
    """
    stored = json.loads((folder / "data.json").read_text())
    arrays = [_map(folder / f"{n}.npy", writable) for n in range(stored["arrays"])]
    return codec.decode(stored["value"], arrays)


def _map(path: Path, writable: bool) -> np.ndarray:
    mapped = np.load(path, mmap_mode="c" if writable else "r", allow_pickle=False)
    return mapped.view(np.ndarray)


def remove_data(folder: Path):
    """Remove a folder of :func:`write_data`; on POSIX its mapped arrays stay valid.

    Raises
    ------
    ValueError
        If it does not lie in a root; nothing is removed then.
    """
    if not folder.parent.name.startswith(PREFIX):
        raise ValueError(f"{folder} is not an exchange folder.")
    shutil.rmtree(folder, ignore_errors=True)  # Windows keeps mapped files; they go when the runner closes
