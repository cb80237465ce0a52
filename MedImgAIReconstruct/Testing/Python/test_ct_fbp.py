"""Filtered back-projection against exact phantoms, peers and its own other implementations."""

from dataclasses import replace

import numpy as np
import pytest
from ct_testing import DISTANCES, run, scan_of, turn
from MedImgAILib.core import Cancelled, Context, Geometry, InputError, Projections, ResourceError, ScanGeometry, Volume
from MedImgAIReconstructLib.ct import accelerate, slabs, weights
from MedImgAIReconstructLib.ct.cone import ConeFilter
from MedImgAIReconstructLib.ct.fbp import FDK, BackProjection, DirectFourier, FilteredBackProjection
from MedImgAIReconstructLib.ct.filters import padded_length, ramp_filter, window_response
from MedImgAIReconstructLib.ct.grid import Grid, automatic_grid, fan_angle, ray_distance
from MedImgAIReconstructLib.ct.phantoms import Ellipsoid, sample, shepp_logan
from MedImgAIReconstructLib.ct.torch_ct import back_project_diverging


def circle(size):
    y, x = np.indices((size, size)) - (size - 1) / 2
    return x * x + y * y <= (size / 2) ** 2


def error_db(image, truth, inside=...):
    return float(-20 * np.log10(np.sqrt(np.mean((image[inside] - truth[inside]) ** 2))))


@pytest.fixture(scope="module")
def head():
    """Half the size of the published case: 256², 360 views, modified Shepp-Logan."""
    scan = ScanGeometry("parallel", np.pi * np.arange(360) / 360)
    data = scan_of(shepp_logan(128.0, flat=True), scan, 1, 256, 8)
    return data, sample(shepp_logan(128.0, flat=True), automatic_grid(scan, 1, 256), 8)[0]


@pytest.mark.parametrize("method", ["fourier", "interpolation"])
def test_quality_of_parallel_beams(head, method):
    data, truth = head
    if method == "fourier":
        pytest.importorskip("finufft")
    image = run(FilteredBackProjection, {"projections": data}, method=method)["volume"].array[0]
    skimage = pytest.importorskip("skimage.transform")
    theta = np.rad2deg(data.scan.angles_rad)
    peer = skimage.iradon(data.array[:, 0].T, theta=theta, circle=True)[::-1]
    peer_db = max(error_db(p, truth, circle(256)) for p in (peer, peer[::-1]))
    assert error_db(image, truth, circle(256)) > peer_db - (0.0 if method == "fourier" else 0.6)


@pytest.mark.slow
def test_quality_of_the_published_case():
    pytest.importorskip("finufft")
    scan = ScanGeometry("parallel", np.pi * np.arange(720) / 720)
    data = scan_of(shepp_logan(256.0, flat=True), scan, 1, 512, 8)
    truth = sample(shepp_logan(256.0, flat=True), automatic_grid(scan, 1, 512), 8)[0]
    image = run(FilteredBackProjection, {"projections": data})["volume"].array[0]
    assert error_db(image, truth, circle(512)) >= 37.4


@pytest.mark.parametrize("window", ["ramp", "shepp-logan", "cosine", "hamming", "hann"])
@pytest.mark.parametrize("beam", ["parallel", "fan", "curved"])
def test_no_bias(window, beam):
    if beam == "parallel":
        scan = ScanGeometry("parallel", turn(180, 180))
    else:
        scan = ScanGeometry("fan", turn(180), **DISTANCES, curved=beam == "curved")
    data = scan_of([Ellipsoid(0.02, (30, 24, np.inf), (3, 2, 0))], scan, 1, 160)
    volume = run(FilteredBackProjection, {"projections": data}, filter=window)["volume"]
    _, j, i = np.indices(volume.array.shape)
    x, y = (
        volume.geometry.origin[0] + i * volume.geometry.spacing[0],
        volume.geometry.origin[1] + j * volume.geometry.spacing[1],
    )
    inside = ((x - 3) / 22) ** 2 + ((y - 2) / 16) ** 2 < 1
    outside = (((x - 3) / 36) ** 2 + ((y - 2) / 30) ** 2 > 1) & (np.hypot(x, y) < 42)
    assert volume.array[inside].mean() == pytest.approx(0.02, rel=2e-3)
    assert abs(volume.array[outside].mean()) < 5e-5


def test_ramp_of_kak_and_slaney():
    kernel = np.fft.irfft(ramp_filter(64, 0.5), 64) / 0.5
    assert kernel[0] == pytest.approx(1 / (4 * 0.5**2))
    assert kernel[3] == pytest.approx(-1 / (np.pi * 3 * 0.5) ** 2)
    assert kernel[2] == pytest.approx(0, abs=1e-12)
    assert window_response(np.array([0.0, 0.125, 0.25, 0.3]), "hann", 0.5) == pytest.approx([1, 0.5, 0, 0])


@pytest.mark.parametrize(
    "window, half, nyquist",
    [("ramp", 1, 1), ("shepp-logan", 0.9003, 0.6366), ("cosine", 0.7071, 0), ("hamming", 0.54, 0.08), ("hann", 0.5, 0)],
)
def test_windows_at_half_and_full_cut_off(window, half, nyquist):
    """Their textbook formulas (Kak & Slaney, section 3.3; Shepp & Logan 1974), also for a lower cut-off."""
    for cutoff in (1.0, 0.6):
        values = window_response(np.array([0, 0.25, 0.5, 0.51]) * cutoff, window, cutoff)
        np.testing.assert_allclose(values, [1, half, nyquist, 0], atol=1e-4)


def test_implementations_agree(head, monkeypatch):
    torch_parallel = pytest.importorskip("MedImgAIReconstructLib.ct.torch_ct").back_project_parallel
    data, _ = head
    small = replace(data, array=data.array[::4], scan=replace(data.scan, angles_rad=data.scan.angles_rad[::4]))
    plain = run(FilteredBackProjection, {"projections": small}, method="interpolation")["volume"].array
    grid = automatic_grid(small.scan, 1, 256)
    response = ramp_filter(padded_length(256), 1.0)
    steps = weights.angular_steps(small.scan.angles_rad, np.pi)
    torch = torch_parallel(small.array, small.scan, grid, response, steps, np.ones(256), (0, 0), "cpu", Context("cpu"))
    inside = circle(256)
    assert np.abs(torch[0] - plain[0])[inside].max() < 1e-3 * plain.max()


@pytest.mark.parametrize("curved", [False, True])
def test_cone_implementations_agree(curved, monkeypatch):
    pytest.importorskip("torch")
    scan = ScanGeometry("cone", turn(30), (2.0, 2.0), (3.0, 1.0), **DISTANCES, curved=curved)
    data = scan_of(shepp_logan(30.0), scan, 50, 70)
    grid = Grid((20, 34, 33), (2.0, 2.0, 2.0))
    results = [back_project_diverging(ConeFilter(data, "ramp", 1.0), grid, "cpu", Context("cpu"))]
    for disabled in (set(), {"numba"}):
        monkeypatch.setattr(accelerate, "_DISABLED", disabled)
        reference = Volume(np.zeros(grid.shape, np.float32), grid.geometry(scan))
        results.append(run(FDK, {"projections": data, "reference": reference})["volume"].array)
    for other in results[1:]:
        assert np.abs(other - results[0]).max() < 1e-3 * np.abs(results[0]).max()


@pytest.mark.parametrize("curved", [False, True])
def test_parker_weights_of_opposite_rays_add_to_one(curved):
    angles = turn(721, 230.0, 0.4)
    scan = ScanGeometry("fan", angles, (1.0, 1.0), **DISTANCES, curved=curved)
    table = weights.parker_weights(scan, 161)
    gamma = fan_angle(scan, np.arange(161) - 80.0)
    for view in (20, 130, 300, 420):
        for column in (10, 60, 80, 140):
            # the same line from the other side: β + π − 2γ, −γ
            other = angles[view] + np.pi - 2 * gamma[column]
            total = table[view, column]
            if angles[0] <= other <= angles[-1]:
                total += np.interp(other, angles, table[:, 160 - column])
            elif angles[0] <= other - 2 * np.pi:
                total += np.interp(other - 2 * np.pi, angles, table[:, 160 - column])
            assert total == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("degrees", [360.0, 230.0])
@pytest.mark.parametrize("curved", [False, True])
def test_a_large_axis_shift_keeps_the_values(degrees, curved):
    """A uniform ellipse in a fan whose axis is off by 5 % of the source distance keeps its value and is even."""
    shift = 5.0
    scan = ScanGeometry(
        "fan", turn(300, degrees, 0.0), (1.0, 1.0), (0.0, 8.0), 100.0, 160.0, curved=curved, axis_shift_mm=shift
    )
    data = scan_of([Ellipsoid(1.0, (20.0, 18.0, 50.0), (4.0, -3.0, 0.0))], scan, 1, 120)
    image = run(FDK, {"projections": data}, voxel_mm=1.0)["volume"].array[0]
    grid = automatic_grid(scan, 1, 120, 1.0)
    x, y = np.meshgrid(grid.axis(2), grid.axis(1))
    inside = image[((x - 4) / 16) ** 2 + ((y + 3) / 14) ** 2 < 1]
    assert inside.mean() == pytest.approx(1.0, abs=5e-4) and inside.std() < 1e-3


@pytest.mark.parametrize("shift", [-9.0, 9.0])
def test_the_view_of_a_shifted_parallel_beam(shift):
    """A detector of 64 mm whose axis is off by 9 mm sees 41 mm to one side, all around in a full turn."""
    scan = ScanGeometry("parallel", turn(40), (1.0, 1.0), axis_shift_mm=shift)
    assert automatic_grid(scan, 1, 64).shape == (1, 82, 82)
    np.testing.assert_allclose(ray_distance(scan, np.array([shift, 0.0])), [0.0, -shift])


def test_uneven_angles():
    rng = np.random.default_rng(0)
    scan = ScanGeometry("parallel", rng.permutation(np.pi * (np.arange(400) + rng.uniform(-0.4, 0.4, 400)) / 400))
    data = scan_of([Ellipsoid(0.02, (30, 24, np.inf))], scan, 1, 96)
    image = run(FilteredBackProjection, {"projections": data})["volume"].array[0]
    assert image[40:56, 36:60].mean() == pytest.approx(0.02, rel=5e-3)


def test_direct_fourier_takes_parallel_beams_only():
    pytest.importorskip("finufft")
    scan = ScanGeometry("fan", turn(20), **DISTANCES)
    with pytest.raises(InputError, match="parallel beams only"):
        run(DirectFourier, {"projections": scan_of([], scan, 1, 60)})


def test_unfiltered_back_projection_of_a_uniform_disc_is_smooth_and_centred(head):
    image = run(BackProjection, {"projections": head[0]})["volume"].array[0]
    assert image[128, 128] > image[128, 20] > 0


def test_short_and_displaced_scans_that_do_not_suffice_are_refused():
    fan = ScanGeometry("fan", turn(100, 150.0), **DISTANCES)
    with pytest.raises(InputError, match="iterative"):
        run(FilteredBackProjection, {"projections": scan_of([], fan, 1, 160)})
    half = ScanGeometry("fan", turn(100, 240.0), offset_mm=(0.0, 60.0), **DISTANCES)
    with pytest.raises(InputError, match="all around"):
        run(FilteredBackProjection, {"projections": scan_of([], half, 1, 160)})


def test_bad_projections_are_refused(head):
    data, _ = head
    broken = data.array.copy()
    broken[7, 0, 9] = np.nan
    with pytest.raises(InputError, match="view 7"):
        run(FilteredBackProjection, {"projections": Projections(broken, data.scan)})
    with pytest.raises(InputError, match="No projections"):
        run(FilteredBackProjection, {})
    with pytest.raises(InputError, match="360 angles"):
        Projections(data.array[:100], data.scan)


def test_too_little_memory_is_refused_before_starting(head, monkeypatch):
    monkeypatch.setattr(slabs, "free_memory_bytes", lambda _device: 10_000)
    with pytest.raises(ResourceError, match="GiB"):
        run(FilteredBackProjection, {"projections": head[0]})


def test_cancel():
    class Stopping(Context):
        calls = 0

        def is_cancelled(self):
            self.calls += 1
            return self.calls > 5

    scan = ScanGeometry("cone", turn(200), (2.0, 2.0), **DISTANCES)
    data = scan_of([], scan, 20, 60)
    context = Stopping("cpu")
    with pytest.raises(Cancelled):
        FDK().execute({"projections": data}, {}, context)
    assert context.calls < 30


def test_sinogram_volume_in_one_step(head):
    data, _ = head
    wanted = run(FilteredBackProjection, {"projections": data})["volume"].array
    stack = np.ascontiguousarray(data.array.transpose(1, 0, 2))
    volume = Volume(stack, Geometry.from_spacing(stack.shape, (1.0, 1.0, 1.0)), "sinogram")
    np.testing.assert_allclose(run(FilteredBackProjection, {"sinogram": volume})["volume"].array, wanted, atol=1e-5)
    turned = Volume(data.array, Geometry.from_spacing(data.array.shape, (1.0, 1.0, 1.0)), "projections")
    result = run(FilteredBackProjection, {"sinogram": turned}, layout="view_row_column")["volume"].array
    np.testing.assert_allclose(result, wanted, atol=1e-5)


def test_slabs_are_the_whole(head):
    scan = ScanGeometry("parallel", turn(60, 180))
    data = scan_of(shepp_logan(20.0), scan, 40, 48)
    whole = run(FilteredBackProjection, {"projections": data})["volume"]
    slab = Volume(np.zeros((8, 48, 48), np.float32), whole.geometry.cropped((11, 0, 0), (8, 48, 48)))
    part = run(FilteredBackProjection, {"projections": data, "reference": slab})["volume"]
    np.testing.assert_allclose(part.array, whole.array[11:19], atol=1e-5)
