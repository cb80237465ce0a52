"""Which MRML classes stand for which port, and reading and writing a node of any of them."""

from __future__ import annotations

from ...core import data, ports, raw, transforms
from ...core.errors import InputError, OutputError
from . import markups, projections, segmentations, sequences, tables, volumes
from . import transforms as transform_nodes
from .prepared import Prepared

_INPUTS = {
    ports.SegmentationPort: ("vtkMRMLSegmentationNode", "vtkMRMLLabelMapVolumeNode"),
    ports.PointsPort: (
        "vtkMRMLMarkupsFiducialNode",
        "vtkMRMLMarkupsCurveNode",
        "vtkMRMLMarkupsClosedCurveNode",
        "vtkMRMLMarkupsROINode",
    ),
    ports.TransformPort: (
        "vtkMRMLTransformNode",
        "vtkMRMLLinearTransformNode",
        "vtkMRMLBSplineTransformNode",
        "vtkMRMLGridTransformNode",
    ),
    ports.TablePort: ("vtkMRMLTableNode",),
    ports.PlotPort: ("vtkMRMLPlotChartNode",),
    ports.TextPort: ("vtkMRMLTextNode",),
    ports.SequencePort: ("vtkMRMLSequenceNode",),
    ports.ProjectionsPort: ("vtkMRMLScalarVolumeNode",),
}
_READERS = (
    ("vtkMRMLSegmentationNode", segmentations.read_segmentation),
    ("vtkMRMLScalarVolumeNode", volumes.read_volume),
    ("vtkMRMLMarkupsNode", markups.read_points),
    ("vtkMRMLTransformNode", transform_nodes.read_transform),
    ("vtkMRMLTableNode", tables.read_table),
    ("vtkMRMLPlotChartNode", tables.read_plot),
    ("vtkMRMLTextNode", tables.read_text),
    ("vtkMRMLSequenceNode", sequences.read_sequence),
)
_WRITERS = (
    (data.Segmentation, segmentations.prepare_segmentation),
    (data.Points, markups.prepare_points),
    (transforms.Transform, transform_nodes.prepare_transform),
    (data.Table, tables.prepare_table),
    (data.Plot, tables.prepare_plot),
    (data.Text, tables.prepare_text),
    (data.Sequence, sequences.prepare_sequence),
    (raw.Projections, projections.prepare_projections),
)


def node_classes(port: ports.Port) -> tuple[str, ...]:
    """MRML classes whose nodes can stand in an input port; empty for k-space, which comes from files."""
    if isinstance(port, ports.VolumePort):
        scalar = not port.components or 1 in port.components
        vector = not port.components or max(port.components) > 1
        names = ("vtkMRMLScalarVolumeNode", "vtkMRMLLabelMapVolumeNode") if scalar else ()
        return names + (("vtkMRMLVectorVolumeNode",) if vector else ())
    return _INPUTS.get(type(port), ())


def output_class(port: ports.Port) -> str:
    """MRML class of the node that an output port makes; empty for k-space."""
    if isinstance(port, ports.VolumePort):
        if port.labelmap:
            return "vtkMRMLLabelMapVolumeNode"
        vector = port.components and 1 not in port.components
        return "vtkMRMLVectorVolumeNode" if vector else "vtkMRMLScalarVolumeNode"
    return (node_classes(port) or ("",))[0]


def node_attribute(port: ports.Port) -> str:
    """Name of the node attribute that a node in this port must have; empty if any node of its class will do."""
    return projections.SCAN if isinstance(port, ports.ProjectionsPort) else ""


def read_node(node, port: ports.Port | None = None):
    """The data of a node in world RAS, whatever transform it is under; the node is not changed.

    Parameters
    ----------
    node : vtkMRMLNode
    port : Port, optional
        Where the data goes: a label volume becomes a segmentation in a segmentation port.

    Returns
    -------
    Volume, Segmentation, Points, Transform, Table, Plot, Text, Sequence or Projections
        Arrays are read-only views of the node's memory where possible. ``provenance`` holds the record stored
        with the node and, under ``source``, the node's id, name and file.

    Raises
    ------
    InputError
        If there is no node, or nothing in it that can be used.
    """
    if node is None:
        raise InputError("No node was chosen.")
    if isinstance(port, ports.SegmentationPort) and node.IsA("vtkMRMLScalarVolumeNode"):
        return segmentations.read_labelmap(node)
    if isinstance(port, ports.ProjectionsPort) and node.IsA("vtkMRMLScalarVolumeNode"):
        return projections.read_projections(node)
    for class_name, reader in _READERS:
        if node.IsA(class_name):
            return reader(node)
    raise InputError(f"'{node.GetName()}' is a {node.GetNodeTagName()} node, which no task can use.")


def prepare(value, port: ports.Port | None = None) -> Prepared:
    """Turn a value into VTK objects that need only be handed to a node.

    Raises
    ------
    OutputError
        If the value cannot be stored in a scene.
    """
    if isinstance(value, data.Volume):
        return volumes.prepare_volume(value, labelmap=isinstance(port, ports.VolumePort) and port.labelmap)
    for data_type, prepare_value in _WRITERS:
        if isinstance(value, data_type):
            return prepare_value(value)
    raise OutputError(f"{type(value).__name__} data cannot be stored in a scene; save it to a file instead.")
