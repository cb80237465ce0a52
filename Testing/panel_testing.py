"""Helpers of the panel tests: the stand-in for Slicer with the tests' own tasks, and a worker that knows them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

TASK_FOLDERS = [Path(__file__).with_name(name) for name in ("panel_tasks", "worker_tasks")]


@pytest.fixture(scope="module")
def extra_tasks():
    """The registry and the shared worker with the tests' own tasks added; both as before afterwards."""
    from MedImgAILib import runners
    from MedImgAILib.core.registry import EXTRA_LIBRARIES

    registry_module = sys.modules["MedImgAILib.core.registry"]
    runners.runners()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(EXTRA_LIBRARIES, os.pathsep.join(map(str, TASK_FOLDERS)))
        patch.setattr(registry_module, "_registry", None)
        worker = runners.WorkerRunner()
        patch.setitem(runners._shared, "worker", worker)
        yield worker
        worker.close()


class PanelDriver:
    """Does what a user does with one module's panel."""

    def __init__(self, app, name: str):
        self.app = app
        self.loaded = app.load_module(name)
        self.widget = self.loaded.open()

    panel = property(lambda self: self.widget.panel)
    ui = property(lambda self: self.panel.ui)
    status = property(lambda self: self.ui.statusLabel.text)
    node = property(lambda self: self.panel.state.node)

    def choose(self, task_id: str):
        """Click a task in the list."""
        rows = {task.id: row for row, task in self.panel.chooser._tasks.items()}
        self.ui.taskList.setCurrentRow(rows[task_id])
        self.app.flush()

    def editor(self, name: str):
        """The widget of a parameter."""
        return self.panel.rows.form.editors[name].widget

    def input(self, name: str):
        """The selector widget of an input."""
        return self.panel.rows.inputs[name].widget

    def target(self, name: str):
        """The selector widget of an output."""
        return self.panel.rows.outputs[name].combo_box

    def run_in(self, runner: str):
        self.ui.runnerComboBox.currentIndex = self.ui.runnerComboBox.findData(runner)

    def apply(self):
        """Click the button, which must be possible."""
        assert self.ui.applyButton.enabled, self.ui.applyButton.toolTip
        self.ui.applyButton.click()

    def finish(self, timeout: float = 30.0):
        """Wait until nothing runs any more."""
        assert self.app.wait_until(lambda: not self.panel.run.is_running, timeout)
        self.app.flush()

    def misbehave(self, mode: str, count: int = 20):
        """Choose the misbehaving task and set it up."""
        self.choose("test.misbehave")
        self.editor("mode").currentIndex = self.editor("mode").findData(mode)
        self.editor("count").value = count


def type_text(widget, text: str):
    """Replace what a box holds by typing, key by key."""
    import qt

    widget.setFocus()
    widget.selectAll()
    for key in text:
        for kind in (qt.QEvent.KeyPress, qt.QEvent.KeyRelease):
            qt.QApplication.sendEvent(widget, qt.QKeyEvent(kind, ord(key), qt.Qt.NoModifier, key))


class Views:
    """A layout manager without views: what it is asked for is recorded."""

    threeDViewCount = 0

    def __init__(self, monkeypatch):
        import slicer

        self.charts = []
        monkeypatch.setattr(type(slicer.app), "layoutManager", lambda app: self)
        plots = SimpleNamespace(logic=lambda: SimpleNamespace(ShowChartInLayout=self.charts.append))
        monkeypatch.setattr(slicer.modules, "plots", plots, raising=False)


def add_volume(scene, name="Image", shape=(6, 7, 8), low=0.0, high=100.0):
    """A scalar volume with intensities from ``low`` to ``high``."""
    import slicer

    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    array = np.linspace(low, high, int(np.prod(shape)), dtype=np.float32).reshape(shape)
    slicer.util.updateVolumeFromArray(node, array)
    return node


def scene_text(scene) -> str:
    """The scene as it would be written."""
    scene.SetSaveToXMLString(1)
    scene.Commit()
    return scene.GetSceneXMLString()


def snapshot(scene) -> dict:
    """Class, name and modification time of every node but the parameter nodes."""
    nodes = (scene.GetNthNode(n) for n in range(scene.GetNumberOfNodes()))
    return {
        node.GetID(): (node.GetName(), node.GetMTime())
        for node in nodes
        if not node.IsA("vtkMRMLScriptedModuleNode") and not node.IsA("vtkMRMLSubjectHierarchyNode")
    }


class SliceViews(Views):
    """A layout manager on Slicer's own layout logic: it makes the slice nodes, here the composite nodes are added."""

    def __init__(self, monkeypatch, scene):
        import slicer

        super().__init__(monkeypatch)
        self._scene = scene
        self._logic = slicer.vtkMRMLLayoutLogic()
        self._logic.SetMRMLScene(scene)
        self.layouts, self.fitted, self.handed_on = [], [], []

    def layoutLogic(self):
        return self._logic

    @property
    def layout(self):
        return self._logic.GetLayoutNode().GetViewArrangement()

    def setLayout(self, layout):
        self.layouts.append(layout)
        self._logic.GetLayoutNode().SetViewArrangement(layout)

    def nodes(self, class_name):
        found = (self._scene.GetNthNodeByClass(n, class_name) for n in range(9))
        return {node.GetLayoutName(): node for node in found if node is not None}

    def sliceWidget(self, name):
        node = self.nodes("vtkMRMLSliceNode")[name]
        composites = self.nodes("vtkMRMLSliceCompositeNode")
        if name not in composites:
            made = self._scene.CreateNodeByClass("vtkMRMLSliceCompositeNode")
            made.UnRegister(None)
            made.SetLayoutName(name)
            composites[name] = self._scene.AddNode(made)
        fit = SimpleNamespace(FitSliceToBackground=lambda: self.fitted.append(name))
        return SimpleNamespace(
            mrmlSliceNode=lambda: node, mrmlSliceCompositeNode=lambda: composites[name], sliceLogic=lambda: fit
        )
