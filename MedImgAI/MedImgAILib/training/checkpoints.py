"""Checkpoints that are whole or not there: written beside, flushed to the disk, then renamed."""

from __future__ import annotations

import errno
import io
import os
import tempfile
from pathlib import Path

from ..core import MedImgAIError, OutputError

LAST = "last.pt"


class TrainingError(MedImgAIError):
    """A training cannot go on; the last good checkpoint is kept."""


class NotFiniteError(TrainingError):
    """The loss, the score or the weights are no numbers any more, though the data are."""


def write_atomically(path: Path, content: bytes):
    """Replace a file by ``content`` in one step; whatever happens, the old or the new one is there, whole.

    Raises
    ------
    OutputError
        If it cannot be written; the old file is unchanged and nothing else is left behind.
    """
    draft = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}-", suffix=".draft", dir=path.parent)
        draft = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
        draft = None
        _flush_folder(path.parent)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "the disk is full" if full else error.strerror or str(error)
        kept = "; the one before it is unchanged" if path.exists() else ""
        raise OutputError(f"The checkpoint {path} cannot be written because {reason}{kept}.") from error
    finally:
        if draft is not None:
            draft.unlink(missing_ok=True)


def _flush_folder(folder: Path):
    """Make a rename last beyond a power cut, where the system can."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def save_state(path: Path, state: dict):
    """Write tensors, numbers, texts and plain containers; see :func:`write_atomically`."""
    import torch

    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(path, buffer.getbuffer())


def load_state(path: Path) -> dict:
    """Read what :func:`save_state` wrote; a file of others cannot run code (``weights_only``).

    Raises
    ------
    TrainingError
        If the file is damaged.
    """
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).partition("\n")[0][:100].rstrip(".")
        raise TrainingError(f"The checkpoint {path} is damaged ({reason}); delete it to begin anew.") from error
