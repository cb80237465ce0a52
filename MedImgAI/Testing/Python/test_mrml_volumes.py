"""Volume nodes and task data: same voxels at the same place in the patient, without copies."""

import gc
import itertools
import weakref
from dataclasses import replace

import numpy as np
import pytest
import slicer
import vtk
from hypothesis import given, settings
from hypothesis import strategies as st
from MedImgAILib.core import Display, Geometry, InputError, OutputError, Volume, VolumePort
from MedImgAILib.hosts.mrml import new_scene, node_classes, output_class, read_node, write_node

OBLIQUE = vtk.vtkTransform()
OBLIQUE.RotateWXYZ(33, 0.3, -0.5, 0.8)
DIRECTIONS = np.array([[OBLIQUE.GetMatrix().GetElement(r, c) for c in range(3)] for r in range(3)])
ORDERS = list(itertools.product(itertools.permutations(range(3)), itertools.product((False, True), repeat=3)))


@pytest.fixture
def scene():
    return new_scene()


def make_volume(shape=(4, 5, 6), dtype=np.int16, directions=DIRECTIONS):
    array = np.random.default_rng(1).integers(0, 100, shape).astype(dtype)
    return Volume(array, Geometry.from_spacing(shape[:3], (0.7, 1.3, 2.9), (-31.0, 12.5, 7.25), directions), "image")


def value_at(node, ras):
    """The voxel of a node at a RAS position, by Slicer's own matrix and VTK's own accessor."""
    to_ijk = vtk.vtkMatrix4x4()
    node.GetRASToIJKMatrix(to_ijk)
    i, j, k = (round(c) for c in to_ijk.MultiplyPoint([*ras, 1.0])[:3])
    return node.GetImageData().GetScalarComponentAsDouble(i, j, k, 0)


def matrix_node(scene, name="move", angle=20.0, shift=(5.0, -3.0, 11.0)):
    node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", name)
    transform = vtk.vtkTransform()
    transform.Translate(shift)
    transform.RotateX(angle)
    node.SetMatrixTransformToParent(transform.GetMatrix())
    return node


def grid_node(scene, displacement, inverse=False):
    """A displacement grid node made with VTK; ``displacement`` maps (N, 3) RAS positions to vectors."""
    image = vtk.vtkImageData()
    image.SetDimensions(13, 13, 13)
    image.SetSpacing(10, 10, 10)
    image.SetOrigin(-60, -60, -60)
    image.AllocateScalars(vtk.VTK_DOUBLE, 3)
    points = np.array([image.GetPoint(n) for n in range(image.GetNumberOfPoints())])
    vectors = vtk.util.numpy_support.vtk_to_numpy(image.GetPointData().GetScalars())
    vectors[:] = displacement(points)
    transform = slicer.vtkOrientedGridTransform()
    transform.SetDisplacementGridData(image)
    node = scene.AddNewNodeByClass("vtkMRMLGridTransformNode", "warp")
    (node.SetAndObserveTransformFromParent if inverse else node.SetAndObserveTransformToParent)(transform)
    return node


def clone(scene, node):
    copy = scene.AddNewNodeByClass(node.GetClassName(), "clone")
    copy.CopyContent(node)
    copy.SetAndObserveTransformNodeID(node.GetTransformNodeID())
    return copy


@pytest.mark.parametrize("axes, flips", ORDERS)
def test_every_axis_order_lies_where_slicer_says(scene, axes, flips):
    original = make_volume()
    node = write_node(original.reordered(axes, flips), scene)
    for k, j, i in itertools.product((0, 3), (0, 2, 4), (0, 5)):
        ras = original.geometry.ras((i, j, k))
        assert value_at(node, ras) == original.array[k, j, i]
    back = read_node(node)
    assert back.geometry.same_grid(original.geometry.reordered(axes, flips), 1e-6)
    canonical, expected = back.canonical(), original.canonical()
    np.testing.assert_array_equal(canonical.array, expected.array)
    assert canonical.geometry.same_grid(expected.geometry, 1e-6)


@given(
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    spacing=st.tuples(*[st.floats(0.05, 20)] * 3),
    origin=st.tuples(*[st.floats(-2000, 2000)] * 3),
    axis=st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: np.linalg.norm(v) > 0.1),
    angle=st.floats(-180, 180),
    order=st.sampled_from(ORDERS),
)
@settings(max_examples=60, deadline=None)
def test_any_geometry_survives(shape, spacing, origin, axis, angle, order):
    rotation = vtk.vtkTransform()
    rotation.RotateWXYZ(angle, *axis)
    matrix = np.array([[rotation.GetMatrix().GetElement(r, c) for c in range(3)] for r in range(3)])
    geometry = Geometry.from_spacing(shape, spacing, origin, matrix).reordered(*order)
    node = write_node(Volume(np.zeros(geometry.shape, np.uint8), geometry), PROPERTY_SCENE)
    to_ras = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(to_ras)
    for corner in itertools.product(*((0, n - 1) for n in geometry.shape[::-1])):
        np.testing.assert_allclose(to_ras.MultiplyPoint([*corner, 1])[:3], geometry.ras(corner), atol=1e-6)
    np.testing.assert_allclose(read_node(node).geometry.ijk_to_ras, geometry.ijk_to_ras, atol=1e-6)
    PROPERTY_SCENE.RemoveNode(node)


PROPERTY_SCENE = new_scene()


def test_sheared_grid_survives(scene):
    matrix = np.eye(4)
    matrix[0, 2] = 0.4
    geometry = Geometry(matrix, (3, 4, 5))
    node = write_node(Volume(np.zeros((3, 4, 5), np.int16), geometry), scene)
    np.testing.assert_allclose(read_node(node).geometry.ijk_to_ras, matrix, atol=1e-12)


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8"])
def test_types_are_kept_and_memory_is_shared(scene, dtype):
    volume = make_volume(dtype=dtype)
    node = write_node(volume, scene)
    back = read_node(node)
    assert back.array.dtype == np.dtype(dtype)
    assert np.shares_memory(back.array, volume.array)
    assert np.shares_memory(back.array, slicer.util.arrayFromVolume(node))
    assert not back.array.flags.writeable
    assert slicer.util.arrayFromVolume(node).flags.writeable
    with pytest.raises(ValueError):
        back.array[0, 0, 0] = 1


@pytest.mark.parametrize(
    "array, expected",
    [
        (np.array([[[0, 1, -7]]], dtype=np.int64), np.int32),
        (np.array([[[0, 1, 2**40]]], dtype=np.int64), np.float64),
        (np.array([[[True, False]]]), np.uint8),
        (np.array([[[1.5, -2]]], dtype=np.float16), np.float32),
        (np.array([[[258, -2]]], dtype=">i2"), np.int16),
        (np.arange(60, dtype=np.int16).reshape(3, 4, 5).transpose(2, 0, 1)[::-1], np.int16),
    ],
)
def test_unusual_arrays_keep_their_values(scene, array, expected):
    node = write_node(Volume(array, Geometry.from_spacing(array.shape)), scene)
    stored = slicer.util.arrayFromVolume(node)
    assert stored.dtype == np.dtype(expected)
    np.testing.assert_array_equal(stored, array)


def test_complex_voxels_are_refused_and_leave_nothing(scene):
    count = scene.GetNumberOfNodes()
    with pytest.raises(OutputError, match="complex"):
        write_node(make_volume(dtype=np.complex64), scene)
    assert scene.GetNumberOfNodes() == count


def test_read_only_array_is_copied_so_that_edits_never_reach_the_input(scene):
    source = write_node(make_volume(), scene)
    result = read_node(source)
    node = write_node(result, scene)
    slicer.util.arrayFromVolume(node)[:] = 7
    assert not (slicer.util.arrayFromVolume(source) == 7).all()
    assert not np.shares_memory(slicer.util.arrayFromVolume(node), slicer.util.arrayFromVolume(source))


def test_vector_components_stand_last(scene):
    volume = make_volume((3, 4, 5, 3), np.float32)
    node = write_node(volume, scene)
    assert node.GetClassName() == "vtkMRMLVectorVolumeNode"
    image = node.GetImageData()
    for c in range(3):
        assert image.GetScalarComponentAsDouble(4, 2, 1, c) == volume.array[1, 2, 4, c]
    back = read_node(node)
    assert np.shares_memory(back.array, volume.array)
    np.testing.assert_array_equal(back.array, volume.array)
    color = write_node(make_volume((3, 4, 5, 3), np.uint8), scene)
    assert color.GetVoxelVectorType() == color.VoxelVectorTypeColorRGB


def test_array_lives_with_the_node_and_dies_with_it(scene):
    volume = make_volume((20, 20, 20), np.float32)
    expected, watch = volume.array.copy(), weakref.ref(volume.array)
    node = write_node(volume, scene)
    del volume
    gc.collect()
    junk = [np.random.rand(20, 20, 20).astype(np.float32) for _ in range(30)]
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(node), expected)
    view = read_node(node).array
    scene.RemoveNode(node.GetDisplayNode())
    scene.RemoveNode(node)
    del node, junk
    gc.collect()
    np.testing.assert_array_equal(view, expected)
    del view
    gc.collect()
    assert watch() is None


def test_image_whose_extent_does_not_begin_at_zero(scene):
    volume = make_volume()
    node = write_node(volume, scene)
    image = vtk.vtkImageData()
    image.DeepCopy(node.GetImageData())
    image.SetExtent(2, 7, -1, 3, 3, 6)
    node.SetAndObserveImageData(image)
    expected = volume.geometry.ras((2, -1, 3))
    np.testing.assert_allclose(read_node(node).geometry.origin, expected, atol=1e-9)


def test_linear_parents_are_folded_in_as_hardening_does(scene):
    node = write_node(make_volume(), scene)
    outer, inner = matrix_node(scene, "outer"), matrix_node(scene, "inner", -50.0, (0.0, 9.0, 1.0))
    inner.SetAndObserveTransformNodeID(outer.GetID())
    node.SetAndObserveTransformNodeID(inner.GetID())
    hardened = clone(scene, node)
    hardened.HardenTransform()
    expected = vtk.vtkMatrix4x4()
    hardened.GetIJKToRASMatrix(expected)
    volume = read_node(node)
    for r, c in itertools.product(range(4), range(4)):
        assert volume.geometry.ijk_to_ras[r, c] == pytest.approx(expected.GetElement(r, c), abs=1e-9)
    assert np.shares_memory(volume.array, slicer.util.arrayFromVolume(node))
    assert node.GetTransformNodeID() == inner.GetID()


def ball(shape=(41, 43, 45), center=(6.0, -4.0, 3.0), radius=8.0):
    geometry = Geometry.from_spacing(shape, (1.5, 1.4, 1.6), (33.0, 29.4, -32.0), np.diag([-1.0, -1.0, 1.0]))
    k, j, i = np.indices(shape)
    inside = np.linalg.norm(geometry.ras(np.stack([i, j, k], -1)) - center, axis=-1) < radius
    return Volume((1000 * inside).astype(np.int16), geometry, "ball")


def centroid(volume):
    k, j, i = np.nonzero(volume.array > 500)
    return volume.geometry.ras(np.stack([i, j, k], -1)).mean(0)


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("under_rotation", [False, True])
def test_displacement_parent_moves_the_image_as_hardening_does(scene, inverse, under_rotation):
    node = write_node(ball(), scene)
    # To-parent vectors of +7 mm R are from-parent vectors of −7 mm R; a little waviness makes it non-linear.
    sign = -1.0 if inverse else 1.0
    warp = grid_node(scene, lambda p: sign * np.array([7.0, -3.0, 2.0]) + 0.5 * np.sin(p / 40.0), inverse)
    node.SetAndObserveTransformNodeID(warp.GetID())
    if under_rotation:
        warp.SetAndObserveTransformNodeID(matrix_node(scene).GetID())
    local = [0.0, 0.0, 0.0]
    node.TransformPointToWorld([6.0, -4.0, 3.0], local)
    hardened = clone(scene, node)
    hardened.HardenTransform()
    before = (node.GetMTime(), node.GetImageData().GetMTime(), scene.GetNumberOfNodes())
    volume = read_node(node)
    assert (node.GetMTime(), node.GetImageData().GetMTime(), scene.GetNumberOfNodes()) == before
    np.testing.assert_allclose(centroid(volume), local, atol=0.3)
    expected = read_node(hardened)
    np.testing.assert_allclose(volume.geometry.ijk_to_ras, expected.geometry.ijk_to_ras, atol=1e-9)
    np.testing.assert_array_equal(volume.array, expected.array)


def test_labels_are_never_mixed_by_a_non_linear_parent(scene):
    volume = ball()
    port = VolumePort("labels", "Labels", labelmap=True)
    node = write_node(replace(volume, array=np.where(volume.array > 0, 9, 4).astype(np.uint8)), scene, port=port)
    assert node.GetClassName() == "vtkMRMLLabelMapVolumeNode"
    node.SetAndObserveTransformNodeID(grid_node(scene, lambda p: 3 * np.sin(p / 25.0)).GetID())
    assert set(np.unique(read_node(node).array)) <= {0, 4, 9}


def test_overwriting_leaves_the_parent_transform_and_keeps_the_name(scene):
    node = write_node(make_volume(), scene, name="mine")
    node.SetAndObserveTransformNodeID(matrix_node(scene).GetID())
    result = make_volume((2, 3, 4), np.float32)
    assert write_node(result, scene, node) is node
    assert node.GetName() == "mine"
    assert node.GetTransformNodeID() is None
    back = read_node(node)
    assert back.geometry.same_grid(result.geometry, 1e-6)
    np.testing.assert_array_equal(back.array, result.array)


def test_wrong_target_is_refused_and_stays(scene):
    labels = write_node(make_volume(dtype=np.uint8), scene, port=VolumePort("l", "L", labelmap=True))
    before = slicer.util.arrayFromVolume(labels).copy()
    with pytest.raises(OutputError, match="cannot be stored in"):
        write_node(make_volume(dtype=np.float32), scene, labels)
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(labels), before)
    with pytest.raises(OutputError):
        write_node(make_volume((3, 4, 5, 3)), scene, write_node(make_volume(), scene))


def test_empty_and_missing_nodes_are_refused(scene):
    with pytest.raises(InputError, match="no voxels"):
        read_node(scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty"))
    with pytest.raises(InputError):
        read_node(None)
    with pytest.raises(InputError, match="no task can use"):
        read_node(scene.AddNewNodeByClass("vtkMRMLCameraNode"))


def test_window_level_colour_units_and_name(scene):
    display = Display(350.0, 40.0, "Inferno" if scene.GetFirstNodeByName("Inferno") else "Rainbow", False)
    node = write_node(replace(make_volume(), units="HU", display=display), scene, name="CT")
    shown = node.GetDisplayNode()
    assert (shown.GetWindow(), shown.GetLevel(), shown.GetAutoWindowLevel(), shown.GetInterpolate()) == (350, 40, 0, 0)
    assert shown.GetColorNode().GetName() == display.color
    back = read_node(node)
    assert (back.name, back.units) == ("CT", "HU")
    assert (back.display.window, back.display.level, back.display.color) == (350, 40, display.color)
    assert back.display.interpolate is False


def test_levels_without_a_wish_cover_the_image(scene):
    volume = make_volume((30, 40, 50), np.float32)
    shown = write_node(volume, scene).GetDisplayNode()
    low, high = (shown.GetLevel() + s * shown.GetWindow() / 2 for s in (-1, 1))
    assert low <= 2 and high >= 97
    assert write_node(replace(volume, array=np.full_like(volume.array, np.nan)), scene) is not None


def test_node_classes_and_output_class_of_volume_ports():
    assert node_classes(VolumePort("a", "A")) == ("vtkMRMLScalarVolumeNode", "vtkMRMLLabelMapVolumeNode")
    assert node_classes(VolumePort("a", "A", components=(3,))) == ("vtkMRMLVectorVolumeNode",)
    assert "vtkMRMLVectorVolumeNode" in node_classes(VolumePort("a", "A", components=()))
    assert output_class(VolumePort("a", "A")) == "vtkMRMLScalarVolumeNode"
    assert output_class(VolumePort("a", "A", labelmap=True)) == "vtkMRMLLabelMapVolumeNode"
    assert output_class(VolumePort("a", "A", components=(3,))) == "vtkMRMLVectorVolumeNode"
