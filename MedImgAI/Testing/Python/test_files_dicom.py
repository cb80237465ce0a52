"""DICOM series as volumes, against the arrays and positions they were made from."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from MedImgAILib.core import InputError, MissingPackageError, Sequence, VolumePort
from MedImgAILib.hosts.files import dicom_pixels, read_file
from testing_dicom import new_dataset, set_pixels, write_enhanced, write_series

SHAPE = (6, 7, 9)


@pytest.fixture
def voxels():
    return np.random.default_rng(0).integers(-1000, 2000, SHAPE).astype(np.int16)


def position(volume, k, j, i):
    """LPS of a voxel."""
    return volume.geometry.ras([i, j, k]) * (-1, -1, 1)


def test_sorts_by_position_not_by_name(tmp_path, voxels):
    names = ["c", "a", "f", "b", "e", "d"]
    write_series(tmp_path, voxels, (10, -20, 30), names=lambda k: names[k])
    volume = read_file(tmp_path, VolumePort("image", "Image"))
    np.testing.assert_array_equal(volume.array, voxels)
    np.testing.assert_allclose(position(volume, 2, 3, 4), [10 + 4 * 0.5, -20 + 3 * 0.8, 30 + 6])
    assert (volume.name, volume.units) == ("Chest", "HU")
    itk_reader = sitk.ImageSeriesReader()
    itk_reader.SetFileNames(itk_reader.GetGDCMSeriesFileNames(str(tmp_path)))
    peer = itk_reader.Execute()
    np.testing.assert_array_equal(volume.array, sitk.GetArrayFromImage(peer))
    np.testing.assert_allclose(position(volume, 2, 3, 4), peer.TransformIndexToPhysicalPoint((4, 3, 2)))


def test_one_file_stands_for_its_series_only(tmp_path, voxels):
    paths = write_series(tmp_path, voxels)
    write_series(tmp_path, voxels[:2], names=lambda k: f"other{k}", SeriesInstanceUID="1.9")
    (tmp_path / "notes.txt").write_text("not DICOM")
    volume = read_file(paths[3])
    np.testing.assert_array_equal(volume.array, voxels)


def test_several_series_are_listed_and_can_be_chosen(tmp_path, voxels):
    write_series(tmp_path / "a", voxels)
    write_series(tmp_path / "b", voxels[:3], SeriesInstanceUID="1.9", SeriesDescription="Scout")
    with pytest.raises(
        InputError, match=r"2 DICOM series.*CT Chest \(6 files\) 1\.2\.3\.4\.5; CT Scout \(3 files\) 1\.9"
    ):
        read_file(tmp_path)
    assert read_file(tmp_path, series_uid="1.9").array.shape[0] == 3
    with pytest.raises(InputError, match=r"no DICOM series 7\.7"):
        read_file(tmp_path, series_uid="7.7")


def test_oblique_orientation(tmp_path, voxels):
    angle = np.deg2rad(25)
    i_axis = np.array([np.cos(angle), np.sin(angle), 0])
    j_axis = np.array([0, 0, -1.0])
    normal = np.cross(i_axis, j_axis)
    write_series(tmp_path, voxels, (1, 2, 3), step=normal * 2.5, orientation=(*i_axis, *j_axis))
    volume = read_file(tmp_path)
    np.testing.assert_array_equal(volume.array, voxels)
    expected = np.array([1, 2, 3]) + 4 * 0.5 * i_axis + 3 * 0.8 * j_axis + 2 * 2.5 * normal
    np.testing.assert_allclose(position(volume, 2, 3, 4), expected, atol=1e-5)
    assert volume.geometry.is_orthogonal


def test_gantry_tilt_is_a_sheared_grid(tmp_path, voxels):
    step = np.array([0, 3 * np.tan(np.deg2rad(20)), 3.0])
    write_series(tmp_path, voxels, (5, 6, 7), step=step)
    volume = read_file(tmp_path)
    assert not volume.geometry.is_orthogonal
    for k in range(6):
        np.testing.assert_allclose(position(volume, k, 0, 0), np.array([5, 6, 7]) + k * step, atol=1e-5)
    np.testing.assert_array_equal(volume.array, voxels)


def test_slices_stored_from_head_to_foot(tmp_path, voxels):
    write_series(tmp_path, voxels, (0, 0, 30), step=(0, 0, -3))
    volume = read_file(tmp_path)
    np.testing.assert_array_equal(volume.array, voxels[::-1])
    np.testing.assert_allclose(position(volume, 0, 0, 0), [0, 0, 15])


@pytest.mark.parametrize(("skip", "count"), [((2,), "1 slice is"), ((2, 3), "2 slices are")])
def test_missing_slices(tmp_path, voxels, skip, count):
    write_series(tmp_path, voxels, (0, 0, 100), skip=skip)
    upper = 106 + 3 * len(skip)
    with pytest.raises(InputError, match=f"{count} missing between S = 103 mm and S = {upper} mm .*3 mm apart"):
        read_file(tmp_path)


def test_one_of_four_slices_missing(tmp_path, voxels):
    write_series(tmp_path, voxels[:4], skip=(2,))
    with pytest.raises(InputError, match="1 slice is missing between S = 3 mm and S = 9 mm .*3 mm apart"):
        read_file(tmp_path)


def test_uneven_distance(tmp_path, voxels):
    write_series(tmp_path, voxels, per_slice=lambda k: {"ImagePositionPatient": [0, 0, 3 * k + (1.0 if k == 5 else 0)]})
    with pytest.raises(InputError, match="4 mm apart between S = 12 mm and S = 16 mm"):
        read_file(tmp_path)


def test_shifted_slice(tmp_path, voxels):
    write_series(tmp_path, voxels, per_slice=lambda k: {"ImagePositionPatient": [8.0 * (k == 3), 0, 3 * k]})
    with pytest.raises(InputError, match="shifted by 8 mm .*S = 9 mm"):
        read_file(tmp_path)


def test_duplicate_slice(tmp_path, voxels):
    write_series(tmp_path, voxels)
    write_series(tmp_path, voxels[:1], origin=(0, 0, 6), names=lambda k: "copy.dcm")
    with pytest.raises(InputError, match=r"2 images at the same slice position, S = 6 mm \('002.dcm' and 'copy.dcm'\)"):
        read_file(tmp_path)


def test_mixed_orientation(tmp_path, voxels):
    write_series(tmp_path, voxels)
    write_series(tmp_path, voxels[:1], names=lambda k: "scout", orientation=(1, 0, 0, 0, 0, -1))
    with pytest.raises(InputError, match="different orientation.*'scout'"):
        read_file(tmp_path)
    np.testing.assert_array_equal(read_file(tmp_path / "002.dcm").array, voxels)


def test_echoes_become_a_sequence(tmp_path, voxels):
    for echo in (30.0, 10.0):
        write_series(tmp_path, voxels + int(echo), names=lambda k, e=echo: f"{e}_{k}", EchoTime=echo, Modality="MR")
    sequence = read_file(tmp_path)
    assert isinstance(sequence, Sequence)
    assert (sequence.index_name, sequence.index_unit, sequence.values.tolist()) == ("echo time", "ms", [10, 30])
    np.testing.assert_array_equal(sequence.items[1].array, voxels + 30)
    with pytest.raises(InputError, match="holds 2 volumes where one is needed"):
        read_file(tmp_path, VolumePort("image", "Image"))


def test_rescale_whole_numbers_stay_integers(tmp_path):
    stored = np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(np.uint16)
    write_series(tmp_path, stored, RescaleSlope=1, RescaleIntercept=-1024)
    volume = read_file(tmp_path)
    assert volume.array.dtype == np.int16
    np.testing.assert_array_equal(volume.array, stored.astype(int) - 1024)


def test_rescale_differs_from_slice_to_slice(tmp_path):
    stored = np.full(SHAPE, 100, np.int16)
    write_series(tmp_path, stored, Modality="PT", Units="BQML", per_slice=lambda k: {"RescaleSlope": 0.5 + k})
    volume = read_file(tmp_path)
    assert volume.units == "Bq/mL"
    np.testing.assert_allclose(volume.array[:, 3, 3], 100 * (0.5 + np.arange(6)))


def test_color_pixels(tmp_path):
    planes = np.random.default_rng(1).integers(0, 255, (3, 4, 5, 3)).astype(np.uint8)
    write_series(tmp_path, planes, Modality="SC")
    np.testing.assert_array_equal(read_file(tmp_path).array, planes)


@pytest.mark.parametrize("times", [1, 2])
def test_enhanced_multiframe(tmp_path, times):
    array = np.random.default_rng(2).integers(0, 500, (4 * times, 5, 6)).astype(np.uint16)
    write_enhanced(tmp_path / "enhanced", array, times)
    value = read_file(tmp_path / "enhanced")
    items = value.items if times == 2 else (value,)
    for t, item in enumerate(items):
        for k in range(4):
            number = 4 * t + k
            np.testing.assert_allclose(item.array[k], array[number] * (number + 1) / 2 + number)
        np.testing.assert_allclose(position(item, 3, 1, 2), [2 * 1.25, 1.5, 6])


def test_jpeg_is_decoded(tmp_path):
    Image = pytest.importorskip("PIL.Image")
    from io import BytesIO

    from pydicom.encaps import encapsulate

    paths = write_series(tmp_path, np.zeros((2, 32, 32), np.uint8))
    ramp = np.add.outer(np.arange(32), np.arange(32)).astype(np.uint8) * 4
    _compress(paths, ramp, Image, BytesIO, encapsulate)
    np.testing.assert_allclose(read_file(tmp_path).array[1].astype(int), ramp, atol=4)


def _compress(paths, plane, Image, BytesIO, encapsulate):
    from pydicom import dcmread
    from pydicom.uid import JPEGBaseline8Bit

    for path in paths:
        dataset = dcmread(path)
        stream = BytesIO()
        Image.fromarray(plane).save(stream, "jpeg", quality=97)
        dataset.PixelData = encapsulate([stream.getvalue()])
        dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        dataset.save_as(path, enforce_file_format=True)


def test_without_a_decoder_itk_decodes_or_the_package_is_named(tmp_path, monkeypatch):
    Image = pytest.importorskip("PIL.Image")
    from io import BytesIO

    from pydicom.encaps import encapsulate

    paths = write_series(tmp_path, np.zeros((2, 32, 32), np.uint8), RescaleSlope=2, RescaleIntercept=-10)
    ramp = np.add.outer(np.arange(32), np.arange(32)).astype(np.uint8) * 4
    _compress(paths, ramp, Image, BytesIO, encapsulate)
    monkeypatch.setattr(dicom_pixels, "_has_decoder", lambda syntax: False)
    np.testing.assert_allclose(read_file(tmp_path).array[1], ramp * 2.0 - 10, atol=8)

    def fail(*arguments, **options):
        raise RuntimeError("no codec")

    monkeypatch.setattr(sitk, "ReadImage", fail)
    with pytest.raises(MissingPackageError, match="compressed as JPEG, which needs the package pillow") as caught:
        read_file(tmp_path)
    assert caught.value.requirements == ("pillow",)


def test_radiograph_without_position(tmp_path):
    plane = np.arange(20, dtype=np.uint16).reshape(4, 5)
    dataset = new_dataset(Modality="CR", ImagerPixelSpacing=[0.2, 0.1])
    set_pixels(dataset, plane)
    dataset.save_as(tmp_path / "cr.dcm", enforce_file_format=True)
    volume = read_file(tmp_path / "cr.dcm")
    np.testing.assert_array_equal(volume.array[0], plane)
    np.testing.assert_allclose(volume.geometry.spacing[:2], [0.1, 0.2])
    del dataset.ImagerPixelSpacing
    dataset.save_as(tmp_path / "cr.dcm", enforce_file_format=True)
    with pytest.raises(InputError, match="without a pixel size"):
        read_file(tmp_path / "cr.dcm")
    np.testing.assert_allclose(read_file(tmp_path / "cr.dcm", spacing_mm="0.3").geometry.spacing[:2], 0.3)


def test_folder_without_images(tmp_path):
    (tmp_path / "readme").write_text("nothing")
    with pytest.raises(InputError, match="holds no DICOM images"):
        read_file(tmp_path)


def test_truncated_file(tmp_path, voxels):
    paths = write_series(tmp_path, voxels)
    content = paths[2].read_bytes()
    for length in (len(content) - 20, 500, 200):
        paths[2].write_bytes(content[:length])
        with pytest.raises(InputError):
            read_file(tmp_path)


def test_no_patient_identity_in_the_volume(tmp_path, voxels):
    write_series(tmp_path, voxels)
    assert "Made" not in repr(read_file(tmp_path).provenance)


def test_real_files_that_come_with_pydicom(capfd):
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    if not (folder / "rtdose.dcm").is_file():
        pytest.skip("this pydicom comes without test files")
    dataset = pydicom.dcmread(folder / "rtdose.dcm")
    dose = read_file(folder / "rtdose.dcm")
    assert (dose.array.shape, dose.units) == ((15, 10, 10), "Gy" if dataset.DoseUnits == "GY" else "")
    np.testing.assert_allclose(dose.array, dataset.pixel_array * float(dataset.DoseGridScaling), rtol=1e-6)
    step = float(dataset.GridFrameOffsetVector[1])
    np.testing.assert_allclose(position(dose, 1, 0, 0), np.array(dataset.ImagePositionPatient, float) + [0, 0, step])
    image = read_file(folder / "CT_small.dcm")
    small = pydicom.dcmread(folder / "CT_small.dcm")
    np.testing.assert_array_equal(
        image.array[0], small.pixel_array * int(small.RescaleSlope) + int(small.RescaleIntercept)
    )
    deep = read_file(folder / "JPEG-lossy.dcm", spacing_mm=1)
    assert 255 < deep.array.max() < 4096 and capfd.readouterr() == ("", "")
