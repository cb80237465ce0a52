"""Point lists, curves and regions of interest."""

from __future__ import annotations

import numpy as np
import vtk

from ...core.data import Points
from .prepared import Prepared
from .records import read_provenance


def read_points(node) -> Points:
    """The placed control points in world RAS, whatever the parent transform; of a ROI its eight corners."""
    if node.IsA("vtkMRMLMarkupsROINode"):
        return _corners(node)
    placed = [
        n
        for n in range(node.GetNumberOfControlPoints())
        if node.GetNthControlPointPositionStatus(n) == node.PositionDefined
    ]
    positions = []
    for n in placed:
        position = [0.0, 0.0, 0.0]
        node.GetNthControlPointPositionWorld(n, position)
        positions.append(position)
    labels = tuple(node.GetNthControlPointLabel(n) for n in placed)
    return Points(np.array(positions).reshape(-1, 3), labels, node.GetName() or "", read_provenance(node))


def _corners(node) -> Points:
    matrix = node.GetObjectToWorldMatrix()
    to_world = np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])
    half = np.array(node.GetSize()) / 2
    signs = np.array([[i, j, k] for k in (-1, 1) for j in (-1, 1) for i in (-1, 1)])
    positions = (signs * half) @ to_world[:3, :3].T + to_world[:3, 3]
    return Points(positions, (), node.GetName() or "", read_provenance(node))


def prepare_points(value: Points) -> Prepared:
    """Ready for a point list or, when overwriting, a curve."""

    def install(node):
        was = node.StartModify()
        node.SetAndObserveTransformNodeID(None)
        node.RemoveAllControlPoints()
        for position, label in zip(value.positions.tolist(), value.labels):
            node.AddControlPoint(vtk.vtkVector3d(*position), label)
        node.CreateDefaultDisplayNodes()
        node.EndModify(was)

    curves = ("vtkMRMLMarkupsFiducialNode", "vtkMRMLMarkupsCurveNode", "vtkMRMLMarkupsClosedCurveNode")
    return Prepared("vtkMRMLMarkupsFiducialNode", curves, install)
