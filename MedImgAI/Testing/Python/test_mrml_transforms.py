"""Transform nodes and task data carry points to the same places, in both directions."""

import numpy as np
import pytest
import slicer
import vtk
from MedImgAILib.core import (
    BSplineTransform,
    CompositeTransform,
    DisplacementTransform,
    Geometry,
    InputError,
    LinearTransform,
    OutputError,
    TransformPort,
)
from MedImgAILib.hosts.mrml import new_scene, node_classes, output_class, read_node, write_node
from vtk.util.numpy_support import numpy_to_vtk

RNG = np.random.default_rng(5)
ROTATION = np.linalg.qr(RNG.normal(size=(3, 3)))[0]
GRID = Geometry.from_spacing((9, 10, 11), (12.0, 14.0, 16.0), (-40.0, 15.0, -60.0), ROTATION)
LINEAR = LinearTransform([[0.98, 0.17, 0.02, 5.0], [-0.17, 0.98, 0.1, -8.0], [0.01, -0.1, 1.03, 12.0], [0, 0, 0, 1]])


@pytest.fixture
def scene():
    return new_scene()


def smooth_vectors(geometry=GRID, amplitude=3.0, phase=0.0):
    k, j, i = np.indices(geometry.shape)
    ras = geometry.ras(np.stack([i, j, k], -1))
    return amplitude * np.sin(ras[..., ::-1] / 45.0 + phase)


def inner_points(geometry=GRID, margin=3.0, count=120):
    return geometry.ras(RNG.uniform(margin, np.array(geometry.shape[::-1]) - 1 - margin, (count, 3)))


def by_vtk(transform, points):
    return np.array([transform.TransformPoint(p) for p in points])


def to_world(node):
    transform = vtk.vtkGeneralTransform()
    node.GetTransformToWorld(transform)
    parts = vtk.vtkCollection()
    slicer.vtkMRMLTransformNode.FlattenGeneralTransform(parts, transform)
    for n in range(parts.GetNumberOfItems()):
        part = parts.GetItemAsObject(n)
        if part.IsA("vtkWarpTransform"):
            # By default VTK stops inverting a grid at an error of 0.01 mm, which is coarser than what is tested.
            part.SetInverseTolerance(1e-4)
            part.GetInverse().SetInverseTolerance(1e-4)
    return transform


def vtk_lattice(transform, setter, vectors, geometry):
    image = vtk.vtkImageData()
    image.SetDimensions(geometry.shape[::-1])
    image.SetSpacing(geometry.spacing)
    image.SetOrigin(geometry.origin)
    image.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(vectors).reshape(-1, 3), deep=True))
    directions = vtk.vtkMatrix4x4()
    for r in range(3):
        for c in range(3):
            directions.SetElement(r, c, geometry.directions[r, c])
    getattr(transform, setter)(image)
    transform.SetGridDirectionMatrix(directions)
    return transform


def vtk_grid(vectors, geometry=GRID):
    return vtk_lattice(slicer.vtkOrientedGridTransform(), "SetDisplacementGridData", vectors, geometry)


def vtk_bspline(vectors, geometry=GRID):
    return vtk_lattice(slicer.vtkOrientedBSplineTransform(), "SetCoefficientData", vectors, geometry)


def assert_same_map(value, node, points):
    """``value`` agrees with Slicer's own evaluation of the node, forward and back, to a thousandth of a mm."""
    forward = to_world(node)
    np.testing.assert_allclose(value.map_points(points), by_vtk(forward, points), atol=1e-3)
    np.testing.assert_allclose(value.map_points_inverse(points), by_vtk(forward.GetInverse(), points), atol=1e-3)


VALUES = {
    "linear": LINEAR,
    "grid from parent": DisplacementTransform(smooth_vectors(), GRID),
    "grid to parent": DisplacementTransform(smooth_vectors(), GRID, inverted=True),
    "B-spline from parent": BSplineTransform(smooth_vectors(), GRID),
    "B-spline to parent": BSplineTransform(smooth_vectors(), GRID, inverted=True),
    "chain": CompositeTransform(
        (
            DisplacementTransform(smooth_vectors(), GRID),
            LinearTransform([[1, 0, 0, 2.0], [0, 1, 0, -1.0], [0, 0, 1, 3.0], [0, 0, 0, 1]]),
            BSplineTransform(smooth_vectors(phase=1.0), GRID, inverted=True),
        )
    ),
}


@pytest.mark.parametrize("kind", VALUES)
def test_written_transform_is_what_slicer_evaluates(scene, kind):
    value, points = VALUES[kind], inner_points()
    node = write_node(value, scene, name="result")
    assert_same_map(value, node, points)
    back = read_node(node)
    assert type(back) is type(value)
    assert_same_map(back, node, points)


def test_vectors_are_shared_and_their_direction_is_kept(scene):
    value = DisplacementTransform(smooth_vectors(), GRID)
    node = write_node(value, scene)
    stored = node.GetTransformFromParentAs("vtkOrientedGridTransform")
    assert stored is not None and not stored.GetInverseFlag()
    back = read_node(node)
    assert back.inverted is False
    assert np.shares_memory(back.vectors, value.vectors)
    assert not back.vectors.flags.writeable
    assert back.geometry.same_grid(GRID, 1e-6)
    to_parent = read_node(write_node(DisplacementTransform(smooth_vectors(), GRID, inverted=True), scene))
    assert to_parent.inverted is True


@pytest.mark.parametrize("make", [vtk_grid, vtk_bspline])
@pytest.mark.parametrize("setter", ["SetAndObserveTransformToParent", "SetAndObserveTransformFromParent"])
def test_node_made_by_slicer_is_read_right(scene, make, setter):
    node = scene.AddNewNodeByClass("vtkMRMLTransformNode", "made elsewhere")
    getattr(node, setter)(make(smooth_vectors()))
    assert_same_map(read_node(node), node, inner_points())


@pytest.mark.parametrize("setter", ["SetAndObserveTransformToParent", "SetAndObserveTransformFromParent"])
def test_bulk_matrix_of_a_bspline(scene, setter):
    transform = vtk_bspline(smooth_vectors())
    bulk = vtk.vtkTransform()
    bulk.Translate(2, -4, 3)
    bulk.RotateY(8)
    transform.SetBulkTransformMatrix(bulk.GetMatrix())
    node = scene.AddNewNodeByClass("vtkMRMLBSplineTransformNode", "with bulk")
    getattr(node, setter)(transform)
    assert_same_map(read_node(node), node, inner_points(margin=4.0))


def test_bspline_border_fades_out_as_in_vtk(scene):
    transform = vtk_bspline(smooth_vectors())
    transform.SetBorderModeToZero()
    node = scene.AddNewNodeByClass("vtkMRMLBSplineTransformNode", "border")
    node.SetAndObserveTransformToParent(transform)
    points = GRID.ras(RNG.uniform(-3, np.array(GRID.shape[::-1]) + 2, (300, 3)))
    np.testing.assert_allclose(read_node(node).map_points(points), by_vtk(to_world(node), points), atol=1e-6)


def test_parents_are_part_of_the_transform(scene):
    outer, middle, inner = (
        write_node(value, scene, name=name)
        for name, value in (
            ("outer", LINEAR),
            ("middle", VALUES["grid from parent"]),
            ("inner", LinearTransform([[1, 0, 0, 4.0], [0, 1, 0, 0], [0, 0, 1, -2.0], [0, 0, 0, 1]])),
        )
    )
    middle.SetAndObserveTransformNodeID(outer.GetID())
    inner.SetAndObserveTransformNodeID(middle.GetID())
    value, points = read_node(inner), inner_points()
    assert_same_map(value, inner, points)
    # The order: the node's own transform first, then outward.
    expected = LINEAR.map_points(VALUES["grid from parent"].map_points(points + (4.0, 0.0, -2.0)))
    np.testing.assert_allclose(value.map_points(points), expected, atol=1e-3)


def test_linear_chain_becomes_one_matrix(scene):
    shift = LinearTransform([[1, 0, 0, 2.0], [0, 1, 0, -1.0], [0, 0, 1, 3.0], [0, 0, 0, 1]])
    outer, inner = write_node(LINEAR, scene), write_node(shift, scene)
    inner.SetAndObserveTransformNodeID(outer.GetID())
    np.testing.assert_allclose(read_node(inner).matrix, LINEAR.matrix @ shift.matrix, atol=1e-12)


def test_identity_and_name(scene):
    value = read_node(scene.AddNewNodeByClass("vtkMRMLTransformNode", "nothing yet"))
    np.testing.assert_array_equal(value.matrix, np.eye(4))
    assert value.name == "nothing yet"


def test_thin_plate_is_refused_in_a_sentence(scene):
    node = scene.AddNewNodeByClass("vtkMRMLTransformNode", "plate")
    transform = vtk.vtkThinPlateSplineTransform()
    points = vtk.vtkPoints()
    for p in ((0, 0, 0), (9, 0, 0), (0, 9, 0), (0, 0, 9)):
        points.InsertNextPoint(p)
    transform.SetSourceLandmarks(points)
    transform.SetTargetLandmarks(points)
    node.SetAndObserveTransformToParent(transform)
    with pytest.raises(InputError, match="grid transform"):
        read_node(node)


def test_overwriting(scene):
    general = write_node(VALUES["grid from parent"], scene, scene.AddNewNodeByClass("vtkMRMLTransformNode", "any"))
    assert general.GetName() == "any"
    write_node(LINEAR, scene, general)
    np.testing.assert_allclose(read_node(general).matrix, LINEAR.matrix)
    linear = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "only linear")
    with pytest.raises(OutputError, match="only linear"):
        write_node(VALUES["grid from parent"], scene, linear)
    assert linear.IsLinear()


def test_classes():
    port = TransformPort("t", "T")
    assert output_class(port) == "vtkMRMLTransformNode"
    assert "vtkMRMLBSplineTransformNode" in node_classes(port)
