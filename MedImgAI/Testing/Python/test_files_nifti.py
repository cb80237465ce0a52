"""NIfTI files against nibabel: every real image and made-up headers."""

import gzip

import numpy as np
import pytest
from MedImgAILib.core import Geometry, InputError, OutputError, Sequence, Volume, VolumePort
from MedImgAILib.hosts.files import read_file, write_file
from testing_data import data_path

nibabel = pytest.importorskip("nibabel")
SHAPE = (4, 5, 6)


def array(dtype, shape=(6, 5, 4)):
    values = np.random.default_rng(0).integers(0, 100, shape)
    return values.astype(dtype)


def rotation(*degrees):
    a, b, c = np.deg2rad(degrees)
    rx = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    ry = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    rz = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return rz @ ry @ rx


def affine(matrix, origin=(-20.0, 30.0, 7.5)):
    result = np.eye(4)
    result[:3, :3], result[:3, 3] = matrix, origin
    return result


AFFINES = {
    "RAS": affine(np.diag([1.0, 1.2, 3.0])),
    "LPS": affine(np.diag([-1.0, -1.2, 3.0])),
    "left-handed": affine(np.diag([-1.0, 1.2, 3.0])),
    "permuted": affine(np.array([[0, 0, 2.0], [-1, 0, 0], [0, 1.5, 0]])),
    "oblique": affine(rotation(10, -25, 40) * [1, 1.2, 3]),
    "half turn": affine(rotation(180, 0, 0) * [1, 1.2, 3]),
    "half turn about a diagonal": affine((2 * np.full((3, 3), 1 / 3) - np.eye(3)) * [1, 1.2, 3]),
}
SHEARED = affine(rotation(10, -25, 40) @ np.array([[1, 0.3, 0], [0, 1.2, 0.2], [0, 0, 3]]))


def compare(path):
    peer, own = nibabel.load(path), read_file(path)
    first = own.items[0] if isinstance(own, Sequence) else own
    np.testing.assert_allclose(first.geometry.ijk_to_ras, peer.affine, atol=1e-4)
    expected = np.asanyarray(peer.dataobj)
    mine = np.stack([i.array.T for i in own.items], -1) if isinstance(own, Sequence) else own.array.T
    np.testing.assert_allclose(mine, expected.reshape(mine.shape), rtol=1e-6)
    assert first.array.dtype.isnative
    return own


def real_images() -> list:
    paths = sorted(data_path("MANIFEST.tsv").parent.rglob("*.nii*"))
    assert len(paths) > 100
    return paths


def test_small_real_images():
    for path in real_images():
        if path.stat().st_size < 200_000:
            compare(path)


@pytest.mark.slow
def test_every_real_image():
    for path in real_images():
        compare(path)


@pytest.mark.parametrize("name", AFFINES)
@pytest.mark.parametrize("codes", [(1, 0), (0, 1), (2, 1)])
def test_sform_and_qform(tmp_path, name, codes):
    image = nibabel.Nifti1Image(array(np.int16), None)
    matrix = AFFINES[name]
    image.set_qform(matrix if codes[1] else None, codes[1])
    image.set_sform(matrix if codes[0] else None, codes[0])
    nibabel.save(image, tmp_path / "a.nii")
    own = compare(tmp_path / "a.nii")
    np.testing.assert_allclose(own.geometry.ijk_to_ras, matrix, atol=1e-5)


def test_sform_wins_over_a_different_qform(tmp_path):
    image = nibabel.Nifti1Image(array(np.int16), None)
    image.set_qform(AFFINES["LPS"], 1)
    image.set_sform(AFFINES["oblique"], 2)
    nibabel.save(image, tmp_path / "a.nii.gz")
    np.testing.assert_allclose(read_file(tmp_path / "a.nii.gz").geometry.ijk_to_ras, AFFINES["oblique"], atol=1e-5)


def test_sheared_sform_that_itk_refuses(tmp_path):
    image = nibabel.Nifti1Image(array(np.float32), SHEARED)
    nibabel.save(image, tmp_path / "a.nii")
    own = compare(tmp_path / "a.nii")
    assert not own.geometry.is_orthogonal


def test_without_codes_as_itk(tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    image = nibabel.Nifti1Image(array(np.int16), None)
    image.header.set_zooms((1, 2, 3))
    nibabel.save(image, tmp_path / "a.nii")
    header = nibabel.load(tmp_path / "a.nii").header
    assert (header["sform_code"], header["qform_code"]) == (0, 0)
    peer = sitk.ReadImage(str(tmp_path / "a.nii"))
    own = read_file(tmp_path / "a.nii").geometry
    np.testing.assert_allclose(own.ras([1, 2, 3]) * (-1, -1, 1), peer.TransformIndexToPhysicalPoint((1, 2, 3)))


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8", "c8", "c16"])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_types_and_byte_orders(tmp_path, dtype, order, kind):
    header = kind.header_class(endianness=order)
    header.set_data_dtype(np.dtype(dtype))
    image = kind(array(dtype), AFFINES["oblique"], header)
    nibabel.save(image, tmp_path / "a.nii")
    start = (tmp_path / "a.nii").read_bytes()[:4]
    assert int.from_bytes(start, "little" if order == "<" else "big") == header["sizeof_hdr"]
    assert compare(tmp_path / "a.nii").array.dtype == np.dtype(dtype)


@pytest.mark.parametrize(("slope", "inter"), [(2.5, -3.0), (1.0, -1024.0), (0.0, 5.0), (np.nan, 0.0), (-2.0, 7.0)])
@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "f4"])
def test_scaling(tmp_path, slope, inter, dtype):
    image = nibabel.Nifti1Image(array(dtype), AFFINES["RAS"])
    nibabel.save(image, tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[112:120] = np.array([slope, inter], "<f4").tobytes()
    (tmp_path / "a.nii").write_bytes(content)
    own = compare(tmp_path / "a.nii")
    if (slope, dtype) == (1.0, "u2"):
        assert own.array.dtype == np.int16


def test_time_series(tmp_path):
    image = nibabel.Nifti1Image(array(np.int16, (6, 5, 4, 3)), AFFINES["LPS"])
    image.header.set_zooms((1, 1.2, 3, 2.5))
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, tmp_path / "a.nii.gz")
    own = compare(tmp_path / "a.nii.gz")
    assert (own.index_name, own.index_unit, own.values.tolist()) == ("time", "ms", [0, 2500, 5000])
    with pytest.raises(InputError, match="holds 3 volumes where one is needed"):
        read_file(tmp_path / "a.nii.gz", VolumePort("image", "Image"))


def test_vectors_and_colors(tmp_path):
    vectors = array(np.float32, (6, 5, 4, 1, 3))
    nibabel.save(nibabel.Nifti1Image(vectors, AFFINES["LPS"]), tmp_path / "v.nii")
    np.testing.assert_array_equal(read_file(tmp_path / "v.nii").array, vectors[:, :, :, 0].transpose(2, 1, 0, 3))
    colors = array(np.uint8, (6, 5, 4, 3))
    packed = colors.view([(c, "u1") for c in "RGB"])[..., 0]
    nibabel.save(nibabel.Nifti1Image(packed, AFFINES["LPS"]), tmp_path / "c.nii")
    np.testing.assert_array_equal(read_file(tmp_path / "c.nii").array, colors.transpose(2, 1, 0, 3))


def test_two_dimensions_and_units_of_length(tmp_path):
    image = nibabel.Nifti1Image(array(np.int16, (6, 5)), None)
    image.header.set_zooms((0.5, 0.25))
    nibabel.save(image, tmp_path / "a.nii")
    own = read_file(tmp_path / "a.nii")
    assert own.geometry.shape == (1, 5, 6)
    np.testing.assert_allclose(own.geometry.spacing, [0.5, 0.25, 1])
    image = nibabel.Nifti1Image(array(np.int16), affine(np.diag([0.001, 0.001, 0.002]), (0, 0, 0)))
    image.header.set_xyzt_units("meter")
    nibabel.save(image, tmp_path / "m.nii")
    np.testing.assert_allclose(read_file(tmp_path / "m.nii").geometry.spacing, [1, 1, 2], rtol=1e-5)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("name", [*AFFINES, "sheared"])
def test_written_files_as_nibabel_reads_them(tmp_path, suffix, name):
    matrix = AFFINES.get(name, SHEARED)
    volume = Volume(array(np.int16, SHAPE), Geometry(matrix, SHAPE), "a")
    write_file(volume, tmp_path / f"a{suffix}")
    peer = nibabel.load(tmp_path / f"a{suffix}")
    np.testing.assert_allclose(peer.affine, matrix, atol=1e-5)
    np.testing.assert_array_equal(np.asanyarray(peer.dataobj), volume.array.T)
    qform, code = peer.get_qform(coded=True)
    if name == "sheared":
        assert code == 0
    else:
        np.testing.assert_allclose(qform, matrix, atol=1e-4)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8", "c8"])
def test_written_types(tmp_path, dtype):
    volume = Volume(array(dtype, SHAPE), Geometry(AFFINES["LPS"], SHAPE))
    write_file(volume, tmp_path / "a.nii.gz")
    peer = nibabel.load(tmp_path / "a.nii.gz")
    assert peer.get_data_dtype() == np.dtype(dtype)
    np.testing.assert_array_equal(np.asanyarray(peer.dataobj), volume.array.T)


def test_written_sequence_vector_and_color(tmp_path):
    geometry = Geometry(AFFINES["LPS"], SHAPE)
    items = [Volume(array(np.int16, SHAPE) + n, geometry) for n in range(3)]
    write_file(Sequence(items, [10.0, 20.0, 30.0]), tmp_path / "s.nii")
    peer = nibabel.load(tmp_path / "s.nii")
    assert peer.shape == (6, 5, 4, 3)
    np.testing.assert_array_equal(np.asanyarray(peer.dataobj)[..., 2], items[2].array.T)
    assert read_file(tmp_path / "s.nii").values.tolist() == [10, 20, 30]
    for dtype, shape in ((np.float32, (*SHAPE, 3)), (np.uint8, (*SHAPE, 3)), (np.uint8, (*SHAPE, 2))):
        volume = Volume(array(dtype, shape), geometry)
        write_file(volume, tmp_path / "v.nii")
        np.testing.assert_array_equal(read_file(tmp_path / "v.nii").array, volume.array)
    with pytest.raises(OutputError, match="colour volumes"):
        write_file(Sequence([volume, volume]), tmp_path / "w.nii")


def test_nan_is_read_as_it_is(tmp_path):
    values = np.ones((6, 5, 4), np.float32)
    values[1, 2, 3] = np.nan
    nibabel.save(nibabel.Nifti1Image(values, AFFINES["LPS"]), tmp_path / "a.nii")
    assert np.argwhere(np.isnan(read_file(tmp_path / "a.nii").array)).tolist() == [[3, 2, 1]]


def test_gzip_under_a_plain_name_and_the_reverse(tmp_path):
    nibabel.save(nibabel.Nifti1Image(array(np.int16), AFFINES["LPS"]), tmp_path / "a.nii")
    content = (tmp_path / "a.nii").read_bytes()
    (tmp_path / "b.nii.gz").write_bytes(content)
    (tmp_path / "c.nii").write_bytes(gzip.compress(content))
    for name in ("b.nii.gz", "c.nii"):
        np.testing.assert_array_equal(read_file(tmp_path / name).array, array(np.int16).T)


def test_a_huge_claim_takes_no_memory(tmp_path):
    header = nibabel.Nifti2Header()
    header.set_data_dtype(np.float64)
    header.set_data_shape((100000, 100000, 100000))
    content = header.binaryblock + bytes(100)
    (tmp_path / "a.nii").write_bytes(content)
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(content))
    for name in ("a.nii", "b.nii.gz"):
        with pytest.raises(InputError, match="truncated"):
            read_file(tmp_path / name)
