"""The application's side of a scripted module, and its main window."""

from __future__ import annotations

import sys

import slicer
from PySide6.QtCore import Property, QObject, Signal
from PySide6.QtWidgets import QMainWindow, QVBoxLayout, QWidget

from .widget_base import slicer_class, stored


class SceneHolder:
    """mrmlScene and setMRMLScene for widgets that pass the scene on."""

    slicer_signals = ("mrmlSceneChanged(vtkMRMLScene*)",)

    def mrmlScene(self):
        return self.__dict__.get("_scene")

    def setMRMLScene(self, scene):
        if scene is not self.mrmlScene():
            self.__dict__["_scene"] = scene
            self.mrmlSceneChanged.emit(scene)


@slicer_class
class qSlicerScriptedLoadableModuleWidget(SceneHolder, QWidget):
    """What holds a scripted module's Widget in the application."""

    mrmlSceneChanged = Signal(object)

    def __init__(self, parent=None):
        super().__init__(parent)
        self.setLayout(QVBoxLayout())
        self._entered, self._python_widget = False, None

    def self(self):
        return self._python_widget

    def reload(self):
        """A new Widget of the class as it is now, in the same frame; ``enter`` is not called again."""
        widget_class = getattr(sys.modules[self.moduleName], f"{self.moduleName}Widget")
        self._python_widget = widget_class(self)
        setattr(slicer.modules, f"{self.moduleName}Widget", self._python_widget)
        self._python_widget.setup()

    def enter(self):
        self._entered = True
        _call(self._python_widget, "enter")

    def exit(self):
        self._entered = False
        _call(self._python_widget, "exit")

    isEntered = Property(bool, lambda self: self._entered)
    moduleName = stored(str, "moduleName", "")


def _call(widget, method):
    if widget is not None and hasattr(widget, method):
        getattr(widget, method)()


class LoadableModule:
    """A module of Slicer's own, with a logic of C++ made when it is first asked for."""

    def __init__(self, name: str, path: str, make_logic):
        self.name, self.title, self.path = name, name, path
        self._make_logic, self._logic = make_logic, None

    def logic(self):
        if self._logic is None:
            self._logic = self._make_logic()
        return self._logic

    def widgetRepresentation(self):
        return None


@slicer_class
class qSlicerScriptedLoadableModule(QObject):
    """The application's side of a scripted module: what a module's constructor fills in."""

    def __init__(self, name: str = "", path: str = ""):
        super().__init__()
        self.name, self.path = name, path
        self.title, self.categories, self.dependencies, self.contributors = name, [], [], []
        self.helpText = self.acknowledgementText = ""
        self.icon = None
        self.hidden = False
        self.widgetRepresentationCreationEnabled = True
        self._widget = None

    def logic(self):
        return None  # Slicer has an empty C++ logic here; the Python logic is the widget's

    def widgetRepresentation(self):
        return self._widget


@slicer_class
class qSlicerMainWindow(QMainWindow):
    """A main window, for tests that need one."""
