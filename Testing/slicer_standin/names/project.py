"""Checks the whole project."""

from __future__ import annotations

from pathlib import Path

from ..surface import REPOSITORY, Surface
from .python_files import PythonFile
from .record import Record
from .ui_files import UiFile, children

MODULES = ("MedImgAI", "MedImgAIReconstruct", "MedImgAIFusion")


def files(root: Path = REPOSITORY) -> tuple[list[Path], list[Path]]:
    """Python and ``.ui`` files that run inside Slicer: all of the modules' folders except their tests."""
    found = [path for module in MODULES for path in sorted((root / module).rglob("*")) if "Testing" not in path.parts]
    return [path for path in found if path.suffix == ".py"], [path for path in found if path.suffix == ".ui"]


def check(surface: Surface, python: list[Path], ui: list[Path]) -> Record:
    """Check the files against a list of names."""
    record = Record(surface, MODULES)
    ui_children: dict[str, set[str]] = {}
    for path in ui:
        UiFile(path, record).check()
        for name, classes in children(path).items():
            ui_children.setdefault(name, set()).update(classes)
    for path in python:
        PythonFile(path, record, ui_children).check()
    record.findings.sort()
    return record
