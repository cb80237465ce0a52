"""Looking at results together: one over the other, or side by side in linked views."""

import numpy as np
import panel_testing as pt
import pytest
from panel_testing import extra_tasks  # noqa: F401
from slicer_standin.fixtures import slicer_app  # noqa: F401


@pytest.fixture
def fusion(slicer_app, extra_tasks, monkeypatch):  # noqa: F811
    driver = pt.PanelDriver(slicer_app, "MedImgAIFusion")
    driver.views = pt.SliceViews(monkeypatch, slicer_app.scene)
    driver.first = pt.add_volume(slicer_app.scene, "CT")
    driver.second = pt.add_volume(slicer_app.scene, "MR", low=5.0, high=9.0)
    slicer_app.flush()
    driver.choose("fusion.image")
    driver.input("first").setCurrentNode(driver.first)
    driver.input("second").setCurrentNode(driver.second)
    driver.run_in("in_process")
    driver.apply()
    driver.finish()
    driver.app.view_calls.clear()
    return driver


def button(driver, name):
    import slicer

    return slicer.util.findChild(driver.ui.resultsCollapsibleButton, name)


def fused(driver):
    return next(node for node, _, _ in driver.panel.results._rows if node.IsA("vtkMRMLVolumeNode"))


def test_overlay_shows_the_result_over_the_reference(fusion):
    button(fusion, "overlayButton").click()
    ((_, _, asked),) = [call for call in fusion.app.view_calls if call[0] == "setSliceViewerLayers"]
    assert asked["background"] is fusion.first and asked["foreground"] is fused(fusion)
    assert asked["foregroundOpacity"] == 0.5


def test_overlay_prefers_the_first_result(slicer_app, monkeypatch):  # noqa: F811
    from MedImgAILib.panel.layouts import show_overlay

    pt.Views(monkeypatch)
    fixed, moving, moved, check = (pt.add_volume(slicer_app.scene, name) for name in ("fixed", "moving", "moved", "c"))
    table = slicer_app.scene.AddNewNodeByClass("vtkMRMLTableNode")

    def shown(*given):
        slicer_app.view_calls.clear()
        show_overlay(*given)
        return [call[2] for call in slicer_app.view_calls if call[0] == "setSliceViewerLayers"]

    (asked,) = shown([fixed, moving], [table, moved, check])
    assert (asked["background"], asked["foreground"]) == (fixed, moved)
    (asked,) = shown([fixed, moving], [table])
    assert (asked["background"], asked["foreground"]) == (fixed, moving)
    assert shown([fixed], [table]) == []


def test_side_by_side_gives_each_volume_a_linked_view(fusion):
    button(fusion, "sideBySideButton").click()
    composites = fusion.views.nodes("vtkMRMLSliceCompositeNode")
    shown = {name: node.GetBackgroundVolumeID() for name, node in composites.items() if name.startswith("MedImgAI")}
    volumes = (fusion.first, fusion.second, fused(fusion))
    assert shown == {f"MedImgAI{n}": volume.GetID() for n, volume in enumerate(volumes, start=1)}
    for name in shown:
        assert composites[name].GetLinkedControl() and composites[name].GetHotLinkedControl()
    slices = fusion.views.nodes("vtkMRMLSliceNode")
    frames = [slices[name].GetSliceToRAS() for name in shown]
    assert len({frame.GetElement(r, c) for frame in frames for r, c in [(0, 0)]}) == 1
    assert fusion.views.fitted == list(shown)
    # A second time, for two volumes only: laid out anew.
    fusion.views.layouts.clear()
    fusion.app.scene.RemoveNode(fused(fusion))
    button(fusion, "sideBySideButton").click()
    assert len(fusion.views.layouts) == 2 and fusion.views.layouts[-1] == fusion.views.layout
    text = fusion.views.layoutLogic().GetLayoutNode().GetLayoutDescription(fusion.views.layout)
    assert text.count("<view ") == 2


def test_buttons_do_nothing_once_the_volumes_are_gone(fusion):
    import slicer

    for node in (fused(fusion), fusion.first, fusion.second):
        slicer.mrmlScene.RemoveNode(node)
    for name in ("overlayButton", "sideBySideButton"):
        button(fusion, name).click()
    assert fusion.views.layouts == [] and fusion.app.view_calls == [] and fusion.app.errors == []


@pytest.mark.parametrize("count, rows", [(2, 1), (3, 1), (4, 2), (5, 2), (6, 2)])
def test_layouts_have_all_views_once(count, rows, slicer_app):  # noqa: F811
    from xml.etree import ElementTree

    from MedImgAILib.panel.layouts import description, view_name

    root = ElementTree.fromstring(description(count))
    assert [view.get("singletontag") for view in root.iter("view")] == [view_name(n) for n in range(count)]
    assert len(root.findall("item")) == rows
    widest = max(len(row.findall("layout/item")) for row in root.findall("item"))
    assert widest == int(np.ceil(count / rows))


def test_a_task_of_one_volume_or_no_views_has_no_such_buttons(slicer_app, extra_tasks):  # noqa: F811
    driver = pt.PanelDriver(slicer_app, "MedImgAIFusion")
    for name in ("CT", "MR"):
        pt.add_volume(slicer_app.scene, name)
    slicer_app.flush()
    driver.choose("fusion.image")
    driver.run_in("in_process")
    driver.apply()
    driver.finish()
    assert driver.status.startswith("Image fusion finished")
    import qt

    names = [b.objectName for b in driver.ui.resultsCollapsibleButton.findChildren(qt.QPushButton)]
    assert "overlayButton" not in names


def test_an_undone_run_takes_its_folder_along(fusion):
    import slicer
    import vtk

    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)

    def folders():
        found = vtk.vtkIdList()
        hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), found, True)
        items = [found.GetId(n) for n in range(found.GetNumberOfIds())]
        return [hierarchy.GetItemName(i) for i in items if hierarchy.GetItemLevel(i) == "Folder"]

    assert folders() == ["Image fusion of CT"]
    for node, _, _ in list(fusion.panel.results._rows):
        slicer.mrmlScene.RemoveNode(node)
    fusion.app.flush()
    assert folders() == []
