"""The stand-in behaves as Slicer and PythonQt do where the panels rely on it."""

from __future__ import annotations

import enum
from typing import Annotated

import pytest

from slicer_standin.fixtures import slicer_app  # noqa: F401  isort: skip

import ctk
import qt
import slicer
import slicer.packaging
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

UI = """<?xml version="1.0" encoding="UTF-8"?>
<ui version="4.0">
 <class>Panel</class>
 <widget class="qMRMLWidget" name="Panel">
  <layout class="QVBoxLayout" name="rows">
   <item><widget class="ctkCollapsibleButton" name="inputs">
     <property name="text"><string>Inputs</string></property>
     <property name="collapsed"><bool>true</bool></property>
     <layout class="QFormLayout" name="form">
      <item row="0" column="0"><widget class="QLabel" name="label">
        <property name="text"><string>Volume:</string></property></widget></item>
      <item row="0" column="1"><widget class="qMRMLNodeComboBox" name="volume">
        <property name="nodeTypes"><stringlist><string>vtkMRMLScalarVolumeNode</string></stringlist></property>
        <property name="noneEnabled"><bool>true</bool></property>
        <property name="SlicerParameterName" stdset="0"><string>volume</string></property>
      </widget></item>
      <item row="1" column="1"><widget class="ctkSliderWidget" name="sigma">
        <property name="maximum"><double>20.000000000000000</double></property>
        <property name="value"><double>3.500000000000000</double></property>
        <property name="SlicerParameterName" stdset="0"><string>sigma</string></property>
      </widget></item>
      <item row="2" column="1"><widget class="QCheckBox" name="invert">
        <property name="SlicerParameterName" stdset="0"><string>invert</string></property>
      </widget></item>
      <item row="3" column="1"><widget class="QComboBox" name="mode">
        <property name="SlicerParameterName" stdset="0"><string>mode</string></property>
      </widget></item>
     </layout>
   </widget></item>
   <item><widget class="QPushButton" name="apply">
    <property name="text"><string>Apply</string></property></widget></item>
  </layout>
 </widget>
 <customwidgets>
  <customwidget><class>qMRMLWidget</class><extends>QWidget</extends><container>1</container></customwidget>
  <customwidget><class>qMRMLNodeComboBox</class><extends>QWidget</extends></customwidget>
  <customwidget><class>ctkCollapsibleButton</class><extends>QWidget</extends><container>1</container></customwidget>
  <customwidget><class>ctkSliderWidget</class><extends>QWidget</extends><header>x.h</header></customwidget>
 </customwidgets>
 <connections>
  <connection><sender>Panel</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal>
   <receiver>volume</receiver><slot>setMRMLScene(vtkMRMLScene*)</slot></connection>
 </connections>
</ui>
"""


class Mode(enum.Enum):
    FAST = 1
    EXACT = 2


@pytest.fixture
def panel(slicer_app, tmp_path):  # noqa: F811
    path = tmp_path / "Panel.ui"
    path.write_text(UI)
    widget = slicer.util.loadUI(str(path))
    return widget, slicer.util.childWidgetVariables(widget)


def wrapper_class():
    @parameterNodeWrapper
    class Parameters:
        volume: slicer.vtkMRMLScalarVolumeNode
        sigma: Annotated[float, WithinRange(0, 20)] = 2.0
        invert: bool = False
        mode: Mode = Mode.EXACT
        names: list[str]
        text: str = "{}"

    return Parameters


def parameter_node():
    class DemoLogic(ScriptedLoadableModuleLogic):
        pass

    return DemoLogic().getParameterNode()


def test_properties_are_attributes(slicer_app):  # noqa: F811
    button = qt.QPushButton("Apply")
    assert button.text == "Apply" and button.enabled is True
    button.enabled = False
    button.toolTip = "why"
    assert not button.isEnabled() and button.toolTip == "why"
    with pytest.raises(TypeError):
        button.text()
    box = qt.QComboBox()
    box.addItems(["a", "b"])
    box.currentIndex = 1
    assert (box.currentText, box.count, box.itemText(0)) == ("b", 2, "a")
    box.editable = True
    assert box.lineEdit().text == "b"  # an object that Qt made itself
    with pytest.raises(AttributeError):
        box.count = 3
    assert isinstance(qt.Qt.AlignLeft | qt.Qt.AlignTop, int) and qt.QMessageBox.Yes == 0x4000


def test_signals_pass_what_pythonqt_passes(slicer_app):  # noqa: F811
    button, seen = qt.QPushButton("x"), []

    def nothing():
        seen.append("nothing")

    def checked(state):
        seen.append(("checked", state))

    button.clicked.connect(nothing)
    button.clicked.connect(checked)
    button.connect("clicked()", lambda *values: seen.append(("()", values)))
    button.connect("clicked(bool)", lambda *values: seen.append(("(bool)", values)))
    button.click()
    assert seen == ["nothing", ("checked", False), ("()", ()), ("(bool)", (False,))]
    button.clicked.disconnect(nothing)
    button.disconnect("clicked()")
    seen.clear()
    button.click()
    assert seen == [("checked", False), ("(bool)", (False,))]
    with pytest.raises(ValueError, match="no signal"):
        button.connect("clicked(int)", nothing)


def test_ui_file_with_custom_widgets_and_connections(slicer_app, panel):  # noqa: F811
    widget, ui = panel
    assert type(widget) is slicer.qMRMLWidget and type(ui.volume) is slicer.qMRMLNodeComboBox
    assert ui.inputs.collapsed and ui.inputs.text == "Inputs" and ui.sigma.value == 3.5 and ui.sigma.maximum == 20
    assert tuple(ui.volume.nodeTypes) == ("vtkMRMLScalarVolumeNode",) and ui.volume.mrmlScene() is None
    widget.setMRMLScene(slicer.mrmlScene)
    assert ui.volume.mrmlScene() is slicer.mrmlScene
    widget.show()
    assert not ui.volume.visible
    ui.inputs.collapsed = False
    assert ui.volume.visible


def test_node_selector_follows_the_scene(slicer_app):  # noqa: F811
    selector, seen = slicer.qMRMLNodeComboBox(), []
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    selector.setMRMLScene(slicer.mrmlScene)
    selector.currentNodeChanged.connect(lambda node: seen.append(node and node.GetName()))
    selector.connect("currentNodeChanged(bool)", seen.append)
    first = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT")
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode", "skin")
    hidden = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "hidden")
    hidden.SetHideFromEditors(True)
    selector.showHidden = False
    assert selector.currentNode() is first and seen == ["CT", True] and selector.nodeCount() == 1
    selector.noneEnabled = True
    made = selector.addNode()
    assert selector.currentNode() is made and made.GetName().startswith("ScalarVolume")
    slicer.mrmlScene.RemoveNode(made)
    assert selector.currentNode() is None
    selector.setCurrentNode(first)
    seen.clear()
    slicer.mrmlScene.Clear(0)
    assert seen == [None, False] and selector.nodeCount() == 0


def test_parameter_node_connects_and_travels_with_the_scene(slicer_app, panel, tmp_path):  # noqa: F811
    widget, ui = panel
    widget.setMRMLScene(slicer.mrmlScene)
    parameters = wrapper_class()(parameter_node())
    assert parameters.sigma == 2.0 and parameters.mode is Mode.EXACT and parameters.volume is None
    parameters.connectGui(ui)
    assert ui.sigma.value == 2.0 and ui.mode.currentText == "EXACT"
    ui.sigma.value = 7.5
    ui.invert.click()
    ui.mode.currentIndex = 0
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT")
    ui.volume.setCurrentNode(volume)
    assert (parameters.sigma, parameters.invert, parameters.mode, parameters.volume) == (7.5, True, Mode.FAST, volume)
    parameters.sigma = 1.25
    assert ui.sigma.value == 1.25
    with pytest.raises(ValueError):
        parameters.sigma = 21.0
    assert parameters.sigma == 1.25
    parameters.names = ["liver", "spleen"]
    parameters.names.append("kidney")
    parameters.text = '{"a": [1, "<&>\\" ;|"]}'
    path = tmp_path / "scene.mrml"
    slicer.mrmlScene.SetURL(str(path))
    slicer.mrmlScene.Commit()
    slicer_app.new_scene()
    slicer.mrmlScene.SetURL(str(path))
    slicer.mrmlScene.Connect()
    again = wrapper_class()(parameter_node())
    assert (again.sigma, again.invert, again.mode, list(again.names)) == (
        1.25,
        True,
        Mode.FAST,
        ["liver", "spleen", "kidney"],
    )
    assert again.text == '{"a": [1, "<&>\\" ;|"]}' and again.volume.GetName() == "CT"


def test_parameter_names_in_the_node_are_slicers(slicer_app):  # noqa: F811
    parameters = wrapper_class()(parameter_node())
    parameters.names = ["a", "b"]
    node = parameters.parameterNode
    values = {name: node.GetParameter(name) for name in node.GetParameterNames()}
    assert values == {
        "volume": "",
        "sigma": "2.0",
        "invert": "False",
        "mode": "EXACT",
        "names.len": "2",
        "names.0": "a",
        "names.1": "b",
        "text": "{}",
    }
    assert node.GetAttribute("ModuleName") == "Demo" and node.GetSingletonTag() == "Demo"
    assert parameter_node() is node


def test_a_picture_has_text_not_boxes(slicer_app, panel, tmp_path):  # noqa: F811
    def ink(text):
        label = qt.QLabel(text)
        label.resize(60, 20)
        image = label.grab().toImage()
        return {image.pixel(x, y) for x in range(60) for y in range(20)}, bytes(image.constBits())

    assert ink("iiii")[1] != ink("oooo")[1]
    path = slicer_app.screenshot(panel[0], tmp_path / "panel.png", width=400)
    assert qt.QImage(str(path)).width() == 400


def test_range_keeps_its_order_and_limits(slicer_app):  # noqa: F811
    widget, seen = ctk.ctkRangeWidget(), []
    widget.minimum, widget.maximum = -1000, 3000
    widget.setValues(-200, 300)
    widget.connect("valuesChanged(double,double)", lambda low, high: seen.append((low, high)))
    widget.minimumValue = 500
    widget.maximumValue = 9000
    assert seen == [(500, 500), (500, 3000)] and (widget.minimumValue, widget.maximumValue) == (500, 3000)
    widget.maximum = 100
    assert (widget.minimumValue, widget.maximumValue) == (100, 100)


def test_checkable_selector(slicer_app):  # noqa: F811
    selector, seen = slicer.qMRMLCheckableNodeComboBox(), []
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    selector.setMRMLScene(slicer_app.scene)
    first, second = (slicer_app.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name) for name in "ab")
    selector.connect("checkedNodesChanged()", lambda: seen.append(len(selector.checkedNodes())))
    selector.check(first)
    selector.setCheckState(second, qt.Qt.Checked)
    assert selector.checkedNodes() == (first, second) and selector.allChecked()
    slicer_app.scene.RemoveNode(first)
    assert seen == [1, 2, 1] and selector.checkedNodes() == (second,)


def test_collapsing_hides_what_was_shown(slicer_app):  # noqa: F811
    button = ctk.ctkCollapsibleButton()
    layout = qt.QVBoxLayout(button)
    shown, hidden = qt.QLabel("shown"), qt.QLabel("hidden")
    layout.addWidget(shown)
    layout.addWidget(hidden)
    hidden.hide()
    button.show()
    full = button.sizeHint.height()
    button.collapsed = True
    assert not shown.visible and button.sizeHint.height() < full and button.checked is False
    button.collapsed = False
    assert shown.visible and not hidden.visible


def test_a_deleted_widget_is_gone_after_the_event_loop(slicer_app):  # noqa: F811
    parent = qt.QWidget()
    child = qt.QLabel("x", parent)
    child.deleteLater()
    slicer_app.flush()
    assert parent.children() == []


def test_disconnecting_the_gui_stops_both_ways(slicer_app, panel):  # noqa: F811
    widget, ui = panel
    parameters = wrapper_class()(parameter_node())
    tag = parameters.connectGui(widget)
    ui.sigma.value = 4.0
    parameters.disconnectGui(tag)
    ui.sigma.value = 5.0
    assert parameters.sigma == 4.0
    parameters.sigma = 6.0
    assert ui.sigma.value == 5.0


def test_a_deleted_selector_hears_no_more(slicer_app):  # noqa: F811
    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLModelNode"]
    selector.setMRMLScene(slicer_app.scene)
    node = slicer_app.scene.AddNewNodeByClass("vtkMRMLModelNode", "skin")
    selector.deleteLater()
    slicer_app.flush()
    node.SetName("bone")
    slicer_app.scene.AddNewNodeByClass("vtkMRMLModelNode", "brain")
    assert slicer_app.errors == []
