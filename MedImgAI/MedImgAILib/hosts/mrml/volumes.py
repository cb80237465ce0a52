"""Scalar, vector and label volume nodes."""

from __future__ import annotations

import numpy as np
import slicer
import vtk

from ...core.data import Display, Volume
from ...core.errors import InputError
from ...core.geometry import Geometry
from .arrays import image_of_array, matrix_from_array, matrix_to_array, view_of_image
from .frames import world_matrix, world_transform
from .prepared import Prepared
from .records import read_provenance

SCAN = "MedImgAI.Scan"
"""Node attribute with the JSON of the :class:`~...core.raw.ScanGeometry` of projections; saved with the scene."""

_UCUM = {"HU": ("[hnsf'U]", "Hounsfield unit"), "SUV": ("{SUVbw}g/ml", "Standardized Uptake Value body weight")}
"""Unit names of this product that differ from their UCUM code: code and meaning (DICOM PS3.16, CID 83, 84)."""


def read_volume(node) -> Volume:
    """The volume in world RAS; its array is a read-only view of the node's voxels.

    Under a non-linear parent transform it is resampled the way Slicer hardens a transform, on a copy.

    Raises
    ------
    InputError
        If the node has no voxels or a singular geometry.
    """
    array, geometry = _placed(node)
    return Volume(array, geometry, node.GetName() or "", _units(node), _display(node), read_provenance(node))


def _placed(node):
    who = f"Volume '{node.GetName()}'"
    image, ijk_to_ras = node.GetImageData(), vtk.vtkMatrix4x4()
    if view_of_image(image) is None:
        raise InputError(f"{who} has no voxels; load or choose another volume.")
    to_world = world_matrix(node)
    if to_world is None:
        warped = vtk.vtkImageData()
        if not slicer.vtkMRMLVolumeNode.GetTransformedImageData(node, world_transform(node), warped, ijk_to_ras):
            raise InputError(f"{who} cannot be resampled through its non-linear transform; harden it first.")
        image, to_world = warped, np.eye(4)
    else:
        node.GetIJKToRASMatrix(ijk_to_ras)
    array = view_of_image(image)
    matrix = to_world @ matrix_to_array(ijk_to_ras)
    matrix[:3, 3] += matrix[:3, :3] @ np.array(image.GetExtent()[::2], float)
    try:
        return array, Geometry(matrix, array.shape[:3])
    except InputError as error:
        raise InputError(f"{who} cannot be used: {error}") from error


def _units(node) -> str:
    entry = node.GetVoxelValueUnits() if hasattr(node, "GetVoxelValueUnits") else None
    code = (entry.GetCodeValue() or "") if entry is not None else ""
    return {ucum: name for name, (ucum, _) in _UCUM.items()}.get(code, code)


def _display(node) -> Display | None:
    display = node.GetDisplayNode()
    if display is None:
        return None
    color = display.GetColorNode()
    name = color.GetName() if color is not None else ""
    if not display.IsA("vtkMRMLScalarVolumeDisplayNode"):
        return Display(color=name, interpolate=False)
    if display.GetAutoWindowLevel():
        return Display(color=name, interpolate=bool(display.GetInterpolate()))
    return Display(display.GetWindow(), display.GetLevel(), name, bool(display.GetInterpolate()))


def prepare_volume(value: Volume, labelmap: bool = False, shown: bool = True) -> Prepared:
    """Ready for a scalar, vector or (``labelmap``) label volume node; with display settings if it is ``shown``.

    Raises
    ------
    OutputError
        If the voxels cannot be stored in a node.
    """
    image = image_of_array(value.array, value.label)
    is_color = value.is_vector and value.components in (3, 4) and value.array.dtype == np.uint8
    if labelmap:
        node_class = "vtkMRMLLabelMapVolumeNode"
    elif value.is_vector:
        node_class = "vtkMRMLVectorVolumeNode"
    else:
        node_class = "vtkMRMLScalarVolumeNode"

    def install(node):
        was = node.StartModify()
        node.SetAndObserveTransformNodeID(None)
        node.RemoveAttribute(SCAN)  # of projections that stood here before
        node.SetIJKToRASMatrix(matrix_from_array(value.geometry.ijk_to_ras))
        if is_color:
            rgb = value.components == 3
            node.SetVoxelVectorType(node.VoxelVectorTypeColorRGB if rgb else node.VoxelVectorTypeColorRGBA)
        _set_units(node, value.units)
        # The display settings stand before the image comes: automatic levels would be computed at once.
        if shown:
            node.CreateDefaultDisplayNodes()
            _set_display(node, value.display or Display(), value.array)
        node.SetAndObserveImageData(image)
        node.EndModify(was)

    return Prepared(node_class, (node_class,), install, exact=True)


def _set_units(node, units: str):
    if not units:
        node.SetVoxelValueUnits(None)
        return
    code, meaning = _UCUM.get(units, (units, units))
    entry = slicer.vtkCodedEntry()
    entry.SetValueSchemeMeaning(code, "UCUM", meaning)
    node.SetVoxelValueUnits(entry)


def _set_display(node, wanted: Display, array: np.ndarray):
    display = node.GetDisplayNode()
    color = _color_node(node.GetScene(), wanted.color)
    if color is not None:
        display.SetAndObserveColorNodeID(color.GetID())
    if not display.IsA("vtkMRMLScalarVolumeDisplayNode"):
        return
    display.SetInterpolate(wanted.interpolate)
    window, level = wanted.window, wanted.level
    if window is None or level is None:
        window, level = _window_level(array)
    display.AutoWindowLevelOff()
    display.SetWindowLevel(window, level)


def _window_level(array: np.ndarray) -> tuple[float, float]:
    """Window and level from the 0.1 and 99.9 percentiles of about 10⁵ voxels; the full range for colours.

    Slicer's automatic levels mean the same, but their histogram of all voxels takes longer than the whole transfer.
    """
    if array.ndim == 4 and array.dtype == np.uint8:
        return 255.0, 127.5
    step = max(1, int(np.ceil((array.size / 1e5) ** (1 / 3))))
    sample = array[tuple(slice(step // 2 if n > step // 2 else 0, None, step) for n in array.shape[:3])]
    sample = sample[np.isfinite(sample)].astype(np.float64)
    if not sample.size:
        return 1.0, 0.5
    low, high = (float(value) for value in np.percentile(sample, (0.1, 99.9)))
    return max(high - low, np.finfo(np.float32).tiny), (low + high) / 2


def _color_node(scene, name: str):
    """The colour node of this name; None if there is none."""
    count = scene.GetNumberOfNodesByClass("vtkMRMLColorNode") if name else 0
    nodes = (scene.GetNthNodeByClass(n, "vtkMRMLColorNode") for n in range(count))
    return next((node for node in nodes if node.GetName() == name), None)
