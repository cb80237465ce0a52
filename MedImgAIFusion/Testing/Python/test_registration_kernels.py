"""The compiled loops give what NumPy and SciPy give, and registration works without them."""

import numpy as np
import pytest
from MedImgAIFusionLib.registration import compiled, fields, metric
from MedImgAIFusionLib.registration.deformable import DeformableRegistration
from MedImgAILib.core import Context
from scipy.ndimage import gaussian_filter1d, map_coordinates

SHAPES = ((13, 17, 19), (1, 17, 19), (70, 61, 50))
"""Odd, a single slice, and large enough that threads share it."""


@pytest.fixture(params=["compiled", "plain"], autouse=True)
def form(request, monkeypatch):
    monkeypatch.setattr(compiled, "_ready", {})
    if request.param == "plain":
        monkeypatch.setattr(compiled, "_WITHOUT", {"numba"})
    else:
        pytest.importorskip("numba")
    return request.param


def wavy(shape, size=2.5, seed=0):
    rng = np.random.default_rng(seed)
    field = gaussian_filter1d(rng.normal(size=(3, *shape)), 3, axis=3, mode="nearest")
    for axis in (1, 2):
        field = gaussian_filter1d(field, 3, axis=axis, mode="nearest") if shape[axis - 1] > 1 else field * 0.3
    return (field * (size / np.abs(field).max())).astype(np.float32)


def image(shape):
    return np.random.default_rng(1).random(shape).astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES)
def test_warping_reads_linearly_and_goes_on_at_the_border(shape):
    field = wavy(shape, 9.0)
    where = field.astype(float) + np.indices(shape)
    wanted = map_coordinates(image(shape).astype(float), where, order=1, mode="nearest")
    np.testing.assert_allclose(fields.warp(image(shape), field), wanted, atol=2e-5)
    outer = wavy(shape, seed=2)
    parts = [map_coordinates(p.astype(float), where, order=1, mode="nearest") for p in outer]
    np.testing.assert_allclose(fields.compose(outer, field), field + np.stack(parts), atol=5e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_smoothing_is_the_gaussian(shape):
    field, sigmas = wavy(shape), (1.7, 0.9, 2.6)
    wanted = field.astype(float)
    for axis, sigma in enumerate(sigmas):
        if shape[axis] > 1:
            wanted = gaussian_filter1d(wanted, sigma, axis=axis + 1, mode="nearest", truncate=3.0)
    np.testing.assert_allclose(fields.smooth(field, sigmas), wanted, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_first_order_steps_and_pulls(shape):
    field, step = wavy(shape), wavy(shape, 0.3, 3)
    flat = [n for n, count in enumerate(shape) if count > 1]
    slopes = {n: np.gradient(field.astype(float), axis=n + 1) for n in flat}
    wanted = field + step + sum(slopes[n] * step[n] for n in flat)
    np.testing.assert_allclose(fields.advance(field, step), wanted, atol=1e-5)
    scale, weight = np.array([1.0, 4.0, 0.25]), image(shape) - 0.5
    wanted = np.zeros((3, *shape))
    for n in flat:
        wanted[n] = np.gradient(image(shape).astype(float), axis=n) * weight * scale[n]
    np.testing.assert_allclose(fields.pull(image(shape), weight, scale), wanted, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_inverse_undoes(shape):
    field = wavy(shape)
    field[0] *= shape[0] > 1
    back = fields.inverse(field)
    inner = tuple(slice(4, n - 4) if n > 8 else slice(None) for n in shape)
    assert np.abs(fields.compose(field, back)[(slice(None), *inner)]).max() < 0.02


def test_sampling_inside_a_mask():
    array = image((9, 10, 11))
    mask = image((9, 10, 11)) > 0.3
    kji = (np.random.default_rng(4).random((3, 500)) * 14 - 2).astype(np.float32)
    inside, values, gradients = metric.Sampler(array, mask)(kji)
    limits = np.array([[8], [9], [10]])
    wanted = ((kji >= 0) & (kji <= limits)).all(axis=0)
    wanted[wanted] = mask[tuple(np.rint(kji[:, wanted]).astype(int))]
    np.testing.assert_array_equal(inside, wanted)
    at = kji[:, inside].astype(float)
    np.testing.assert_allclose(values, map_coordinates(array.astype(float), at, order=1), atol=1e-5)
    # Trilinear interpolation is linear along each axis within a cell.
    for axis in range(3):
        low, high = at.copy(), at.copy()
        low[axis] = np.minimum(np.floor(at[axis]), limits[axis] - 1)
        high[axis] = low[axis] + 1
        slope = map_coordinates(array, high, order=1) - map_coordinates(array, low, order=1)
        np.testing.assert_allclose(gradients[axis], slope, atol=1e-5)


def test_moments_and_places():
    rng = np.random.default_rng(5)
    points, linear = rng.normal(size=(3, 50)).astype(np.float32), rng.normal(size=(3, 3)).astype(np.float32)
    offset = np.array([1, 2, 3], np.float32)
    np.testing.assert_allclose(metric.placed(linear, offset, points), linear @ points + offset[:, None], atol=1e-5)
    inside = rng.random(50) > 0.4
    gradients, slopes = rng.normal(size=(3, inside.sum())).astype(np.float32), rng.normal(size=inside.sum())
    by_linear, by_shift = metric.moments(gradients, slopes, points, inside)
    np.testing.assert_allclose(by_linear, (gradients * slopes) @ points[:, inside].T, atol=1e-4)
    np.testing.assert_allclose(by_shift, (gradients * slopes).sum(axis=1), atol=1e-4)


def test_both_forms_register_alike(form, monkeypatch):
    inputs, parameters = DeformableRegistration().example()
    found = DeformableRegistration().execute(inputs, parameters, Context())["registered"].array
    monkeypatch.setattr(compiled, "_WITHOUT", {"numba"})
    monkeypatch.setattr(compiled, "_ready", {})
    plain = DeformableRegistration().execute(inputs, parameters, Context())["registered"].array
    np.testing.assert_allclose(found, plain, atol=2e-3 * np.ptp(plain))
