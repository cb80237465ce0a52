"""Further ways of region growing against ITK and analytic distances."""

import numpy as np
import pytest
import SimpleITK as sitk
from MedImgAILib.core import Context, Geometry, InputError, Points, Volume, registry
from scipy import ndimage

CENTER = np.array([24.0, 24.0, 40.0])
PLAIN = {"smoothing": "none", "fill_holes": False}


def grid():
    return Geometry.from_spacing((40, 40, 48), (1.0, 1.2, 2.0))


def distance():
    geometry = grid()
    k, j, i = np.meshgrid(*map(np.arange, geometry.shape), indexing="ij")
    return np.linalg.norm(geometry.ras(np.stack([i, j, k], -1)) - CENTER, axis=-1)


def execute(array, **parameters):
    volume = Volume(array.astype(np.float32), grid(), "image")
    outputs = registry()["segment.region_growing"].execute(
        {"image": volume, "seeds": Points([CENTER])}, PLAIN | parameters, Context()
    )
    return outputs["segmentation"].mask("Tissue"), outputs["measures"]


def leaking_ball():
    """A bright ball with noise, and a thin bright channel from it to a second one."""
    array = np.where(distance() <= 10, 150.0, 50.0)
    array[20, 20, 30:] = 150
    array[10:30, 10:30, 42:] = 150
    return array + np.random.default_rng(0).normal(0, 3, array.shape)


@pytest.mark.parametrize("radius_mm, voxels", [(1.0, (1, 0, 0)), (1.3, (1, 1, 0)), (2.4, (2, 2, 1))])
def test_neighbourhood_connected_agrees_with_itk(radius_mm, voxels):
    array = leaking_ball()
    got, sizes = execute(array, method="neighbourhood", range=(120, 200), neighbourhood_mm=radius_mm)
    image = sitk.GetImageFromArray(array.astype(np.float32))
    wanted = sitk.NeighborhoodConnected(image, [(24, 20, 20)], 120, 200, voxels, 1)
    np.testing.assert_array_equal(got, sitk.GetArrayFromImage(wanted) > 0)
    assert sizes.columns["lowest"][0] == 120
    leaked, _ = execute(array, method="range", range=(120, 200))
    if radius_mm > 2:
        assert got.sum() < 0.6 * leaked.sum(), "the thin channel is not passed"


def test_front_in_an_even_image_is_a_ball_in_mm():
    got, _ = execute(np.full(grid().shape, 7.0), method="fast_marching", reach_mm=15.0)
    truth = distance() <= 15
    # The first-order scheme comes about 5 % late, never early.
    assert not (got & ~truth).any() and (distance()[~got] > 0.9 * 15).all()


def test_front_agrees_with_itk_from_the_same_speed():
    array = leaking_ball()
    got, _ = execute(array, method="fast_marching", reach_mm=18.0, edge_scale_mm=1.5, edge_strength=10.0)
    spacing = np.array([2.0, 1.2, 1.0])
    smooth = ndimage.gaussian_filter(array.astype(np.float32), 1.5 / spacing, mode="nearest")
    slope = np.sqrt(sum(g**2 for g in np.gradient(smooth, *spacing)))
    speed = sitk.GetImageFromArray((1 / (1 + (slope / 10.0) ** 2)).astype(np.float32))
    speed.SetSpacing((1.0, 1.2, 2.0))
    wanted = sitk.GetArrayFromImage(sitk.FastMarching(speed, [(24, 20, 20)], 1.0, 18.0)) <= 18.0
    assert 2 * (got & wanted).sum() / (got.sum() + wanted.sum()) > 0.97
    ball = distance() <= 10
    assert (got & ball).sum() > 0.6 * ball.sum() and (got & ~ball).sum() < 0.1 * got.sum(), "it stops at the edge"


def test_a_neighbourhood_that_holds_no_seed_is_refused():
    with pytest.raises(InputError, match=r"^No seed has all its neighbours within 15 mm in the range from 120 to 200"):
        execute(leaking_ball(), method="neighbourhood", range=(120, 200), neighbourhood_mm=15.0)
