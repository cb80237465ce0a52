"""Where a model of another program lies: a folder, or a ZIP file unpacked where nothing of it can climb out."""

from __future__ import annotations

import hashlib
import tempfile
from contextlib import contextmanager
from pathlib import Path

from ...core import ModelError
from ...core.model_archive import is_archive, unpack_files


@contextmanager
def as_folder(source: Path, temporary: Path | None = None):
    """Within the block the folder that ``source`` is, or into which its files were unpacked.

    Parameters
    ----------
    source : Path
        A folder or a ZIP file.
    temporary : Path, optional
        Where to make the folder that is removed afterwards.

    Raises
    ------
    ModelError
        If it is neither, or the archive holds what it must not.
    """
    if source.is_dir():
        yield source
        return
    if not source.is_file():
        raise ModelError(f"There is no file or folder {source}.")
    if not is_archive(source):
        raise ModelError(f"{source} is no folder and no ZIP file.")
    with tempfile.TemporaryDirectory(prefix=".medimgai-", dir=temporary) as folder:
        unpack_files(source, Path(folder))
        yield Path(folder)


def inside(folder: Path, relative: str) -> Path:
    """A path within ``folder``.

    Raises
    ------
    ModelError
        If it lies outside.
    """
    path = folder / relative
    if Path(relative).is_absolute() or not path.resolve().is_relative_to(folder.resolve()):
        raise ModelError(f"The model refers to '{relative[:80]}', which lies outside of its folder.")
    return path


def short_hash(*texts: str) -> str:
    """A few letters that differ where the texts do."""
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:8]
