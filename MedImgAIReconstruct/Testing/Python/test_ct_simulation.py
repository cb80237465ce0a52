"""Simulated scans, the dose study and the measures of image quality against known truth."""

import numpy as np
import pytest
from ct_testing import oblique, run, scan_of
from MedImgAILib.core import Context, Geometry, InputError, ParameterError, Points, ResourceError, ScanGeometry, Volume
from MedImgAIReconstructLib.ct import quality
from MedImgAIReconstructLib.ct.comparison import CompareReconstructions
from MedImgAIReconstructLib.ct.dose_study import DoseStudy
from MedImgAIReconstructLib.ct.fbp import FilteredBackProjection
from MedImgAIReconstructLib.ct.grid import Grid
from MedImgAIReconstructLib.ct.phantoms import Ellipsoid, project, sample, shepp_logan
from MedImgAIReconstructLib.ct.simulation import SimulateProjections, check_memory, noisy

PHANTOM = [Ellipsoid(0.02, (20, 15, 10), (3, -2, 1), 0.3)]


def phantom_volume(matrix=None, units="1/mm") -> Volume:
    grid = Grid((26, 56, 58), (1.0, 1.0, 1.0))
    array = sample(PHANTOM, grid, 2)
    geometry = Geometry(np.eye(4) if matrix is None else matrix, grid.shape)
    middle = np.eye(4)
    middle[:3, 3] = grid.matrix[:3, 3]
    geometry = Geometry(geometry.ijk_to_ras @ middle, grid.shape)
    if units == "HU":
        array = (array / 0.0192 - 1) * 1000
    return Volume(array, geometry, "phantom", units)


@pytest.mark.parametrize("beam", ["parallel", "cone", "curved"])
@pytest.mark.parametrize("units", ["1/mm", "HU"])
def test_simulated_projections_are_exact_integrals(beam, units):
    volume = phantom_volume(units=units)
    data = run(SimulateProjections, {"image": volume}, beam=beam, views=9, range_deg=360.0)["projections"]
    exact = project(PHANTOM, data.scan, *data.array.shape[1:])
    assert np.linalg.norm(data.array - exact) < 0.05 * np.linalg.norm(exact)


def test_simulation_and_reconstruction_give_the_oblique_volume_back():
    volume = phantom_volume(oblique())
    data = run(SimulateProjections, {"image": volume}, views=180)["projections"]
    back = run(FilteredBackProjection, {"projections": data, "reference": volume})["volume"]
    assert back.geometry.same_grid(volume.geometry)
    assert np.linalg.norm(back.array - volume.array) < 0.2 * np.linalg.norm(volume.array)


def test_noise_is_that_of_poisson_counts():
    line = np.full((50, 40, 50), 2.0, np.float32)
    values = noisy(line, 1e4, np.random.default_rng(0))
    counts = 1e4 * np.exp(-2)
    assert values.std() == pytest.approx(1 / np.sqrt(counts), rel=0.03)
    assert values.mean() == pytest.approx(2.0 + 1 / (2 * counts), abs=2e-4)


def test_sinogram_volume_holds_the_same_numbers():
    result = run(SimulateProjections, {"image": phantom_volume()}, views=7)
    np.testing.assert_array_equal(result["sinogram"].array, result["projections"].array.transpose(1, 0, 2))


def test_an_impossible_scanner_is_refused():
    with pytest.raises(InputError, match="farther away"):
        run(SimulateProjections, {"image": phantom_volume()}, beam="cone", source_to_isocenter_mm=20.0)


def test_what_does_not_fit_is_refused_before_it_starts():
    check_memory(90, Context(), available=100)
    with pytest.raises(ResourceError, match="needs about 3.0 GiB but 3.1 GiB are free"):
        check_memory(3 << 30, Context(), available=int(3.1 * 2**30))


def test_dose_study_orders_the_qualities():
    result = run(DoseStudy, {"image": phantom_volume()}, views="120, 20", photons="inf, 1e3")
    psnr = result["study"].columns["PSNR"]
    assert list(result["study"].columns["views"]) == [120, 120, 20, 20]
    assert psnr[0] > psnr[1] > psnr[3] and psnr[0] > psnr[2] > psnr[3]
    assert len(result["plot"].series) == 2
    with pytest.raises(ParameterError, match="Views"):
        run(DoseStudy, {"image": phantom_volume()}, views="many")


def test_measures_are_those_of_scikit_image():
    metrics = pytest.importorskip("skimage.metrics")
    rng = np.random.default_rng(0)
    truth = sample(shepp_logan(30.0), Grid((1, 64, 64), (1.0, 1.0, 1.0)), 2)
    image = truth + rng.normal(0, 0.05, truth.shape).astype(np.float32)
    span = float(np.ptp(truth))
    assert quality.psnr(image, truth) == pytest.approx(metrics.peak_signal_noise_ratio(truth, image, data_range=span))
    wanted = metrics.structural_similarity(
        truth[0], image[0], data_range=span, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert quality.ssim(image, truth) == pytest.approx(wanted, abs=2e-3)


def test_transfer_of_a_gaussian_blur():
    # The edge of a disc blurred by sigma has MTF exp(−2 (π sigma f)²) and a 10–90 % width of 2.563 sigma.
    from scipy.ndimage import gaussian_filter

    disc = sample([Ellipsoid(1.0, (30, 30, np.inf))], Grid((1, 400, 400), (0.25,) * 3), 2)[0]
    sigma = 1.2
    blurred = gaussian_filter(disc, sigma / 0.25)
    geometry = Geometry.from_spacing((1, 400, 400), (0.25,) * 3)
    image = Volume(blurred[None], geometry, "disc")
    middle = Points(geometry.ras(np.array([[199.5, 199.5, 0.0]])))
    result = run(
        CompareReconstructions,
        {"image": image, "reference": image, "edge": middle},
        edge_radius_mm=30.0,
        edge_reach_mm=8.0,
    )
    frequency, mtf = (result["mtf"].columns[n] for n in ("frequency", "MTF"))
    wanted = np.exp(-2 * (np.pi * sigma * frequency) ** 2)
    assert np.abs(mtf - wanted)[frequency < 0.4].max() < 0.03
    values = dict(zip(result["measures"].columns["measure"], result["measures"].columns["value"]))
    assert values["edge width 10-90 % (mm)"] == pytest.approx(2.563 * sigma, rel=0.03)
    assert values["RMSE"] == 0


def test_power_of_white_noise_is_flat_and_integrates_to_the_variance():
    noise = np.random.default_rng(0).normal(0, 3.0, (40, 64, 64))
    frequency, power = quality.noise_power(noise, 0.5)
    np.testing.assert_allclose(power[2:], 9 * 0.25, rtol=0.15)


def test_a_region_outside_the_image_is_refused():
    image = phantom_volume()
    far = Points(np.array([[500.0, 0, 0]]))
    for name in ("edge", "noise"):
        with pytest.raises(InputError, match="lie inside|fit into"):
            run(CompareReconstructions, {"image": image, "reference": image, name: far})


def test_reconstruction_of_noise_has_the_ramp_spectrum():
    scan = ScanGeometry("parallel", np.pi * np.arange(90) / 90)
    data = scan_of([], scan, 8, 96)
    noise = np.random.default_rng(0).normal(0, 1, data.array.shape).astype(np.float32)
    image = run(FilteredBackProjection, {"projections": type(data)(noise, scan)})["volume"].array
    frequency, power = quality.noise_power(image[:, 28:68, 28:68], 1.0)
    low, high = (
        power[(frequency > 0.02) & (frequency < 0.08)].mean(),
        power[(frequency > 0.3) & (frequency < 0.45)].mean(),
    )
    assert high > 4 * low
