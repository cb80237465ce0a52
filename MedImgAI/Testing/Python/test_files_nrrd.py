"""NRRD and MetaImage files against SimpleITK and against made-up headers."""

import bz2
import gzip

import numpy as np
import pytest
import SimpleITK as sitk
from MedImgAILib.core import Geometry, InputError, OutputError, Sequence, SequencePort, Volume, VolumePort
from MedImgAILib.hosts.files import read_file, write_file
from testing_data import data_path

SHAPE = (4, 5, 6)
OBLIQUE = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])
SHEARED = np.array([[-1.0, 0, 0, 5], [0, -1, 0.6, 6], [0, 0, 3, 7], [0, 0, 0, 1]])
TYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]
SUFFIXES = [".nrrd", ".nhdr", ".mha", ".mhd"]


def array(dtype=np.int16, shape=SHAPE):
    return np.random.default_rng(0).integers(0, 100, shape).astype(dtype)


def itk_image(values, vector=False):
    image = sitk.GetImageFromArray(values, isVector=vector)
    image.SetSpacing((0.5, 0.75, 2.5))
    image.SetOrigin((10, -20, 30))
    image.SetDirection(OBLIQUE.ravel().tolist())
    return image


def same_place(geometry: Geometry, image):
    for ijk in ((0, 0, 0), (5, 4, 3), (1, 3, 2)):
        np.testing.assert_allclose(geometry.ras(ijk) * (-1, -1, 1), image.TransformIndexToPhysicalPoint(ijk), atol=1e-9)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("dtype", TYPES)
def test_reads_what_itk_writes(tmp_path, suffix, compress, dtype):
    image = itk_image(array(dtype))
    sitk.WriteImage(image, str(tmp_path / f"a{suffix}"), compress)
    own = read_file(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(own.array, array(dtype))
    assert own.array.dtype == np.dtype(dtype)
    same_place(own.geometry, image)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", TYPES)
def test_itk_reads_what_is_written(tmp_path, suffix, dtype):
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = OBLIQUE * (0.5, 0.75, 2.5), (10, -20, 30)
    volume = Volume(array(dtype), Geometry(matrix, SHAPE))
    write_file(volume, tmp_path / f"a{suffix}")
    peer = sitk.ReadImage(str(tmp_path / f"a{suffix}"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(peer), volume.array)
    same_place(volume.geometry, peer)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_color_both_ways(tmp_path, suffix):
    colors = array(np.uint8, (*SHAPE, 3))
    image = itk_image(colors, vector=True)
    sitk.WriteImage(image, str(tmp_path / f"a{suffix}"))
    own = read_file(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(own.array, colors)
    write_file(own, tmp_path / f"b{suffix}")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / f"b{suffix}"))), colors)


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".nii.gz"])
def test_sheared_grid_survives(tmp_path, suffix):
    volume = Volume(array(), Geometry(SHEARED, SHAPE), units="HU")
    write_file(volume, tmp_path / f"a{suffix}")
    own = read_file(tmp_path / f"a{suffix}")
    np.testing.assert_allclose(own.geometry.ijk_to_ras, SHEARED, atol=1e-6)
    np.testing.assert_array_equal(own.array, volume.array)


@pytest.mark.parametrize("suffix", [".seq.nrrd", ".nrrd", ".mha", ".nii.gz"])
def test_sequences(tmp_path, suffix):
    geometry = Geometry(SHEARED, SHAPE)
    items = [Volume(array() + n, geometry) for n in range(3)]
    write_file(Sequence(items, [0.0, 40.0, 80.0]), tmp_path / f"a{suffix}")
    own = read_file(tmp_path / f"a{suffix}", SequencePort("sequence", "Sequence"))
    assert own.values.tolist() == [0, 40, 80]
    for mine, item in zip(own.items, items):
        np.testing.assert_array_equal(mine.array, item.array)
    with pytest.raises(InputError, match="3 volumes where one is needed"):
        read_file(tmp_path / f"a{suffix}", VolumePort("image", "Image"))


def test_complex_and_what_cannot_be_held(tmp_path):
    volume = Volume((array() + 2j * array()).astype(np.complex64), Geometry(SHEARED, SHAPE))
    write_file(volume, tmp_path / "a.nrrd")
    np.testing.assert_array_equal(read_file(tmp_path / "a.nrrd").array, volume.array)
    with pytest.raises(OutputError, match="complex64"):
        write_file(volume, tmp_path / "a.mha")


def header(**fields):
    text = {
        "type": "short", "dimension": "3", "space": "left-posterior-superior", "sizes": "6 5 4",
        "space directions": "(1,0,0) (0,2,0) (0,0,3)", "kinds": "domain domain domain", "endian": "little",
        "encoding": "raw", "space origin": "(10,20,30)",
    } | {key.replace("_", " "): value for key, value in fields.items()}  # fmt: skip
    lines = [f"{key}: {value}" for key, value in text.items() if value is not None]
    return ("\n".join(["NRRD0004", "# comment", *lines]) + "\n\n").encode()


@pytest.mark.parametrize(
    ("space", "signs"),
    [
        ("right-anterior-superior", (1, 1, 1)),
        ("RAS", (1, 1, 1)),
        ("left-anterior-superior", (-1, 1, 1)),
        ("LPS", (-1, -1, 1)),
    ],
)
def test_spaces(tmp_path, space, signs):
    (tmp_path / "a.nrrd").write_bytes(header(space=space) + array().tobytes())
    own = read_file(tmp_path / "a.nrrd")
    np.testing.assert_allclose(own.geometry.ras([1, 2, 3]), np.array([11, 24, 39]) * signs)


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [("raw", bytes), ("gzip", gzip.compress), ("bzip2", bz2.compress)],
)
def test_encodings_and_byte_order(tmp_path, encoding, encode):
    data = encode(array(">i2").tobytes())
    (tmp_path / "a.nrrd").write_bytes(header(encoding=encoding, endian="big") + data)
    np.testing.assert_array_equal(read_file(tmp_path / "a.nrrd").array, array())
    text = " ".join(str(v) for v in array().ravel()).encode()
    (tmp_path / "t.nrrd").write_bytes(header(encoding="ascii", endian=None) + text)
    np.testing.assert_array_equal(read_file(tmp_path / "t.nrrd").array, array())


def test_detached_data(tmp_path):
    (tmp_path / "a.raw").write_bytes(b"skipped" + array().tobytes())
    (tmp_path / "a.nhdr").write_bytes(header(byte_skip="7", data_file="a.raw"))
    np.testing.assert_array_equal(read_file(tmp_path / "a.nhdr").array, array())
    for k, plane in enumerate(array()):
        (tmp_path / f"s{k}.raw").write_bytes(plane.tobytes())
    (tmp_path / "b.nhdr").write_bytes(header(data_file="s%d.raw 0 3 1 2"))
    listed = header(data_file="LIST 2")[:-1] + b"".join(b"s%d.raw\n" % k for k in range(4))
    (tmp_path / "c.nhdr").write_bytes(listed)
    for name in ("b.nhdr", "c.nhdr"):
        np.testing.assert_array_equal(read_file(tmp_path / name).array, array())
    (tmp_path / "d.nhdr").write_bytes(header(data_file="../../etc/passwd"))
    with pytest.raises(InputError, match="outside its folder"):
        read_file(tmp_path / "d.nhdr")


def test_without_space_as_itk(tmp_path):
    fields = {"space": None, "space_directions": None, "space_origin": None, "kinds": None, "spacings": "0.5 0.75 2"}
    (tmp_path / "a.nrrd").write_bytes(header(**fields) + array().tobytes())
    same_place(read_file(tmp_path / "a.nrrd").geometry, sitk.ReadImage(str(tmp_path / "a.nrrd")))


@pytest.mark.parametrize("name", ["ct/lung1_image.nrrd", "ct/lung1_label.nrrd", "brain_tumour/brain1_image.nrrd"])
def test_real_images(name):
    path = data_path(name)
    own, peer = read_file(path), sitk.ReadImage(str(path))
    np.testing.assert_array_equal(own.array, sitk.GetArrayFromImage(peer))
    same_place(own.geometry, peer)
