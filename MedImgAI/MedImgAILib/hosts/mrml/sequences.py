"""Sequence nodes of volumes."""

from __future__ import annotations

import numpy as np

from ...core.data import Sequence
from ...core.errors import InputError
from .prepared import Prepared
from .records import read_provenance
from .volumes import prepare_volume, read_volume


def read_sequence(node) -> Sequence:
    """The volumes of a sequence, each a read-only view, with their index values.

    A text index is replaced by the position 0, 1, 2, …

    Raises
    ------
    InputError
        If the sequence is empty, holds something else than volumes, or the volumes' grids differ.
    """
    who = f"Sequence '{node.GetName()}'"
    count = node.GetNumberOfDataNodes()
    if not count:
        raise InputError(f"{who} is empty; record or load volumes first.")
    nodes = [node.GetNthDataNode(n) for n in range(count)]
    if not all(item.IsA("vtkMRMLScalarVolumeNode") for item in nodes):
        raise InputError(f"{who} holds {nodes[0].GetNodeTagName()} nodes; a sequence of volumes is needed.")
    values = np.arange(count, dtype=float)
    if node.GetIndexType() == node.NumericIndex:
        values = np.array([float(node.GetNthIndexValue(n)) for n in range(count)])
    return Sequence(
        [read_volume(item) for item in nodes], values, node.GetIndexName() or "", node.GetIndexUnit() or "",
        node.GetName() or "", read_provenance(node),
    )  # fmt: skip


def prepare_sequence(value: Sequence) -> Prepared:
    """Ready for a sequence node; a new one gets a browser node, so that it can be played.

    Raises
    ------
    OutputError
        If the voxels cannot be stored in a node.
    """
    items = [prepare_volume(item, shown=False) for item in value.items]

    def install(node):
        scene = node.GetScene()
        was = node.StartModify()
        node.RemoveAllDataNodes()
        node.SetIndexName(value.index_name)
        node.SetIndexUnit(value.index_unit)
        node.SetIndexType(node.NumericIndex)
        for number, (item, at) in enumerate(zip(items, value.values)):
            # The sequence copies what it is given: an empty node, which then gets the voxels without a copy.
            seed = scene.CreateNodeByClass(item.node_class)
            seed.SetName(value.items[number].name or f"{node.GetName()} {number + 1}")
            item.install(node.SetDataNodeAtValue(seed, repr(float(at))))
            seed.UnRegister(None)
        if not _has_browser(node):
            browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", f"{node.GetName()} browser")
            browser.SetAndObserveMasterSequenceNodeID(node.GetID())
        node.EndModify(was)

    return Prepared("vtkMRMLSequenceNode", ("vtkMRMLSequenceNode",), install)


def _has_browser(node) -> bool:
    scene = node.GetScene()
    browsers = [
        scene.GetNthNodeByClass(n, "vtkMRMLSequenceBrowserNode")
        for n in range(scene.GetNumberOfNodesByClass("vtkMRMLSequenceBrowserNode"))
    ]
    return any(browser.IsSynchronizedSequenceNode(node, True) for browser in browsers)
