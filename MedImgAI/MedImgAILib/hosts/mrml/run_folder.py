"""One folder of the subject hierarchy for all results of a run."""

from __future__ import annotations

import json
import uuid

import slicer

from .scene import subject_hierarchy

RUN = "MedImgAI.Run"
"""Attribute of the folder's item, and of every node of the run: the JSON of what :func:`gather` was told."""
_LIBRARY = "MedImgAIFusionLib"
"""The library whose results belong together and are looked at together."""


def wants_folder(task, outputs: dict) -> bool:
    """Whether the results of a run go into a folder of their own."""
    return getattr(task, "library", "") == _LIBRARY and len(outputs) > 1


def gather(scene, nodes, name: str, parent: int, record: dict) -> int:
    """Move nodes into one folder.

    Parameters
    ----------
    scene : vtkMRMLScene
    nodes : list of vtkMRMLNode
        Those without an item in the hierarchy get one.
    name : str
        Of the folder; made unique.
    parent : int
        Item of the hierarchy under which the folder stands.
    record : dict
        JSON-able; kept with the folder. The folder is given an id of its own.

    Returns
    -------
    int
        The item of the folder.
    """
    hierarchy = subject_hierarchy(scene)
    name = hierarchy.GenerateUniqueItemName(name)
    text = json.dumps({"id": uuid.uuid4().hex, "name": name} | record)
    folder = _make(hierarchy, parent, name, text)
    for node in nodes:
        node.SetAttribute(RUN, text)
        _place(hierarchy, node, folder)
    return folder


def join(scene, nodes, folder: int):
    """Move nodes into a folder that :func:`gather` made."""
    hierarchy = subject_hierarchy(scene)
    text = hierarchy.GetItemAttribute(folder, RUN)
    for node in nodes:
        node.SetAttribute(RUN, text)
        _place(hierarchy, node, folder)


def folder_of(scene, node) -> int | None:
    """The folder that a node was gathered into, None if there is none."""
    hierarchy, text = subject_hierarchy(scene), node.GetAttribute(RUN)
    return _folders(hierarchy).get(_id(text)) if hierarchy is not None and text else None


def tidy(scene):
    """Make the folders fit the nodes after an undo or redo, which do not reach the subject hierarchy.

    A folder all of whose nodes are gone is removed; nodes that came back without their folder get it again, as far
    as nobody has put them elsewhere.
    """
    hierarchy = subject_hierarchy(scene)
    if hierarchy is None:
        return
    runs: dict[str, list] = {}
    for n in range(scene.GetNumberOfNodes()):
        node = scene.GetNthNode(n)
        if text := node.GetAttribute(RUN):
            runs.setdefault(text, []).append(node)
    known = {_id(text) for text in runs}
    folders = _folders(hierarchy)
    for run, item in folders.items():
        for child in _children(hierarchy, item):
            node = hierarchy.GetItemDataNode(child)
            # Without the application nobody takes away the items of nodes that are gone.
            if node is not None and scene.GetNodeByID(node.GetID() or "") is not node:
                hierarchy.RemoveItem(child, False, False)
        if run not in known and not _children(hierarchy, item):
            hierarchy.RemoveItem(item, False, False)
    for text, nodes in runs.items():
        if _id(text) in folders:
            continue
        top = hierarchy.GetSceneItemID()
        homeless = [node for node in nodes if _parent(hierarchy, node) in (top, None)]
        if homeless:
            folder = _make(hierarchy, top, json.loads(text)["name"], text)
            for node in homeless:
                _place(hierarchy, node, folder)


def _make(hierarchy, parent, name, text):
    folder = hierarchy.CreateFolderItem(parent, name)
    hierarchy.SetItemAttribute(folder, RUN, text)
    return folder


def _place(hierarchy, node, folder):
    item = hierarchy.GetItemByDataNode(node)
    if item != hierarchy.GetInvalidItemID():
        hierarchy.SetItemParent(item, folder)
    else:
        hierarchy.CreateItem(folder, node)


def _parent(hierarchy, node):
    item = hierarchy.GetItemByDataNode(node)
    return None if item == hierarchy.GetInvalidItemID() else hierarchy.GetItemParent(item)


def _children(hierarchy, item) -> list[int]:
    import vtk

    found = vtk.vtkIdList()
    hierarchy.GetItemChildren(item, found, False)
    return [found.GetId(n) for n in range(found.GetNumberOfIds())]


def _folders(hierarchy) -> dict[str, int]:
    """Id of the run to item, of all folders made here."""
    import vtk

    found = vtk.vtkIdList()
    hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), found, True)
    items = [found.GetId(n) for n in range(found.GetNumberOfIds())]
    level = slicer.vtkMRMLSubjectHierarchyConstants.GetSubjectHierarchyLevelFolder()
    folders = [item for item in items if hierarchy.GetItemLevel(item) == level]
    return {_id(text): item for item in folders if (text := hierarchy.GetItemAttribute(item, RUN))}


def _id(text: str) -> str:
    return json.loads(text)["id"]
