"""Results come into the scene all together, or not at all."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import slicer
import vtk
from MedImgAILib.core import (
    Geometry,
    LinearTransform,
    OutputError,
    Plot,
    PlotPort,
    Segment,
    Segmentation,
    SegmentationPort,
    SequencePort,
    Series,
    Table,
    TablePort,
    Task,
    TransformPort,
    Volume,
    VolumePort,
)
from MedImgAILib.core.examples import example_segmentation, example_volume
from MedImgAILib.hosts.mrml import apply_results, new_scene, read_node, write_node
from MedImgAILib.hosts.mrml import nodes as mrml_nodes
from MedImgAILib.hosts.mrml.prepared import Prepared


class Everything(Task):
    id = "test.everything"
    title = "Everything"
    outputs = (
        VolumePort("image", "Filtered image"),
        VolumePort("labels", "Labels", labelmap=True),
        SegmentationPort("segments", "Segments"),
        TransformPort("transform", "Transform"),
        TablePort("table", "Table"),
        PlotPort("plot", "Chart"),
        SequencePort("series", "Series"),
    )


TASK = Everything()


def outputs():
    table = Table({"x": np.arange(3.0), "y": np.arange(3.0)})
    labels = example_segmentation()
    volume = example_volume("")
    return {
        "image": replace(volume, provenance={"task": "test.everything"}),
        "labels": Volume(labels.labelmap(), labels.geometry),
        "segments": replace(labels, name=""),
        "transform": LinearTransform(np.diag([1.0, 1.0, -1.0, 1.0])),
        "table": table,
        "plot": Plot(table, (Series("y", "x"),)),
    }


@pytest.fixture
def scene():
    return new_scene()


def state(scene):
    """Everything that a scene says about its nodes, as it would be saved, and the voxels."""
    scene.SetSaveToXMLString(1)
    scene.SetURL("")
    scene.Commit()
    xml = scene.GetSceneXMLString()
    scene.SetSaveToXMLString(0)
    arrays = {}
    for n in range(scene.GetNumberOfNodes()):
        node = scene.GetNthNode(n)
        if node.IsA("vtkMRMLVolumeNode") and node.GetImageData():
            arrays[node.GetID()] = slicer.util.arrayFromVolume(node).copy()
        if node.IsA("vtkMRMLSegmentationNode"):
            for segment in node.GetSegmentation().GetSegmentIDs():
                view = slicer.util.arrayFromSegmentInternalBinaryLabelmap(node, segment)
                arrays[node.GetID(), segment] = view.copy()
        if node.IsA("vtkMRMLTransformNode"):
            arrays[node.GetID()] = np.array(node.GetTransformToParent().TransformPoint(1, 2, 3))
        if node.IsA("vtkMRMLTableNode"):
            table = node.GetTable()
            cells = itertools.product(range(table.GetNumberOfRows()), range(table.GetNumberOfColumns()))
            arrays[node.GetID()] = np.array([table.GetValue(*cell).ToString() for cell in cells])
        if node.IsA("vtkMRMLSequenceNode"):
            values = [node.GetNthIndexValue(i) for i in range(node.GetNumberOfDataNodes())]
            arrays[node.GetID()] = np.array(values)
    ids = [scene.GetNthNode(n).GetID() for n in range(scene.GetNumberOfNodes())]
    hierarchy = scene.GetSubjectHierarchyNode()
    return xml, ids, arrays, hierarchy.GetNumberOfItems()


def assert_same_state(found, wanted):
    assert found[1] == wanted[1]
    assert found[0] == wanted[0]
    assert found[3] == wanted[3]
    assert found[2].keys() == wanted[2].keys()
    for key, array in wanted[2].items():
        np.testing.assert_array_equal(found[2][key], array)


def targets_of_every_kind(scene):
    """Nodes with other content, display and a parent transform, to be overwritten."""
    small = Geometry.from_spacing((2, 3, 4))
    move = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "parent")
    volume = Volume(np.arange(24, dtype=np.float32).reshape(2, 3, 4), small)
    labels = Volume(np.ones((2, 3, 4), np.uint8), small)
    segments = Segmentation.from_labels(np.ones((2, 3, 4), np.uint8), small, [Segment("old", 1)])
    table = Table({"old": [1.0]}, units={"old": "s"})
    matrix = np.eye(4)
    matrix[0, 3] = 9
    values = {
        "image": replace(volume, provenance={"task": "earlier"}, units="HU"),
        "labels": labels,
        "segments": segments,
        "transform": LinearTransform(matrix),
        "table": table,
        "plot": Plot(table, (Series("old", ""), Series("old", "", "second")), title="old"),
    }
    found = {}
    for name, value in values.items():
        found[name] = write_node(value, scene, name=f"old {name}", port=TASK.port(name))
        if found[name].IsA("vtkMRMLTransformableNode"):
            found[name].SetAndObserveTransformNodeID(move.GetID())
    return found


def test_new_nodes_of_every_kind(scene):
    nodes = apply_results(scene, TASK, outputs(), {}, names={"table": "My table"})
    assert {name: node.GetClassName() for name, node in nodes.items()} == {
        "image": "vtkMRMLScalarVolumeNode",
        "labels": "vtkMRMLLabelMapVolumeNode",
        "segments": "vtkMRMLSegmentationNode",
        "transform": "vtkMRMLLinearTransformNode",
        "table": "vtkMRMLTableNode",
        "plot": "vtkMRMLPlotChartNode",
    }
    assert nodes["table"].GetName() == "My table"
    assert nodes["image"].GetName() == "Filtered image"
    np.testing.assert_array_equal(read_node(nodes["image"]).array, outputs()["image"].array)
    assert read_node(nodes["image"]).provenance["task"] == "test.everything"


def test_names_tell_the_input_and_are_unique(scene):
    head = write_node(example_volume("MRHead"), scene)
    first = apply_results(scene, TASK, {"image": outputs()["image"]}, {}, head)["image"]
    second = apply_results(scene, TASK, {"image": outputs()["image"]}, {"image": None}, head)["image"]
    assert first.GetName() == "MRHead - Filtered image"
    assert second.GetName() != first.GetName() and second.GetName().startswith(first.GetName())


def test_overwritten_targets_hold_the_results_in_the_world(scene):
    targets = targets_of_every_kind(scene)
    count = scene.GetNumberOfNodes()
    nodes = apply_results(scene, TASK, outputs(), targets)
    assert nodes == targets
    assert scene.GetNumberOfNodes() <= count
    assert all(n.GetTransformNodeID() is None for n in nodes.values() if n.IsA("vtkMRMLTransformableNode"))
    assert nodes["image"].GetName() == "old image"
    assert [s.name for s in read_node(nodes["segments"]).segments] == ["Brain", "Mass"]
    assert list(read_node(nodes["table"]).columns) == ["x", "y"]
    assert read_node(nodes["plot"]).series[0].y == "y"


@pytest.mark.parametrize("with_targets", [False, True])
@pytest.mark.parametrize("bad", ["image", "labels", "table"])
def test_output_that_cannot_be_stored_changes_nothing(scene, bad, with_targets):
    targets = targets_of_every_kind(scene) if with_targets else {}
    head = write_node(example_volume("MRHead"), scene)
    results = outputs()
    if bad == "table":
        results["table"] = Table({"c": np.array([1j])})
    else:
        results[bad] = replace(results[bad], array=results[bad].array.astype(np.complex64))
    before = state(scene)
    with pytest.raises(OutputError):
        apply_results(scene, TASK, results, targets, head)
    assert_same_state(state(scene), before)


@pytest.mark.parametrize("with_targets", [False, True])
@pytest.mark.parametrize("failing", list(outputs()))
def test_failure_in_the_middle_of_writing_changes_nothing(scene, monkeypatch, failing, with_targets):
    """Whatever node fails after it was written, the ones before and itself are put back."""
    targets = targets_of_every_kind(scene) if with_targets else {}
    head = write_node(example_volume("MRHead"), scene)
    before = state(scene)
    genuine = mrml_nodes.prepare

    def prepare(value, port=None):
        ready = genuine(value, port)

        def install(node):
            ready.install(node)
            if port.name == failing:
                raise MemoryError("no more memory")

        return Prepared(ready.node_class, ready.accepts, install, ready.exact)

    monkeypatch.setattr("MedImgAILib.hosts.mrml.results.prepare", prepare)
    with pytest.raises(MemoryError):
        apply_results(scene, TASK, outputs(), targets, head)
    assert_same_state(state(scene), before)
    assert not scene.IsBatchProcessing()
    if with_targets:
        moved = []
        targets["image"].AddObserver(slicer.vtkMRMLTransformableNode.TransformModifiedEvent, lambda *a: moved.append(1))
        targets["image"].GetParentTransformNode().Inverse()
        targets["image"].GetParentTransformNode().Modified()
        assert moved
    monkeypatch.undo()
    assert len(apply_results(scene, TASK, outputs(), targets, head)) == 6


def test_sequence_target_is_put_back(scene):
    from MedImgAILib.core import Sequence

    old = write_node(Sequence([example_volume("a"), example_volume("b", 1)], [0.0, 7.5], name="old"), scene)
    before = state(scene)
    results = {"series": Sequence([example_volume("c", 2)], name="new"), "table": Table({"c": np.array([1j])})}
    with pytest.raises(OutputError):
        apply_results(scene, TASK, results, {"series": old})
    assert_same_state(state(scene), before)


def test_wrong_or_vanished_or_shared_target_is_refused(scene):
    volume = write_node(example_volume(), scene)
    before = state(scene)
    with pytest.raises(OutputError, match="cannot be stored"):
        apply_results(scene, TASK, outputs(), {"table": volume})
    two = {"image": outputs()["image"], "transform": outputs()["transform"]}
    gone = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "gone")
    scene.RemoveNode(gone)
    with pytest.raises(OutputError, match="no longer in the scene"):
        apply_results(scene, TASK, two, {"transform": gone})
    assert_same_state(state(scene), before)


def test_grouped_beside_the_reference(scene):
    hierarchy = scene.GetSubjectHierarchyNode()
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "Patient")
    study = hierarchy.CreateStudyItem(patient, "Study")
    head = write_node(example_volume("MRHead"), scene)
    hierarchy.CreateItem(study, head)
    nodes = apply_results(scene, TASK, outputs(), {}, head)
    for node in nodes.values():
        item = hierarchy.GetItemByDataNode(node)
        assert item != hierarchy.GetInvalidItemID()
        assert hierarchy.GetItemParent(item) == study
    loose = apply_results(scene, TASK, {"table": outputs()["table"]}, {})["table"]
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(loose)) == hierarchy.GetSceneItemID()


def test_views_refresh_once(scene):
    seen = []
    scene.AddObserver(scene.StartBatchProcessEvent, lambda *a: seen.append("start"))
    scene.AddObserver(scene.EndBatchProcessEvent, lambda *a: seen.append("end"))
    scene.AddObserver(scene.NodeAddedEvent, lambda *a: seen.append("node"))
    apply_results(scene, TASK, outputs(), {})
    assert seen.count("start") == seen.count("end") == 1
    assert seen[0] == "start" and seen[-1] == "end" and seen.count("node") >= 6


def test_one_undo_step(scene):
    scene.SetUndoOn()
    for name in ("vtkMRMLScalarVolumeNode", "vtkMRMLTableNode"):
        default = scene.CreateNodeByClass(name)
        default.SetUndoEnabled(True)
        scene.AddDefaultNode(default)
        default.UnRegister(None)
    scene.ClearUndoStack()
    two = {name: outputs()[name] for name in ("image", "table")}
    nodes = apply_results(scene, TASK, two, {})
    ids = [node.GetID() for node in nodes.values()]
    assert scene.GetNumberOfUndoLevels() == 1
    scene.Undo()
    assert [scene.GetNodeByID(node_id) for node_id in ids] == [None, None]


def test_segmentation_knows_the_volume_it_was_made_from(scene):
    head = write_node(example_volume("MRHead"), scene)
    node = apply_results(scene, TASK, {"segments": outputs()["segments"]}, {}, head)["segments"]
    assert node.GetNodeReferenceID(node.GetReferenceImageGeometryReferenceRole()) == head.GetID()
    move = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    shift = vtk.vtkMatrix4x4()
    shift.SetElement(0, 3, 5.0)
    move.SetMatrixTransformToParent(shift)
    head.SetAndObserveTransformNodeID(move.GetID())
    node = apply_results(scene, TASK, {"segments": outputs()["segments"]}, {}, head)["segments"]
    assert node.GetNodeReferenceID(node.GetReferenceImageGeometryReferenceRole()) is None
