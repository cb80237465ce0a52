"""Runs from the panel: progress, result, cancel, crash, and a scene that changes meanwhile."""

import logging
import os
import signal
import time

import numpy as np
import panel_testing as pt
import pytest
from panel_testing import extra_tasks  # noqa: F401
from slicer_standin.fixtures import slicer_app  # noqa: F401

RUNNERS = ("worker", "in_process")


@pytest.fixture
def driver(slicer_app, extra_tasks):  # noqa: F811
    driver = pt.PanelDriver(slicer_app, "MedImgAI")
    driver.image = pt.add_volume(slicer_app.scene, "Head")
    slicer_app.flush()
    return driver


def wait_for_start(driver, value=1):
    """Until the running task has reported progress."""
    assert driver.app.wait_until(lambda: driver.ui.progressBar.value >= value, 20)


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_run_ends_in_the_scene(driver, runner):
    import slicer

    driver.misbehave("steps", 40)
    driver.run_in(runner)
    driver.apply()
    assert driver.ui.applyButton.text == "Cancel" and not driver.ui.progressBar.isHidden()
    values, formats = [], set()

    def over():
        values.append(driver.ui.progressBar.value)
        formats.add(driver.ui.progressBar.format)
        return not driver.panel.run.is_running

    assert driver.app.wait_until(over, 30)
    assert values == sorted(values) and len(set(values)) > 5
    assert driver.ui.progressBar.value == 100 and driver.ui.progressBar.isHidden()
    assert any(text.startswith("%p% – about ") and text.endswith(" s left") for text in formats)
    assert driver.status.startswith("Misbehave finished in ")
    assert driver.ui.applyButton.text == "Apply" and driver.ui.applyButton.enabled
    (node,) = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")[1:]
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(node), 2 * slicer.util.arrayFromVolume(driver.image))
    assert "Misbehave started" in driver.ui.logText.toPlainText()
    assert driver.panel.results._rows[0][0] is node


@pytest.mark.parametrize("runner", RUNNERS)
def test_cancel_changes_nothing(driver, runner):
    driver.misbehave("steps", 400)
    driver.run_in(runner)
    before = pt.snapshot(driver.app.scene)
    driver.apply()
    wait_for_start(driver)
    driver.ui.applyButton.click()
    clicked = time.monotonic()
    assert not driver.ui.applyButton.enabled and driver.status == "Cancelling…"
    driver.finish(5)
    assert time.monotonic() - clicked < 2.0
    assert driver.status == "Cancelled; nothing was changed."
    assert pt.snapshot(driver.app.scene) == before
    driver.misbehave("double")
    driver.apply()
    driver.finish()
    assert driver.status.startswith("Misbehave finished")


@pytest.mark.parametrize("runner", RUNNERS)
def test_stop_and_keep_ends_with_a_result(driver, runner):
    """The iterating task is told, its result arrives, and its curve is seen meanwhile."""
    import slicer

    assert driver.ui.keepButton.isHidden() and driver.ui.curvesFrame.isHidden()
    driver.misbehave("iterate", 5000)
    driver.run_in(runner)
    driver.apply()
    assert not driver.ui.keepButton.isHidden() and driver.ui.keepButton.enabled
    assert driver.app.wait_until(lambda: not driver.ui.curvesFrame.isHidden(), 20)
    chart = driver.ui.curvesFrame.findChild(qt_label(), "curve_Objective")
    driver.app.wait_until(lambda: driver.ui.progressBar.value > 0, 2)
    driver.ui.keepButton.click()
    assert not driver.ui.keepButton.enabled and driver.ui.applyButton.enabled
    assert driver.status == "Ending with the result so far…"
    driver.finish(10)
    assert driver.status.startswith("Misbehave finished in ") and driver.ui.keepButton.isHidden()
    assert "ended at " in driver.ui.logText.toPlainText()
    (node,) = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")[1:]
    assert '"finished_early": true' in node.GetAttribute("MedImgAI.Provenance")
    picture = chart.pixmap.toImage()
    colors = {picture.pixelColor(x, y).name() for x in range(picture.width()) for y in range(picture.height())}
    assert "#1f77b4" in colors  # the curve itself
    driver.misbehave("double")
    driver.apply()
    driver.finish()
    assert driver.ui.curvesFrame.isHidden()


def qt_label():
    import qt

    return qt.QLabel


def test_curves_are_placed_by_their_values():
    from MedImgAILib.panel.curves import axis_range, positions, thin

    assert axis_range([2.0, 4.0]) == (2.0, 4.0, False)
    assert axis_range([0.001, 1.0])[2] and not axis_range([0.0, 1.0])[2]
    low, high, _log = axis_range([3.0, 3.0])
    assert low < 3.0 < high
    (x0, y0), (x1, y1), (x2, y2) = positions([(0, 1.0), (5, 10.0), (10, 100.0)], (0, 10), axis_range([1.0, 100.0]))
    assert x1 - x0 == x2 - x1 > 0 and abs((y0 - y1) - (y1 - y2)) <= 1 and y0 > y2
    points = [(i, i) for i in range(2001)]
    thin(points)
    assert len(points) < 2000 and points[-1] == (2000, 2000) and points[0] == (0, 0)


def test_a_killed_worker_leaves_the_panel_usable(driver, extra_tasks, caplog):  # noqa: F811
    driver.misbehave("steps", 400)
    before = pt.snapshot(driver.app.scene)
    driver.apply()
    wait_for_start(driver)
    os.kill(extra_tasks.worker_pid, signal.SIGKILL)
    driver.finish(10)
    assert "worker" in driver.status and driver.status.endswith(".") and "Traceback" not in driver.status
    assert pt.snapshot(driver.app.scene) == before
    driver.misbehave("double")
    assert driver.ui.applyButton.enabled
    driver.apply()
    driver.finish()
    assert driver.status.startswith("Misbehave finished")


def test_a_result_that_comes_after_cancel_is_dropped(slicer_app):  # noqa: F811
    from MedImgAILib.panel.job import JobMonitor
    from MedImgAILib.runners import Finished, Handle, Job, Stopped

    class Stubborn(Handle):
        def cancel(self):
            self.put(Finished({"result": 1}))

    ends = []
    monitor = JobMonitor(lambda *_: None, lambda *_: None, lambda *_: None, ends.append)
    monitor.start(Stubborn(Job("test")))
    monitor.cancel()
    assert slicer_app.wait_until(lambda: not monitor.is_running, 5)
    assert ends == [Stopped()]


@pytest.mark.parametrize(
    "seconds, text", [(0.2, "1 s"), (59.4, "59 s"), (60, "1 min 0 s"), (3599.4, "59 min 59 s"), (7260, "2 h 1 min")]
)
def test_durations(seconds, text):
    from MedImgAILib.panel.job import duration_text

    assert duration_text(seconds) == text


@pytest.mark.parametrize("times", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_random_moments(driver, extra_tasks, times):  # noqa: F811
    """Whatever moment the worker dies at, the scene stays as it was and the next Apply works."""
    random = np.random.default_rng(times)
    for _ in range(times):
        driver.misbehave("steps", 10)
        before = pt.scene_text(driver.app.scene)
        driver.apply()
        driver.app.wait_until(lambda: extra_tasks.worker_pid is not None, 20)
        driver.app.flush(int(random.uniform(0, 400)))
        os.kill(extra_tasks.worker_pid, signal.SIGKILL)
        driver.finish(10)
        assert "worker" in driver.status
        assert pt.scene_text(driver.app.scene) == before
    driver.misbehave("double")
    driver.apply()
    driver.finish()
    assert driver.status.startswith("Misbehave finished")


def test_an_error_is_a_sentence_and_its_traceback_is_logged(driver, caplog):
    driver.misbehave("input_error")
    driver.apply()
    driver.finish()
    assert driver.status == "The image is upside down."
    driver.misbehave("value_error")
    with caplog.at_level(logging.ERROR, logger="MedImgAI"):
        driver.apply()
        driver.finish()
    assert "an inner matter" in caplog.text and "Traceback" in caplog.text
    assert "Traceback" not in driver.status and driver.status.endswith(".")
    assert driver.app.dialogs == [], "errors are shown in the panel, not in a modal box"


def test_bad_input_is_refused_before_anything_runs(driver):
    import slicer

    slicer.util.arrayFromVolume(driver.image)[0, 0, 0] = np.nan
    driver.choose("enhance.gaussian")
    before = pt.snapshot(driver.app.scene)
    driver.apply()
    assert not driver.panel.run.is_running
    assert driver.status.startswith("Image: Volume 'Head' contains NaN or infinite voxels")
    assert pt.snapshot(driver.app.scene) == before


def test_closing_the_scene_drops_the_run(driver):
    driver.misbehave("steps", 400)
    driver.apply()
    wait_for_start(driver)
    driver.app.scene.Clear(False)
    assert not driver.panel.run.is_running
    driver.app.flush(300)
    assert driver.app.scene.GetNumberOfNodesByClass("vtkMRMLVolumeNode") == 0
    assert driver.status == "Image: select a volume." and driver.ui.applyButton.text == "Apply"
    pt.add_volume(driver.app.scene)
    driver.misbehave("double")
    driver.apply()
    driver.finish()
    assert driver.status.startswith("Misbehave finished")


def test_a_run_goes_on_when_the_module_is_left(driver):
    driver.misbehave("steps", 10)
    driver.apply()
    driver.loaded.leave()
    driver.finish()
    assert driver.app.scene.GetNumberOfNodesByClass("vtkMRMLVolumeNode") == 2
    driver.loaded.open()
    assert driver.ui.applyButton.text == "Apply"


@pytest.mark.parametrize("runner", RUNNERS)
def test_nodes_deleted_during_the_run(driver, runner):
    scene = driver.app.scene
    target = pt.add_volume(scene, "Target")
    driver.misbehave("steps", 20)
    driver.input("image").setCurrentNode(driver.image)
    driver.target("result").setCurrentNode(target)
    driver.run_in(runner)
    driver.apply()
    wait_for_start(driver)
    scene.RemoveNode(target)
    scene.RemoveNode(driver.image)
    driver.finish()
    assert "was deleted meanwhile, so a new one was made" in driver.status
    assert scene.GetNumberOfNodesByClass("vtkMRMLVolumeNode") == 1


def test_overwriting_a_node(driver):
    import slicer

    target = pt.add_volume(driver.app.scene, "Target", shape=(2, 2, 2))
    driver.misbehave("double")
    driver.input("image").setCurrentNode(driver.image)
    driver.target("result").setCurrentNode(target)
    driver.apply()
    driver.finish()
    assert slicer.util.arrayFromVolume(target).shape == (6, 7, 8) and target.GetName() == "Target"
    assert driver.app.scene.GetNumberOfNodesByClass("vtkMRMLVolumeNode") == 2


def test_deleted_input_is_noticed_at_apply(driver):
    """Also where the event loop had no time to notice."""
    driver.choose("enhance.gaussian")
    assert driver.ui.applyButton.enabled
    driver.app.scene.RemoveNode(driver.image)
    driver.ui.applyButton.click()
    assert not driver.panel.run.is_running and driver.status == "Image: select a volume."


@pytest.fixture
def gallery(driver):
    second = pt.add_volume(driver.app.scene, "Second")
    driver.choose("test.gallery")
    import qt

    for node in (driver.image, second):
        driver.input("others").setCheckState(node, qt.Qt.Checked)
    return driver


def test_results_of_every_kind(gallery, monkeypatch):
    import qt
    import slicer

    views = pt.Views(monkeypatch)
    gallery.apply()
    gallery.finish()
    assert gallery.status.startswith("Gallery finished")
    area = gallery.ui.resultsCollapsibleButton
    assert not area.isHidden()
    assert slicer.util.findChild(area, "warningsLabel").text == "This is only a test."
    nodes = {node.GetClassName(): node for node, _, _ in gallery.panel.results._rows}
    assert {name.replace("vtkMRML", "") for name in nodes} == {
        "SegmentationNode", "TableNode", "PlotChartNode", "TextNode"
    }  # fmt: skip
    buttons = {button.text: button for button in area.findChildren(qt.QPushButton)}
    buttons["Show in 3D"].click()
    segmentation = nodes["vtkMRMLSegmentationNode"]
    assert segmentation.GetSegmentation().ContainsRepresentation("Closed surface")
    buttons["Show plot"].click()
    assert views.charts == [nodes["vtkMRMLPlotChartNode"]]
    assert gallery.app.errors == []
    gallery.app.scene.RemoveNode(nodes["vtkMRMLTableNode"])
    gallery.app.flush()
    assert len(gallery.panel.results._rows) == 3


def test_an_output_that_is_off_makes_no_node(gallery):
    gallery.panel.rows.outputs["table"].check_box.checked = False
    gallery.panel.rows.outputs["plot"].check_box.checked = False
    gallery.apply()
    gallery.finish()
    scene = gallery.app.scene
    assert scene.GetNumberOfNodesByClass("vtkMRMLTableNode") == 0
    assert scene.GetNumberOfNodesByClass("vtkMRMLTextNode") == 1


def test_the_result_is_shown_in_the_slice_views(driver, monkeypatch):
    pt.Views(monkeypatch)
    driver.choose("enhance.gaussian")
    driver.apply()
    driver.finish()
    shown = [keywords for name, _, keywords in driver.app.view_calls if name == "setSliceViewerLayers"]
    assert shown and shown[-1]["background"].GetName().startswith("Head") and not shown[-1]["fit"]


def test_two_panels_share_the_worker(driver, slicer_app):  # noqa: F811
    fusion = pt.PanelDriver(slicer_app, "MedImgAIFusion")
    fusion.choose("fusion.resample")
    fusion.input("image").setCurrentNode(driver.image)
    driver.misbehave("steps", 15)
    driver.apply()
    fusion.apply()
    fusion.finish()
    driver.finish()
    assert driver.status.startswith("Misbehave finished")
    assert fusion.status.startswith("Resample to a reference finished")


def test_without_a_main_window(driver):
    import slicer

    assert slicer.app.layoutManager() is None and slicer.util.mainWindow() is None
    driver.choose("segment.threshold")
    driver.apply()
    driver.finish()
    assert driver.status.startswith("Threshold finished")
    assert driver.app.errors == []
