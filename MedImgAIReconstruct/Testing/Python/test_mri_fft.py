"""Fourier reconstruction against analytic k-space and on real data."""

import numpy as np
import pytest
from MedImgAILib.core import Context, Geometry, InputError, KSpace
from MedImgAIReconstructLib.mri.fft import FourierReconstruction
from scipy.special import j1
from testing_data import data_path

# Modified Shepp-Logan head (Toft 1996, table B.3): intensity, semi-axes, centre, angle in degrees; field of view 2.
ELLIPSES = np.array(
    [
        (1.0, 0.69, 0.92, 0, 0, 0),
        (-0.8, 0.6624, 0.8740, 0, -0.0184, 0),
        (-0.2, 0.1100, 0.3100, 0.22, 0, -18),
        (-0.2, 0.1600, 0.4100, -0.22, 0, 18),
        (0.1, 0.2100, 0.2500, 0, 0.35, 0),
        (0.1, 0.0460, 0.0460, 0, 0.1, 0),
        (0.1, 0.0460, 0.0460, 0, -0.1, 0),
        (0.1, 0.0460, 0.0230, -0.08, -0.605, 0),
        (0.1, 0.0230, 0.0230, 0, -0.606, 0),
        (0.1, 0.0230, 0.0460, 0.06, -0.605, 0),
    ]
)


def reconstruct(kspace, **parameters):
    return FourierReconstruction().execute({"kspace": kspace}, parameters, Context())["image"]


def frequencies(shape):
    """k in cycles per pixel with k = 0 at n // 2: (phase, readout) arrays."""
    return np.meshgrid(*((np.arange(n) - n // 2) / n for n in shape), indexing="ij")


def encode(shape, positions, weights):
    """Unitary k-space of points at (row, column) positions relative to the voxel n // 2, which may be fractional."""
    ky, kx = frequencies(shape)
    signal = sum(w * np.exp(-2j * np.pi * (ky * y + kx * x)) for (y, x), w in zip(positions, weights, strict=True))
    return (signal / np.sqrt(np.prod(shape))).astype(np.complex64)


def shepp_logan_kspace(shape):
    """Unitary k-space of the phantom filling the grid, from the Fourier transform of an ellipse (a jinc)."""
    ky, kx = frequencies(shape)
    half = np.array(shape) / 2
    total = np.zeros(shape, complex)
    for value, a, b, x0, y0, angle in ELLIPSES:
        c, s = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
        u, v = kx * half[1], ky * half[0]
        radius = np.hypot(a * (c * u + s * v), b * (-s * u + c * v))
        jinc = np.where(radius < 1e-9, np.pi, j1(2 * np.pi * radius) / np.maximum(radius, 1e-9))
        total += value * a * b * jinc * np.exp(-2j * np.pi * (u * x0 + v * y0))
    return (total * half.prod() / np.sqrt(np.prod(shape))).astype(np.complex64)


def shepp_logan(shape, row, column):
    """The phantom's value at fractional positions relative to voxel n // 2."""
    y, x = row / (shape[0] / 2), column / (shape[1] / 2)
    result = np.zeros(np.broadcast(x, y).shape)
    for value, a, b, x0, y0, angle in ELLIPSES:
        c, s = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
        result += value * (((c * (x - x0) + s * (y - y0)) / a) ** 2 + ((c * (y - y0) - s * (x - x0)) / b) ** 2 <= 1)
    return result


@pytest.mark.parametrize("shape", [(16, 20), (17, 20), (16, 21), (17, 21), (1, 8), (9, 1)])
@pytest.mark.parametrize("sign", ["minus", "plus"])
def test_a_point_source_lands_on_its_voxel(shape, sign):
    place = (min(3, shape[0] // 3), -min(2, shape[1] // 3))
    kspace = encode(shape, [place], [5.0])
    kspace = kspace if sign == "minus" else kspace.conj()
    geometry = Geometry.from_spacing((1, *shape), (1.5, 2.0, 4.0), (-20.0, 7.0, 3.0))
    image = reconstruct(KSpace(kspace[None, None], geometry), sign=sign)
    expected = np.zeros((1, *shape))
    expected[0, shape[0] // 2 + place[0], shape[1] // 2 + place[1]] = 5
    assert image.geometry.same_grid(geometry)
    np.testing.assert_allclose(image.array, expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(128, 128), (127, 160)])
def test_shepp_logan_from_its_analytic_transform(shape):
    kspace = shepp_logan_kspace(shape)
    image = reconstruct(KSpace(kspace[None, None], Geometry.from_spacing((1, *shape)))).array[0]
    rows, columns = np.meshgrid(*(np.arange(n) - n // 2 for n in shape), indexing="ij")
    fine = np.linspace(-2.5, 2.5, 11)
    around = np.stack([shepp_logan(shape, rows + dy, columns + dx) for dy in fine for dx in fine])
    flat = np.ptp(around, axis=0) < 1e-9  # no edge within 2.5 voxels: only the ringing is left
    assert flat.mean() > 0.4
    error = image - around[0]
    assert np.abs(error[flat]).mean() < 0.01
    assert error[flat & (around[0] > 0.1)].mean() == pytest.approx(0, abs=0.001)
    # Half a voxel of shift would be 0.5 here; the magnitude of the ringing costs some hundredths.
    truth = np.mean([shepp_logan(shape, rows + dy, columns + dx) for dy in fine / 5 for dx in fine / 5], axis=0)
    for axis in (0, 1):
        center = [(np.arange(shape[axis]) * v.sum(1 - axis)).sum() / v.sum() for v in (image, truth)]
        assert center[0] == pytest.approx(center[1], abs=0.1)


def test_coils_are_combined_by_root_sum_of_squares():
    shape, weights = (12, 10), (3.0, 4.0j, -12.0)
    coils = np.stack([encode(shape, [(1, 2)], [w]) for w in weights])[:, None]
    image = reconstruct(KSpace(np.repeat(coils, 2, axis=1), Geometry.from_spacing((2, *shape))))
    assert image.array[:, 7, 7] == pytest.approx([13, 13])


@pytest.mark.parametrize(("readout", "columns"), [(20, 10), (21, 10), (22, 11), (20, 11)])
def test_oversampling_is_cut_around_the_centre_and_kept_on_demand(readout, columns):
    geometry = Geometry.from_spacing((1, 8, columns), (2.0, 2.0, 2.0), (5.0, 6.0, 7.0))
    data = KSpace(encode((8, readout), [(1, -2), (0, 3)], [2.0, 1.0])[None, None], geometry)
    cut, whole = reconstruct(data), reconstruct(data, keep_oversampling=True)
    assert cut.geometry.same_grid(geometry)
    assert cut.array[0, 5, columns // 2 - 2] == pytest.approx(2, abs=1e-5)
    assert whole.array.shape == (1, 8, readout)
    for image in (cut, whole):
        place = image.geometry.ijk(geometry.ras((columns // 2 + 3, 4, 0))).round().astype(int)
        assert image.array[tuple(place[::-1])] == pytest.approx(1, abs=1e-5)


def test_a_finer_grid_is_filled_by_zero_padding():
    shape, finer = (9, 8), (18, 17)
    data = KSpace(shepp_logan_kspace(shape)[None, None], Geometry.from_spacing((1, *finer)))
    image = reconstruct(data).array[0]
    ky, kx = frequencies(shape)
    row, column = 11, 6  # where the trigonometric polynomial is evaluated by hand
    y, x = (row - 9) * 9 / 18, (column - 8) * 8 / 17
    value = (shepp_logan_kspace(shape) * np.exp(2j * np.pi * (ky * y + kx * x))).sum() / np.sqrt(72)
    assert image[row, column] == pytest.approx(abs(value), rel=1e-4)


def test_what_was_not_sampled_counts_as_zero():
    shape = (16, 16)
    full = shepp_logan_kspace(shape)
    mask = np.zeros(shape, bool)
    mask[::2] = True
    geometry = Geometry.from_spacing((1, *shape))
    masked = reconstruct(KSpace(full[None, None], geometry, sampled=mask[None]))
    zeroed = reconstruct(KSpace((full * mask)[None, None], geometry))
    np.testing.assert_array_equal(masked.array, zeroed.array)
    # Every second row missing folds the image onto itself, half as bright, half a field of view away.
    direct = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(full), norm="ortho"))
    np.testing.assert_allclose(masked.array[0], np.abs(direct + np.roll(direct, 8, axis=0)) / 2, atol=1e-5)


def test_real_brain_data():
    kspace = np.load(data_path("raw/mri/brain_8ch_cartesian_ksp.npy"))[:, None]
    data = KSpace(kspace, Geometry.from_spacing(kspace.shape[1:]), sampled=(np.abs(kspace).sum(0) > 0))
    image = reconstruct(data).array[0]
    # Parseval: the transform is unitary and the combination keeps the energy.
    assert (image.astype(float) ** 2).sum() == pytest.approx((np.abs(kspace).astype(float) ** 2).sum(), rel=1e-4)
    corner = np.concatenate([image[:20, :20].ravel(), image[-20:, -20:].ravel()])
    assert image[75:155, 60:120].mean() > 5 * corner.mean()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"array": np.zeros((1, 1, 8, 8), np.complex64)}, "empty"),
        ({"array": np.full((1, 1, 8, 8), np.nan, np.complex64)}, "NaN"),
        ({"array": np.ones((1, 2, 8, 8), np.complex64)}, "2 slices"),
        ({"array": np.ones((1, 1, 9, 8), np.complex64)}, "phase-encoding"),
        ({"array": np.ones((0, 1, 8, 8), np.complex64)}, "no samples"),
        ({"sampled": np.ones((1, 7, 8), bool)}, "does not fit"),
        ({"trajectory": np.zeros((1, 8, 8, 2))}, "trajectory"),
    ],
)
def test_bad_data_is_refused_in_one_sentence(change, text):
    fields = {"array": np.ones((1, 1, 8, 8), np.complex64), "geometry": Geometry.from_spacing((1, 8, 8))} | change
    with pytest.raises(InputError, match=text):
        reconstruct(KSpace(**fields))
