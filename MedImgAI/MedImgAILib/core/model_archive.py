"""Unpack a model package from a ZIP file without leaving its folder or filling the disk."""

from __future__ import annotations

import re
import stat
import zipfile
from pathlib import Path, PurePosixPath

from .errors import ModelError
from .model_package import ModelPackage, _write_folder

MOST_FILES = 100
MOST_BYTES = 8 << 30
_MOST_RATIO = 200
"""Weights hardly shrink; what expands more than this is a bomb."""
_FORBIDDEN = re.compile(r'[\x00-\x1f<>:"|?*\\]|[. ]$')
"""Characters that some system reads as more than a name."""


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
    try:
        with zipfile.ZipFile(archive) as file:
            members = _members(archive, file, most_bytes)
            _write_folder(Path(folder), lambda draft: _extract(archive, file, members, draft))
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise ModelError(f"{archive} is not a ZIP file that can be read ({error}).") from error
    except FileNotFoundError as error:
        raise ModelError(f"There is no file {archive}.") from error
    return ModelPackage.load(folder)


def _members(archive: Path, file: zipfile.ZipFile, most_bytes: int) -> dict[str, zipfile.ZipInfo]:
    """The files to write by name, after all entries have been judged."""
    infos = file.infolist()
    if len(infos) > MOST_FILES:
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
    members = {}
    for path, info in paths.items():
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
    ModelPackage.load(draft)
