"""The panel's forms and what it remembers, on real Qt and real MRML."""

import json
import logging
import subprocess
import sys

import panel_testing as pt
import pytest
from panel_testing import extra_tasks  # noqa: F401
from slicer_standin.fixtures import slicer_app  # noqa: F401

MODULES = {
    "MedImgAI": "MedImgAILib",
    "MedImgAIReconstruct": "MedImgAIReconstructLib",
    "MedImgAIFusion": "MedImgAIFusionLib",
}


@pytest.fixture
def driver(slicer_app, extra_tasks):  # noqa: F811
    return pt.PanelDriver(slicer_app, "MedImgAI")


@pytest.mark.parametrize("name", MODULES)
def test_opens_without_importing_what_is_slow(name):
    """A panel opens in a bare Slicer: nothing of torch, SciPy, SimpleITK is imported, no worker is started."""
    script = (
        "import sys, subprocess, slicer_standin; slicer_standin.install()\n"
        "from slicer_standin import loading; from slicer_standin.state import STATE\n"
        "started = []; popen = subprocess.Popen\n"
        "subprocess.Popen = lambda *a, **k: (started.append(a), popen(*a, **k))[1]\n"
        f"loaded = loading.load_module('{name}'); loaded.open()\n"
        "assert loaded.widget.panel.task is not None and not started and not STATE.errors, STATE.errors\n"
        "print(sorted({'torch', 'monai', 'scipy', 'SimpleITK', 'deepbet', 'pandas'} & set(sys.modules)))\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=_environment())
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.strip().splitlines()[-1] == "[]"


def _environment():
    import os

    roots = [entry for entry in sys.path if entry]
    return os.environ | {"PYTHONPATH": os.pathsep.join(roots), "QT_QPA_PLATFORM": "offscreen"}


def test_search_looks_everywhere(driver):
    every = driver.panel.chooser.visible_tasks()
    driver.ui.searchBox.text = "zebra"
    assert [t.id for t in driver.panel.chooser.visible_tasks()] == ["test.gallery"]
    driver.ui.searchBox.text = "GAUSS enhance"
    assert [t.id for t in driver.panel.chooser.visible_tasks()] == ["enhance.gaussian"]
    heading = next(row for row in range(driver.ui.taskList.count) if driver.ui.taskList.item(row).text() == "Test")
    assert driver.ui.taskList.item(heading).isHidden()
    driver.ui.searchBox.returnPressed.emit()
    assert driver.panel.task.id == "enhance.gaussian"
    driver.ui.searchBox.text = "no such words"
    assert driver.panel.chooser.visible_tasks() == []
    driver.ui.searchBox.text = ""
    assert driver.panel.chooser.visible_tasks() == every


def test_description_is_escaped_and_links_the_papers(driver):
    driver.choose("test.gallery")
    text = driver.ui.descriptionLabel.text
    assert "Shows &lt;everything&gt; &amp; more." in text
    assert '<a href="https://doi.org/10.1000/xyz123">' in text
    assert '<a href="https://example.org/page">' in text


def test_headings_cannot_be_chosen(driver):
    import qt

    item = driver.ui.taskList.item(0)
    assert not item.flags() & qt.Qt.ItemIsSelectable
    before = driver.panel.task
    driver.ui.taskList.setCurrentRow(0)
    assert driver.panel.task is before


def test_form_shows_the_declaration(driver):
    driver.choose("test.gallery")
    width = driver.editor("sigma_mm")
    assert (width.value, width.minimum, width.maximum, width.suffix, width.decimals) == (1.5, 0.0, 10.0, " mm", 1)
    assert "How wide." in width.toolTip and "between 0 mm and 10 mm" in width.toolTip and "1.5 mm" in width.toolTip
    assert driver.editor("open_end").value == 0.125
    assert driver.editor("any_count").value == -4
    assert not driver.editor("frills").enabled
    driver.editor("mode").currentIndex = 1
    assert driver.editor("frills").enabled
    assert driver.ui.advancedCollapsibleButton.collapsed
    assert driver.ui.advancedCollapsibleButton.isAncestorOf(driver.editor("label"))
    assert not driver.ui.deviceComboBox.isHidden()
    driver.choose("enhance.gaussian")
    assert driver.ui.deviceComboBox.isHidden() and driver.ui.advancedCollapsibleButton.isHidden()


def test_values_are_typed_clamped_and_reset(driver):
    import qt

    driver.choose("test.gallery")
    driver.editor("sigma_mm").value = 99.0
    assert driver.editor("sigma_mm").value == 10.0
    driver.editor("count").value = 0
    driver.editor("flag").checked = True
    driver.editor("mode").currentIndex = 1
    driver.editor("label").text = "xyz"
    driver.editor("folder").currentPath = "/tmp"
    pt.type_text(driver.editor("any_count"), "12")
    pt.type_text(driver.editor("open_end"), "3.25")
    pt.type_text(driver.editor("frills").findChild(qt.QAbstractSpinBox), "44")
    values, problems = driver.panel.state.parameters(driver.panel.task)
    assert problems == []
    expected = {"sigma_mm": 10.0, "count": 1, "flag": True, "mode": "fancy", "label": "xyz", "any_count": 12}
    expected |= {"open_end": 3.25, "frills": 4}
    assert {name: values[name] for name in expected} == expected
    assert values["folder"] == "/tmp"
    driver.ui.resetButton.click()
    assert driver.panel.state.parameters(driver.panel.task)[0] == driver.panel.task.defaults()
    assert driver.editor("sigma_mm").value == 1.5 and driver.editor("any_count").value == -4


def test_range_takes_the_limits_of_the_volume_and_keeps_its_values(driver, slicer_app):  # noqa: F811
    wide = pt.add_volume(slicer_app.scene, "Wide", low=-1000.0, high=3000.0)
    narrow = pt.add_volume(slicer_app.scene, "Narrow", low=12.0, high=15.0)
    slicer_app.flush()
    driver.choose("test.gallery")
    driver.input("image").setCurrentNode(wide)
    range_box = driver.editor("range")
    assert (range_box.minimum, range_box.maximum) == (-1000.0, 3000.0)
    assert (range_box.minimumValue, range_box.maximumValue) == (10.0, 20.0)
    range_box.setValues(-500.0, 700.0)
    assert driver.panel.state.parameters(driver.panel.task)[0]["range"] == (-500.0, 700.0)
    driver.input("image").setCurrentNode(narrow)
    assert driver.panel.state.parameters(driver.panel.task)[0]["range"] == (-500.0, 700.0)
    assert (range_box.minimumValue, range_box.maximumValue) == (-500.0, 700.0)
    driver.ui.resetButton.click()
    assert (range_box.minimumValue, range_box.maximumValue) == (10.0, 20.0)
    assert (range_box.minimum, range_box.maximum) == (10.0, 20.0)


def test_apply_says_what_is_missing(driver, slicer_app):  # noqa: F811
    driver.choose("test.gallery")
    assert not driver.ui.applyButton.enabled
    assert driver.ui.applyButton.toolTip == driver.status == "Image: select a volume."
    first = pt.add_volume(slicer_app.scene, "First")
    second = pt.add_volume(slicer_app.scene, "Second")
    slicer_app.flush()
    assert driver.input("image").currentNode() is first
    assert driver.status == "Others: select a volume."
    others = driver.input("others")
    others.setCheckState(first, 2)
    assert driver.status == "Others: select at least 2."
    others.setCheckState(second, 2)
    assert driver.status == "" and driver.ui.applyButton.enabled


def test_active_volume_is_taken_first(driver, slicer_app):  # noqa: F811
    pt.add_volume(slicer_app.scene, "First")
    second = pt.add_volume(slicer_app.scene, "Second")
    import slicer

    slicer.app.applicationLogic().GetSelectionNode().SetActiveVolumeID(second.GetID())
    slicer_app.flush()
    assert driver.panel.state.nodes(driver.panel.task, driver.panel.task.inputs[0]) == [second]


def test_two_inputs_get_different_nodes(slicer_app, extra_tasks):  # noqa: F811
    nodes = [pt.add_volume(slicer_app.scene, name) for name in ("Fixed", "Moving")]
    fusion = pt.PanelDriver(slicer_app, "MedImgAIFusion")
    fusion.choose("fusion.rigid_registration")
    assert [fusion.input(name).currentNode() for name in ("fixed", "moving")] == nodes


def test_each_task_keeps_its_own_values(driver):
    driver.choose("enhance.gaussian")
    driver.editor("sigma_mm").value = 4.0
    driver.choose("test.gallery")
    assert driver.editor("sigma_mm").value == 1.5
    driver.editor("sigma_mm").value = 2.5
    driver.choose("enhance.gaussian")
    assert driver.editor("sigma_mm").value == 4.0


def test_values_come_back_with_the_scene(driver, slicer_app, tmp_path):  # noqa: F811
    from MedImgAILib.hosts.mrml import save_scene

    scene = slicer_app.scene
    pt.add_volume(scene, "Other")
    image = pt.add_volume(scene, "Chosen")
    scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Other target")
    target = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Target")
    driver.choose("test.gallery")
    driver.input("image").setCurrentNode(image)
    driver.target("segmentation").setCurrentNode(target)
    driver.panel.rows.outputs["table"].check_box.checked = False
    driver.editor("sigma_mm").value = 7.5
    driver.run_in("in_process")
    driver.ui.deviceComboBox.currentIndex = driver.ui.deviceComboBox.findData("cpu")
    slicer_app.flush()
    path = tmp_path / "scene.mrb"
    save_scene(scene, path)
    scene.Clear(False)
    slicer_app.flush()
    assert driver.panel.task.id == "segment.threshold"
    driver.choose("enhance.median")
    load_into(scene, path)
    slicer_app.flush()
    assert driver.panel.task.id == "test.gallery"
    assert driver.editor("sigma_mm").value == 7.5
    assert driver.input("image").currentNode().GetName() == "Chosen"
    assert driver.target("segmentation").currentNode().GetName() == "Target"
    assert not driver.panel.rows.outputs["table"].check_box.checked
    assert driver.panel.rows.outputs["plot"].check_box.checked
    assert driver.ui.runnerComboBox.currentData == "in_process"
    assert driver.ui.deviceComboBox.currentData == "cpu"


def load_into(scene, path):
    """Open a scene bundle as Slicer does: the old scene is closed, the new one read in."""
    import tempfile
    import zipfile
    from pathlib import Path

    folder = Path(tempfile.mkdtemp())
    with zipfile.ZipFile(path) as bundle:
        bundle.extractall(folder)
    scene.SetURL(str(next(folder.rglob("*.mrml"))))
    assert scene.Connect()


def test_damaged_values_give_way_to_defaults(driver, slicer_app, caplog):  # noqa: F811
    pt.add_volume(slicer_app.scene)
    slicer_app.flush()
    driver.choose("enhance.gaussian")
    driver.panel.state.wrapper.values = json.dumps({"enhance.gaussian": {"sigma_mm": 400.0}})
    assert driver.editor("sigma_mm").value == 1.0
    assert driver.status.startswith("Standard deviation must be between 0 mm and 50 mm")
    with caplog.at_level(logging.WARNING):
        driver.panel.state.wrapper.values = "{no json"
    assert driver.editor("sigma_mm").value == 1.0 and "cannot be read" in caplog.text
    assert driver.status == "" and driver.ui.applyButton.enabled
    driver.panel.state.wrapper.taskId = "removed.task"
    assert driver.status == "There is no task 'removed.task' here; choose another one."
    assert not driver.ui.applyButton.enabled
    driver.choose("enhance.median")
    assert driver.panel.task.id == "enhance.median"


def test_deleted_nodes_are_forgotten(driver, slicer_app):  # noqa: F811
    scene = slicer_app.scene
    first, second = (pt.add_volume(scene, name) for name in ("First", "Second"))
    targets = [scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", f"Target {n}") for n in (1, 2)]
    driver.choose("enhance.gaussian")
    driver.input("image").setCurrentNode(second)
    driver.target("smoothed").setCurrentNode(targets[0])
    scene.RemoveNode(targets[0])
    slicer_app.flush()
    assert driver.target("smoothed").currentNode() is None, "no other node may be overwritten instead"
    assert driver.panel.state.nodes(driver.panel.task, driver.panel.task.outputs[0]) == []
    scene.RemoveNode(second)
    slicer_app.flush()
    assert driver.input("image").currentNode() is first
    scene.RemoveNode(targets[1])
    scene.RemoveNode(first)
    slicer_app.flush()
    assert driver.input("image").currentNode() is None and not driver.ui.applyButton.enabled


def test_a_selector_that_moves_on_is_not_the_users_choice(driver, slicer_app):  # noqa: F811
    """Where a selector shows a neighbour of the node that is deleted, that neighbour is not overwritten."""
    scene = slicer_app.scene
    pt.add_volume(scene)
    targets = [scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", f"Target {n}") for n in (1, 2)]
    driver.choose("enhance.gaussian")
    driver.target("smoothed").setCurrentNode(targets[0])
    tag = scene.AddObserver(
        scene.NodeAboutToBeRemovedEvent, lambda *_: driver.target("smoothed").setCurrentNode(targets[1])
    )
    scene.RemoveNode(targets[0])
    scene.RemoveObserver(tag)
    slicer_app.flush()
    assert driver.target("smoothed").currentNode() is None
    assert driver.panel.state.nodes(driver.panel.task, driver.panel.task.outputs[0]) == []


def test_scene_close_and_reenter(driver, slicer_app):  # noqa: F811
    pt.add_volume(slicer_app.scene)
    driver.choose("enhance.gaussian")
    driver.editor("sigma_mm").value = 3.0
    slicer_app.scene.Clear(False)
    slicer_app.flush()
    assert driver.panel.task.id == "segment.threshold" and not driver.ui.applyButton.enabled
    driver.loaded.leave()
    slicer_app.scene.Clear(False)
    image = pt.add_volume(slicer_app.scene)
    slicer_app.flush()
    driver.loaded.open()
    driver.choose("enhance.gaussian")
    assert driver.editor("sigma_mm").value == 1.0
    assert driver.input("image").currentNode() is image and driver.ui.applyButton.enabled


def test_reload_keeps_the_choices(driver, slicer_app):  # noqa: F811
    driver.choose("enhance.gaussian")
    driver.editor("sigma_mm").value = 3.0
    driver.loaded.close()
    again = pt.PanelDriver(slicer_app, "MedImgAI")
    assert again.panel.task.id == "enhance.gaussian" and again.editor("sigma_mm").value == 3.0
    pt.add_volume(slicer_app.scene)
    slicer_app.flush()
    assert again.ui.applyButton.enabled
