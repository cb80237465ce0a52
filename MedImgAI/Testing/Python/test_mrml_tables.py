"""Markups, table, chart, text and sequence nodes and task data."""

import numpy as np
import pytest
import slicer
import vtk
from MedImgAILib.core import (
    Geometry,
    InputError,
    KSpacePort,
    OutputError,
    Plot,
    PlotPort,
    Points,
    PointsPort,
    ProjectionsPort,
    Sequence,
    SequencePort,
    Series,
    Table,
    TablePort,
    Text,
    TextPort,
    Volume,
)
from MedImgAILib.hosts.mrml import new_scene, node_classes, output_class, read_node, write_node


@pytest.fixture
def scene():
    return new_scene()


POINTS = Points([[1.5, -2.0, 3.0], [40.0, 50.0, -60.0], [7.0, 8.0, 9.0]], ("tip", "base", "tip"), "landmarks")


def test_points_by_position_and_label(scene):
    node = write_node(POINTS, scene)
    assert node.GetClassName() == "vtkMRMLMarkupsFiducialNode"
    for n in range(3):
        position = [0.0, 0.0, 0.0]
        node.GetNthControlPointPositionWorld(n, position)
        assert tuple(position) == tuple(POINTS.positions[n])
        assert node.GetNthControlPointLabel(n) == POINTS.labels[n]
    back = read_node(node)
    np.testing.assert_array_equal(back.positions, POINTS.positions)
    assert back.labels == POINTS.labels


@pytest.mark.parametrize("name", ["vtkMRMLMarkupsCurveNode", "vtkMRMLMarkupsClosedCurveNode"])
def test_curves_give_their_control_points(scene, name):
    curve = scene.AddNewNodeByClass(name, "curve")
    slicer.util.updateMarkupsControlPointsFromArray(curve, POINTS.positions)
    np.testing.assert_allclose(read_node(curve).positions, POINTS.positions)
    assert write_node(Points([[1.0, 2.0, 3.0]]), scene, curve) is curve
    assert curve.GetNumberOfControlPoints() == 1


def test_points_not_yet_placed_are_left_out(scene):
    node = write_node(POINTS, scene)
    node.UnsetNthControlPointPosition(1)
    np.testing.assert_array_equal(read_node(node).positions, POINTS.positions[[0, 2]])
    assert len(read_node(scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "none")).positions) == 0


def test_points_under_linear_and_non_linear_parents(scene):
    node = write_node(POINTS, scene)
    move = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    quarter = vtk.vtkTransform()
    quarter.Translate(1, 2, 3)
    quarter.RotateZ(90)
    move.SetMatrixTransformToParent(quarter.GetMatrix())
    node.SetAndObserveTransformNodeID(move.GetID())
    r, a, s = POINTS.positions.T
    np.testing.assert_allclose(read_node(node).positions, np.stack([1 - a, 2 + r, 3 + s], -1), atol=1e-9)
    plate = vtk.vtkThinPlateSplineTransform()
    source, target = vtk.vtkPoints(), vtk.vtkPoints()
    for p in ((0, 0, 0), (90, 0, 0), (0, 90, 0), (0, 0, 90), *POINTS.positions):
        source.InsertNextPoint(p)
        target.InsertNextPoint(np.add(p, np.sin(p)))
    plate.SetSourceLandmarks(source)
    plate.SetTargetLandmarks(target)
    plate.SetBasisToR()
    warp = scene.AddNewNodeByClass("vtkMRMLTransformNode")
    warp.SetAndObserveTransformToParent(plate)
    node.SetAndObserveTransformNodeID(warp.GetID())
    np.testing.assert_allclose(read_node(node).positions, POINTS.positions + np.sin(POINTS.positions), atol=1e-6)
    assert node.GetTransformNodeID() == warp.GetID()


TABLE = Table(
    {
        "segment": ("Brain", "Mass", 'a "quoted", text'),
        "volume": np.array([1234.5, 0.001, np.nan]),
        "voxels": np.array([12, -3, 2_000_000_000]),
        "float": np.array([1.5, 2.25, -3], np.float32),
        "flag": np.array([True, False, True]),
        "wide": np.array([1, 2, 2**45]),
    },
    "numbers",
    {"volume": "mm3"},
)


def assert_same_table(found, wanted):
    assert list(found.columns) == list(wanted.columns)
    for key, values in wanted.columns.items():
        if isinstance(values, tuple):
            assert found.columns[key] == values
        else:
            np.testing.assert_array_equal(found.columns[key], values)
            assert found.columns[key].dtype.kind == ("f" if values.dtype.kind == "f" or key == "wide" else "i")
    assert found.units == wanted.units


def test_table_columns(scene):
    node = write_node(TABLE, scene)
    table = node.GetTable()
    assert table.GetColumnByName("segment").GetValue(1) == "Mass"
    assert table.GetColumnByName("voxels").GetValue(2) == 2_000_000_000
    assert node.GetColumnUnitLabel("volume") == "mm3"
    assert_same_table(read_node(node), TABLE)
    assert not read_node(node).columns["volume"].flags.writeable


def test_overwritten_table_forgets_the_old_columns(scene):
    node = write_node(TABLE, scene)
    write_node(Table({"only": [1.0]}), scene, node)
    assert_same_table(read_node(node), Table({"only": [1.0]}))
    assert node.GetName() == "numbers"


def test_empty_table_and_components(scene):
    node = scene.AddNewNodeByClass("vtkMRMLTableNode", "t")
    assert read_node(node).rows == 0
    array = vtk.vtkDoubleArray()
    array.SetName("p")
    array.SetNumberOfComponents(3)
    array.InsertNextTuple3(1, 2, 3)
    array.InsertNextTuple3(4, 5, 6)
    node.AddColumn(array)
    columns = read_node(node).columns
    assert len(columns) == 3
    np.testing.assert_array_equal(list(columns.values())[2], [3, 6])


PLOT = Plot(
    Table({"t": np.arange(5.0), "v": np.arange(5.0) ** 2}, "data"),
    (
        Series("v", "t", "curve"),
        Series("v", "t", "dots", "scatter"),
        Series("v", "", "row"),
        Series("v", "", "bars", "bar"),
    ),
    "chart",
    "A title",
    "time",
    "value",
)


def test_plot(scene):
    node = write_node(PLOT, scene)
    assert node.GetNumberOfPlotSeriesNodes() == 4
    first = node.GetNthPlotSeriesNode(0)
    assert (first.GetXColumnName(), first.GetYColumnName()) == ("t", "v")
    assert first.GetPlotType() == first.PlotTypeScatter and first.GetLineStyle() == first.LineStyleSolid
    assert first.GetTableNode().GetTable().GetColumnByName("v").GetValue(4) == 16
    back = read_node(node)
    assert [(s.y, s.x, s.name, s.kind) for s in back.series] == [(s.y, s.x, s.name, s.kind) for s in PLOT.series]
    assert (back.title, back.x_title, back.y_title) == ("A title", "time", "value")
    assert_same_table(back.table, PLOT.table)


def test_overwritten_plot_leaves_no_litter(scene):
    node = write_node(PLOT, scene)
    count = scene.GetNumberOfNodes()
    write_node(PLOT, scene, node)
    assert scene.GetNumberOfNodes() == count
    assert node.GetNumberOfPlotSeriesNodes() == 4


def test_empty_plot_is_refused(scene):
    with pytest.raises(InputError, match="no series"):
        read_node(scene.AddNewNodeByClass("vtkMRMLPlotChartNode", "c"))


def test_text(scene):
    node = write_node(Text("Zeile 1\n<b>&ä</b>", "report"), scene)
    assert node.GetText() == "Zeile 1\n<b>&ä</b>"
    assert read_node(node).text == "Zeile 1\n<b>&ä</b>"


def frames(count=3):
    geometry = Geometry.from_spacing((3, 4, 5), (1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    items = [Volume(np.full((3, 4, 5), n, np.float32), geometry, f"frame {n}") for n in range(count)]
    return Sequence(items, np.array([0.0, 250.5, 1e6 / 3])[:count], "time", "ms", "cine")


def test_sequence(scene):
    value = frames()
    node = write_node(value, scene)
    assert (node.GetIndexName(), node.GetIndexUnit()) == ("time", "ms")
    assert float(node.GetNthIndexValue(1)) == 250.5
    for n in range(3):
        item = node.GetNthDataNode(n)
        assert item.GetImageData().GetScalarComponentAsDouble(0, 0, 0, 0) == n
        assert np.shares_memory(slicer.util.arrayFromVolume(item), value.items[n].array)
    back = read_node(node)
    np.testing.assert_array_equal(back.values, value.values)
    assert [item.name for item in back.items] == ["frame 0", "frame 1", "frame 2"]
    assert back.geometry.same_grid(value.geometry)
    for mine, theirs in zip(back.items, value.items):
        np.testing.assert_array_equal(mine.array, theirs.array)
    assert scene.GetNumberOfNodesByClass("vtkMRMLSequenceBrowserNode") == 1
    write_node(frames(2), scene, node)
    assert len(read_node(node).items) == 2
    assert scene.GetNumberOfNodesByClass("vtkMRMLSequenceBrowserNode") == 1


def test_sequence_that_cannot_be_used(scene):
    node = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "s")
    with pytest.raises(InputError, match="empty"):
        read_node(node)
    node.SetDataNodeAtValue(scene.AddNewNodeByClass("vtkMRMLTextNode"), "0")
    with pytest.raises(InputError, match="sequence of volumes"):
        read_node(node)


def test_text_index_counts_the_frames(scene):
    node = write_node(frames(), scene)
    node.SetIndexType(node.TextIndex)
    np.testing.assert_array_equal(read_node(node).values, [0, 1, 2])


def test_provenance_is_stored_and_read_with_the_source(scene):
    record = {"task": "enhance.gaussian", "parameters": {"sigma_mm": np.float64(1.5), "box": np.arange(3)}, "seed": 3}
    node = write_node(Text("x", "t", record), scene, name="result")
    found = read_node(node).provenance
    assert found["task"] == "enhance.gaussian"
    assert found["parameters"] == {"sigma_mm": 1.5, "box": [0, 1, 2]}
    assert found["source"] == {"node": node.GetID(), "name": "result"}
    storage = scene.AddNewNodeByClass("vtkMRMLTextStorageNode")
    storage.SetFileName("/data/report.txt")
    node.SetAndObserveStorageNodeID(storage.GetID())
    assert read_node(node).provenance["source"]["file"] == "/data/report.txt"
    node.SetAttribute("MedImgAI.Provenance", "{damaged")
    assert "task" not in read_node(node).provenance
    write_node(Text("y"), scene, node)
    assert node.GetAttribute("MedImgAI.Provenance") is None


def test_classes():
    assert output_class(PointsPort("p", "P")) == "vtkMRMLMarkupsFiducialNode"
    assert node_classes(TablePort("t", "T")) == ("vtkMRMLTableNode",)
    assert output_class(PlotPort("p", "P")) == "vtkMRMLPlotChartNode"
    assert output_class(TextPort("p", "P")) == "vtkMRMLTextNode"
    assert output_class(SequencePort("p", "P")) == "vtkMRMLSequenceNode"
    assert node_classes(KSpacePort("p", "P")) == ()
    assert output_class(KSpacePort("p", "P")) == ""
    assert output_class(ProjectionsPort("p", "P")) == "vtkMRMLScalarVolumeNode"


def test_data_without_a_node_is_refused(scene):
    from MedImgAILib.core.examples import _example

    with pytest.raises(OutputError, match="file"):
        write_node(_example(KSpacePort("p", "P"), 0), scene)
