"""``slicer.app``, ``slicer.modules`` and a scene with the application's logics."""

from __future__ import annotations

import functools
import sys
import tempfile
import types
from pathlib import Path

import slicer
from PySide6.QtCore import QEvent, QSettings, Signal
from PySide6.QtWidgets import QApplication

from .module_widgets import LoadableModule
from .state import STATE
from .widget_base import slicer_class

# Slicer's modules whose logic the panels may ask for: module name, logic class in slicer-core. Those of _LAZY look for
# files of Slicer's installation, complain without them, and are made when they are asked for.
_LAZY = {"Colors", "Terminologies"}
_LOGICS = {
    "Annotations": "vtkSlicerAnnotationModuleLogic",
    "Colors": "vtkSlicerColorLogic",
    "CropVolume": "vtkSlicerCropVolumeLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "Models": "vtkSlicerModelsLogic",
    "Plots": "vtkSlicerPlotsLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "Sequences": "vtkSlicerSequencesLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Tables": "vtkSlicerTablesLogic",
    "Terminologies": "vtkSlicerTerminologiesModuleLogic",
    "Texts": "vtkSlicerTextsLogic",
    "Transforms": "vtkSlicerTransformLogic",
    "Units": "vtkSlicerUnitsLogic",
    "VolumeRendering": "vtkSlicerVolumeRenderingLogic",
    "Volumes": "vtkSlicerVolumesLogic",
}


class _ModuleManager:
    """``slicer.app.moduleManager()``."""

    def __init__(self, application):
        self._application, self._unloading = application, []

    def module(self, name):
        return getattr(slicer.modules, name.lower(), None)

    def modulesNames(self):
        return tuple(module.name for module in vars(slicer.modules).values() if hasattr(module, "widgetRepresentation"))

    def connect(self, _signal, slot):
        self._unloading.append(slot)

    def disconnect(self, _signal, slot):
        if slot in self._unloading:
            self._unloading.remove(slot)

    def unload(self, name):
        """Tell a module's widget that it is being unloaded."""
        for slot in list(self._unloading):
            slot(name)


class _SettingsDialog:
    def addPanel(self, label, panel):
        STATE.view_calls.append(("settingsDialog.addPanel", (label, panel), {}))


@slicer_class
class qSlicerApplication(QApplication):
    """The application object; there is one per process."""

    startupCompleted = Signal()
    slicer_signals = ("startupCompleted()",)
    majorVersion, minorVersion, os, arch, applicationVersion = 5, 12, "linux", "amd64", "5.12.3"
    mainApplicationName, releaseType = "Slicer", "Stable"
    documentationBaseUrl = "https://slicer.readthedocs.io/en/5.12/"

    def __init__(self):
        super().__init__(["Slicer"])
        self.setApplicationName("Slicer")
        self.setOrganizationName("MedImgAI stand-in")
        self._folder = tempfile.TemporaryDirectory(prefix="slicer_standin_")
        folder = Path(self._folder.name)
        self.slicerHome = str(folder / "Slicer")
        self.temporaryPath = self.cachePath = str(folder / "temporary")
        Path(self.temporaryPath).mkdir()
        QSettings.setDefaultFormat(QSettings.IniFormat)
        QSettings.setPath(QSettings.IniFormat, QSettings.UserScope, str(folder / "settings"))
        self._manager = _ModuleManager(self)
        self._logic = None
        self._testing = True

    def testingEnabled(self):
        return self._testing

    def setTestingEnabled(self, enabled: bool):
        """Not in Slicer: choose what ``testingEnabled()`` answers."""
        self._testing = enabled

    def commandOptions(self):
        return types.SimpleNamespace(testingEnabled=self._testing, noMainWindow=True)

    def layoutManager(self):
        return None

    def moduleManager(self):
        return self._manager

    def applicationLogic(self):
        return self._logic

    def mrmlScene(self):
        return slicer.mrmlScene

    def settings(self):
        return QSettings()

    userSettings = settings

    def revisionUserSettings(self):
        return QSettings()

    def settingsDialog(self):
        return _SettingsDialog()

    def moduleDocumentationUrl(self, name):
        return f"{self.documentationBaseUrl}user_guide/modules/{name.lower()}.html"

    def pauseRender(self):
        STATE.view_calls.append(("pauseRender", (), {}))

    def resumeRender(self):
        STATE.view_calls.append(("resumeRender", (), {}))

    def restart(self):
        STATE.view_calls.append(("restart", (), {}))

    def openNodeModule(self, node):
        STATE.view_calls.append(("openNodeModule", (node,), {}))
        return True

    def useScene(self, scene):
        """Not in Slicer: make a scene the application's, with the logics its nodes need."""
        slicer.mrmlScene = scene
        self._logic = slicer.vtkSlicerApplicationLogic()
        self._logic.SetMRMLScene(scene)
        for name, class_name in _LOGICS.items():
            make_logic = functools.partial(self._module_logic, class_name, scene)
            module = LoadableModule(name, f"{self.slicerHome}/lib/{name}", make_logic)
            if name not in _LAZY:
                module.logic()
            setattr(slicer.modules, name.lower(), module)

    def _module_logic(self, class_name, scene):
        logic = getattr(slicer, class_name)()
        if hasattr(logic, "SetMRMLApplicationLogic"):
            logic.SetMRMLApplicationLogic(self._logic)
        logic.SetMRMLScene(scene)
        return logic


def new_scene():
    """An empty scene with the application's singletons."""
    scene = slicer.vtkMRMLScene()
    for class_name, tag in (("vtkMRMLSelectionNode", "Singleton"), ("vtkMRMLInteractionNode", "Singleton")):
        node = scene.CreateNodeByClass(class_name)
        node.UnRegister(None)
        node.SetSingletonTag(tag)
        scene.AddNode(node)
    return scene


def application() -> qSlicerApplication:
    """The one application object, made at the first call."""
    existing = QApplication.instance()
    return existing if isinstance(existing, qSlicerApplication) else qSlicerApplication()


def flush(milliseconds: int = 0) -> None:
    """Run the event loop until nothing is pending, at least for the given time."""
    import time

    end = time.monotonic() + milliseconds / 1000
    while True:
        QApplication.processEvents()
        QApplication.sendPostedEvents(None, QEvent.DeferredDelete)  # as at the return to the application's event loop
        if time.monotonic() >= end:
            break
        time.sleep(0.005)
    sys.stdout.flush()
