"""Undoing a write that failed half way."""

from __future__ import annotations

from contextlib import contextmanager


def node_ids(scene) -> set[str]:
    """The ids of all nodes of a scene."""
    return {scene.GetNthNode(n).GetID() for n in range(scene.GetNumberOfNodes())}


@contextmanager
def all_or_nothing(scene, targets):
    """On an exception, remove every node that was added meanwhile and put back what the targets were.

    Parameters
    ----------
    scene : vtkMRMLScene
    targets : iterable of vtkMRMLNode or None
        The nodes that will be overwritten.
    """
    before = node_ids(scene)
    backups = [Backup(node) for node in targets if node is not None]
    try:
        yield
    except BaseException:
        for node_id in sorted(node_ids(scene) - before):
            added = scene.GetNodeByID(node_id)
            if added is not None:
                scene.RemoveNode(added)
        for backup in backups:
            backup.restore()
        raise


class Backup:
    """What a node and the nodes that belong to it were; large arrays are shared, as results bring their own."""

    def __init__(self, node):
        self.node = node
        self.name = node.GetName()
        self.references = _references(node)
        self.is_volume = node.IsA("vtkMRMLScalarVolumeNode")
        # MRML's content copy leaves these out.
        self.units = node.GetVoxelValueUnits() if self.is_volume else None
        self.shallow = node.HasCopyContent()
        self.copy = node.CreateNodeInstance()
        self._copy(node, self.copy)
        self.copy.UnRegister(None)
        self.related = [Backup(item) for item in _related(node)]

    def _copy(self, source, destination):
        if self.shallow:
            destination.CopyContent(source, False)
        else:
            destination.Copy(source)

    def restore(self):
        """Make the node what it was."""
        was = self.node.StartModify()
        self._copy(self.copy, self.node)
        self.node.SetName(self.name)
        for role, ids in (dict.fromkeys(_references(self.node), []) | self.references).items():
            if _references(self.node).get(role, []) != ids:
                self.node.RemoveNodeReferenceIDs(role)
                for referenced in ids:
                    self.node.AddAndObserveNodeReferenceID(role, referenced)
        if self.is_volume:
            self.node.SetVoxelValueUnits(self.units)
        self.node.EndModify(was)
        for item in self.related:
            item.restore()


def _references(node) -> dict[str, list[str]]:
    """The ids of the nodes that a node refers to (transform, display, reference volume, …), by role."""
    roles = [node.GetNthNodeReferenceRole(n) for n in range(node.GetNumberOfNodeReferenceRoles())]
    found = {r: [node.GetNthNodeReferenceID(r, n) for n in range(node.GetNumberOfNodeReferences(r))] for r in roles}
    return {role: ids for role, ids in found.items() if ids}


def _related(node) -> list:
    """The display, series and table nodes that change with a node."""
    if node.IsA("vtkMRMLDisplayableNode"):
        displays = [node.GetNthDisplayNode(n) for n in range(node.GetNumberOfDisplayNodes())]
        return [item for item in displays if item is not None]
    if node.IsA("vtkMRMLPlotChartNode"):
        series = [node.GetNthPlotSeriesNode(n) for n in range(node.GetNumberOfPlotSeriesNodes())]
        series = [item for item in series if item is not None]
        return series + list({item.GetTableNode() for item in series if item.GetTableNode() is not None})
    return []
