"""Voxels and matrices between VTK and NumPy, without copying where a view will do."""

from __future__ import annotations

import numpy as np
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from ...core.errors import OutputError


def matrix_to_array(matrix) -> np.ndarray:
    """(4, 4) float64 array of a vtkMatrix4x4."""
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def matrix_from_array(array) -> vtk.vtkMatrix4x4:
    """vtkMatrix4x4 of a (4, 4) array."""
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy([float(value) for value in np.asarray(array).ravel()])
    return matrix


def view_of_image(image) -> np.ndarray | None:
    """Read-only (K, J, I) or (K, J, I, C) view of a vtkImageData; None if it has no voxels.

    The view keeps the voxels alive, even if the node lets go of them.
    """
    scalars = image.GetPointData().GetScalars() if image is not None else None
    if scalars is None or not scalars.GetNumberOfTuples():
        return None
    array = vtk_to_numpy(scalars)
    shape = image.GetDimensions()[::-1]
    view = array.reshape(shape + array.shape[1:])
    view.flags.writeable = False
    return view


def storable(array: np.ndarray, who: str) -> np.ndarray:
    """``array`` in a type and order that VTK and Slicer's file writers keep; itself, not a copy, where possible.

    A read-only array is copied: it may be the buffer of an input node or a file mapped into memory, which an
    edit of the new node must never reach.

    Raises
    ------
    OutputError
        If the voxels are complex or no numbers.
    """
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind == "c":
        raise OutputError(f"{who} has complex voxels, which a volume node cannot hold; take the magnitude first.")
    if kind not in "iufb":
        raise OutputError(f"{who} has voxels of type {array.dtype}, which a volume node cannot hold.")
    if kind == "b":
        wanted = np.dtype(np.uint8)
    elif kind == "f":
        wanted = np.dtype(np.float32 if size <= 4 else np.float64)
    elif size == 8:
        wanted = _type_of_wide_integers(array)
    else:
        wanted = array.dtype.newbyteorder("=")
    result = np.ascontiguousarray(array, dtype=wanted)
    return result if result.flags.writeable else result.copy()


def _type_of_wide_integers(array: np.ndarray) -> np.dtype:
    """int32 where the values fit, else float64: Slicer's image filters do not take 64-bit integers."""
    limits = np.iinfo(np.int32)
    fits = not array.size or (array.min() >= limits.min and array.max() <= limits.max)
    return np.dtype(np.int32 if fits else np.float64)


def image_of_array(array: np.ndarray, who: str, image_class=vtk.vtkImageData):
    """A vtkImageData (or subclass) that shows ``array`` (K, J, I[, C]); it shares and keeps the array's memory.

    Raises
    ------
    OutputError
        See :func:`storable`.
    """
    array = storable(array, who)
    image = image_class()
    image.SetDimensions(array.shape[2], array.shape[1], array.shape[0])
    image.GetPointData().SetScalars(
        _sharing(array.reshape(-1, array.shape[3]) if array.ndim == 4 else array.reshape(-1))
    )
    return image


def _sharing(flat: np.ndarray):
    """A vtkDataArray on the memory of ``flat``, which lives exactly as long as the vtkDataArray.

    The attribute by which numpy_to_vtk keeps the memory would outlive it: VTK clears the attributes of an object
    that C++ deleted only when the next such object comes by. An observer goes with the object.
    """
    scalars = numpy_to_vtk(flat)
    scalars.SetName("ImageScalars")
    vars(scalars).pop("_numpy_reference", None)
    scalars.AddObserver("DeleteEvent", _Keeper(flat))
    return scalars


class _Keeper:
    """An observer that only holds an array."""

    def __init__(self, array: np.ndarray):
        self.array = array

    def __call__(self, caller, event):
        self.array = None
