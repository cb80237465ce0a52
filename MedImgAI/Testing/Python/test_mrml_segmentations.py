"""Segmentation nodes and task data: segments, their place, names, colours and codes."""

import itertools

import numpy as np
import pytest
import slicer
import vtk
from MedImgAILib.core import (
    Geometry,
    InputError,
    Segment,
    Segmentation,
    SegmentationPort,
    Terminology,
    Volume,
    VolumePort,
)
from MedImgAILib.core.terminology import BRAIN, MASS, Code
from MedImgAILib.hosts.mrml import closed_surface, new_scene, node_classes, output_class, read_node, write_node

ORDERS = list(itertools.product(itertools.permutations(range(3)), itertools.product((False, True), repeat=3)))
LIVER = (
    "Segmentation category and type - 3D Slicer General Anatomy list~SCT^123037004^Anatomical Structure"
    "~SCT^10200004^Liver~SCT^7771000^Left~Anatomic codes - DICOM master list~SCT^23451007^Adrenal gland~^^"
)


@pytest.fixture
def scene():
    return new_scene()


def oblique(shape=(16, 18, 20), spacing=(1.1, 1.3, 1.7), origin=(-20.0, 14.0, -9.0)):
    rotation = vtk.vtkTransform()
    rotation.RotateWXYZ(27, 0.6, 0.3, -0.4)
    matrix = np.array([[rotation.GetMatrix().GetElement(r, c) for c in range(3)] for r in range(3)])
    return Geometry.from_spacing(shape, spacing, origin, matrix)


def two_layers(geometry=None):
    geometry = geometry or oblique()
    first, second = np.zeros(geometry.shape, np.uint8), np.zeros(geometry.shape, np.uint8)
    first[2:9, 3:12, 4:15] = 1
    first[10:14, 3:8, 4:9] = 2
    second[5:12, 5:14, 5:16] = 1
    segments = (
        Segment("Brain", 1, (0.9, 0.8, 0.7), BRAIN, 0, "brain"),
        Segment("Rest", 2, (0.1, 0.2, 0.3), layer=0),
        Segment("Tumour", 1, (1.0, 0.0, 0.25), MASS, 1),
    )
    return Segmentation((first, second), geometry, segments, "labels")


def reference_volume(scene, geometry):
    return write_node(Volume(np.zeros(geometry.shape, np.uint8), geometry, "reference"), scene)


def by_slicer(node, segment_id, reference):
    """The segment's voxels on the grid of a volume node, by Slicer's own export."""
    exported, ids = node.GetScene().AddNewNodeByClass("vtkMRMLLabelMapVolumeNode"), vtk.vtkStringArray()
    ids.InsertNextValue(segment_id)
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    assert logic.ExportSegmentsToLabelmapNode(node, ids, exported, reference)
    return slicer.util.arrayFromVolume(exported) > 0


def labelmap_image(array, geometry, start=(0, 0, 0)):
    """A vtkOrientedImageData of an array that begins at index ``start`` (i, j, k) of ``geometry``."""
    image = slicer.vtkOrientedImageData()
    i, j, k = start
    image.SetExtent(i, i + array.shape[2] - 1, j, j + array.shape[1] - 1, k, k + array.shape[0] - 1)
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    vtk.util.numpy_support.vtk_to_numpy(image.GetPointData().GetScalars())[:] = array.ravel()
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(geometry.ijk_to_ras.ravel().tolist())
    image.SetImageToWorldMatrix(matrix)
    return image


@pytest.mark.parametrize("axes, flips", ORDERS)
def test_every_axis_order_lies_where_slicer_says(scene, axes, flips):
    original = two_layers(oblique((5, 6, 7)))
    original = Segmentation(
        tuple(np.random.default_rng(n).integers(0, 3, (5, 6, 7)).astype(np.uint8) for n in range(2)),
        original.geometry,
        original.segments,
    )
    node = write_node(original.reordered(axes, flips), scene)
    reference = reference_volume(scene, original.geometry)
    for segment in original.segments:
        np.testing.assert_array_equal(by_slicer(node, segment.id, reference), original.mask(segment))
    back = read_node(node)
    assert back.geometry.same_grid(original.geometry.reordered(axes, flips), 1e-6)
    for segment in original.segments:
        np.testing.assert_array_equal(back.canonical().mask(segment.id), original.canonical().mask(segment))


def test_names_colours_codes_and_overlap_survive(scene):
    value = two_layers()
    node = write_node(value, scene)
    segmentation = node.GetSegmentation()
    assert segmentation.GetNumberOfLayers() == 2
    assert segmentation.GetSegmentIDsForLayer(0, "Binary labelmap") == ("brain", "Rest")
    assert segmentation.GetSegmentIDsForLayer(1, "Binary labelmap") == ("Tumour",)
    tag = vtk.reference("")
    segmentation.GetSegment("Tumour").GetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), tag)
    assert "4147007^Mass" in str(tag)
    back = read_node(node)
    assert back.segments == value.segments
    assert back.name == "labels"
    for mine, theirs in zip(back.layers, value.layers):
        assert np.shares_memory(mine, theirs) and not mine.flags.writeable
        np.testing.assert_array_equal(mine, theirs)
    assert node.GetDisplayNode() is not None


def test_terminology_of_a_slicer_segment_is_read(scene):
    node = write_node(two_layers(), scene)
    node.GetSegmentation().GetSegment("Rest").SetTerminology(LIVER)
    found = read_node(node).segment("Rest").terminology
    assert found.type == Code("SCT", "10200004", "Liver")
    assert found.modifier == Code("SCT", "7771000", "Left")
    assert found.region == Code("SCT", "23451007", "Adrenal gland")
    assert Terminology.parse(found.serialize()) == found
    node.GetSegmentation().GetSegment("Rest").SetTerminology("nonsense")
    assert read_node(node).segment("Rest").terminology.type.meaning == "Tissue"


def test_cropped_segments_are_placed_in_the_reference_grid(scene):
    geometry = oblique()
    reference = reference_volume(scene, geometry)
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "cropped")
    node.SetReferenceImageGeometryParameterFromVolumeNode(reference)
    boxes = {"a": ((3, 4, 5), (4, 5, 6)), "b": ((10, 1, 0), (2, 9, 3))}
    for name, (start, shape) in boxes.items():
        image = labelmap_image(np.ones(shape, np.uint8), geometry, start)
        node.AddSegmentFromBinaryLabelmapRepresentation(image, name, [1, 0, 0], name)
    back = read_node(node)
    assert back.geometry.same_grid(geometry, 1e-6)
    for name, (start, shape) in boxes.items():
        expected = np.zeros(geometry.shape, bool)
        i, j, k = start
        expected[k : k + shape[0], j : j + shape[1], i : i + shape[2]] = True
        np.testing.assert_array_equal(back.mask(name), expected)
        np.testing.assert_array_equal(by_slicer(node, name, reference), expected)


def test_voxels_beyond_the_reference_grid_are_kept(scene):
    geometry = oblique()
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "wide")
    node.SetReferenceImageGeometryParameterFromVolumeNode(reference_volume(scene, geometry))
    image = labelmap_image(np.ones((4, 5, 6), np.uint8), geometry, (-3, -2, 14))
    node.AddSegmentFromBinaryLabelmapRepresentation(image, "wide", [1, 0, 0], "wide")
    back = read_node(node)
    assert back.mask("wide").sum() == 4 * 5 * 6
    k, j, i = np.argwhere(back.mask("wide"))[0]
    np.testing.assert_allclose(back.geometry.ras((i, j, k)), geometry.ras((-3, -2, 14)), atol=1e-6)


def test_segment_on_another_grid_is_resampled(scene):
    geometry, fine = oblique(), oblique((32, 36, 40), (0.55, 0.65, 0.85))
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mixed")
    node.SetReferenceImageGeometryParameterFromVolumeNode(reference_volume(scene, geometry))
    coarse = np.zeros(geometry.shape, np.uint8)
    coarse[4:12, 4:12, 4:12] = 1
    node.AddSegmentFromBinaryLabelmapRepresentation(labelmap_image(coarse, geometry), "coarse", [1, 0, 0], "coarse")
    detail = np.zeros(fine.shape, np.uint8)
    detail[10:20, 10:22, 10:24] = 1
    node.AddSegmentFromBinaryLabelmapRepresentation(labelmap_image(detail, fine), "fine", [0, 1, 0], "fine")
    back = read_node(node)
    for name, array, grid in (("coarse", coarse, geometry), ("fine", detail, fine)):
        volume = back.mask(name).sum() * back.geometry.voxel_volume_mm3
        assert volume == pytest.approx(array.sum() * grid.voxel_volume_mm3, rel=0.1)
        middle = back.geometry.ras(np.argwhere(back.mask(name)).mean(0)[::-1])
        np.testing.assert_allclose(middle, grid.ras(np.argwhere(array).mean(0)[::-1]), atol=0.7)


def test_empty_segment_keeps_its_row(scene):
    node = write_node(two_layers(), scene)
    node.GetSegmentation().AddEmptySegment("later", "Later")
    back = read_node(node)
    assert not back.mask("later").any()
    assert back.mask("brain").any()


def sphere(center, radius=7.0):
    source = vtk.vtkSphereSource()
    source.SetCenter(center)
    source.SetRadius(radius)
    source.SetThetaResolution(64)
    source.SetPhiResolution(64)
    source.Update()
    return source.GetOutput()


def test_surface_is_converted_on_a_copy(scene):
    center = (4.0, -3.0, 6.0)
    geometry = Geometry.from_spacing((40, 40, 40), (0.8, 0.8, 0.8), (-12.0, -18.0, -9.0))
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "surface")
    node.SetReferenceImageGeometryParameterFromVolumeNode(reference_volume(scene, geometry))
    node.SetSourceRepresentationToClosedSurface()
    node.AddSegmentFromClosedSurfaceRepresentation(sphere(center), "ball", [0, 0, 1], "ball")
    back = read_node(node)
    assert not node.GetSegmentation().ContainsRepresentation("Binary labelmap")
    volume = back.mask("ball").sum() * back.geometry.voxel_volume_mm3
    assert volume == pytest.approx(4 / 3 * np.pi * 7**3, rel=0.04)
    np.testing.assert_allclose(back.geometry.ras(np.argwhere(back.mask("ball")).mean(0)[::-1]), center, atol=0.2)


def test_linear_parent_is_folded_in(scene):
    value = two_layers()
    node, move = write_node(value, scene), scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform = vtk.vtkTransform()
    transform.Translate(4, 5, -6)
    transform.RotateZ(35)
    move.SetMatrixTransformToParent(transform.GetMatrix())
    node.SetAndObserveTransformNodeID(move.GetID())
    back = read_node(node)
    corner = [0.0, 0.0, 0.0]
    node.TransformPointToWorld(value.geometry.ras((2, 3, 4)).tolist(), corner)
    np.testing.assert_allclose(back.geometry.ras((2, 3, 4)), corner, atol=1e-9)
    np.testing.assert_array_equal(back.layers[0], value.layers[0])
    assert node.GetTransformNodeID() == move.GetID()


def test_non_linear_parent_is_hardened_on_a_copy(scene):
    value = two_layers()
    node, warp = write_node(value, scene), scene.AddNewNodeByClass("vtkMRMLGridTransformNode")
    image = vtk.vtkImageData()
    image.SetDimensions(9, 9, 9)
    image.SetSpacing(20, 20, 20)
    image.SetOrigin(-80, -80, -80)
    image.AllocateScalars(vtk.VTK_DOUBLE, 3)
    points = np.array([image.GetPoint(n) for n in range(image.GetNumberOfPoints())])
    vectors = vtk.util.numpy_support.vtk_to_numpy(image.GetPointData().GetScalars())
    vectors[:] = (5.0, -4.0, 3.0) + 1.5 * np.sin(points / 30)
    grid = slicer.vtkOrientedGridTransform()
    grid.SetDisplacementGridData(image)
    warp.SetAndObserveTransformToParent(grid)
    node.SetAndObserveTransformNodeID(warp.GetID())
    hardened = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    hardened.CopyContent(node)
    hardened.SetAndObserveTransformNodeID(warp.GetID())
    assert hardened.HardenTransform()
    back, expected = read_node(node), read_node(hardened)
    assert back.geometry.same_grid(expected.geometry, 1e-6)
    for segment in value.segments:
        np.testing.assert_array_equal(back.mask(segment.id), expected.mask(segment.id))
        middle, moved = value.geometry.ras(np.argwhere(value.mask(segment)).mean(0)[::-1]), [0.0, 0.0, 0.0]
        node.TransformPointToWorld(middle.tolist(), moved)
        found = back.geometry.ras(np.argwhere(back.mask(segment.id)).mean(0)[::-1])
        np.testing.assert_allclose(found, moved, atol=0.6)
    assert read_node(write_node(value, scene)).geometry.same_grid(value.geometry)
    np.testing.assert_array_equal(slicer.util.arrayFromSegmentInternalBinaryLabelmap(node, "brain"), value.layers[0])


def test_nothing_to_read_is_said(scene):
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "nothing")
    with pytest.raises(InputError, match="no segments"):
        read_node(node)
    node.GetSegmentation().AddEmptySegment("a", "a")
    with pytest.raises(InputError, match="empty"):
        read_node(node)


def test_label_volume_in_a_segmentation_port(scene):
    labels = np.zeros((4, 5, 6), np.int16)
    labels[1, 2, 3], labels[2], labels[3] = 7, 2, -4
    node = write_node(
        Volume(labels, oblique((4, 5, 6)), "map"), scene, port=VolumePort("labels", "Labels", labelmap=True)
    )
    value = read_node(node, SegmentationPort("s", "S"))
    assert [s.label for s in value.segments] == [2, 7]
    colors = node.GetDisplayNode().GetColorNode()
    assert [s.name for s in value.segments] == [colors.GetColorName(2), colors.GetColorName(7)]
    assert value.mask(value.segments[1]).sum() == 1
    assert isinstance(read_node(node), Volume)
    slicer.util.arrayFromVolume(node)[:] = 0
    with pytest.raises(InputError, match="empty"):
        read_node(node, SegmentationPort("s", "S"))
    wide = write_node(Volume(np.full((2, 2, 2), 100_000, np.int32), oblique((2, 2, 2))), scene)
    assert [s.label for s in read_node(wide, SegmentationPort("s", "S")).segments] == [100_000]
    with pytest.raises(InputError, match="no labels"):
        gray = write_node(Volume(labels.astype(np.float32), oblique((4, 5, 6))), scene)
        read_node(gray, SegmentationPort("s", "S"))


def test_closed_surface_lies_where_the_labels_are(scene):
    value = two_layers()
    node, move = write_node(value, scene), scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform = vtk.vtkTransform()
    transform.Translate(10, 0, 0)
    move.SetMatrixTransformToParent(transform.GetMatrix())
    node.SetAndObserveTransformNodeID(move.GetID())
    node.GetSegmentation().SetConversionParameter("Smoothing factor", "0")
    surfaces = closed_surface(node)
    assert list(surfaces) == ["brain", "Rest", "Tumour"]
    for segment in value.segments:
        mass = vtk.vtkMassProperties()
        triangles = vtk.vtkTriangleFilter()
        triangles.SetInputData(surfaces[segment.id])
        mass.SetInputConnection(triangles.GetOutputPort())
        voxels = value.mask(segment).sum() * value.geometry.voxel_volume_mm3
        assert mass.GetVolume() == pytest.approx(voxels, rel=0.2)
        middle = value.geometry.ras(np.argwhere(value.mask(segment)).mean(0)[::-1]) + (10, 0, 0)
        np.testing.assert_allclose(np.reshape(surfaces[segment.id].GetBounds(), (3, 2)).mean(1), middle, atol=0.5)


def test_classes():
    assert node_classes(SegmentationPort("s", "S")) == ("vtkMRMLSegmentationNode", "vtkMRMLLabelMapVolumeNode")
    assert output_class(SegmentationPort("s", "S")) == "vtkMRMLSegmentationNode"


def test_segments_without_voxels_are_written_and_read(scene):
    geometry = oblique()
    value = Segmentation.from_labels(np.zeros(geometry.shape, np.uint8), geometry, [Segment("nothing found", 1)])
    back = read_node(write_node(value, scene))
    assert back.geometry.same_grid(geometry, 1e-6)
    assert not back.mask("nothing found").any()
    assert closed_surface(write_node(value, scene)) == {}
    assert closed_surface(write_node(Segmentation(value.layers, geometry, ()), scene)) == {}
