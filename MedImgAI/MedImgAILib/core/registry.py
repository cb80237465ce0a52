"""Finds the tasks: every :class:`Task` subclass with an ``id`` in the MedImgAI libraries and in the user's own.

A user adds task files without touching the product: the environment variable ``MEDIMGAI_EXTRA_LIBRARIES`` lists
folders of such files, separated as in ``PATH``. A folder is imported as a package of its own name, so that its
files may import one another; the worker process inherits the variable and finds the same tasks.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import pkgutil
import sys
from pathlib import Path

from .errors import InputError
from .task import Task

LIBRARIES = ("MedImgAILib", "MedImgAIReconstructLib", "MedImgAIFusionLib")
EXTRA_LIBRARIES = "MEDIMGAI_EXTRA_LIBRARIES"
_NOT_TASKS = {"core", "hosts", "runners", "panel"}

logger = logging.getLogger("MedImgAI")


class Registry:
    """Tasks by id. A file that fails to import costs only its own tasks; :attr:`failures` says why."""

    def __init__(self, libraries: tuple[str, ...] = LIBRARIES):
        self.tasks: dict[str, Task] = {}
        self.failures: dict[str, str] = {}
        for library in libraries:
            if importlib.util.find_spec(library) is not None:
                self._collect(importlib.import_module(library), library)
        for folder in filter(None, os.environ.get(EXTRA_LIBRARIES, "").split(os.pathsep)):
            self._collect_folder(Path(folder).resolve())

    def _collect_folder(self, folder: Path):
        try:
            if str(folder.parent) not in sys.path:
                sys.path.append(str(folder.parent))
                importlib.invalidate_caches()
            package = importlib.import_module(folder.name)
            if Path(next(iter(package.__path__))).resolve() != folder:
                raise ImportError(f"another package is called '{folder.name}' too; rename the folder")
        except Exception as error:
            self.failures[str(folder)] = f"{type(error).__name__}: {error}"
            logger.exception("The tasks in %s are not available.", folder)
            return
        self._collect(package, folder.name)

    def _collect(self, package, library: str):
        for info in pkgutil.iter_modules(package.__path__):
            name = f"{package.__name__}.{info.name}"
            if package.__name__ == library and info.name in _NOT_TASKS:
                continue
            try:
                module = importlib.import_module(name)
            except Exception as error:
                self.failures[name] = f"{type(error).__name__}: {error}"
                logger.exception("The tasks of %s are not available.", name)
                continue
            for value in vars(module).values():
                if isinstance(value, type) and issubclass(value, Task) and value.__module__ == name and value.id:
                    self._add(value, library)
            if info.ispkg:
                self._collect(module, library)

    def _add(self, task_class: type[Task], library: str):
        if task_class.id in self.tasks:
            raise RuntimeError(f"Two tasks are called '{task_class.id}'.")
        task = task_class()
        task.library = library
        self.tasks[task_class.id] = task

    def __getitem__(self, task_id: str) -> Task:
        try:
            return self.tasks[task_id]
        except KeyError:
            import difflib

            near = difflib.get_close_matches(task_id, self.tasks, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else "; 'medimgai tasks' lists them."
            raise InputError(f"There is no task '{task_id}'{hint}") from None

    def __iter__(self):
        return iter(sorted(self.tasks.values(), key=lambda t: (t.group, t.title)))

    def __len__(self) -> int:
        return len(self.tasks)

    def of_library(self, library: str) -> list[Task]:
        """The tasks of one module's panel, sorted by group and title."""
        return [t for t in self if t.library == library]


_registry: Registry | None = None


def registry() -> Registry:
    """The registry of this process, made at the first call."""
    global _registry
    if _registry is None:
        _registry = Registry()
    return _registry
