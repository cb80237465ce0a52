"""Putting results into a scene: all of them, or nothing."""

from __future__ import annotations

from contextlib import contextmanager

from ...core import ports
from ...core.data import Segmentation
from ...core.errors import OutputError
from .nodes import prepare
from .records import write_provenance
from .rollback import all_or_nothing, node_ids
from .run_folder import folder_of, gather, join, wants_folder
from .scene import subject_hierarchy
from .volumes import read_volume


def write_node(value, scene, node=None, name: str = "", port: ports.Port | None = None):
    """Put a value into a new node, or into ``node``.

    Parameters
    ----------
    value : Volume, Segmentation, Points, Transform, Table, Plot, Text or Sequence
        A writable array is shared with the node, not copied.
    scene : vtkMRMLScene
    node : vtkMRMLNode, optional
        Overwritten; must be of the right class. It leaves its parent transform: results lie in world RAS.
    name : str
        Of the node; by default the value's, or the overwritten node's.
    port : Port, optional
        The output port, which tells label volumes from others.

    Returns
    -------
    vtkMRMLNode

    Raises
    ------
    OutputError
        If the value does not fit a node, or not this one; the scene is then as before.
    """
    prepared = prepare(value, port)
    with all_or_nothing(scene, [node]):
        return _write(prepared, value, scene, node, name)


def apply_results(scene, task, outputs: dict, targets: dict, reference_node=None, names: dict | None = None) -> dict:
    """Put the outputs of a finished job into the scene in one step.

    Parameters
    ----------
    scene : vtkMRMLScene
    task : Task
    outputs : dict
        Output name to data.
    targets : dict
        Output name to the node to overwrite; a new node is made where it is missing or None.
    reference_node : vtkMRMLNode, optional
        The input that the results belong to: new nodes are put beside it in the subject hierarchy, those of a fusion
        with several outputs in a folder of their own.
    names : dict, optional
        Output name to the name of a new node.

    Returns
    -------
    dict
        Output name to node.

    Raises
    ------
    OutputError
        If any output cannot be stored; nothing is added and no target is changed.
    """
    ready = {}
    for output, value in outputs.items():
        prepared = prepare(value, task.port(output))
        if targets.get(output) is not None:
            prepared.check_target(targets[output], scene, task.port(output).title)
        ready[output] = prepared
    chosen = [targets[output].GetID() for output in ready if targets.get(output) is not None]
    if len(set(chosen)) < len(chosen):
        raise OutputError("Two outputs are to be stored in the same node; choose different nodes.")
    before = node_ids(scene)
    scene.SaveStateForUndo()
    nodes = {}
    with _one_update(scene), all_or_nothing(scene, [targets.get(output) for output in ready]):
        for output, prepared in ready.items():
            target = targets.get(output)
            name = (names or {}).get(output) or ("" if target else _name(task, output, outputs[output], reference_node))
            nodes[output] = _write(prepared, outputs[output], scene, target, name)
            _refer(nodes[output], outputs[output], reference_node)
    new = _group(scene, before, set(nodes.values()), reference_node)
    if wants_folder(task, nodes):
        _into_folder(scene, task, nodes, new, reference_node)
    return nodes


def _into_folder(scene, task, nodes, new, reference_node):
    """Gather the new nodes of a run; those of a repeated run join the folder of the nodes that they overwrite."""
    added = [node for node in nodes.values() if node in new]
    earlier = [folder_of(scene, node) for node in nodes.values() if node not in new]
    folder = next((item for item in earlier if item is not None), None)
    if not added:
        return
    if folder is not None:
        join(scene, added, folder)
        return
    reference = reference_node.GetName() if reference_node is not None else ""
    record = {"task": task.id, "reference": reference, "outputs": {name: node.GetID() for name, node in nodes.items()}}
    hierarchy = subject_hierarchy(scene)
    if hierarchy is not None:
        name = f"{task.title} of {reference}" if reference else task.title
        gather(scene, added, name, _home(hierarchy, reference_node), record)


def _write(prepared, value, scene, node, name):
    if node is not None:
        prepared.check_target(node, scene, value.label)
        if name:
            node.SetName(name)
    else:
        wanted = name or value.name or type(value).__name__
        node = scene.AddNewNodeByClass(prepared.node_class, scene.GenerateUniqueName(wanted))
        if node is None:
            raise OutputError(f"The scene does not know nodes of the class {prepared.node_class}.")
    prepared.install(node)
    write_provenance(node, value.provenance)
    return node


def _name(task, output: str, value, reference_node) -> str:
    if value.name:
        return value.name
    title = task.port(output).title
    return f"{reference_node.GetName()} - {title}" if reference_node is not None else title


def _refer(node, value, reference_node):
    """Tell Slicer's segment editor which volume a segmentation on the same grid was made from."""
    if not isinstance(value, Segmentation) or reference_node is None:
        return
    if not reference_node.IsA("vtkMRMLScalarVolumeNode") or reference_node.GetImageData() is None:
        return
    if reference_node.GetScene() is not node.GetScene() or reference_node.GetParentTransformNode() is not None:
        return
    if read_volume(reference_node).geometry.same_grid(value.geometry):
        node.SetReferenceImageGeometryParameterFromVolumeNode(reference_node)


def _group(scene, before: set[str], results: set, reference_node) -> set:
    """Put the new nodes under the parent of the reference node in the subject hierarchy; returns the new results."""
    added = [scene.GetNodeByID(node_id) for node_id in sorted(node_ids(scene) - before)]
    hierarchy = subject_hierarchy(scene)
    if hierarchy is not None:
        parent = _home(hierarchy, reference_node)
        for node in added:
            item = hierarchy.GetItemByDataNode(node)
            if item != hierarchy.GetInvalidItemID():
                hierarchy.SetItemParent(item, parent)
            elif node in results:
                hierarchy.CreateItem(parent, node)
    return results & set(added)


def _home(hierarchy, reference_node) -> int:
    """The item under which results of the reference node stand."""
    beside = hierarchy.GetItemByDataNode(reference_node) if reference_node is not None else hierarchy.GetInvalidItemID()
    is_there = beside != hierarchy.GetInvalidItemID()
    return hierarchy.GetItemParent(beside) if is_there else hierarchy.GetSceneItemID()


@contextmanager
def _one_update(scene):
    """Views and tree refresh once, at the end."""
    scene.StartState(scene.BatchProcessState)
    try:
        yield
    finally:
        scene.EndState(scene.BatchProcessState)
