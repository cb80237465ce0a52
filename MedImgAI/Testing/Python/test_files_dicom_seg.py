"""DICOM Segmentation objects, checked with pydicom and read back."""

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
    VolumePort,
)
from MedImgAILib.core.terminology import BRAIN, MASS, Code
from MedImgAILib.hosts.files import read_file, write_file
from MedImgAILib.hosts.files.dicom_color import lab_from_rgb, rgb_from_lab
from pydicom import dcmread
from testing_dicom import write_series

SHAPE = (5, 6, 11)


def oblique() -> Geometry:
    a, b = np.deg2rad([20, 35])
    first = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    second = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    return Geometry.from_spacing(SHAPE, (0.7, 0.9, 2.5), (10, -20, 30), first @ second @ np.diag([-1, -1, 1]))


def overlapping() -> Segmentation:
    one, two = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    one[1:3, 2:5, 3:9] = 1
    one[4, 0, 0] = 2
    two[2:4, 3:6, 1:5] = 1
    liver = Terminology(
        Code("SCT", "123037004", "Anatomical Structure"), Code("SCT", "64033007", "Kidney"),
        Code("SCT", "7771000", "Left"), Code("SCT", "818983003", "Abdomen"),
    )  # fmt: skip
    segments = (
        Segment("Brain", 1, (0.98, 0.98, 0.88), BRAIN, id="a"),
        Segment("Läsion", 2, (0.5, 0.1, 0.9), MASS, id="b"),
        Segment("Kidney", 1, (0.2, 0.7, 0.3), liver, layer=1, id="c"),
    )
    return Segmentation((one, two), oblique(), segments, "Result")


def same_masks(first: Segmentation, second: Segmentation):
    assert [s.name for s in first.segments] == [s.name for s in second.segments]
    for a, b in zip(first.segments, second.segments):
        np.testing.assert_array_equal(first.mask(a), second.mask(b))


def test_round_trip_keeps_voxels_grid_codes_and_colors(tmp_path):
    written = overlapping()
    write_file(written, tmp_path / "result.dcm")
    read = read_file(tmp_path / "result.dcm", SegmentationPort("segmentation", "Segmentation"))
    same_masks(written, read)
    np.testing.assert_allclose(read.geometry.ijk_to_ras, written.geometry.ijk_to_ras, atol=1e-4)
    for a, b in zip(written.segments, read.segments):
        assert (a.id, a.terminology) == (b.id, b.terminology)
        np.testing.assert_allclose(a.color, b.color, atol=0.01)


def test_bits_as_pydicom_sees_them(tmp_path):
    written = overlapping()
    write_file(written, tmp_path / "result.dcm")
    dataset = dcmread(tmp_path / "result.dcm")
    assert dataset.SOPClassUID.name == "Segmentation Storage"
    assert (dataset.BitsAllocated, dataset.SegmentationType, dataset.Modality) == (1, "BINARY", "SEG")
    frames = dataset.pixel_array
    assert len(frames) == dataset.NumberOfFrames == len(dataset.PerFrameFunctionalGroupsSequence)
    to_lps = np.diag([-1, -1, 1, 1]) @ written.geometry.ijk_to_ras
    seen = np.zeros(3, int)
    for frame, group in zip(frames, dataset.PerFrameFunctionalGroupsSequence):
        number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        at = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
        k = int(round((np.linalg.solve(to_lps, [*at, 1]))[2]))
        np.testing.assert_allclose(to_lps[:3] @ [0, 0, k, 1], at, atol=1e-4)
        np.testing.assert_array_equal(frame, written.mask(written.segments[number - 1])[k])
        seen[number - 1] += frame.sum()
    assert seen.tolist() == [written.mask(s).sum() for s in written.segments]


def test_refers_to_the_series_it_was_made_from(tmp_path):
    series = tmp_path / "series"
    paths = write_series(series, np.zeros((4, 6, 5), np.int16))
    image = read_file(series, VolumePort("image", "Image"))
    labels = np.zeros(image.array.shape, np.uint8)
    labels[1:3, 2:4, 2:4] = 1
    made = {"task": "segment.threshold", "inputs": {"image": {"source": image.provenance["source"]}}}
    result = Segmentation((labels,), image.geometry, (Segment("Lung"),), provenance=made)
    write_file(result, tmp_path / "seg.dcm")
    dataset = dcmread(tmp_path / "seg.dcm")
    source = dcmread(paths[1])
    assert dataset.PatientName == source.PatientName
    assert (dataset.StudyInstanceUID, dataset.FrameOfReferenceUID) == ("1.2.3.4", "1.2.3.4.6")
    assert dataset.SeriesInstanceUID != source.SeriesInstanceUID
    by_instance = {}
    for group in dataset.PerFrameFunctionalGroupsSequence:
        reference = group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        by_instance[reference] = group.PlanePositionSequence[0].ImagePositionPatient
    assert by_instance[source.SOPInstanceUID] == source.ImagePositionPatient
    same_masks(result, read_file(tmp_path / "seg.dcm"))


def test_reading_one_segmentation_beside_its_series(tmp_path):
    write_series(tmp_path, np.zeros((4, 6, 5), np.int16))
    write_file(overlapping(), tmp_path / "result.dcm")
    same_masks(overlapping(), read_file(tmp_path / "result.dcm"))
    same_masks(overlapping(), read_file(tmp_path, SegmentationPort("segmentation", "Segmentation")))
    assert read_file(tmp_path, VolumePort("image", "Image")).name == "Chest"


def test_a_chosen_series_is_referred_to(tmp_path):
    write_series(tmp_path / "a", np.zeros((4, 6, 5), np.int16))
    write_series(tmp_path / "b", np.zeros((4, 6, 5), np.int16), SeriesInstanceUID="1.9", StudyInstanceUID="1.8")
    image = read_file(tmp_path, series_uid="1.9")
    made = {"inputs": {"image": {"source": image.provenance["source"]}}}
    labels = np.ones(image.array.shape, np.uint8)
    write_file(Segmentation((labels,), image.geometry, (Segment("Lung"),), provenance=made), tmp_path / "seg.dcm")
    assert dcmread(tmp_path / "seg.dcm").ReferencedSeriesSequence[0].SeriesInstanceUID == "1.9"


def test_gantry_tilt(tmp_path):
    matrix = np.diag([-1.0, -1.0, 3.0, 1.0])
    matrix[1, 2] = 0.8
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:4, 2:4, 5:9] = 1
    written = Segmentation((labels,), Geometry(matrix, SHAPE), (Segment("A"),))
    write_file(written, tmp_path / "tilt.dcm")
    read = read_file(tmp_path / "tilt.dcm")
    same_masks(written, read)
    np.testing.assert_allclose(read.geometry.ijk_to_ras, matrix, atol=1e-5)


def test_left_handed_grid_keeps_its_place(tmp_path):
    labels = np.zeros(SHAPE, np.uint8)
    labels[1, 2, 3] = 1
    grid = Geometry(np.diag([-1.0, -1.0, -2.0, 1.0]), SHAPE)
    write_file(Segmentation((labels,), grid, (Segment("A"),)), tmp_path / "left.dcm")
    read = read_file(tmp_path / "left.dcm")
    ((k, j, i),) = np.argwhere(read.mask("A"))
    np.testing.assert_allclose(read.geometry.ras([i, j, k]), grid.ras([3, 2, 1]), atol=1e-5)


def test_fractions_at_one_half(tmp_path):
    write_file(overlapping(), tmp_path / "result.dcm")
    dataset = dcmread(tmp_path / "result.dcm")
    dataset.SegmentationType, dataset.MaximumFractionalValue = "FRACTIONAL", 200
    frames = dataset.pixel_array
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.PixelData = np.where(frames > 0, 120, 80).astype(np.uint8).tobytes()
    dataset.save_as(tmp_path / "fraction.dcm")
    same_masks(overlapping(), read_file(tmp_path / "fraction.dcm"))


def test_damage_and_what_dicom_cannot_hold(tmp_path):
    write_file(overlapping(), tmp_path / "result.dcm")
    content = (tmp_path / "result.dcm").read_bytes()
    for length in range(200, len(content), 97):
        (tmp_path / "cut.dcm").write_bytes(content[:length])
        with pytest.raises(InputError):
            read_file(tmp_path / "cut.dcm")
    matrix = np.eye(4)
    matrix[0, 1] = 0.5
    labels = np.ones(SHAPE, np.uint8)
    sheared = Segmentation((labels,), Geometry(matrix, SHAPE), (Segment("A"),))
    with pytest.raises(OutputError, match="right angles"):
        write_file(sheared, tmp_path / "sheared.dcm")
    with pytest.raises(OutputError, match="no segments"):
        write_file(Segmentation((labels,), oblique(), ()), tmp_path / "none.dcm")
    assert not (tmp_path / "sheared.dcm").exists()


def test_colors_of_cielab():
    # White and sRGB red under D50 (Lindbloom): L* 100, a* 0, b* 0 and L* 54.29, a* 80.81, b* 69.89.
    np.testing.assert_allclose(lab_from_rgb((1, 1, 1)), [65535, 128 / 255 * 65535, 128 / 255 * 65535], atol=30)
    lightness, a, b = np.array(lab_from_rgb((1, 0, 0))) / 65535
    np.testing.assert_allclose([lightness * 100, a * 255 - 128, b * 255 - 128], [54.29, 80.81, 69.89], atol=0.05)
    np.testing.assert_allclose(rgb_from_lab(lab_from_rgb((0.3, 0.6, 0.1))), (0.3, 0.6, 0.1), atol=1e-3)
