"""Saving and loading whole scenes."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import uuid
import zipfile
import zlib
from pathlib import Path

import slicer

from ...core.errors import InputError, OutputError


def save_scene(scene, path) -> Path:
    """Save a scene with all its data so that Slicer opens it.

    The scene is written to a temporary folder beside ``path`` and moved into place when it is complete; an
    earlier file stays as it was if anything fails.

    Parameters
    ----------
    scene : vtkMRMLScene
    path : path-like
        ``.mrb`` for a single file, ``.mrml`` for a file with a folder of data beside it (``<name>_data-…``).

    Returns
    -------
    Path

    Raises
    ------
    OutputError
        If the name has another ending, or folder or disk do not take the scene.
    """
    path = Path(path).absolute()
    if path.suffix.lower() not in (".mrb", ".mrml"):
        raise OutputError(f"A scene is saved as .mrb or .mrml, not as '{path.name}'.")
    try:
        with tempfile.TemporaryDirectory(prefix=f".{path.stem}-", dir=path.parent) as folder:
            bundle = Path(folder) / _plain_name(path)
            bundle.mkdir()
            _write_bundle(scene, bundle, path)
            if path.suffix.lower() == ".mrb":
                _place_archive(bundle, path)
            else:
                _place_folder(bundle, path)
    except OSError as error:
        raise OutputError(f"The scene cannot be saved as '{path}': {error.strerror or error}.") from error
    return path


def _plain_name(path: Path) -> str:
    """The scene's name in characters that neither MRML nor VTK's path functions take for something else."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", path.stem)


def _write_bundle(scene, bundle: Path, path: Path):
    messages = slicer.vtkMRMLMessageCollection()
    if not scene.SaveSceneToSlicerDataBundleDirectory(str(bundle), None, messages):
        said = (messages.GetAllMessagesAsString() or "").strip().splitlines()
        raise OutputError(
            f"The scene cannot be saved as '{path}': {said[0] if said else 'a node could not be written'}."
        )
    if not (bundle / f"{bundle.name}.mrml").is_file():
        raise OutputError(f"The scene cannot be saved as '{path}': the disk may be full.")


def _place_archive(bundle: Path, path: Path):
    """Zip the bundle as Slicer does (one folder inside) and move it into place."""
    archive = bundle.parent / "scene.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as target:
        for item in sorted(bundle.rglob("*")):
            target.write(item, item.relative_to(bundle.parent))
    os.replace(archive, path)


def _place_folder(bundle: Path, path: Path):
    """Move the data under a new name first: replacing the scene file is the one step that makes it valid."""
    earlier = _data_folders(path)
    data = path.parent / f"{bundle.name}_data-{uuid.uuid4().hex[:8]}"
    text = (bundle / f"{bundle.name}.mrml").read_text(encoding="utf-8")
    text = re.sub(r'(\b(?:fileName|fileListMember\d+)=")Data/', rf"\g<1>{data.name}/", text)
    (bundle / "scene.mrml").write_text(text, encoding="utf-8")
    os.rename(bundle / "Data", data)
    try:
        os.replace(bundle / "scene.mrml", path)
    except BaseException:
        shutil.rmtree(data, ignore_errors=True)
        raise
    for folder in earlier:
        shutil.rmtree(folder, ignore_errors=True)


def _data_folders(path: Path) -> list[Path]:
    """The data folders that the scene file in place uses."""
    if not path.is_file():
        return []
    names = re.findall(rf'="({_plain_name(path)}_data-[^/"]+)/', path.read_text(encoding="utf-8", errors="replace"))
    return [path.parent / name for name in sorted(set(names)) if (path.parent / name).is_dir()]


def load_scene(scene, path):
    """Add the nodes of a saved scene to ``scene``.

    Raises
    ------
    InputError
        If the file is missing or damaged.
    """
    path = Path(path).absolute()
    if not path.is_file():
        raise InputError(f"There is no scene file '{path}'.")
    messages = slicer.vtkMRMLMessageCollection()
    with tempfile.TemporaryDirectory() as folder:
        source = path
        if path.suffix.lower() == ".mrb":
            source = _unpack(path, folder)
        url, root = scene.GetURL(), scene.GetRootDirectory()
        scene.SetURL(str(source))
        done = scene.Import(messages)
        scene.SetURL(url)
        scene.SetRootDirectory(root)
    if not done or messages.GetNumberOfMessagesOfType(_ERROR_EVENT):
        said = (messages.GetAllMessagesAsString() or "").strip().splitlines()
        raise InputError(f"'{path}' cannot be loaded: {said[0] if said else 'it is damaged'}.")


def _unpack(path: Path, folder: str) -> Path:
    """The scene file of an archive, unpacked without leaving ``folder``."""
    try:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, OSError, zlib.error) as error:
        raise InputError(f"'{path}' is damaged or no Slicer scene ({error}).") from error
    scenes = sorted(Path(folder).rglob("*.mrml"), key=lambda found: len(found.parts))
    if not scenes:
        raise InputError(f"'{path}' contains no scene.")
    return scenes[0]


_ERROR_EVENT = 39
"""vtkCommand::ErrorEvent"""
