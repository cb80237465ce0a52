"""N4 on an image whose bias is known."""

import numpy as np
import pytest
from MedImgAILib.core import Context, Geometry, InputError, Segment, Segmentation, Volume, registry
from MedImgAILib.core.examples import example_head
from MedImgAILib.enhance.n4 import shrink_factors


def biased_head():
    """A head, the field that was multiplied onto it, and the head's foreground."""
    head = example_head(spacing_mm=6.0)
    k, j, i = np.meshgrid(*(np.linspace(-1, 1, n) for n in head.array.shape), indexing="ij")
    field = np.exp(0.35 * i - 0.25 * j + 0.2 * k * i)
    return head.array, field, Volume((np.maximum(head.array, 0) * field).astype(np.float32), head.geometry, "biased")


def run(volume, **inputs):
    return registry()["enhance.n4"].execute({"image": volume} | inputs, {"working_mm": 6.0}, Context())


def test_known_bias_is_removed():
    truth, field, biased = biased_head()
    outputs = run(biased)
    inside = truth > 50
    residual = np.log(outputs["field"].array[inside]) - np.log(field[inside])
    before = np.log(field[inside]).std()
    assert residual.std() < 0.35 * before
    white = np.abs(truth - 120) < 5
    variation = [a[white].std() / a[white].mean() for a in (biased.array, outputs["corrected"].array)]
    assert variation[1] < 0.5 * variation[0]


def test_corrected_is_image_over_field_and_brightness_stays():
    _, _, biased = biased_head()
    outputs = run(biased)
    corrected, field = outputs["corrected"].array, outputs["field"].array
    np.testing.assert_allclose(corrected * field, biased.array, rtol=1e-4, atol=1e-3)
    assert corrected.mean() == pytest.approx(biased.array.mean(), rel=0.1)


def test_only_the_mask_is_fitted():
    truth, field, biased = biased_head()
    right = biased.array.copy()
    right[:, : right.shape[1] // 2] *= 5  # a defect that the mask leaves out
    damaged = Volume(right, biased.geometry, "damaged")
    labels = (truth > 50).astype(np.uint8)
    labels[:, : right.shape[1] // 2] = 0
    mask = Segmentation.from_labels(labels, biased.geometry, [Segment("head")])
    inside = labels > 0
    got = np.log(run(damaged, mask=mask)["field"].array[inside]) - np.log(field[inside])
    assert got.std() < 0.7 * np.log(field[inside]).std()


def test_unusable_images_are_refused():
    geometry = Geometry(np.eye(4), (8, 8, 8))
    with pytest.raises(InputError, match="no positive voxel"):
        run(Volume(np.full((8, 8, 8), -5.0), geometry, "ct"))
    with pytest.raises(InputError, match="same value everywhere"):
        run(Volume(np.full((8, 8, 8), 5.0), geometry, "flat"))
    with pytest.raises(InputError, match="single slice"):
        run(Volume(np.ones((1, 8, 8)), geometry.cropped((0, 0, 0), (1, 8, 8)), "flat"))
    array = np.random.default_rng(0).uniform(1, 2, (8, 8, 8))
    nothing = Segmentation.from_labels(np.zeros((8, 8, 8), np.uint8), geometry, [Segment("none")])
    with pytest.raises(InputError, match="covers no voxel"):
        run(Volume(array, geometry, "image"), mask=nothing)


def test_coarser_copy_follows_mm_and_leaves_enough_voxels():
    assert shrink_factors(4.0, Geometry.from_spacing((48, 256, 256), (0.9, 0.9, 3.0))) == [4, 4, 1]
    assert shrink_factors(20.0, Geometry.from_spacing((10, 64, 64), (1, 1, 1))) == [16, 16, 2]
