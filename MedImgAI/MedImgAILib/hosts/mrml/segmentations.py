"""Segmentation nodes, and label volumes taken as segmentations."""

from __future__ import annotations

import logging

import numpy as np
import slicer
import vtk

from ...core.data import Segment, Segmentation
from ...core.errors import InputError
from ...core.geometry import Geometry
from ...core.terminology import TISSUE, Terminology
from .arrays import image_of_array, matrix_from_array, matrix_to_array, view_of_image
from .frames import world_matrix, world_transform
from .prepared import Prepared
from .records import read_provenance
from .volumes import read_volume

LABELS = "Binary labelmap"
"""Slicer's name of the binary labelmap representation."""
logger = logging.getLogger("MedImgAI")


def read_segmentation(node) -> Segmentation:
    """The segments in world RAS, on the segmentation's reference grid.

    The grid is extended where segments reach beyond the reference grid. A layer that already covers the grid is a
    read-only view; a cropped one is placed in the grid. Surfaces are converted to labels, and a non-linear parent
    transform is hardened, on a copy.

    Raises
    ------
    InputError
        If there is no segment, or no segment has a voxel.
    """
    who = f"Segmentation '{node.GetName()}'"
    segmentation = node.GetSegmentation()
    if segmentation is None or not segmentation.GetNumberOfSegments():
        raise InputError(f"{who} has no segments; add one first.")
    to_world = world_matrix(node)
    has_labels = segmentation.ContainsRepresentation(LABELS)
    if to_world is None or not has_labels:
        copy = slicer.vtkSegmentation()
        copy.DeepCopy(segmentation)
        if to_world is None:
            copy.ApplyNonLinearTransform(world_transform(node))
            to_world = np.eye(4)
        if not copy.CreateRepresentation(LABELS):
            raise InputError(f"{who} cannot be converted to labels; check its surfaces in the Segmentations module.")
        segmentation = copy
    reference = segmentation.DetermineCommonLabelmapGeometry(
        segmentation.EXTENT_UNION_OF_EFFECTIVE_SEGMENTS_AND_REFERENCE_GEOMETRY, vtk.vtkStringArray()
    )
    if not reference:
        raise InputError(f"{who} is empty: none of its segments has a voxel.")
    grid = slicer.vtkOrientedImageData()
    slicer.vtkSegmentationConverter.DeserializeImageGeometry(reference, grid, False)
    layers = [
        _on_grid(segmentation.GetLayerDataObject(n, LABELS), grid)
        for n in range(segmentation.GetNumberOfLayers(LABELS))
    ]
    segments = [
        _segment(segmentation, segmentation.GetNthSegmentID(n)) for n in range(segmentation.GetNumberOfSegments())
    ]
    geometry = _geometry(grid).transformed(to_world)
    return Segmentation(layers, geometry, segments, node.GetName() or "", read_provenance(node))


def _geometry(image) -> Geometry:
    """The grid of a vtkOrientedImageData, whose extent need not begin at 0."""
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    extent = image.GetExtent()
    shape = tuple(extent[2 * axis + 1] - extent[2 * axis] + 1 for axis in (2, 1, 0))
    matrix = matrix_to_array(matrix)
    matrix[:3, 3] += matrix[:3, :3] @ np.array(extent[::2], float)
    return Geometry(matrix, shape)


def _on_grid(image, grid) -> np.ndarray:
    """(K, J, I) labels of ``image`` on ``grid``: a view where the extents agree, else pasted or resampled."""
    target = _geometry(grid)
    labels = None if image.IsEmpty() else view_of_image(image)
    if labels is None:
        return np.zeros(target.shape, np.uint8)
    source = _geometry(image)
    if source.same_grid(target):
        return labels
    start = target.ijk(source.origin)
    whole = np.rint(start).astype(int)
    if not np.allclose(start, whole, atol=1e-3) or not target.cropped(whole[::-1], source.shape).same_grid(source):
        resampled = slicer.vtkOrientedImageData()
        slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(image, grid, resampled)
        return view_of_image(resampled)
    layer = np.zeros(target.shape, labels.dtype)
    first = np.maximum(whole[::-1], 0)
    last = np.minimum(whole[::-1] + source.shape, target.shape)
    if np.all(last > first):
        inside = tuple(slice(a, b) for a, b in zip(first, last))
        layer[inside] = labels[tuple(slice(a - w, b - w) for a, b, w in zip(first, last, whole[::-1]))]
    layer.flags.writeable = False
    return layer


def _segment(segmentation, segment_id: str) -> Segment:
    segment = segmentation.GetSegment(segment_id)
    tag = vtk.reference("")
    segment.GetTag(segment.GetTerminologyEntryTagName(), tag)
    return Segment(
        segment.GetName() or segment_id,
        segment.GetLabelValue(),
        segment.GetColor(),
        _terminology(str(tag), segment.GetName()),
        segmentation.GetLayerIndex(segment_id, LABELS),
        segment_id,
    )


def _terminology(text: str, name: str) -> Terminology:
    if not text:
        return TISSUE
    try:
        return Terminology.parse(text)
    except InputError:
        logger.warning("The terminology of segment '%s' cannot be read; it is taken as tissue.", name)
        return TISSUE


def read_labelmap(node) -> Segmentation:
    """A label volume as a segmentation: one segment for each label that occurs, named by its colour node.

    Raises
    ------
    InputError
        If the voxels are no integers or all are 0.
    """
    volume = read_volume(node)
    if volume.is_vector or volume.array.dtype.kind not in "iu":
        raise InputError(f"{volume.label} holds no labels; choose a label map or a segmentation.")
    colors = node.GetDisplayNode().GetColorNode() if node.GetDisplayNode() is not None else None
    segments = [_from_color(colors, int(label)) for label in _labels(volume.array)]
    if not segments:
        raise InputError(f"{volume.label} is empty: none of its voxels has a label.")
    return Segmentation((volume.array,), volume.geometry, segments, volume.name, volume.provenance)


def _labels(array: np.ndarray) -> np.ndarray:
    """The positive values of an integer array, sorted; without sorting all voxels where they are small."""
    largest = int(array.max())
    if not 0 < largest < 2**16:
        return np.unique(array[array > 0])
    occurs = np.zeros(largest + 1, bool)
    for plane in array:
        occurs[np.maximum(plane, 0)] = True
    return np.flatnonzero(occurs[1:]) + 1


def _from_color(colors, label: int) -> Segment:
    name, rgba = f"Label {label}", [0.5, 0.68, 0.5, 1.0]
    if colors is not None and label < colors.GetNumberOfColors():
        colors.GetColor(label, rgba)
        name = colors.GetColorName(label) or name
    return Segment(name, label, rgba[:3], id=f"Label_{label}")


def prepare_segmentation(value: Segmentation) -> Prepared:
    """Ready for a segmentation node: names, colours, terminology, shared labelmaps and reference grid.

    Raises
    ------
    OutputError
        If the labels cannot be stored in a node.
    """
    images = [_labelmap(layer, value) for layer in value.layers]
    segmentation = slicer.vtkSegmentation()
    segmentation.SetSourceRepresentationName(LABELS)
    frame = slicer.vtkOrientedImageData()
    frame.SetImageToWorldMatrix(matrix_from_array(value.geometry.ijk_to_ras))
    frame.SetExtent(*(bound for n in value.geometry.shape[::-1] for bound in (0, n - 1)))
    segmentation.SetConversionParameter(
        slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName(),
        slicer.vtkSegmentationConverter.SerializeImageGeometry(frame),
    )
    for item in value.segments:
        segment = slicer.vtkSegment()
        segment.SetName(item.name)
        segment.SetColor(*item.color)
        segment.SetTag(segment.GetTerminologyEntryTagName(), item.terminology.serialize())
        segment.AddRepresentation(LABELS, images[item.layer])
        segment.SetLabelValue(item.label)
        segmentation.AddSegment(segment, item.id)

    def install(node):
        was = node.StartModify()
        node.SetAndObserveTransformNodeID(None)
        node.SetNodeReferenceID(node.GetReferenceImageGeometryReferenceRole(), None)
        node.SetAndObserveSegmentation(segmentation)
        node.CreateDefaultDisplayNodes()
        node.EndModify(was)

    return Prepared("vtkMRMLSegmentationNode", ("vtkMRMLSegmentationNode",), install)


def _labelmap(layer: np.ndarray, value: Segmentation):
    image = image_of_array(layer, value.label, slicer.vtkOrientedImageData)
    image.SetImageToWorldMatrix(matrix_from_array(value.geometry.ijk_to_ras))
    return image


def closed_surface(node) -> dict[str, vtk.vtkPolyData]:
    """The surface of each segment in world RAS, by segment id; empty segments are left out.

    The node gets the closed surface representation if it has none yet, which is what shows it in 3D views.

    Raises
    ------
    InputError
        If the segments cannot be converted to surfaces.
    """
    if not node.CreateClosedSurfaceRepresentation():
        raise InputError(f"Segmentation '{node.GetName()}' cannot be shown in 3D: it has no segment with voxels.")
    surfaces = {}
    for segment_id in node.GetSegmentation().GetSegmentIDs():
        surface = vtk.vtkPolyData()
        found = slicer.vtkSlicerSegmentationsModuleLogic.GetSegmentClosedSurfaceRepresentation(
            node, segment_id, surface, True
        )
        if found and surface.GetNumberOfPoints():
            surfaces[segment_id] = surface
    return surfaces
