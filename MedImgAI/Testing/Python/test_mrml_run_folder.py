"""Results of a fusion in one folder of the subject hierarchy: through saving, undo and repeated runs."""

import json

import numpy as np
import pytest
import slicer
import vtk
from MedImgAILib.core import Context, DisplacementTransform, LinearTransform, TransformPort, VolumePort, registry
from MedImgAILib.core.examples import example_segmentation, example_volume
from MedImgAILib.core.provenance import describe_transform
from MedImgAILib.core.task import Task
from MedImgAILib.hosts.mrml import apply_results, load_scene, new_scene, read_node, save_scene, tidy, write_node
from MedImgAILib.hosts.mrml.records import stored_provenance
from MedImgAILib.hosts.mrml.run_folder import RUN


@pytest.fixture
def scene():
    return new_scene()


def tree(scene):
    """{name: name of the parent} of every item, and the folders."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    found = vtk.vtkIdList()
    hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), found, True)
    items = [found.GetId(n) for n in range(found.GetNumberOfIds())]
    parents = {hierarchy.GetItemName(i): hierarchy.GetItemName(hierarchy.GetItemParent(i)) for i in items}
    return parents, [hierarchy.GetItemName(i) for i in items if hierarchy.GetItemLevel(i) == "Folder"]


def vote():
    task = registry()["fusion.majority_vote"]
    answers = [example_segmentation(f"rater {n}", 0.8 * n) for n in range(3)]
    return task, task.execute({"segmentations": answers}, {}, Context())


def in_hierarchy(scene, value, study=None):
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    node = write_node(value, scene)
    hierarchy.CreateItem(study or hierarchy.GetSceneItemID(), node)
    return node


def test_all_results_of_a_fusion_are_in_one_folder_beside_the_reference(scene):
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "Patient")
    study = hierarchy.CreateStudyItem(patient, "Study")
    head = in_hierarchy(scene, example_volume("MRHead"), study)
    task, results = vote()
    nodes = apply_results(scene, task, results, {}, head)
    parents, folders = tree(scene)
    assert folders == ["Majority vote of MRHead"] and parents[folders[0]] == "Study"
    assert len(nodes) == 3 and {parents[node.GetName()] for node in nodes.values()} == set(folders)
    assert parents["MRHead"] == "Study"
    item = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(nodes["consensus"]))
    record = json.loads(hierarchy.GetItemAttribute(item, RUN))
    assert record["task"] == "fusion.majority_vote" and record["reference"] == "MRHead"
    assert record["outputs"]["consensus"] == nodes["consensus"].GetID()
    again = apply_results(scene, task, results, {}, head)
    parents, folders = tree(scene)
    assert len(folders) == 2 and {parents[node.GetName()] for node in again.values()} == {folders[1]} != {folders[0]}


def test_a_repeated_run_stays_in_the_folder_of_what_it_overwrites(scene):
    task, results = vote()
    first = apply_results(scene, task, {n: results[n] for n in ("consensus", "agreement")}, {})
    second = apply_results(scene, task, results, {"consensus": first["consensus"]})
    parents, folders = tree(scene)
    assert folders == ["Majority vote"]
    assert {parents[node.GetName()] for node in second.values()} == set(folders)


def test_one_result_or_another_module_makes_no_folder(scene):
    task, results = vote()
    apply_results(scene, task, {"consensus": results["consensus"]}, {})
    other = registry()["annotate.overlap"]
    pair = {"segmentation": example_segmentation(), "reference": example_segmentation()}
    apply_results(scene, other, other.execute(pair, {}, Context()), {})
    assert tree(scene)[1] == []


def test_a_failed_run_leaves_no_folder(scene, monkeypatch):
    task, results = vote()
    from MedImgAILib.hosts.mrml import results as module

    def fail(*args):
        raise RuntimeError("disk")

    monkeypatch.setattr(module, "_refer", fail)
    with pytest.raises(RuntimeError):
        apply_results(scene, task, results, {})
    assert tree(scene) == ({}, [])


@pytest.mark.parametrize("suffix", [".mrb", ".mrml"])
def test_the_folder_survives_saving_and_loading(scene, tmp_path, suffix):
    head = in_hierarchy(scene, example_volume("MRHead"))
    task, results = vote()
    nodes = apply_results(scene, task, results, {}, head)
    save_scene(scene, tmp_path / f"case{suffix}")
    other = new_scene()
    load_scene(other, tmp_path / f"case{suffix}")
    parents, folders = tree(other)
    assert folders == ["Majority vote of MRHead"]
    assert {parents[node.GetName()] for node in nodes.values()} == set(folders)
    tidy(other)
    assert tree(other) == (parents, folders)


def test_undo_takes_the_folder_away_and_redo_brings_it_back(scene):
    scene.SetUndoOn()
    task, results = vote()
    two = {name: results[name] for name in ("agreement", "raters")}
    for name in ("vtkMRMLScalarVolumeNode", "vtkMRMLScalarVolumeDisplayNode", "vtkMRMLTableNode"):
        default = scene.CreateNodeByClass(name)
        default.SetUndoEnabled(True)
        scene.AddDefaultNode(default)
        default.UnRegister(None)
    scene.ClearUndoStack()
    nodes = apply_results(scene, task, two, {})
    ids = [node.GetID() for node in nodes.values()]
    before = tree(scene)
    scene.Undo()
    tidy(scene)
    assert tree(scene) == ({}, [])
    scene.Redo()
    tidy(scene)
    assert all(scene.GetNodeByID(node_id) is not None for node_id in ids)
    assert tree(scene) == before


def test_tidying_leaves_alone_what_the_user_arranged(scene):
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    mine = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), "mine")
    task, results = vote()
    nodes = apply_results(scene, task, results, {})
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(nodes["consensus"]), mine)
    before = tree(scene)
    tidy(scene)
    assert tree(scene) == before and before[0][nodes["consensus"].GetName()] == "mine"


class Align(Task):
    id = "test.align"
    title = "Align"
    inputs = (VolumePort("fixed", "Fixed"), VolumePort("moving", "Moving"), TransformPort("start", "Start"))
    outputs = (VolumePort("moved", "Moved"), TransformPort("linear", "Linear"), TransformPort("warp", "Warp"))

    def run(self, inputs, parameters, context):
        field = np.zeros((*inputs.fixed.geometry.shape, 3), np.float32)
        field[5] = 1
        moved = inputs.fixed.with_array(inputs.moving.array)
        warp = DisplacementTransform(field, inputs.fixed.geometry)
        return {"moved": moved, "linear": LinearTransform(np.diag([1.0, -1, -1, 1])), "warp": warp}


def test_provenance_names_every_transform(scene):
    shift = np.eye(4)
    shift[0, 3] = 7.5
    parent = write_node(LinearTransform(shift, "shift"), scene)
    moving = write_node(example_volume("moving"), scene)
    moving.SetAndObserveTransformNodeID(parent.GetID())
    start = write_node(LinearTransform(np.diag([-1.0, -1, 1, 1]), "start"), scene)
    fixed = write_node(example_volume("fixed"), scene)
    inputs = {"fixed": read_node(fixed), "moving": read_node(moving), "start": read_node(start)}
    nodes = apply_results(scene, Align(), Align().execute(inputs, {}, Context()), {}, fixed)
    record = stored_provenance(nodes["moved"])
    under = record["inputs"]["moving"]["source"]["transform"]
    assert under["nodes"] == [{"node": parent.GetID(), "name": "shift"}] and under["matrix"] == shift.tolist()
    assert "transform" not in record["inputs"]["fixed"]["source"]
    assert record["inputs"]["start"]["transform"]["matrix"] == np.diag([-1.0, -1, 1, 1]).tolist()
    assert record["transforms"]["linear"]["matrix"] == np.diag([1.0, -1, -1, 1]).tolist()
    assert record["transforms"]["warp"] == describe_transform(read_node(nodes["warp"]))


def test_other_warps_have_other_hashes():
    geometry = example_volume().geometry
    field = np.zeros((*geometry.shape, 3), np.float32)
    other = field.copy()
    other[3, 4, 5, 1] = 1e-3
    first, second = (describe_transform(DisplacementTransform(f, geometry))["sha256"] for f in (field, other))
    assert len(first) == 64 and first != second
    assert first == describe_transform(DisplacementTransform(field.copy(), geometry, name="x"))["sha256"]
    assert first != describe_transform(DisplacementTransform(field, geometry, inverted=True))["sha256"]
