"""Landmarks at known patient positions come back where they were, in every geometry."""

from dataclasses import replace

import numpy as np
import pytest
from ct_testing import balls, oblique, run, scan_of, scans
from MedImgAILib.core import Geometry, InputError, Volume
from MedImgAIReconstructLib.ct.fbp import FilteredBackProjection
from MedImgAIReconstructLib.ct.iterative_tasks import SIRT

SCANS = scans()


def centroid(volume: Volume, position_ras, reach_mm: float) -> np.ndarray:
    """RAS centre of mass of the voxels brighter than half within ``reach_mm`` of a position."""
    k, j, i = np.indices(volume.array.shape)
    ras = volume.geometry.ras(np.stack([i, j, k], -1).reshape(-1, 3))
    near = np.linalg.norm(ras - position_ras, axis=1) < reach_mm
    weight = np.clip(volume.array.reshape(-1)[near] - 0.004, 0, None)
    return (ras[near] * weight[:, None]).sum(0) / weight.sum()


def check(volume, scan, limit=0.1):
    for ball in balls(scan):
        wanted = (scan.scanner_to_ras @ [*ball.center, 1])[:3]
        error = np.abs(volume.geometry.ras_to_ijk[:3, :3] @ (centroid(volume, wanted, 8.0) - wanted))
        if scan.kind == "fan":
            error = error[:2]
        assert error.max() < limit, f"{error} voxels away"


@pytest.mark.parametrize("name", SCANS)
def test_filtered_back_projection_on_the_automatic_grid(name):
    scan, rows, columns = SCANS[name]
    scan = replace(scan, scanner_to_ras=oblique())
    volume = run(FilteredBackProjection, {"projections": scan_of(balls(scan), scan, rows, columns)})["volume"]
    check(volume, scan)


@pytest.mark.parametrize("name", SCANS)
@pytest.mark.parametrize("shape", [(30, 70, 72), (31, 73, 69)], ids=["even", "odd"])
def test_on_a_shifted_grid_stored_in_another_order(name, shape):
    scan, rows, columns = SCANS[name]
    if scan.kind == "fan":
        shape = (1, *shape[1:])
    grid = Geometry.from_spacing(shape, (1.1, 1.05, 1.0), (-35.3, -36.1, 0.0 if shape[0] == 1 else -14.7))
    grid = grid.transformed(scan.scanner_to_ras).reordered((2, 0, 1), (True, False, True))
    reference = Volume(np.zeros(grid.shape, np.float32), grid)
    data = scan_of(balls(scan), scan, rows, columns)
    volume = run(FilteredBackProjection, {"projections": data, "reference": reference})["volume"]
    assert volume.geometry.same_grid(grid)
    ordered = volume.canonical()
    check(ordered, scan)


@pytest.mark.parametrize("name", ["parallel shifted", "fan curved", "cone flat", "cone tilted"])
def test_iterative(name):
    scan, rows, columns = scans(40)[name]
    data = scan_of(balls(scan), scan, rows, columns)
    volume = run(SIRT, {"projections": data}, iterations=25, field_of_view_mm=76.0)["volume"]
    check(volume, scan)


def test_on_an_oblique_grid():
    scan, rows, columns = SCANS["parallel"]
    grid = Geometry.from_spacing((40, 60, 62), (1.0, 1.0, 1.0), (-30.0, -30.0, -20.0)).transformed(oblique())
    shift = np.eye(4)
    shift[:3, 3] = -grid.center
    grid = grid.transformed(shift)
    data = scan_of(balls(scan), scan, rows, columns)
    reference = Volume(np.zeros(grid.shape, np.float32), grid)
    check(run(FilteredBackProjection, {"projections": data, "reference": reference})["volume"], scan)


def test_values_are_attenuation_or_hounsfield_units():
    scan, rows, columns = SCANS["cone flat"]
    data = scan_of(balls(scan, 9.0), scan, rows, columns)
    volume = run(FilteredBackProjection, {"projections": data})["volume"]
    i, j, k = np.rint(volume.geometry.ijk(balls(scan)[0].center)).astype(int)
    assert volume.array[k, j, i] == pytest.approx(0.02, rel=0.03)
    assert volume.units == "1/mm"
    volume = run(FilteredBackProjection, {"projections": data}, units="HU", water_per_mm=0.02)["volume"]
    assert volume.array[k, j, i] == pytest.approx(0, abs=30)
    assert volume.units == "HU"
    assert volume.display.window > 0


def test_a_grid_that_the_detector_does_not_see_is_refused():
    scan, rows, columns = SCANS["cone flat"]
    data = scan_of(balls(scan), scan, rows, columns)
    for origin in ((300.0, 0.0, 0.0), (0.0, 0.0, 400.0)):
        far = Volume(np.zeros((4, 4, 4), np.float32), Geometry.from_spacing((4, 4, 4), origin_ras=origin))
        with pytest.raises(InputError, match="does not see"):
            run(FilteredBackProjection, {"projections": data, "reference": far})


def test_a_detector_beside_the_axis_is_refused():
    scan, rows, columns = SCANS["fan flat"]
    scan = replace(scan, offset_mm=(0.0, 200.0))
    with pytest.raises(InputError, match="does not see the rotation axis"):
        run(FilteredBackProjection, {"projections": scan_of(balls(scan), scan, rows, columns)})
