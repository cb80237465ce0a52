"""Every qt, ctk, slicer and qMRML name in the code that runs inside Slicer exists in Slicer 5.12."""

from __future__ import annotations

import json

import pytest
from slicer_standin import surface, update_names
from slicer_standin.names import project

# A list as Slicer's, as small as the sample below needs.
_WIDGET = {"members": ["layout"], "properties": ["enabled"], "signals": ["destroyed()"], "as": "QObject"}
LIST = {
    "qt": {
        "QObject": {"members": ["connect", "objectName"]},
        "QWidget": _WIDGET,
        "QPushButton": {
            "members": ["clicked", "setText"],
            "properties": ["text"],
            "signals": ["clicked(bool)"],
            "as": "QWidget",
        },
        "QVBoxLayout": {"members": ["addWidget"], "properties": [], "signals": [], "as": "QObject"},
        "QLabel": {"members": ["alignment"], "properties": ["alignment"], "signals": [], "as": "QWidget"},
        "QTimer": {"members": ["singleShot"], "properties": ["singleShot"], "signals": [], "as": "QObject"},
        "QMessageBox": {"members": ["Yes", "StandardButton", "exec"], "properties": [], "signals": [], "as": "QWidget"},
        "Qt": {"members": ["AlignLeft", "AlignTop"]},
    },
    "ctk": {
        "ctkCollapsibleButton": {"members": ["collapsed"], "properties": ["collapsed"], "signals": [], "as": "QWidget"},
        "ctkSliderWidget": {"members": ["value"], "properties": ["value"], "signals": [], "as": "QWidget"},
    },
    "slicer_widgets": {
        "qMRMLWidget": {
            "members": [],
            "properties": [],
            "signals": ["mrmlSceneChanged(vtkMRMLScene*)"],
            "as": "QWidget",
        },
        "qMRMLNodeComboBox": {"members": ["setMRMLScene"], "properties": [], "signals": [], "as": "QWidget"},
    },
    "slicer_names": ["app", "util", "vtkMRMLScalarVolumeNode"],
    "slicer_app": ["processEvents"],
    "slicer_util": ["childWidgetVariables", "loadUI"],
    "slicer_packaging": ["pip_check"],
    "slicer_modules": [],
    "ScriptedLoadableModule": {"ScriptedLoadableModuleWidget": ["setup"]},
}
GOOD = '''
import ctk
import qt
import slicer
import slicer.packaging
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleWidget

class Panel(ScriptedLoadableModuleWidget):
    def setup(self):
        self.ui = slicer.util.childWidgetVariables(slicer.util.loadUI("x.ui"))
        self.button = qt.QPushButton("Apply")
        self.button.enabled = self.ui.sigma.value > 0
        self.button.clicked.connect(self.apply)
        self.button.connect("clicked(bool)", self.apply)
        self.layout.addWidget(self.button)
        box = ctk.ctkCollapsibleButton()
        box.collapsed = True
        qt.QTimer.singleShot(0, lambda: self.button.setText("x"))
        if qt.QMessageBox().exec_() == qt.QMessageBox.Yes and slicer.packaging.pip_check("numpy"):
            slicer.app.processEvents()

class Editor:
    """Base of the editors.

    Parameters
    ----------
    caption : QLabel
    """

    def __init__(self, caption):
        self.widget = self._make()
        self._caption = caption

class SliderEditor(Editor):
    def _make(self):
        return make_slider()

    def show(self):
        self.widget.value = 3
        self._caption.alignment = qt.Qt.AlignLeft

def make_slider():
    slider = ctk.ctkSliderWidget()
    return slider
'''
UI = """<ui version="4.0"><class>X</class>
 <widget class="qMRMLWidget" name="X">
  <layout class="QVBoxLayout" name="rows"><property name="leftMargin"><number>0</number></property>
   <item><widget class="ctkSliderWidget" name="sigma"><property name="value"><double>1</double></property></widget>
   </item>
   <item><widget class="qMRMLNodeComboBox" name="volume"/></item>
   <item><widget class="QLabel" name="label"><property name="alignment"><set>Qt::AlignLeft|Qt::AlignTop</set></property>
   </widget></item>
  </layout></widget>
 <connections><connection><sender>X</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal>
  <receiver>volume</receiver><slot>setMRMLScene(vtkMRMLScene*)</slot></connection></connections></ui>
"""
WRONG_PYTHON = {
    'qt.QPushButton("Apply")': ('qt.QPushButtons("Apply")', "qt.QPushButtons does not exist"),
    "ctk.ctkCollapsibleButton()": ("ctk.ctkButton()", "ctk.ctkButton does not exist"),
    "self.button.enabled =": ("self.button.enable =", "QPushButton has no property enable"),
    "self.ui.sigma.value": ("self.ui.sigma.value()", "ctkSliderWidget.value is a property"),
    "ui.sigma": ("ui.sgima", "no .ui file has a widget named sgima"),
    "self.button.clicked": ("self.button.onClicked", "QPushButton has no onClicked"),
    '"clicked(bool)"': ('"clicked(int)"', "QPushButton has no signal clicked(int)"),
    "self.layout.addWidget": ("self.layout.setContentMargins", "QVBoxLayout has no setContentMargins"),
    "box.collapsed": ("box.isCollapsed", "ctkCollapsibleButton has no property isCollapsed"),
    "QTimer.singleShot": ("QTimer.callOnTimeout", "QTimer has no callOnTimeout"),
    "setText": ("setTexts", "QPushButton has no setTexts"),
    "QMessageBox.Yes": ("QMessageBox.StandardButton.Yes", "enumerators stand on the class"),
    "import slicer.packaging\n": ("", "slicer.packaging must be imported"),
    "pip_check": ("pip_verify", "slicer.packaging.pip_verify does not exist"),
    "slicer.app.processEvents": ("slicer.app.process", "slicer.app.process does not exist"),
    "loadUI(": ("loadUi(", "slicer.util.loadUi does not exist"),
    "self.widget.value": ("self.widget.setValue", "ctkSliderWidget has no property setValue"),
    "self._caption.alignment": ("self._caption.align", "QLabel has no property align"),
    '"numpy"': ('"vtkMRMLScalarVolumesNode"', "no class vtkMRMLScalarVolumesNode"),
    "ScriptedLoadableModuleWidget\n": ("ScriptedModuleWidget\n", "ScriptedModuleWidget does not exist"),
}
WRONG_UI = {
    'class="ctkSliderWidget"': ('class="ctkSlider"', "no widget class ctkSlider"),
    '"value"': ('"sigma"', "ctkSliderWidget has no property sigma"),
    "Qt::AlignLeft": ("Qt::AlignmentFlag::AlignLeft", "Qt::AlignmentFlag::AlignLeft does not exist"),
    "mrmlSceneChanged(vtkMRMLScene*)": ("sceneChanged(vtkMRMLScene*)", "qMRMLWidget has no signal"),
    "<slot>setMRMLScene": ("<slot>setScene", "qMRMLNodeComboBox has no slot setScene"),
    "<receiver>volume": ("<receiver>volumes", "names volumes"),
}


def findings(tmp_path, python=GOOD, ui=UI):
    (tmp_path / "x.py").write_text(python)
    (tmp_path / "x.ui").write_text(ui)
    return [str(f) for f in project.check(surface.Surface(LIST), [tmp_path / "x.py"], [tmp_path / "x.ui"]).findings]


def test_names_of_the_project_exist():
    """Against the full list where it is, else against the project's copy of the names used."""
    listing = surface.full() or surface.Surface.load(surface.TRIMMED)
    python, ui = project.files()
    assert python and ui
    record = project.check(listing, python, ui)
    assert not record.findings, "\n".join(map(str, record.findings))


def test_the_copy_alone_passes():
    record = project.check(surface.Surface.load(surface.TRIMMED), *project.files())
    advice = "\nrun python Testing/slicer_standin/update_names.py where the full list is"
    assert not record.findings, "\n".join(map(str, record.findings)) + advice


@pytest.mark.skipif(surface.full() is None, reason="the full list of Slicer's names is not here (MEDIMGAI_SLICER_API)")
def test_the_copy_is_up_to_date():
    wanted = project.check(surface.full(), *project.files()).trimmed()
    assert json.loads(surface.TRIMMED.read_text()) == wanted, "run python Testing/slicer_standin/update_names.py"
    assert surface.TRIMMED.read_text() == update_names.as_text(wanted)


def test_correct_source_has_no_findings(tmp_path):
    assert findings(tmp_path) == []


@pytest.mark.parametrize("right", WRONG_PYTHON)
def test_wrong_python_is_found(tmp_path, right):
    wrong, message = WRONG_PYTHON[right]
    assert right in GOOD
    found = findings(tmp_path, python=GOOD.replace(right, wrong))
    assert any(message in text for text in found), found
    assert all("x.py:" in text for text in found)


@pytest.mark.parametrize("right", WRONG_UI)
def test_wrong_ui_is_found(tmp_path, right):
    wrong, message = WRONG_UI[right]
    assert right in UI
    found = findings(tmp_path, ui=UI.replace(right, wrong))
    assert any(message in text for text in found), found


def test_names_exist_in_qt_6_too():
    """What Slicer 5.12 has in Qt 5 must be there in the Qt 6 that Slicer changes to."""
    from slicer_standin import pythonqt

    missing = []
    for name, entry in json.loads(surface.TRIMMED.read_text())["qt"].items():
        cls = next((getattr(module, name) for module in pythonqt.QT_MODULES if hasattr(module, name)), None)
        if cls is None:
            missing.append(name)
            continue
        properties = set(entry.get("properties", ()))
        missing += [f"{name}.{m}" for m in entry["members"] if m not in properties and not hasattr(cls, m)]
    assert not missing
