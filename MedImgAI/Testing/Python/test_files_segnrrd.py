"""Segmentations in .seg.nrrd, against Slicer's own storage node (slicer-core) in both directions."""

import numpy as np
import pytest
from MedImgAILib.core import (
    Geometry,
    InputError,
    OutputError,
    Segment,
    Segmentation,
    SegmentationPort,
    Terminology,
    Volume,
    VolumePort,
)
from MedImgAILib.core.terminology import BRAIN, MASS
from MedImgAILib.hosts.files import read_file, write_file
from testing_data import data_path

SHAPE = (10, 9, 8)
PORT = SegmentationPort("segmentation", "Segmentation")
OBLIQUE = np.array([[-0.36, -0.48, 0.8], [0.8, -0.6, 0.0], [0.48, 0.64, 0.6]]) * (0.7, 0.9, 2.5)


def geometry() -> Geometry:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = OBLIQUE, (12, -7, 33)
    return Geometry(matrix, SHAPE)


def masks():
    one, two, three = (np.zeros(SHAPE, bool) for _ in range(3))
    one[2:5, 3:6, 1:4] = True
    two[6:8, 1:3, 5:7] = True
    three[3:8, 4:7, 2:5] = True
    return one, two, three


def segmentation() -> Segmentation:
    one, two, three = masks()
    layers = (one * np.uint8(1) + two * np.uint8(2), three * np.uint8(1))
    segments = (
        Segment("Brain", 1, (0.98, 0.5, 0.25), BRAIN, id="Segment_1"),
        Segment("Mass: α, left", 2, (0.5, 0.1, 0.9), MASS, id="Segment_2"),
        Segment("Overlap", 1, (0.2, 0.7, 0.3), layer=1, id="Segment_3"),
    )
    return Segmentation(layers, geometry(), segments, "case")


@pytest.fixture
def scene():
    slicer = pytest.importorskip("slicer")
    return slicer.vtkMRMLScene()


def oriented(array: np.ndarray, matrix: np.ndarray, start_ijk=(0, 0, 0)):
    import slicer
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    image = slicer.vtkOrientedImageData()
    upper = np.array(array.shape[::-1]) + start_ijk - 1
    image.SetExtent(*(int(v) for pair in zip(start_ijk, upper) for v in pair))
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    vtk_to_numpy(image.GetPointData().GetScalars()).reshape(array.shape)[:] = array
    to_world = vtk.vtkMatrix4x4()
    to_world.DeepCopy(matrix.ravel().tolist())
    image.SetImageToWorldMatrix(to_world)
    return image


def slicer_writes(scene, path, crop):
    import slicer

    node = slicer.vtkMRMLSegmentationNode()
    scene.AddNode(node)
    node.CreateDefaultDisplayNodes()
    inner = node.GetSegmentation()
    matrix = geometry().ijk_to_ras
    images = [oriented(mask.astype(np.uint8), matrix) for mask in masks()]
    serialized = slicer.vtkSegmentationConverter.SerializeImageGeometry(images[0])
    inner.SetConversionParameter("Reference image geometry", serialized)
    for image, segment in zip(images, segmentation().segments):
        own = slicer.vtkSegment()
        own.SetName(segment.name)
        own.SetColor(*segment.color)
        own.SetTag(own.GetTerminologyEntryTagName(), segment.terminology.serialize())
        own.AddRepresentation("Binary labelmap", image)
        inner.AddSegment(own, segment.id)
    storage = slicer.vtkMRMLSegmentationStorageNode()
    scene.AddNode(storage)
    storage.SetFileName(str(path))
    storage.SetCropToMinimumExtent(crop)
    assert storage.WriteData(node)


@pytest.mark.parametrize("crop", [False, True])
def test_reads_what_slicer_writes(tmp_path, scene, crop):
    slicer_writes(scene, tmp_path / "a.seg.nrrd", crop)
    own = read_file(tmp_path / "a.seg.nrrd", PORT)
    assert own.geometry.same_grid(geometry())
    for segment, expected, mask in zip(own.segments, segmentation().segments, masks()):
        assert (segment.name, segment.id) == (expected.name, expected.id)
        assert segment.terminology == expected.terminology
        np.testing.assert_allclose(segment.color, expected.color, atol=1e-3)
        np.testing.assert_array_equal(own.mask(segment), mask)


@pytest.mark.parametrize("suffix", [".seg.nrrd", ".seg.nhdr"])
def test_slicer_reads_what_is_written(tmp_path, scene, suffix):
    import slicer
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    write_file(segmentation(), tmp_path / f"a{suffix}")
    node, storage = slicer.vtkMRMLSegmentationNode(), slicer.vtkMRMLSegmentationStorageNode()
    scene.AddNode(node)
    scene.AddNode(storage)
    storage.SetFileName(str(tmp_path / f"a{suffix}"))
    assert storage.ReadData(node)
    inner = node.GetSegmentation()
    assert inner.GetNumberOfSegments() == 3
    assert inner.GetNumberOfLayers() == 2
    reference = inner.GetConversionParameter("Reference image geometry")
    matrix, extent = vtk.vtkMatrix4x4(), [0] * 6
    slicer.vtkSegmentationConverter.DeserializeImageGeometry(reference, matrix, extent)
    assert extent == [0, 7, 0, 8, 0, 9]
    for expected, mask in zip(segmentation().segments, masks()):
        segment = inner.GetSegment(expected.id)
        assert segment.GetName() == expected.name
        np.testing.assert_allclose(segment.GetColor(), expected.color, atol=1e-6)
        entry = vtk.reference("")
        assert segment.GetTag(segment.GetTerminologyEntryTagName(), entry)
        assert Terminology.parse(str(entry)) == expected.terminology
        image = segment.GetRepresentation("Binary labelmap")
        image.GetImageToWorldMatrix(matrix)
        values = np.array([[matrix.GetElement(r, c) for c in range(4)] for r in range(4)])
        np.testing.assert_allclose(values, geometry().ijk_to_ras, atol=1e-9)
        low = np.array(image.GetExtent()[::2])
        voxels = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])
        found = np.argwhere(voxels == segment.GetLabelValue())[:, ::-1] + low
        world = found @ values[:3, :3].T + values[:3, 3]
        np.testing.assert_allclose(world, geometry().ras(np.argwhere(mask)[:, ::-1]), atol=1e-6)


def test_round_trip(tmp_path):
    write_file(segmentation(), tmp_path / "a.seg.nrrd")
    own = read_file(tmp_path / "a.seg.nrrd")
    assert own.segments == segmentation().segments
    assert own.name == "a"
    for mine, expected in zip(own.layers, segmentation().layers):
        np.testing.assert_array_equal(mine, expected)
    np.testing.assert_array_equal(own.geometry.ijk_to_ras, geometry().ijk_to_ras)


def test_many_labels_and_an_empty_segment(tmp_path):
    labels = np.arange(np.prod(SHAPE), dtype=np.int32).reshape(SHAPE)
    labels[labels == 300] = 0
    segments = [Segment(f"S{n}", n) for n in (1, 255, 300, 719)]
    write_file(Segmentation((labels,), geometry(), segments), tmp_path / "a.seg.nrrd")
    own = read_file(tmp_path / "a.seg.nrrd")
    assert [int(own.mask(s).sum()) for s in own.segments] == [1, 1, 0, 1]


def test_label_images_both_ways(tmp_path):
    one, two, _ = masks()
    labels = one * np.uint8(1) + two * np.uint8(7)
    plain = Segmentation((labels,), geometry(), (Segment("A", 1), Segment("B", 7)))
    for suffix in (".nrrd", ".nii.gz", ".mha"):
        write_file(plain, tmp_path / f"a{suffix}")
        own = read_file(tmp_path / f"a{suffix}", PORT)
        assert [(s.name, s.label) for s in own.segments] == [("Segment_1", 1), ("Segment_7", 7)]
        np.testing.assert_array_equal(own.layers[0], labels)
        assert own.geometry.same_grid(geometry())
    with pytest.raises(OutputError, match="overlapping segments; choose .seg.nrrd"):
        write_file(segmentation(), tmp_path / "b.nii.gz")
    write_file(plain, tmp_path / "c.seg.nrrd")
    np.testing.assert_array_equal(read_file(tmp_path / "c.seg.nrrd", VolumePort("mask", "Mask")).array, labels)


def test_images_that_are_no_label_images(tmp_path):
    for values, words in (
        (np.full(SHAPE, 0.5, np.float32), "whole numbers"),
        (np.full(SHAPE, -3, np.int16), "negative"),
    ):
        write_file(Volume(values, geometry()), tmp_path / "a.nrrd")
        with pytest.raises(InputError, match=words):
            read_file(tmp_path / "a.nrrd", PORT)
    whole = Volume(masks()[0].astype(np.float32) * 3, geometry())
    write_file(whole, tmp_path / "f.nii.gz")
    assert read_file(tmp_path / "f.nii.gz", PORT).segments[0].label == 3


def test_real_label_image():
    own = read_file(data_path("ct/lung1_label.nrrd"), PORT)
    assert len(own.segments) == 1 and own.mask(own.segments[0]).any()
