"""Histogram equalisation and CLAHE against scikit-image and their definitions."""

import numpy as np
import pytest
from MedImgAILib.core import Context, Geometry, InputError, Segment, Segmentation, Volume, registry
from MedImgAILib.enhance.clahe import clipped_mappings, tile_counts
from testing_data import data_path


def image(array, spacing=(1.0, 1.0, 1.0)):
    return Volume(array, Geometry.from_spacing(array.shape, spacing), "image")


def equalized(task, array, inputs=None, **parameters):
    outputs = registry()[task].execute({"image": image(array)} | (inputs or {}), parameters, Context())
    return outputs["equalized"].array


def smooth_picture(shape=(1, 160, 192), seed=0):
    from scipy.ndimage import gaussian_filter

    array = gaussian_filter(np.random.default_rng(seed).normal(0, 1, shape), (0, 6, 6))
    array += np.linspace(-0.1, 0.1, shape[2])
    return ((array - array.min()) / np.ptp(array)).astype(np.float32)


def test_equalization_agrees_with_scikit_image():
    exposure = pytest.importorskip("skimage.exposure")
    array = smooth_picture() ** 3
    got = equalized("enhance.histogram_equalization", array, bins=1024)
    wanted = exposure.equalize_hist(array, nbins=1024)
    # Their background bin does not start at 0, and values are taken at bin centres.
    assert np.abs(got - wanted).max() < 0.03
    counts = np.histogram(got, bins=10)[0]
    assert counts.max() < 1.3 * counts.min(), "not flat"


def test_equalization_ignores_the_share_of_the_background():
    head = np.random.default_rng(0).uniform(100, 200, (8, 20, 20)).astype(np.float32)
    padded = np.zeros((8, 60, 60), np.float32)
    padded[:, 20:40, 20:40] = head
    got = equalized("enhance.histogram_equalization", padded)
    assert (got[:, :20] == 0).all()
    inside = got[:, 20:40, 20:40]
    assert np.percentile(inside, 50) == pytest.approx(100, abs=5) and inside.min() < 5 and inside.max() > 199


def test_equalization_in_a_region_uses_only_its_values():
    array = np.random.default_rng(0).uniform(0, 1, (4, 30, 30)).astype(np.float32)
    array[:, :10] += 9
    mask = np.zeros(array.shape, np.uint8)
    mask[:, 10:] = 1
    region = Segmentation.from_labels(mask, image(array).geometry, [Segment("body")])
    got = equalized("enhance.histogram_equalization", array, {"region": region})
    np.testing.assert_allclose(got[:, 10:], array[:, 10:], atol=0.05)
    assert np.ptp(got[:, :10]) == 0, "values above the region's range saturate"
    empty = Segmentation.from_labels(mask * 0, image(array).geometry, [Segment("body")])
    with pytest.raises(InputError, match="covers no voxel"):
        equalized("enhance.histogram_equalization", array, {"region": empty})


@pytest.mark.parametrize("clip", [2.0, 4.0])
def test_clahe_agrees_with_scikit_image_in_a_plane(clip):
    exposure = pytest.importorskip("skimage.exposure")
    array = smooth_picture()
    got = equalized("enhance.clahe", array, tile_mm=32, clip_limit=clip, bins=256)[0]
    # Theirs: clip limit as a share of the tile, 253 bins, a whole bin mapped to its upper end (0.5 × slope / 253 off).
    # Tolerance: 2 % of the range on average, 7 % for 99 % of the voxels.
    wanted = exposure.equalize_adapthist(array[0], kernel_size=32, clip_limit=clip / 253, nbins=256)
    stretched = (got - got.min()) / np.ptp(got)
    assert np.abs(stretched - wanted).mean() < 0.02
    assert np.percentile(np.abs(stretched - wanted), 99) < 0.07
    assert np.corrcoef(stretched.ravel(), wanted.ravel())[0, 1] > 0.995


def test_clip_limit_bounds_the_contrast_and_1_changes_nothing():
    rng = np.random.default_rng(0)
    counts = rng.poisson(np.exp(rng.normal(0, 3, (2, 3, 4, 64))) + 0.1)
    for limit in (1.0, 1.5, 3.0, 10.0):
        mapping = clipped_mappings(counts, limit)
        steps = np.diff(mapping, axis=-1) * 64
        assert steps.max() <= limit * (1 + 1e-6) and steps.min() >= 0
        np.testing.assert_allclose(mapping[..., -1], 1)
    array = rng.uniform(-5, 20, (12, 14, 16)).astype(np.float32)
    np.testing.assert_allclose(equalized("enhance.clahe", array, clip_limit=1, tile_mm=5), array, atol=1e-3)


def test_one_tile_without_clipping_is_plain_equalization():
    array = np.random.default_rng(0).gamma(2, 1, (10, 20, 20)).astype(np.float32)
    got = equalized("enhance.clahe", array, tile_mm=500, clip_limit=100, bins=256)
    counts, edges = np.histogram(array, 256)
    cumulative = np.concatenate([[0], np.cumsum(counts)]) / array.size
    wanted = array.min() + np.ptp(array) * np.interp(array, edges, cumulative)
    np.testing.assert_allclose(got, wanted, atol=1e-4 * np.ptp(array))


def test_tiles_follow_mm():
    assert tile_counts(30, Geometry.from_spacing((48, 512, 256), (0.5, 0.6, 5))) == (8, 10, 4)
    assert tile_counts(2, Geometry.from_spacing((1, 4, 4), (5, 5, 5))) == (1, 4, 4)


@pytest.mark.parametrize("task", ["enhance.clahe", "enhance.histogram_equalization"])
def test_constant_image_is_refused(task):
    with pytest.raises(InputError, match="same value everywhere"):
        equalized(task, np.full((4, 5, 6), 3.0))


def test_clahe_brings_out_lung_texture_in_ct():
    from MedImgAILib.core.itk import volume_from_itk
    from SimpleITK import ReadImage

    ct = volume_from_itk(ReadImage(str(data_path("ct/lung1_image.nrrd"))), name="ct")
    ct = ct.reordered((0, 1, 2), (False,) * 3)
    slab = Volume(ct.array[20:26], ct.geometry.cropped((20, 0, 0), (6, *ct.geometry.shape[1:])), "ct")
    got = registry()["enhance.clahe"].execute({"image": slab}, {}, Context())["equalized"].array
    lung = slab.array < -700
    lung[:, :200] = False
    gain = (got[lung].std() / np.ptp(got)) / (slab.array[lung].std() / np.ptp(slab.array))
    assert 1.2 < gain <= 3.0
