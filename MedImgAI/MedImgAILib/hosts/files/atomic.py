"""Writes files so that a reader sees the old or the new ones, never half of one, and a failure leaves nothing."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ...core.errors import OutputError


@dataclass(frozen=True)
class Part:
    """One file to write: where, and a function that writes its bytes to a path in the same folder.

    The temporary path ends like the final one, because ITK and VTK choose the format by the suffix.
    """

    path: Path
    write: Callable[[Path], object]

    @classmethod
    def of_bytes(cls, path: Path, *chunks) -> Part:
        """A part made of bytes-like objects, written one after the other."""

        def write(temporary: Path):
            with temporary.open("wb") as stream:
                for chunk in chunks:
                    stream.write(chunk)

        return cls(path, write)


def check_writable(path: Path):
    """Raise :class:`OutputError` unless a file can be made at ``path``; leaves nothing behind."""
    path = Path(path)
    if path.is_dir():
        raise OutputError(f"'{path}' is a folder; give the name of a file in it.")
    if not path.parent.is_dir():
        raise OutputError(f"The folder '{path.parent}' does not exist; make it first.")
    probe = _temporary(path)
    try:
        probe.touch(exist_ok=False)
    except OSError as error:
        raise _sentence(path, error) from error
    probe.unlink()


def write_parts(parts: list[Part]) -> list[Path]:
    """Write all files or none, and return their paths.

    Every file is written and flushed to disk under a temporary name in its folder before the first is renamed;
    should a renaming fail, files that were there before are put back.

    Raises
    ------
    OutputError
        In one sentence, if the folder is missing or read-only, the disk is full, or a file of this name cannot be
        replaced.
    """
    for part in parts:
        if part.path.is_dir():
            raise OutputError(f"'{part.path}' is a folder; give the name of a file in it.")
        if not part.path.parent.is_dir():
            raise OutputError(f"The folder '{part.path.parent}' does not exist; make it first.")
    with contextlib.ExitStack() as leftovers:
        staged = []
        for part in parts:
            temporary = _temporary(part.path)
            leftovers.callback(temporary.unlink, missing_ok=True)
            try:
                temporary.touch(exist_ok=False)
                part.write(temporary)
                _sync(temporary)
            except (OSError, RuntimeError) as error:
                raise _sentence(part.path, error) from error
            staged.append((temporary, part.path))
        _rename_all(staged)
    return [part.path for part in parts]


def _rename_all(staged: list[tuple[Path, Path]]):
    with contextlib.ExitStack() as backups, contextlib.ExitStack() as undo:
        for temporary, final in staged:
            try:
                if final.exists():
                    backup = _temporary(final)
                    _link_or_copy(final, backup)
                    backups.callback(backup.unlink, missing_ok=True)
                    undo.callback(os.replace, backup, final)
                else:
                    undo.callback(final.unlink, missing_ok=True)
                os.replace(temporary, final)
            except OSError as error:
                raise _sentence(final, error) from error
        undo.pop_all()


def _link_or_copy(source: Path, target: Path):
    try:
        os.link(source, target)
    except OSError:
        # FAT and some network file systems have no hard links.
        shutil.copy2(source, target)


def _sync(path: Path):
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())


def _temporary(path: Path) -> Path:
    return path.with_name(f".{uuid.uuid4().hex[:12]}.{path.name}"[-200:].lstrip())


def _sentence(path: Path, error: BaseException) -> OutputError:
    code = getattr(error, "errno", None)
    if code in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(f"'{path}' could not be written because the disk is full; free space or choose another.")
    if code in (errno.EACCES, errno.EPERM, errno.EROFS):
        return OutputError(f"'{path}' could not be written because its folder is read-only; choose another folder.")
    if code is None and _disk_is_full(path.parent):
        return OutputError(f"'{path}' could not be written because the disk is full; free space or choose another.")
    reason = getattr(error, "strerror", None) or "the file format's library refused"
    return OutputError(f"'{path}' could not be written ({reason}).")


def _disk_is_full(folder: Path) -> bool:
    """Whether so little is left that a library which reports no reason most likely failed for it."""
    return shutil.disk_usage(folder).free < 64 * 1024
