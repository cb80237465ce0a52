"""Pictures, tables, points, transforms, raw data, texts and the provenance beside every file."""

import json
import math

import numpy as np
import pytest
import SimpleITK as sitk
from MedImgAILib.core import (
    BSplineTransform,
    CompositeTransform,
    DisplacementTransform,
    Geometry,
    InputError,
    KSpace,
    KSpacePort,
    LinearTransform,
    OutputError,
    Points,
    PointsPort,
    Projections,
    ProjectionsPort,
    ScanGeometry,
    SegmentationPort,
    Table,
    TablePort,
    Text,
    TransformPort,
    Volume,
    VolumePort,
)
from MedImgAILib.hosts.files import default_suffix, read_file, supported_suffixes, write_file
from testing_data import data_path

POINTS = PointsPort("points", "Points")
TRANSFORM = TransformPort("transform", "Transform")
RNG = np.random.default_rng(3)
SOME = RNG.uniform(-40, 40, (50, 3))


# Pictures


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("color", [False, True])
def test_pictures(tmp_path, suffix, color):
    pixels = RNG.integers(0, 255, (7, 9, 3) if color else (7, 9)).astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(pixels, isVector=color), str(tmp_path / f"a{suffix}"))
    with pytest.raises(InputError, match="without a voxel size"):
        read_file(tmp_path / f"a{suffix}")
    own = read_file(tmp_path / f"a{suffix}", spacing_mm="0.2,0.3")
    np.testing.assert_array_equal(own.array[0], pixels)
    # As Slicer shows pictures: the first column is at the patient's right, the first row in front.
    np.testing.assert_allclose(own.geometry.ijk_to_ras[:3, :3], np.diag([-0.2, -0.3, 1.0]))
    write_file(own, tmp_path / f"b{suffix}")
    np.testing.assert_array_equal(read_file(tmp_path / f"b{suffix}", spacing_mm=1).array, own.array)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_a_grey_picture_saved_as_colour_is_grey(tmp_path, channels):
    grey = RNG.integers(0, 255, (7, 9)).astype(np.uint8)
    pixels = np.stack([grey] * channels, axis=-1)
    if channels in (2, 4):
        pixels[..., -1] = 255
    # SimpleITK cannot write grey with alpha as PNG.
    path = tmp_path / ("a.tif" if channels == 2 else "a.png")
    sitk.WriteImage(sitk.GetImageFromArray(pixels, isVector=True), str(path))
    np.testing.assert_array_equal(read_file(path, spacing_mm=1).array, grey[None])


def test_an_opaque_alpha_channel_is_left_out_and_a_transparent_one_kept(tmp_path):
    pixels = RNG.integers(0, 255, (7, 9, 4)).astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(pixels, isVector=True), str(tmp_path / "a.png"))
    np.testing.assert_array_equal(read_file(tmp_path / "a.png", spacing_mm=1).array[0], pixels)
    pixels[..., 3] = 255
    sitk.WriteImage(sitk.GetImageFromArray(pixels, isVector=True), str(tmp_path / "b.png"))
    np.testing.assert_array_equal(read_file(tmp_path / "b.png", spacing_mm=1).array[0], pixels[..., :3])


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_damaged_pictures_make_no_noise(tmp_path, suffix, capfd):
    pixels = RNG.integers(0, 255, (60, 70)).astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(pixels), str(tmp_path / f"a{suffix}"))
    content = (tmp_path / f"a{suffix}").read_bytes()
    for damaged in (b"nothing", content[:30], content[:20] + bytes(400)):
        (tmp_path / f"b{suffix}").write_bytes(damaged)
        with pytest.raises(InputError):
            read_file(tmp_path / f"b{suffix}", spacing_mm=1)
    assert capfd.readouterr() == ("", "")


def test_tiff_stack_and_spacing_texts(tmp_path):
    stack = Volume(RNG.integers(0, 60000, (3, 4, 5)).astype(np.uint16), Geometry.from_spacing((3, 4, 5)))
    write_file(stack, tmp_path / "a.tiff")
    own = read_file(tmp_path / "a.tiff", spacing_mm=(0.5, 0.5, 4))
    np.testing.assert_array_equal(own.array, stack.array)
    np.testing.assert_allclose(own.geometry.spacing, [0.5, 0.5, 4])
    for wrong in ("0", "-1", "a", "", "1,2", "nan", "1,2,3,4"):
        with pytest.raises(InputError, match="spacing"):
            read_file(tmp_path / "a.tiff", spacing_mm=wrong)
    with pytest.raises(OutputError, match="3 slices"):
        write_file(stack, tmp_path / "a.png")
    with pytest.raises(OutputError, match="float64"):
        write_file(stack.with_array(stack.array[:1].repeat(3, 0).astype(float)), tmp_path / "b.tif")


def test_picture_as_mask_and_real_pictures(tmp_path):
    labels = np.zeros((1, 6, 7), np.uint8)
    labels[0, 2:4, 3:5] = 255
    write_file(Volume(labels, Geometry.from_spacing(labels.shape)), tmp_path / "m.png")
    mask = read_file(tmp_path / "m.png", SegmentationPort("mask", "Mask"), spacing_mm=0.1)
    assert mask.segments[0].label == 255
    for folder in ("cxr", "fundus_chase", "mammo"):
        for path in sorted(p for p in data_path(folder).rglob("*") if p.suffix in (".png", ".jpg"))[:3]:
            own, pixels = read_file(path, spacing_mm=0.2).array[0], sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
            # Some of the radiographs are grey saved as colour.
            np.testing.assert_array_equal(own, pixels if own.ndim == pixels.ndim else pixels[..., 0])


# Tables and points


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_table_round_trip(tmp_path, suffix):
    table = Table(
        {"name": ("a, b", 'say "c"', "d\te"), "volume": [1.5, math.nan, 1e-300], "count": [1, 2, 3]},
        units={"volume": "mm3"},
    )
    write_file(table, tmp_path / f"a{suffix}")
    own = read_file(tmp_path / f"a{suffix}", TablePort("table", "Table"))
    assert own.columns["name"] == table.columns["name"]
    np.testing.assert_array_equal(own.columns["volume"], table.columns["volume"])
    assert own.columns["count"].dtype.kind == "i" and own.units == {"volume": "mm3"}


def test_foreign_tables(tmp_path):
    (tmp_path / "a.csv").write_bytes("\ufeffa;b\r\n1;x\r\n;y\r\n".encode())
    own = read_file(tmp_path / "a.csv")
    assert own.columns["b"] == ("x", "y") and np.isnan(own.columns["a"][1])
    for content, words in (("a,b\n1\n", "1 fields in row 2"), ("a,a\n1,2\n", "two columns"), ("\n\n", "is empty")):
        (tmp_path / "b.csv").write_text(content)
        with pytest.raises(InputError, match=words):
            read_file(tmp_path / "b.csv")
    (tmp_path / "c.csv").write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(InputError, match="UTF-8"):
        read_file(tmp_path / "c.csv")


@pytest.mark.parametrize("suffix", [".mrk.json", ".csv", ".tsv"])
def test_points_round_trip(tmp_path, suffix):
    points = Points(SOME[:3], ("one", "two, 2", "drei ß"))
    write_file(points, tmp_path / f"a{suffix}")
    own = read_file(tmp_path / f"a{suffix}", POINTS)
    np.testing.assert_allclose(own.positions, points.positions, rtol=1e-15)
    assert own.labels == points.labels


def test_points_in_lps(tmp_path):
    (tmp_path / "a.csv").write_text("label,l,p,s\nA,1,2,3\n")
    assert read_file(tmp_path / "a.csv", POINTS).positions.tolist() == [[-1, -2, 3]]
    (tmp_path / "b.csv").write_text("x,y,z\n1,2,3\n")
    with pytest.raises(InputError, match="columns 'r', 'a', 's'"):
        read_file(tmp_path / "b.csv", POINTS)
    for system, expected in (("LPS", [-1, -2, 3]), ("RAS", [1, 2, 3])):
        points = [{"label": "A", "position": [1, 2, 3]}, {"label": "B", "positionStatus": "undefined", "position": []}]
        content = {"markups": [{"coordinateSystem": system, "controlPoints": points}]}
        (tmp_path / "c.mrk.json").write_text(json.dumps(content))
        assert read_file(tmp_path / "c.mrk.json", POINTS).positions.tolist() == [expected]
    (tmp_path / "d.mrk.json").write_text("[]")
    with pytest.raises(InputError, match="no markups file"):
        read_file(tmp_path / "d.mrk.json", POINTS)


def test_text(tmp_path):
    write_file(Text("Befund: ü\n"), tmp_path / "a.txt")
    assert read_file(tmp_path / "a.txt").text == "Befund: ü\n"


# Transforms


def rigid():
    matrix = np.eye(4)
    angle = np.deg2rad(20)
    matrix[:3, :3] = [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    matrix[:3, 3] = (5, -7, 11)
    return LinearTransform(matrix)


def grid(shape=(7, 8, 9)):
    return Geometry.from_spacing(shape, (20, 21, 22), (80, 70, -60), np.diag([-1.0, -1.0, 1.0]))


def bspline():
    return BSplineTransform(RNG.normal(0, 2, (7, 8, 9, 3)), grid())


def displacement():
    return DisplacementTransform(RNG.normal(0, 2, (7, 8, 9, 3)), grid())


@pytest.mark.parametrize("suffix", [".h5", ".tfm", ".txt"])
@pytest.mark.parametrize("make", [rigid, bspline, displacement, lambda: CompositeTransform((rigid(), bspline()))])
def test_itk_evaluates_written_transforms_alike(tmp_path, suffix, make):
    transform = make()
    write_file(transform, tmp_path / f"a{suffix}")
    peer = sitk.ReadTransform(str(tmp_path / f"a{suffix}"))
    itk = np.array([peer.TransformPoint((-r, -a, s)) for r, a, s in SOME.tolist()]) * (-1, -1, 1)
    np.testing.assert_allclose(transform.map_points_inverse(SOME), itk, atol=1e-6)
    own = read_file(tmp_path / f"a{suffix}", TRANSFORM)
    np.testing.assert_allclose(own.map_points_inverse(SOME), itk, atol=1e-6)


def test_transforms_of_slicer_and_itk(tmp_path):
    euler = sitk.Euler3DTransform((1, 2, 3), 0.1, 0.2, 0.3, (4, 5, 6))
    sitk.WriteTransform(euler, str(tmp_path / "a.tfm"))
    own = read_file(tmp_path / "a.tfm")
    itk = np.array([euler.TransformPoint((-r, -a, s)) for r, a, s in SOME.tolist()]) * (-1, -1, 1)
    np.testing.assert_allclose(own.map_points_inverse(SOME), itk, atol=1e-9)
    np.testing.assert_allclose(own.map_points(itk), SOME, atol=1e-9)


def test_slicer_stores_the_same_direction(tmp_path):
    slicer = pytest.importorskip("slicer")
    import vtk

    scene = slicer.vtkMRMLScene()
    node, storage = slicer.vtkMRMLLinearTransformNode(), slicer.vtkMRMLTransformStorageNode()
    scene.AddNode(node)
    scene.AddNode(storage)
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(rigid().matrix.ravel().tolist())
    node.SetMatrixTransformToParent(matrix)
    storage.SetFileName(str(tmp_path / "slicer.h5"))
    assert storage.WriteData(node)
    np.testing.assert_allclose(read_file(tmp_path / "slicer.h5", TRANSFORM).matrix, rigid().matrix, atol=1e-9)
    write_file(rigid(), tmp_path / "own.h5")
    other = slicer.vtkMRMLLinearTransformNode()
    scene.AddNode(other)
    storage.SetFileName(str(tmp_path / "own.h5"))
    assert storage.ReadData(other)
    other.GetMatrixTransformToParent(matrix)
    read = np.array([[matrix.GetElement(r, c) for c in range(4)] for r in range(4)])
    np.testing.assert_allclose(read, rigid().matrix, atol=1e-9)


def test_transform_stored_to_parent(tmp_path):
    smooth = np.stack(np.meshgrid(*(np.linspace(0, 2, n) for n in (7, 8, 9)), indexing="ij"), -1)
    forward = DisplacementTransform(smooth, grid(), inverted=True)
    write_file(forward, tmp_path / "a.h5")
    own = read_file(tmp_path / "a.h5")
    inside = SOME / 2
    np.testing.assert_allclose(own.map_points(inside), forward.map_points(inside), atol=0.02)


def test_displacement_field_as_image(tmp_path):
    field = displacement()
    image = sitk.GetImageFromArray(field.vectors * (-1, -1, 1), isVector=True)
    image.SetSpacing((20, 21, 22))
    image.SetOrigin((-80, -70, -60))
    sitk.WriteImage(image, str(tmp_path / "field.mha"))
    own = read_file(tmp_path / "field.mha", TRANSFORM)
    np.testing.assert_allclose(own.map_points_inverse(SOME), field.map_points_inverse(SOME), atol=1e-9)


@pytest.mark.parametrize("suffix", [".h5", ".tfm", ".txt"])
def test_damaged_transforms_make_no_noise(tmp_path, suffix, capfd):
    write_file(displacement(), tmp_path / f"a{suffix}")
    content = (tmp_path / f"a{suffix}").read_bytes()
    for damaged in (content[: len(content) // 3], b"nothing", content[:40] + b"\0" * 200):
        (tmp_path / f"b{suffix}").write_bytes(damaged)
        with pytest.raises(InputError):
            read_file(tmp_path / f"b{suffix}", TRANSFORM)
    assert capfd.readouterr() == ("", "")


# Raw data


@pytest.mark.parametrize("suffix", [".npz", ".npy"])
def test_kspace(tmp_path, suffix):
    array = (RNG.normal(size=(4, 2, 8, 9)) + 1j * RNG.normal(size=(4, 2, 8, 9))).astype(np.complex64)
    sampled = np.ones((1, 8, 9), bool) if suffix == ".npz" else None
    kspace = KSpace(array, grid((2, 8, 9)), sampled=sampled)
    written = write_file(kspace, tmp_path / f"a{suffix}")
    assert [p.name for p in written] == [f"a{suffix}", "a.json"]
    own = read_file(tmp_path / f"a{suffix}", KSpacePort("kspace", "k-space"))
    np.testing.assert_array_equal(own.array, array)
    assert own.geometry.same_grid(kspace.geometry) and (own.sampled is None) == (sampled is None)


def test_projections(tmp_path):
    scan = ScanGeometry("cone", np.linspace(0, 6, 5), (1.5, 2.0), (0, 30), 500.0, 900.0)
    write_file(Projections(RNG.normal(size=(5, 3, 7)).astype(np.float32), scan), tmp_path / "a.npz")
    own = read_file(tmp_path / "a.npz", ProjectionsPort("projections", "Projections"))
    np.testing.assert_array_equal(own.scan.angles_rad, scan.angles_rad)
    assert (own.scan.kind, tuple(own.scan.offset_mm), own.scan.source_to_detector_mm) == ("cone", (0, 30), 900)
    (tmp_path / "a.json").write_text('{"type": "Projections", "kind": "parallel", "angles_deg": [0, 45, 90, 135, 180]}')
    np.testing.assert_allclose(read_file(tmp_path / "a.npz").scan.angles_rad[1], np.pi / 4)
    (tmp_path / "a.json").write_text('{"type": "Projections", "kind": "parallel"}')
    with pytest.raises(InputError, match="lacks angles_rad"):
        read_file(tmp_path / "a.npz")


def test_real_kspace_with_a_spacing_only():
    path = data_path("raw/mri/brain_8ch_cartesian_ksp.npy")
    port = KSpacePort("kspace", "k-space")
    with pytest.raises(InputError, match="brain_8ch_cartesian_ksp.json"):
        read_file(path, port)
    own = read_file(path, port, spacing_mm="1,1,5")
    assert own.array.shape[:2] == (8, 1) and own.geometry.spacing.tolist() == [1, 1, 5]


def test_pickled_objects_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="damaged or no NumPy file"):
        read_file(tmp_path / "a.npy", spacing_mm=1)


# Dispatch and provenance


def test_provenance_lies_beside_and_comes_back(tmp_path):
    made = {"task": "enhance.gaussian", "seed": 3, "parameters": {"sigma_mm": 1.0}}
    volume = Volume(np.zeros((2, 3, 4), np.float32), grid((2, 3, 4)), provenance=made)
    written = write_file(volume, tmp_path / "a.nrrd")
    assert [p.name for p in written] == ["a.nrrd", "a.nrrd.provenance.json"]
    assert json.loads(written[1].read_text()) == made
    assert read_file(tmp_path / "a.nrrd").provenance == made | {"source": str(tmp_path / "a.nrrd")}
    written[1].write_text("{")
    assert read_file(tmp_path / "a.nrrd").provenance == {"source": str(tmp_path / "a.nrrd")}


def test_suffixes():
    volume, points = VolumePort("image", "Image"), POINTS
    assert default_suffix(volume) == ".nrrd" and default_suffix(points) == ".mrk.json"
    assert ".dcm" in supported_suffixes(volume) and ".dcm" not in supported_suffixes(volume, writing=True)
    assert ".seg.nrrd" in supported_suffixes(SegmentationPort("s", "S"), writing=True)
    assert ".h5" in supported_suffixes()


def test_wrong_kinds(tmp_path):
    (tmp_path / "a.xyz").write_text("?")
    (tmp_path / "a.csv").write_text("a\n1\n")
    for name, port, words in (
        ("a.xyz", None, "no format that can be read here"),
        ("a.csv", VolumePort("image", "Image"), "no format that can be read here"),
        ("gone.nrrd", None, "does not exist"),
    ):
        with pytest.raises(InputError, match=words):
            read_file(tmp_path / name, port)
    (tmp_path / "empty.nrrd").touch()
    with pytest.raises(InputError, match="is empty"):
        read_file(tmp_path / "empty.nrrd")
