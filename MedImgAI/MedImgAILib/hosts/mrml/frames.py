"""Where a node lies once its parent transforms are applied."""

from __future__ import annotations

import numpy as np
import vtk

from .arrays import matrix_to_array


def world_matrix(node) -> np.ndarray | None:
    """(4, 4) local RAS to world RAS of a node; identity without a parent, None under a non-linear parent."""
    parent = node.GetParentTransformNode()
    if parent is None:
        return np.eye(4)
    if not parent.IsTransformToWorldLinear():
        return None
    matrix = vtk.vtkMatrix4x4()
    parent.GetMatrixTransformToWorld(matrix)
    return matrix_to_array(matrix)


def world_transform(node) -> vtk.vtkGeneralTransform:
    """Local RAS to world RAS of a node that has a parent transform of any kind."""
    transform = vtk.vtkGeneralTransform()
    node.GetParentTransformNode().GetTransformToWorld(transform)
    return transform
