"""Gaussian and median filters against analytic and peer results."""

import numpy as np
import pytest
from MedImgAILib.core import Context, Geometry, Volume, registry
from MedImgAILib.enhance.median import half_widths


def run(task, array, spacing=(1.0, 1.0, 1.0), **parameters):
    volume = Volume(array, Geometry.from_spacing(array.shape[:3], spacing), "image")
    outputs = registry()[task].execute({"image": volume}, parameters, Context())
    return next(iter(outputs.values())).array


def test_gaussian_of_a_point_is_a_gaussian_in_mm():
    spacing, sigma = np.array([0.8, 1.0, 2.0]), 4.0
    point = np.zeros((33, 65, 81), np.float32)
    point[16, 32, 40] = 1
    got = run("enhance.gaussian", point, spacing, sigma_mm=sigma)
    k, j, i = np.meshgrid(*(np.arange(n) - n // 2 for n in point.shape), indexing="ij")
    squared = (i * spacing[0]) ** 2 + (j * spacing[1]) ** 2 + (k * spacing[2]) ** 2
    wanted = np.exp(-squared / (2 * sigma**2)) / ((2 * np.pi) ** 1.5 * sigma**3) * spacing.prod()
    # The kernel ends at four standard deviations.
    np.testing.assert_allclose(got, wanted, atol=2e-3 * wanted.max())
    assert got.sum() == pytest.approx(1, abs=1e-3)


def test_gaussian_of_width_0_and_of_a_single_slice():
    array = np.random.default_rng(0).normal(0, 1, (1, 20, 20)).astype(np.float32)
    np.testing.assert_array_equal(run("enhance.gaussian", array, sigma_mm=0), array)
    flat = run("enhance.gaussian", array, (1, 1, 1), sigma_mm=2)
    deep = run("enhance.gaussian", np.repeat(array, 5, axis=0), (1, 1, 1), sigma_mm=2)
    np.testing.assert_allclose(flat[0], deep[2], atol=1e-6)


def test_gaussian_treats_components_apart_and_keeps_a_constant_up_to_the_edge():
    array = np.random.default_rng(0).normal(0, 1, (6, 7, 8, 3)).astype(np.float32)
    got = run("enhance.gaussian", array, sigma_mm=1.5)
    for c in range(3):
        np.testing.assert_allclose(got[..., c], run("enhance.gaussian", array[..., c], sigma_mm=1.5), atol=1e-6)
    np.testing.assert_allclose(run("enhance.gaussian", np.full((9, 9, 9), 5, np.int16), sigma_mm=30), 5, rtol=1e-5)


def test_median_is_the_median_of_the_box_in_mm():
    array = np.random.default_rng(0).integers(0, 500, (12, 14, 16)).astype(np.int16)
    got = run("enhance.median", array, (1.0, 1.5, 2.5), radius_mm=3.0)
    assert half_widths(3.0, Geometry.from_spacing((12, 14, 16), (1.0, 1.5, 2.5))) == [3, 2, 1]
    padded = np.pad(array, ((1, 1), (2, 2), (3, 3)), mode="edge")
    for k, j, i in ((0, 0, 0), (11, 13, 15), (5, 6, 7), (3, 13, 0)):
        assert got[k, j, i] == np.median(padded[k : k + 3, j : j + 5, i : i + 7])
    assert got.dtype == np.int16


def test_median_removes_specks_and_keeps_an_edge():
    array = np.zeros((10, 20, 20), np.float32)
    array[:, :, 10:] = 100
    noisy = array.copy()
    noisy[5, 5, 5], noisy[2, 10, 15] = 1000, -1000
    np.testing.assert_array_equal(run("enhance.median", noisy, radius_mm=1), array)


def test_median_of_vectors_and_of_a_radius_below_the_spacing():
    array = np.random.default_rng(0).normal(0, 1, (6, 7, 8, 3)).astype(np.float32)
    got = run("enhance.median", array, radius_mm=1)
    np.testing.assert_array_equal(got[..., 1], run("enhance.median", array[..., 1], radius_mm=1))
    np.testing.assert_array_equal(run("enhance.median", array, radius_mm=0.5), array)
