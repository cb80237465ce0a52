"""Finds the tasks: every :class:`Task` subclass with an ``id`` in the MedImgAI libraries."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import pkgutil

from .errors import InputError
from .task import Task

LIBRARIES = ("MedImgAILib", "MedImgAIReconstructLib", "MedImgAIFusionLib")
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
