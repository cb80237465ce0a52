"""Resampling against ITK, analytic images and exact grid operations."""

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from MedImgAILib.core import (
    Cancelled,
    CompositeTransform,
    Context,
    DisplacementTransform,
    Geometry,
    InputError,
    LinearTransform,
    Segment,
    Segmentation,
    Volume,
)
from MedImgAILib.core.itk import itk_image
from MedImgAILib.core.resampling import affine_of, resample_labels, resample_segmentation, resample_volume


def rotation(degrees, axis):
    axis = np.asarray(axis, float) / np.linalg.norm(axis)
    angle, cross = np.radians(degrees), np.cross(np.eye(3), axis)
    return np.eye(3) - np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


SOURCE = Geometry.from_spacing((14, 18, 22), (1.1, 1.3, 2.2), (5, -8, 3), rotation(20, (1, 1, 0)))
TARGET = Geometry.from_spacing((12, 25, 20), (1.4, 0.9, 2.0), (8, -6, 4), rotation(-15, (0, 1, 1)))


def random_volume(seed=0, dtype=np.float32):
    array = np.random.default_rng(seed).normal(100, 30, SOURCE.shape)
    return Volume(array.astype(dtype), SOURCE, "random")


def by_itk(volume, geometry, interpolator, transform=None):
    """The reference: SimpleITK's resampling; ``transform`` is (4, 4) moving-to-fixed in RAS."""
    grid = itk_image(Volume(np.zeros(geometry.shape, np.float32), geometry))
    itk_transform = sitk.AffineTransform(3)
    if transform is not None:
        flip = np.diag([-1.0, -1, 1, 1])
        lps = flip @ np.linalg.inv(transform) @ flip
        itk_transform.SetMatrix(lps[:3, :3].ravel().tolist())
        itk_transform.SetTranslation(lps[:3, 3].tolist())
    return sitk.GetArrayFromImage(sitk.Resample(itk_image(volume), grid, itk_transform, interpolator, 0.0))


@pytest.mark.parametrize(
    ("name", "interpolator", "tolerance"),
    [("linear", sitk.sitkLinear, 2e-3), ("cubic", sitk.sitkBSpline3, 1e-2), ("nearest", sitk.sitkNearestNeighbor, 0)],
)
@pytest.mark.parametrize("moved", [False, True])
def test_same_as_itk_on_an_oblique_grid(name, interpolator, tolerance, moved):
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation(10, (1, 2, 3)), (2.0, -1.5, 1.0)
    transform = LinearTransform(matrix) if moved else None
    ours = resample_volume(random_volume(), TARGET, name, transform)
    wanted = by_itk(random_volume(), TARGET, interpolator, matrix if moved else None)
    assert ours.geometry is TARGET and (ours.array != 0).mean() > 0.3
    # Positions exactly on the border may fall to either side.
    assert (np.abs(ours.array - wanted) > tolerance).mean() < 1e-3


def test_linear_image_is_reproduced_exactly_by_linear_and_cubic():
    gradient = np.array([0.5, -1.5, 2.0])
    k, j, i = np.meshgrid(*map(np.arange, SOURCE.shape), indexing="ij")
    values = SOURCE.ras(np.stack([i, j, k], -1)) @ gradient
    inner = SOURCE.cropped((3, 4, 5), (7, 8, 9)).resized((9, 9, 9))
    k, j, i = np.meshgrid(*map(np.arange, inner.shape), indexing="ij")
    wanted = inner.ras(np.stack([i, j, k], -1)) @ gradient
    for name, tolerance in (("linear", 1e-10), ("cubic", 0.1)):
        got = resample_volume(Volume(values, SOURCE), inner, name).array
        assert got.dtype == np.float64
        np.testing.assert_allclose(got, wanted, atol=tolerance)


@settings(deadline=None, max_examples=25)
@given(st.permutations(range(3)), st.tuples(*[st.booleans()] * 3), st.sampled_from(["nearest", "linear", "cubic"]))
def test_reordered_grid_gives_the_reordered_voxels(axes, flips, name):
    volume = random_volume()
    wanted = volume.reordered(axes, flips)
    np.testing.assert_allclose(resample_volume(volume, wanted.geometry, name).array, wanted.array, rtol=2e-5, atol=1e-3)


def test_nearest_keeps_the_voxel_type_and_others_give_float():
    volume = random_volume(dtype=np.int16)
    assert resample_volume(volume, TARGET, "nearest").array.dtype == np.int16
    assert resample_volume(volume, TARGET, "linear").array.dtype == np.float32
    assert resample_volume(volume, SOURCE, "linear").array.dtype == np.float32


def test_vector_and_complex_components_are_resampled_alike():
    one, two = random_volume(1), random_volume(2)
    vector = Volume(np.stack([one.array, two.array], -1), SOURCE)
    number = Volume((one.array + 1j * two.array).astype(np.complex64), SOURCE)
    first, second = (resample_volume(v, TARGET).array for v in (one, two))
    np.testing.assert_array_equal(resample_volume(vector, TARGET).array, np.stack([first, second], -1))
    np.testing.assert_allclose(resample_volume(number, TARGET).array, first + 1j * second, rtol=1e-6)


def test_outside_value_and_reach_of_half_a_voxel():
    volume = Volume(np.full((4, 4, 4), 7.0, np.float32), Geometry(np.eye(4), (4, 4, 4)))
    line = Geometry.from_spacing((1, 1, 9), (0.7, 1, 1), (-1.1, 1, 1))
    got = resample_volume(volume, line, outside=-1).array.ravel()
    positions = -1.1 + 0.7 * np.arange(9)
    np.testing.assert_array_equal(got, np.where((positions >= -0.5) & (positions <= 3.5), 7, -1))


@pytest.mark.parametrize("name", ["nearest", "linear", "cubic"])
def test_single_slice_survives_rounding_of_its_plane(name):
    flat = Geometry.from_spacing((1, 8, 9), (1, 1, 5), (0, 0, 0))
    volume = Volume(np.arange(72, dtype=np.float32).reshape(1, 8, 9), flat)
    shifted = Geometry.from_spacing((1, 8, 9), (1, 1, 5), (0, 0, 1e-4))
    np.testing.assert_allclose(resample_volume(volume, shifted, name).array, volume.array, atol=1e-3)


def test_displacement_moves_the_image_like_the_same_translation():
    shift = np.array([2.0, -3.0, 1.5])
    field_grid = Geometry.from_spacing((4, 4, 4), (40, 40, 40), SOURCE.center - 60)
    # Stored as ITK does: from the fixed to the moving space.
    field = DisplacementTransform(np.broadcast_to(-shift, (4, 4, 4, 3)).copy(), field_grid)
    matrix = np.eye(4)
    matrix[:3, 3] = shift
    got = resample_volume(random_volume(), TARGET, "linear", field).array
    wanted = resample_volume(random_volume(), TARGET, "linear", LinearTransform(matrix)).array
    assert (np.abs(got - wanted) > 1e-2).mean() < 1e-3


def test_affine_of_composites():
    a, b = np.diag([2.0, 1, 1, 1]), np.eye(4)
    b[:3, 3] = (1, 2, 3)
    np.testing.assert_allclose(affine_of(CompositeTransform((LinearTransform(a), LinearTransform(b)))), b @ a)
    field = DisplacementTransform(np.zeros((2, 2, 2, 3)), Geometry(np.eye(4), (2, 2, 2)))
    assert affine_of(CompositeTransform((LinearTransform(a), field))) is None
    np.testing.assert_array_equal(affine_of(None), np.eye(4))


def test_segmentation_keeps_its_table_and_layers():
    labels = (np.random.default_rng(0).random(SOURCE.shape) > 0.5).astype(np.uint8)
    segmentation = Segmentation((labels, labels * 3), SOURCE, (Segment("a", 1), Segment("b", 3, layer=1)))
    got = resample_segmentation(segmentation, TARGET)
    assert got.segments == segmentation.segments and got.geometry is TARGET
    np.testing.assert_array_equal(got.layers[1], 3 * got.layers[0])
    mask = resample_labels(labels.astype(bool), SOURCE, TARGET)
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, got.layers[0] > 0)


def test_unknown_interpolation_and_cancel():
    with pytest.raises(InputError, match="use nearest, linear, cubic"):
        resample_volume(random_volume(), TARGET, "magic")

    class Impatient(Context):
        def is_cancelled(self):
            return True

    with pytest.raises(Cancelled):
        resample_volume(random_volume(), TARGET, context=Impatient())
