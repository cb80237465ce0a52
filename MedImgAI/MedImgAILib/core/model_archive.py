"""Unpack a model package from a ZIP file without leaving its folder or filling the disk."""

from __future__ import annotations

import errno
import lzma
import re
import stat
import struct
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from .errors import ModelError, OutputError
from .model_package import ModelPackage, _write_folder

MOST_FILES = 100
MOST_TREE_FILES = 2000
MOST_BYTES = 8 << 30
_MOST_RATIO = 200
"""Weights hardly shrink; what expands more than this is a bomb."""
_FORBIDDEN = re.compile(r'[\x00-\x1f<>:"|?*\\]|[. ]$')
"""Characters that some system reads as more than a name."""


_DAMAGES = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, NotImplementedError, RuntimeError,
    ValueError,
)  # fmt: skip
"""What Python's reader raises where a file is damaged, encrypted or packed in a way that it does not know."""


def is_archive(path: Path) -> bool:
    """Whether a file is a ZIP file, be it a damaged one."""
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:
        return True


@contextmanager
def opened(archive: Path):
    """Within the block the ZIP file, open for reading.

    Raises
    ------
    ModelError
        If it is missing, or damaged in a place that is read within the block.
    """
    if not archive.is_file():
        raise ModelError(f"There is no file {archive}.")
    try:
        with zipfile.ZipFile(archive) as file:
            yield file
    except (*_DAMAGES, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # which is a place before the file's beginning
            raise
        raise ModelError(f"{archive} is not a ZIP file that can be read ({error}).") from error


def unpack_archive(archive: Path | str, folder: Path | str, most_bytes: int = MOST_BYTES) -> ModelPackage:
    """Unpack and check a package; ``folder`` appears when all is well, or not at all.

    A single folder around the package's files is taken off.

    Parameters
    ----------
    archive, folder : Path
        The folder must not exist, or be empty.
    most_bytes : int
        Largest total size of the unpacked files.

    Raises
    ------
    ModelError
        If the archive is damaged, holds a path, link or size that is not allowed, or no valid package.
    OutputError
        If the folder is in use or cannot be written.
    """
    archive = Path(archive)
    with opened(archive) as file:
        members = _members(archive, file, most_bytes)

        def fill(draft: Path):
            _extract(archive, file, members, draft)
            ModelPackage.load(draft)

        _write_folder(Path(folder), fill)
    return ModelPackage.load(folder)


def unpack_files(archive: Path | str, folder: Path | str, most_bytes: int = MOST_BYTES):
    """Unpack the files of another program's model, with their folders, into an existing empty folder.

    Raises
    ------
    ModelError
        If the archive is damaged or holds a path, link or size that is not allowed; the folder may hold a part then.
    """
    archive, folder = Path(archive), Path(folder)
    try:
        with opened(archive) as file:
            paths = _judged(archive, file, most_bytes, MOST_TREE_FILES)
            if len({str(path).lower() for path in paths}) < len(paths):
                raise ModelError(f"{archive} holds a file twice.")
            for path in paths:
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
            _extract(archive, file, {str(path): info for path, info in paths.items()}, folder)
    except OSError as error:
        raise OutputError(f"{archive} cannot be unpacked: {error.strerror or error}.") from error


def _judged(archive: Path, file: zipfile.ZipFile, most_bytes: int, most_files: int = MOST_FILES) -> dict:
    """The files by their path in the archive, a single folder around them taken off."""
    infos = file.infolist()
    if len(infos) > most_files:
        raise ModelError(f"{archive} holds {len(infos)} files; a model package has a few.")
    total = sum(info.file_size for info in infos)
    packed = sum(info.compress_size for info in infos)
    if total > most_bytes or total > _MOST_RATIO * max(packed, 1) + (1 << 20):
        raise ModelError(f"{archive} would unpack to {total / 2**20:.0f} MB, which is not plausible for a model.")
    paths = {}
    for info in infos:
        path = PurePosixPath(info.filename)
        mode = info.external_attr >> 16
        is_plain = stat.S_IFMT(mode) in (0, stat.S_IFDIR if info.is_dir() else stat.S_IFREG)
        is_inside = path.parts and not path.is_absolute() and ".." not in path.parts
        if not is_plain or not is_inside or any(_FORBIDDEN.search(part) for part in path.parts):
            raise ModelError(f"{archive} holds '{info.filename[:80]}', which is not a plain file inside it.")
        if info.flag_bits & 1:
            raise ModelError(f"{archive} is encrypted; unpack it yourself.")
        if not info.is_dir():
            paths[path] = info
    tops = {path.parts[0] for path in paths}
    if len(tops) == 1 and all(len(path.parts) > 1 for path in paths):
        paths = {PurePosixPath(*path.parts[1:]): info for path, info in paths.items()}
    return paths


def _members(archive: Path, file: zipfile.ZipFile, most_bytes: int) -> dict[str, zipfile.ZipInfo]:
    """The files to write by name, after all entries have been judged."""
    members = {}
    for path, info in _judged(archive, file, most_bytes).items():
        if len(path.parts) > 1 or path.name.lower() in {name.lower() for name in members}:
            raise ModelError(f"{archive} holds '{info.filename[:80]}', which has no place in a model package.")
        members[path.name] = info
    return members


def _extract(archive: Path, file: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], draft: Path):
    for name, info in members.items():
        left = info.file_size
        with file.open(info) as source, open(draft / name, "xb") as target:
            while chunk := source.read(1 << 20):
                left -= len(chunk)
                if left < 0:
                    raise ModelError(f"{archive} holds '{name[:80]}', which is larger than it says.")
                target.write(chunk)
