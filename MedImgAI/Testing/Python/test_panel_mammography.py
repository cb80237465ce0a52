"""A screening exam in the panel: views found in the scene, missing ones told, each result over its own view."""

import numpy as np
import panel_testing as pt
import pytest
from MedImgAILib.core.examples import example_volume
from MedImgAILib.hosts import mrml
from MedImgAILib.mammography.phantom import drawn_exam, volume_of
from panel_testing import extra_tasks  # noqa: F401
from slicer_standin.fixtures import slicer_app  # noqa: F401


@pytest.fixture
def exam(slicer_app, extra_tasks, monkeypatch):  # noqa: F811
    driver = pt.PanelDriver(slicer_app, "MedImgAI")
    driver.views = pt.SliceViews(monkeypatch, slicer_app.scene)
    mrml.write_node(example_volume(), slicer_app.scene, name="CT of the chest")
    images = drawn_exam(np.random.default_rng(2), shape=(170, 100), pixel_mm=0.5)
    driver.mammograms = {}
    for name in ("right_mlo", "left_cc", "right_cc"):
        volume = volume_of(images[name], 0.5)
        driver.mammograms[name] = mrml.write_node(volume, slicer_app.scene, name=f"Image {len(driver.mammograms)}")
    slicer_app.flush()
    driver.choose("cases.breast_screening")
    slicer_app.flush()
    return driver


def chosen(driver):
    found = {name: driver.input(name).currentNode() for name in ("left_cc", "left_mlo", "right_cc", "right_mlo")}
    return {name: node for name, node in found.items() if node is not None}


def test_the_panel_finds_the_views_and_tells_the_missing_one(exam):
    assert chosen(exam) == exam.mammograms
    assert "Not there: Left MLO" in exam.ui.statusLabel.text and exam.ui.applyButton.enabled


def test_what_the_user_takes_out_stays_out(exam):
    exam.input("right_cc").setCurrentNode(None)
    exam.app.flush()
    exam.panel.refresh()
    assert "right_cc" not in chosen(exam)
    assert "Left MLO, Right CC" in exam.ui.statusLabel.text


def test_each_result_lies_over_its_own_view(exam):
    exam.run_in("in_process")
    exam.apply()
    exam.finish()
    composites = exam.views.nodes("vtkMRMLSliceCompositeNode")
    slices = exam.views.nodes("vtkMRMLSliceNode")
    for number, name in enumerate(("left_cc", "right_cc", "right_mlo"), start=1):
        shown = composites[f"MedImgAI{number}"]
        assert shown.GetBackgroundVolumeID() == exam.mammograms[name].GetID()
        title = name.split("_")[0].capitalize() + " " + name.split("_")[1].upper()
        overlay = exam.app.scene.GetNodeByID(shown.GetForegroundVolumeID())
        assert f"{title} suspicion" in overlay.GetName() and shown.GetForegroundOpacity() == 0.25
        for kind, class_name in (("regions", "vtkMRMLSegmentationNode"), ("places", "vtkMRMLMarkupsFiducialNode")):
            nodes = [n for n in pt_nodes(exam, class_name) if f"{title}" in n.GetName()]
            assert len(nodes) == 1, (kind, [n.GetName() for n in pt_nodes(exam, class_name)])
            assert nodes[0].GetDisplayNode().GetViewNodeIDs() == (slices[f"MedImgAI{number}"].GetID(),)


def pt_nodes(driver, class_name):
    scene = driver.app.scene
    return [scene.GetNthNodeByClass(n, class_name) for n in range(scene.GetNumberOfNodesByClass(class_name))]
