"""Readers and corrections: every format, RTK's geometry, the real tooth, and bad input in one sentence."""

import json

import numpy as np
import pytest
from ct_testing import DISTANCES, run, scan_of, scans
from MedImgAILib.core import InputError, Projections, ScanGeometry
from MedImgAIReconstructLib.ct import preprocessing, quality
from MedImgAIReconstructLib.ct.centering import find_axis_shift
from MedImgAIReconstructLib.ct.fbp import FilteredBackProjection
from MedImgAIReconstructLib.ct.geometry_files import scan_from_rtk
from MedImgAIReconstructLib.ct.phantoms import Ellipsoid, shepp_logan
from MedImgAIReconstructLib.ct.projection_tasks import CorrectProjections, ReadProjections
from MedImgAIReconstructLib.ct.rays import detector_position, pixel_position
from testing_data import data_path

ARRAY = np.random.default_rng(0).random((6, 4, 5)).astype(np.float32)


def describe(folder, name="scan", **changes):
    about = {"kind": "parallel", "angles_deg": {"first_deg": 0, "step_deg": 30, "views": 6}, "pixel_mm": [2.0, 1.0]}
    (folder / f"{name}.json").write_text(json.dumps(about | changes))


def read(path, **parameters):
    return run(ReadProjections, {}, file=str(path), **parameters)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".nrrd", ".mha", ".nii.gz", ".tif"])
def test_formats(tmp_path, suffix):
    import SimpleITK

    path = tmp_path / f"scan{suffix}"
    if suffix == ".npy":
        np.save(path, ARRAY)
    elif suffix == ".npz":
        np.savez(path, array=ARRAY)
    else:
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(ARRAY), str(path))
    describe(tmp_path, scanner_to_ras=[[0, -1, 0, 5], [1, 0, 0, 6], [0, 0, 1, 7], [0, 0, 0, 1]])
    result = read(path)
    projections = result["projections"]
    np.testing.assert_array_equal(projections.array, ARRAY)
    assert np.rad2deg(projections.scan.angles_rad) == pytest.approx(np.arange(6) * 30)
    assert projections.scan.pixel_mm == (2.0, 1.0)
    assert projections.scan.scanner_to_ras[:3, 3] == pytest.approx([5, 6, 7])
    text = result["summary"].text
    for fact in ("6 views", "4 × 5", "memory", "180.0°"):
        assert fact in text


@pytest.mark.parametrize("without", ["", "finufft,numba"])
@pytest.mark.parametrize("kind", ["parallel", "cone"])
def test_the_time_estimate_grows_with_the_work(monkeypatch, kind, without):
    """Twice the views or twice the slices take twice as long; a case measured on two cores lies within threefold."""
    from MedImgAIReconstructLib.ct import accelerate
    from MedImgAIReconstructLib.ct.grid import Grid
    from MedImgAIReconstructLib.ct.projection_tasks import estimated_seconds

    monkeypatch.setattr(accelerate, "_DISABLED", set(without.split(",")))

    def estimate(views, slices):
        distances = {} if kind == "parallel" else DISTANCES
        scan = ScanGeometry(kind, np.arange(views) / views, **distances)
        data = Projections(np.zeros((views, 1, 256), np.float32), scan)
        return estimated_seconds(data, Grid((slices, 128, 128), (1.0, 1.0, 1.0))) * accelerate.threads()

    once = estimate(360, 32)
    assert estimate(360, 64) == pytest.approx(2 * once)
    assert once < estimate(720, 32) <= 2.0001 * once
    # Thread seconds on a 2.5 GHz processor, from runs of these sizes.
    measured = {"parallel": (0.11, 0.78), "cone": (0.44, 5.2)}[kind][bool(without)]
    assert measured / 3 < once < 3 * measured


def test_folder_of_tiff_files_and_other_axes(tmp_path):
    import SimpleITK

    folder = tmp_path / "views"
    folder.mkdir()
    for number, image in enumerate(ARRAY):
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(image), str(folder / f"{number:03}.tif"))
    describe(tmp_path, "views")
    np.testing.assert_array_equal(read(folder)["projections"].array, ARRAY)
    np.save(tmp_path / "turned.npy", ARRAY.transpose(1, 0, 2))
    describe(tmp_path, "turned", axes="row,view,column")
    np.testing.assert_array_equal(read(tmp_path / "turned.npy")["projections"].array, ARRAY)


def test_counts_with_flat_and_dark(tmp_path):
    line = ARRAY * 3
    counts = 1000 * np.exp(-line) + 50
    np.save(tmp_path / "scan.npy", counts)
    np.save(tmp_path / "flat.npy", np.full((2, 4, 5), 1050.0))
    describe(tmp_path, values="counts", flat="flat.npy", dark=50.0)
    np.testing.assert_allclose(read(tmp_path / "scan.npy")["projections"].array, line, atol=1e-4)


def test_starved_and_dead_pixels_are_filled_from_their_row():
    counts = np.full((1, 2, 5), 100.0)
    counts[0, 0] = [100, 50, 0, 12.5, 10]
    flat = np.full((1, 2, 5), 100.0)
    flat[0, 1, 3] = 0
    line, filled = preprocessing.line_integrals(counts, flat, None)
    assert filled == 2
    assert line[0, 0, 2] == pytest.approx((line[0, 0, 1] + line[0, 0, 3]) / 2)
    assert line[0, 1, 3] == pytest.approx(0)


BAD = {
    "no file": (None, {}, "no file"),
    "no geometry": (ARRAY, None, "needs its scan geometry"),
    "missing angles": (ARRAY, {"angles_deg": None}, "lacks angles_rad"),
    "wrong number of angles": (ARRAY, {"angles_deg": [0, 1, 2]}, "6 views but its geometry 3 angles"),
    "NaN": (np.where(ARRAY > 0.9, np.nan, ARRAY), {}, "NaN"),
    "negative counts": (ARRAY - 0.5, {"values": "counts", "flat": 1.0}, "negative counts"),
    "wrong flat": (ARRAY, {"values": "counts", "flat": "flat.npy"}, "flat frames"),
    "wrong shape": (ARRAY[0, 0], {}, "no projection stack"),
    "unknown axes": (ARRAY, {"axes": "x,y,z"}, "axes must be"),
    "unknown beam": (ARRAY, {"kind": "helical"}, "helical"),
    "text for a number": (ARRAY, {"pixel_mm": "wide"}, "wrong kind"),
    "impossible distances": (ARRAY, {"kind": "cone", "source_to_isocenter_mm": 9}, "diverging beam"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_in_one_sentence(tmp_path, case):
    array, changes, message = BAD[case]
    path = tmp_path / "scan.npy"
    np.save(tmp_path / "flat.npy", np.ones((1, 3, 3)))
    if array is not None:
        np.save(path, array)
    if changes is not None:
        describe(tmp_path, **changes)
    with pytest.raises(InputError, match=message) as caught:
        read(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".npy", ".nrrd", ".h5"])
def test_truncated_files_are_refused(tmp_path, suffix):
    path = tmp_path / f"scan{suffix}"
    if suffix == ".npy":
        np.save(path, ARRAY)
    elif suffix == ".nrrd":
        import SimpleITK

        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(ARRAY), str(path))
    else:
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            file["exchange/data"] = ARRAY
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    describe(tmp_path)
    with pytest.raises(InputError, match="damaged"):
        read(path)


def test_data_exchange_without_angles_is_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["exchange/data"] = ARRAY
    with pytest.raises(InputError, match="view angles are missing"):
        read(tmp_path / "scan.h5")


RTK = """<?xml version="1.0"?><!DOCTYPE RTKGEOMETRY><RTKThreeDCircularGeometry version="3">
<SourceToIsocenterDistance>400</SourceToIsocenterDistance><SourceToDetectorDistance>700</SourceToDetectorDistance>
<SourceOffsetX>1</SourceOffsetX><SourceOffsetY>4</SourceOffsetY><ProjectionOffsetX>5</ProjectionOffsetX>
<ProjectionOffsetY>-3</ProjectionOffsetY><InPlaneAngle>2</InPlaneAngle>
<Projection><GantryAngle>30</GantryAngle></Projection></RTKThreeDCircularGeometry>"""


def test_rtk_geometry_projects_as_rtk(tmp_path):
    # The projection matrix that RTK 2.7 computes from these numbers: world (LPS) to detector (u, v).
    matrix = np.array(
        [
            [-607.848491155374, -24.4296476917507, 346.322687841546, 2300],
            [24.65669550656, -699.573578913367, -6.15264601938427, 0],
            [0.5, 0, 0.866025403784439, -400],
        ]
    )
    path = tmp_path / "scan.xml"
    path.write_text(RTK)
    scan = scan_from_rtk(path, (1.0, 1.0), (0.0, 0.0))
    points = np.random.default_rng(0).normal(0, 40, (5, 3))
    row, column = pixel_position(scan, 1, 1, *detector_position(scan, scan.angles_rad[0], points))
    homogeneous = np.c_[points, np.ones(5)] @ (np.diag([-1, -1, 1, 1]) @ scan.scanner_to_ras).T
    u, v, w = matrix @ homogeneous.T
    np.testing.assert_allclose(column, u / w, atol=1e-6)
    np.testing.assert_allclose(row, v / w, atol=1e-6)


def test_rtk_geometry_that_is_not_circular_is_refused(tmp_path):
    path = tmp_path / "scan.xml"
    view = "<Projection><GantryAngle>60</GantryAngle><SourceOffsetX>3</SourceOffsetX></Projection>"
    path.write_text(RTK.replace("</RTKThree", view + "</RTKThree"))
    with pytest.raises(InputError, match="SourceOffsetX changes"):
        scan_from_rtk(path, (1.0, 1.0), (0.0, 0.0))
    path.write_text(RTK[:100])
    with pytest.raises(InputError, match="damaged"):
        scan_from_rtk(path, (1.0, 1.0), (0.0, 0.0))


@pytest.mark.parametrize("shift", [-3.3, 0.0, 4.7])
def test_centre_of_rotation_is_found(shift):
    scan = ScanGeometry("parallel", np.pi * np.arange(120) / 120, axis_shift_mm=shift)
    data = scan_of(shepp_logan(50.0, flat=True, scale=0.02), scan, 1, 128)
    unknown = Projections(data.array, ScanGeometry("parallel", scan.angles_rad))
    assert find_axis_shift(unknown) == pytest.approx(shift, abs=0.1)


def test_rings_are_removed():
    scan, rows, columns = scans(90)["parallel"]
    data = scan_of([Ellipsoid(0.02, (30, 25, np.inf))], scan, rows, columns)
    rng = np.random.default_rng(0)
    gain = rng.normal(0, 0.1, (1, rows, columns)).astype(np.float32) * (rng.random((1, rows, columns)) < 0.1)
    broken = Projections((data.array + gain).astype(np.float32), scan)
    result = run(CorrectProjections, {"projections": broken}, rings=True)["corrected"]
    assert quality.rmse(result.array, data.array) < 0.5 * quality.rmse(broken.array, data.array)


def test_a_cut_object_falls_to_nothing_on_both_sides():
    rows = preprocessing.extend_truncated(np.ones((2, 1, 10), np.float32), 6)[0, 0]
    assert rows.shape == (22,) and (rows[6:16] == 1).all()
    assert (np.diff(rows[:7]) > 0).all() and (np.diff(rows[15:]) < 0).all()
    np.testing.assert_allclose(rows, rows[::-1])
    assert rows[0] < 0.05


def test_truncation_is_extended():
    scan = ScanGeometry("parallel", np.pi * np.arange(180) / 180)
    data = scan_of([Ellipsoid(0.02, (50, 50, np.inf))], scan, 1, 64)
    plain = run(FilteredBackProjection, {"projections": data})["volume"]
    corrected = run(CorrectProjections, {"projections": data}, extend_percent=60)["corrected"]
    better = run(FilteredBackProjection, {"projections": corrected, "reference": plain})["volume"]
    rim = np.s_[0, 32, 3:8]
    assert abs(better.array[rim].mean() - 0.02) < 0.5 * abs(plain.array[rim].mean() - 0.02)


def test_the_tooth_is_sharper_with_the_automatic_centre():
    pytest.importorskip("h5py")
    from Benchmarks.ct_real import tooth_edge_widths

    sharp, nominal = tooth_edge_widths(data_path("raw/ct/tooth.h5"))
    assert sharp < 0.95 * nominal
