"""What the application does around a panel: scenes read into another, reload of the module, its end."""

import panel_testing as pt
import pytest
from panel_testing import extra_tasks  # noqa: F401
from slicer_standin.fixtures import slicer_app  # noqa: F401

MODULES = ("MedImgAI", "MedImgAIReconstruct", "MedImgAIFusion")


def scene_with_a_volume(name: str) -> str:
    """The text of a scene file with one volume node."""
    import slicer

    scene = slicer.vtkMRMLScene()
    scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    return pt.scene_text(scene)


def read_into(scene, text: str):
    scene.SetLoadFromXMLString(1)
    scene.SetSceneXMLString(text)
    scene.Import()


@pytest.mark.parametrize("entered", [True, False])
def test_choices_survive_a_scene_read_into_this_one(slicer_app, entered):  # noqa: F811
    """Slicer's selectors list the scene anew after an import and select nothing; the panel remembers."""
    for name in ("First", "Second", "Third"):
        pt.add_volume(slicer_app.scene, name)
    driver = pt.PanelDriver(slicer_app, "MedImgAI")
    driver.choose("enhance.gaussian")
    second, third = (slicer_app.scene.GetFirstNodeByName(name) for name in ("Second", "Third"))
    driver.input("image").setCurrentNode(second)
    driver.target("smoothed").setCurrentNode(third)
    slicer_app.flush()
    if not entered:
        driver.loaded.leave()
    read_into(slicer_app.scene, scene_with_a_volume("Imported"))
    slicer_app.flush()
    if not entered:
        driver.loaded.open()
    task, state = driver.panel.task, driver.panel.state
    assert slicer_app.scene.GetFirstNodeByName("Imported") is not None
    assert state.nodes(task, task.port("image")) == [second] and driver.input("image").currentNode() is second
    assert state.nodes(task, task.port("smoothed")) == [third] and driver.target("smoothed").currentNode() is third


def test_checked_nodes_survive_a_scene_read_into_this_one(slicer_app):  # noqa: F811
    scene = slicer_app.scene
    nodes = [scene.AddNewNodeByClass("vtkMRMLSegmentationNode", f"Rater {n}") for n in range(3)]
    driver = pt.PanelDriver(slicer_app, "MedImgAIFusion")
    driver.choose("fusion.majority_vote")
    port = next(port for port in driver.panel.task.inputs if port.multiple)
    for node in nodes[:2]:
        driver.input(port.name).check(node)
    slicer_app.flush()
    read_into(scene, scene_with_a_volume("Imported"))
    slicer_app.flush()
    assert driver.panel.state.nodes(driver.panel.task, port) == nodes[:2]
    assert list(driver.input(port.name).checkedNodes()) == nodes[:2]


@pytest.mark.parametrize("name", MODULES)
def test_reload_in_developer_mode(slicer_app, name):  # noqa: F811
    """Slicer sets the new panel up in the frame that is shown already, and does not enter it."""
    import slicer

    driver = pt.PanelDriver(slicer_app, name)
    before, chosen = driver.panel, list(driver.panel.tasks)[-1]
    driver.choose(chosen)
    slicer.util.reloadScriptedModule(name)
    slicer_app.flush()
    after = driver.loaded.container.self().panel
    assert slicer_app.errors == [] and after is not before
    assert after.task.id == chosen and after.rows.inputs and before.Observations == []
    slicer_app.scene.Clear(False)
    pt.add_volume(slicer_app.scene)
    slicer_app.flush()
    assert slicer_app.errors == [] and after.task is not None and before.state is None


def test_a_panel_that_is_not_shown_stays_empty_until_it_is(slicer_app):  # noqa: F811
    """Slicer sets panels up without entering them, as its generic tests do."""
    loaded = slicer_app.load_module("MedImgAI")
    panel = loaded.open(enter=False).panel
    assert panel.state is None and slicer_app.scene.GetSingletonNode("MedImgAI", "vtkMRMLScriptedModuleNode") is None


def test_end_with_a_refresh_pending(slicer_app):  # noqa: F811
    """The event loop turns once more after the modules are gone; what is due then must not touch widgets."""
    import slicer

    panel = pt.PanelDriver(slicer_app, "MedImgAI").panel
    pt.add_volume(slicer_app.scene)
    assert panel._refresh_is_due
    called = []
    panel.results.forget_deleted_nodes = lambda: called.append(True)
    slicer.app.moduleManager().unload("MedImgAI")
    slicer_app.flush()
    assert slicer_app.errors == [] and not called


def test_wrong_input_leaves_no_traceback_in_the_log(slicer_app, tmp_path, caplog):  # noqa: F811
    """A damaged file is the user's to put right: one sentence in the panel and one line in the log."""
    from MedImgAILib.core.errors import InputError

    damaged = tmp_path / "scan.npy"
    damaged.write_bytes(b"\x93NUMPY is cut off")
    driver = pt.PanelDriver(slicer_app, "MedImgAIReconstruct")
    driver.choose("reconstruct.fft")
    driver.input("kspace").currentPath = str(damaged)
    with caplog.at_level("DEBUG"):
        driver.apply()
    assert not driver.panel.run.is_running and "scan" in driver.status

    def refuse():
        raise InputError("The image is empty.") from ValueError("inner")

    driver.panel.run._make_job = refuse
    with caplog.at_level("DEBUG"):
        driver.apply()
    assert driver.status == "The image is empty." and "ValueError('inner')" in caplog.text
    assert not [r for r in caplog.records if r.exc_info or r.levelno >= 40 or "Traceback" in r.getMessage()]


def test_scene_closed_while_packages_are_installed(slicer_app, monkeypatch):  # noqa: F811
    """The event loop turns during an installation; the run then ends with a sentence."""
    from MedImgAILib.hosts import slicer_packages

    pt.add_volume(slicer_app.scene)
    driver = pt.PanelDriver(slicer_app, "MedImgAI")
    driver.choose("enhance.gaussian")

    def install(task):
        driver.loaded.leave()
        slicer_app.scene.Clear(False)
        return True

    monkeypatch.setattr(slicer_packages, "ensure", install)
    driver.apply()
    assert driver.status == "The scene was closed meanwhile; choose the inputs again."
    assert not driver.panel.run.is_running and slicer_app.errors == []
