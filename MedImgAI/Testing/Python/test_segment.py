"""Threshold and region growing against scikit-image, ITK and analytic shapes."""

import numpy as np
import pytest
import SimpleITK as sitk
from MedImgAILib.core import Context, Geometry, InputError, Points, Volume, registry
from MedImgAILib.core.examples import example_volume
from MedImgAILib.core.intensity import otsu_threshold
from MedImgAILib.segment.cleanup import ball, fill_holes, largest_component, smooth
from testing_data import data_path

AXES = (0, 1, 2)


def execute(task, volume, seeds=None, context=None, **parameters):
    inputs = {"image": volume} | ({"seeds": Points(seeds)} if seeds is not None else {})
    outputs = registry()[task].execute(inputs, parameters, context or Context())
    return outputs["segmentation"], outputs["measures"]


def distance_from(geometry, center):
    k, j, i = np.meshgrid(*map(np.arange, geometry.shape), indexing="ij")
    return np.linalg.norm(geometry.ras(np.stack([i, j, k], -1)) - center, axis=-1)


# Threshold


@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.uint8])
def test_otsu_agrees_with_scikit_image(dtype):
    filters = pytest.importorskip("skimage.filters")
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(60, 12, 5000), rng.normal(150, 20, 3000)]).clip(0, 250).astype(dtype)
    assert otsu_threshold(values.reshape(20, 20, 20)) == pytest.approx(filters.threshold_otsu(values), abs=1e-4)


def test_otsu_agrees_with_scikit_image_on_ct():
    filters = pytest.importorskip("skimage.filters")
    ct = sitk.GetArrayFromImage(sitk.ReadImage(str(data_path("ct/lung1_image.nrrd"))))
    assert otsu_threshold(ct) == filters.threshold_otsu(ct)


def test_threshold_range_and_its_opposite():
    volume = example_volume()
    inside, sizes = execute("segment.threshold", volume, method="range", range=(90, 120), segment="brain")
    outside, _ = execute("segment.threshold", volume, method="range", range=(90, 120), side="outside")
    wanted = (volume.array >= 90) & (volume.array <= 120)
    np.testing.assert_array_equal(inside.mask("Brain"), wanted)
    np.testing.assert_array_equal(outside.mask("Tissue"), ~wanted)
    assert inside.segments[0].terminology.type.value == "12738006"
    assert sizes.columns["voxels"][0] == wanted.sum()
    assert sizes.columns["volume"][0] == pytest.approx(wanted.sum() * 1.0 * 1.2 * 1.9 / 1000)
    assert sizes.units["volume"] == "mL"
    assert sizes.columns["mean"][0] == pytest.approx(volume.array[wanted].mean(dtype=np.float64))


def test_threshold_warns_of_an_empty_segment_and_refuses_a_constant_image():
    class Listener(Context):
        def on_log(self, level, message):
            self.heard = message

    listener = Listener()
    segmentation, sizes = execute(
        "segment.threshold", example_volume(), context=listener, method="range", range=(1e6, 2e6)
    )
    assert "empty" in listener.heard and not segmentation.mask("Tissue").any()
    assert sizes.columns["voxels"][0] == 0 and np.isnan(sizes.columns["mean"][0])
    with pytest.raises(InputError, match="same value everywhere"):
        execute("segment.threshold", Volume(np.ones((3, 4, 5)), Geometry(np.eye(4), (3, 4, 5))))


# Region growing


def noisy_balls():
    """Two separate bright balls in noise on an anisotropic grid, and their centres."""
    geometry = Geometry.from_spacing((30, 40, 50), (1.0, 1.2, 2.0))
    centers = np.array([[15.0, 20, 30], [38.0, 28, 34]])
    array = np.random.default_rng(0).normal(50, 4, geometry.shape)
    for center in centers:
        array[distance_from(geometry, center) <= 9] += 100
    return Volume(array.astype(np.float32), geometry, "balls"), centers


def test_growing_in_a_range_agrees_with_itk():
    volume, centers = noisy_balls()
    seed = [round(float(v)) for v in volume.geometry.ijk(centers[0])]
    got, _ = execute(
        "segment.region_growing", volume, centers[:1], method="range", range=(100, 300), smoothing="none",
        fill_holes=False,
    )  # fmt: skip
    wanted = sitk.ConnectedThreshold(sitk.GetImageFromArray(volume.array), [seed], 100, 300)
    np.testing.assert_array_equal(got.mask("Tissue"), sitk.GetArrayFromImage(wanted) > 0)
    np.testing.assert_array_equal(got.mask("Tissue"), distance_from(volume.geometry, centers[0]) <= 9)


def test_growing_by_confidence_agrees_with_itk():
    volume, centers = noisy_balls()
    seed = [round(float(v)) for v in volume.geometry.ijk(centers[0])]
    got, sizes = execute(
        "segment.region_growing", volume, centers[:1], seed_radius_mm=2.0, iterations=4, smoothing="none",
        fill_holes=False,
    )  # fmt: skip
    wanted = sitk.GetArrayFromImage(
        sitk.ConfidenceConnected(sitk.GetImageFromArray(volume.array), [seed], 4, 2.5, 1, 1)
    )
    mask = got.mask("Tissue")
    dice = 2 * (mask & (wanted > 0)).sum() / (mask.sum() + wanted.sum())
    assert dice > 0.99
    assert sizes.columns["lowest"][0] < 150 < sizes.columns["highest"][0]


def test_clean_up_recovers_the_ball_from_noise_and_keeps_to_the_seed():
    volume, centers = noisy_balls()
    truth = distance_from(volume.geometry, centers[0]) <= 9
    strict = {"multiplier": 1.4, "iterations": 0, "seed_radius_mm": 5.0}
    raw, _ = execute("segment.region_growing", volume, centers[:1], **strict, smoothing="none", fill_holes=False)
    clean, _ = execute("segment.region_growing", volume, centers[:1], **strict, smoothing_mm=2.0)
    dice = [2 * (m & truth).sum() / (m.sum() + truth.sum()) for m in (raw.mask("Tissue"), clean.mask("Tissue"))]
    assert dice[0] < 0.95 < dice[1]
    both, _ = execute("segment.region_growing", volume, centers, **strict, smoothing_mm=2.0)
    assert both.mask("Tissue").sum() > 1.9 * clean.mask("Tissue").sum()


def test_seeds_in_the_wrong_place_are_named():
    volume, centers = noisy_balls()
    with pytest.raises(InputError, match=r"^Seeds: '2' lies outside volume 'balls'; move or remove it\.$"):
        execute("segment.region_growing", volume, [centers[0], [500.0, 0, 0]])
    with pytest.raises(
        InputError, match=r"^No seed has a value from 100 to 300 \(found: [456]\d\.?\d*\); change the range"
    ):
        execute("segment.region_growing", volume, [[1.0, 1, 1]], method="range", range=(100, 300))


def test_lungs_are_grown_from_one_seed():
    from MedImgAILib.core.itk import volume_from_itk

    ct = volume_from_itk(sitk.ReadImage(str(data_path("ct/lung1_image.nrrd"))), name="ct")
    segmentation, sizes = execute(
        "segment.region_growing", ct, ct.geometry.ras([[120, 280, 24]]), method="range", range=(-1024, -500),
        smoothing="closing", smoothing_mm=3.0, segment="lung",
    )  # fmt: skip
    assert segmentation.segments[0].name == "Lung"
    assert 2000 < sizes.columns["volume"][0] < 4000, "both lungs of an adult, in mL"
    assert -900 < sizes.columns["mean"][0] < -750


# Clean-up


def test_ball_has_its_size_in_mm_even_when_sheared():
    sheared = np.diag([1.0, 1.5, 2.0, 1.0])
    sheared[0, 2] = 0.8
    for matrix in (np.diag([1.0, 1.5, 2.0, 1.0]), sheared):
        geometry = Geometry(matrix, (40, 40, 40))
        footprint = ball(geometry, 12.0)
        assert footprint.sum() * geometry.voxel_volume_mm3 == pytest.approx(4 / 3 * np.pi * 12**3, rel=0.03)
    assert ball(Geometry(np.eye(4), (3, 3, 3)), 0.5).shape == (1, 1, 1)


def test_closing_and_opening_agree_with_itk():
    rng = np.random.default_rng(0)
    mask = rng.random((20, 22, 24)) > 0.8
    mask[6:14, 6:14, 6:16] = True
    geometry = Geometry(np.eye(4), mask.shape)
    footprint = ball(geometry, 2.0)
    from scipy.ndimage import binary_closing, binary_opening

    padded = np.pad(mask, 4)
    cut = (slice(4, -4),) * 3
    np.testing.assert_array_equal(smooth(mask, geometry, "closing", 2.0), binary_closing(padded, footprint)[cut] | mask)
    np.testing.assert_array_equal(smooth(mask, geometry, "opening", 2.0), binary_opening(mask, footprint))


def test_median_of_a_mask_is_the_majority():
    mask = np.random.default_rng(0).random((9, 10, 11)) > 0.5
    got = smooth(mask, Geometry(np.eye(4), mask.shape), "median", 1.0)
    padded = np.pad(mask.astype(int), 1)
    k, j, i = 4, 5, 6
    votes = [padded[k + 1 + a, j + 1 + b, i + 1 + c] for a, b, c in
             ((0, 0, 0), (1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1))]  # fmt: skip
    assert got[k, j, i] == (sum(votes) > 3.5)
    assert 0.3 < got.mean() < 0.7 and not np.array_equal(got, mask)


def test_holes_are_filled_in_volume_and_in_single_slice():
    shell = np.ones((7, 7, 7), bool)
    shell[3, 3, 3] = False
    open_tube = shell.copy()
    open_tube[:, 3, 3] = False
    assert fill_holes(shell).all()
    np.testing.assert_array_equal(fill_holes(open_tube), open_tube)
    assert fill_holes(open_tube[3:4]).all()


def test_largest_component():
    mask = np.zeros((5, 9, 9), bool)
    mask[1:4, 1:4, 1:4] = True
    mask[2, 7, 7] = True
    got = largest_component(mask)
    assert got.sum() == 27 and not got[2, 7, 7]
    assert not largest_component(np.zeros((2, 2, 2), bool)).any()
