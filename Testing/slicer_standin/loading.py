"""Loading a scripted module as Slicer does, and pictures of its panel."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import slicer
from PySide6.QtCore import QSize
from PySide6.QtWidgets import QApplication, QWidget

from . import surface
from .application import flush
from .module_widgets import qSlicerScriptedLoadableModule, qSlicerScriptedLoadableModuleWidget
from .state import STATE


class LoadedModule:
    """A module with its panel.

    ``module`` is the application's object (``title``, ``categories``, …), ``instance`` the module's class,
    ``container`` the application's widget, ``widget`` the module's Widget (None until :meth:`open`).
    """

    def __init__(self, name: str, folder: Path):
        self.name = name
        path = folder / f"{name}.py"
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
        specification = importlib.util.spec_from_file_location(name, path)
        self.python = importlib.util.module_from_spec(specification)
        sys.modules[name] = self.python
        specification.loader.exec_module(self.python)
        self.module = qSlicerScriptedLoadableModule(name, str(path))
        self.instance = getattr(self.python, name)(self.module)
        setattr(slicer.modules, name.lower(), self.module)
        setattr(slicer.modules, f"{name}Instance", self.instance)
        self.container = self.widget = None

    def open(self, enter: bool = True):
        """Build the panel at the first call, and enter it; an exception in ``setup`` is recorded, as in Slicer."""
        if self.widget is None:
            self.container = qSlicerScriptedLoadableModuleWidget()
            self.container.moduleName = self.name
            self.container.setMRMLScene(slicer.mrmlScene)
            self.module._widget = self.container
            try:
                self.widget = getattr(self.python, f"{self.name}Widget")(self.container)
                self.container._python_widget = self.widget
                setattr(slicer.modules, f"{self.name}Widget", self.widget)
                self.widget.setup()
            except Exception:
                STATE.caught()
        if enter:
            self.container.enter()
        flush()
        return self.widget

    def leave(self):
        """Go to another module."""
        self.container.exit()
        flush()

    def close(self):
        """Unload the module: ``cleanup`` runs and the panel's widgets are deleted."""
        if self.widget is not None:
            if self.container.isEntered:
                self.leave()
            slicer.app.moduleManager().unload(self.name)
            self.container.deleteLater()
            self.container = self.widget = self.module._widget = None
            flush()


def load_module(name: str) -> LoadedModule:
    """Load ``<repository>/<name>/<name>.py``; call ``open()`` on the result for its panel."""
    return LoadedModule(name, surface.REPOSITORY / name)


def screenshot(widget: QWidget, path, width: int = 420, height: int | None = None) -> Path:
    """Save a picture of a widget at a panel's width, as high as its contents ask; returns the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    before = widget.size
    widget.resize(QSize(width, height or before.height()))
    widget.show()
    QApplication.processEvents()
    wanted = height or max(widget.sizeHint.height(), widget.heightForWidth(width))
    widget.resize(QSize(width, wanted))
    for _ in range(3):
        QApplication.processEvents()
    if not widget.grab().save(str(path)):
        raise OSError(f"cannot write {path}")
    return path
