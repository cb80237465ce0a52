"""Automatic thresholds against scikit-image."""

import numpy as np
import pytest
import SimpleITK as sitk
from MedImgAILib.core import Context, Geometry, InputError, Volume, registry
from MedImgAILib.core.examples import example_volume
from MedImgAILib.segment.histogram_thresholds import find_thresholds, li, multi_otsu, triangle
from testing_data import data_path

filters = pytest.importorskip("skimage.filters")


def mixture(dtype, seed=0):
    """Three peaks of different size and width."""
    rng = np.random.default_rng(seed)
    parts = [rng.normal(40, 9, 6000), rng.normal(110, 12, 3000), rng.normal(190, 15, 1000)]
    return np.concatenate(parts).clip(0, 255).astype(dtype).reshape(20, 20, 25)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.uint8])
@pytest.mark.parametrize("classes", [2, 3, 4])
def test_multi_otsu_agrees_with_scikit_image(dtype, classes, seed):
    values = mixture(dtype, seed)
    np.testing.assert_allclose(multi_otsu(values, classes), filters.threshold_multiotsu(values, classes), rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.uint8])
def test_li_agrees_with_scikit_image(dtype):
    values = mixture(dtype)
    assert li(values) == pytest.approx(filters.threshold_li(values), rel=1e-4)
    shifted = (values.astype(np.int16) - 300) if dtype != np.uint8 else values
    assert li(shifted) == pytest.approx(filters.threshold_li(shifted), rel=1e-4), "with negative values"


@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.uint8])
@pytest.mark.parametrize("sign", [1, -1])
def test_triangle_agrees_with_scikit_image(dtype, sign):
    values = mixture(dtype) if sign > 0 else (255 - mixture(dtype)).astype(dtype)
    assert triangle(values) == pytest.approx(filters.threshold_triangle(values), rel=1e-6)


def test_all_agree_with_scikit_image_on_ct():
    ct = sitk.GetArrayFromImage(sitk.ReadImage(str(data_path("ct/lung1_image.nrrd"))))[::4, ::4, ::4]
    assert li(ct) == pytest.approx(filters.threshold_li(ct), abs=1e-3)
    assert triangle(ct) == filters.threshold_triangle(ct)
    values = ct.astype(np.float32)
    np.testing.assert_allclose(multi_otsu(values, 3), filters.threshold_multiotsu(values, 3), rtol=1e-5)


def test_task_gives_one_segment_for_each_brighter_class():
    volume = example_volume()
    outputs = registry()["segment.threshold"].execute(
        {"image": volume}, {"method": "multi_otsu", "classes": 3, "segment": "brain"}, Context()
    )
    cuts = filters.threshold_multiotsu(volume.array, 3)
    segmentation = outputs["segmentation"]
    assert [s.name for s in segmentation.segments] == ["Brain 1", "Brain 2"]
    assert {s.terminology.type.value for s in segmentation.segments} == {"12738006"}
    assert segmentation.segments[0].color != segmentation.segments[1].color
    np.testing.assert_array_equal(segmentation.mask("Brain 1"), (volume.array > cuts[0]) & (volume.array <= cuts[1]))
    np.testing.assert_array_equal(segmentation.mask("Brain 2"), volume.array > cuts[1])
    np.testing.assert_allclose(outputs["measures"].columns["threshold"], cuts, rtol=1e-6)


@pytest.mark.parametrize("method", ["li", "triangle"])
def test_task_uses_the_chosen_threshold(method):
    volume = example_volume()
    outputs = registry()["segment.threshold"].execute({"image": volume}, {"method": method}, Context())
    cut = getattr(filters, f"threshold_{method}")(volume.array)
    assert outputs["measures"].columns["threshold"][0] == pytest.approx(cut, rel=1e-4)
    assert (outputs["segmentation"].mask("Tissue") == (volume.array > cut)).mean() > 0.9999


def test_histogram_holds_every_voxel_once_and_breaks_at_the_threshold():
    volume = example_volume()
    outputs = registry()["segment.threshold"].execute({"image": volume}, {"method": "otsu"}, Context())
    plot, cut = outputs["histogram"], outputs["measures"].columns["threshold"][0]
    value, dark, bright = plot.table.columns.values()
    assert dark.sum() + bright.sum() == volume.array.size
    assert value[dark > 0].max() <= cut < value[bright > 0].min()
    np.testing.assert_array_equal(dark + bright, np.histogram(volume.array, 256)[0])
    assert [s.y for s in plot.series] == list(plot.table.columns)[1:]


def test_too_few_values_are_refused():
    array = np.zeros((4, 5, 6), np.uint8)
    array[2:] = 9
    with pytest.raises(InputError, match=r"^Volume 'two' has fewer than 3 different values; choose fewer classes\.$"):
        registry()["segment.threshold"].execute(
            {"image": Volume(array, Geometry(np.eye(4), array.shape), "two")}, {"method": "multi_otsu"}, Context()
        )
    with pytest.raises(InputError, match="same value everywhere"):
        find_thresholds(np.ones((2, 2, 2)), "li", 2, "The volume")
