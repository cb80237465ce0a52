"""Properties of grids: positions stay, whatever the storage."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from MedImgAILib.core import Geometry, InputError, Volume
from MedImgAILib.core.geometry import inverse_order, reorder_array
from scipy.spatial.transform import Rotation

orders = st.tuples(st.permutations(range(3)).map(tuple), st.tuples(*[st.booleans()] * 3))
shapes = st.tuples(*[st.integers(1, 7)] * 3)


@st.composite
def grids(draw):
    spacing = draw(st.tuples(*[st.floats(0.2, 6)] * 3))
    turn = Rotation.from_euler("xyz", draw(st.tuples(*[st.floats(-3.1, 3.1)] * 3))).as_matrix()
    if draw(st.booleans()):
        turn = turn * [1, 1, -1]
    origin = draw(st.tuples(*[st.floats(-300, 300)] * 3))
    return Geometry.from_spacing(draw(shapes), spacing, origin, turn)


@given(grids(), arrays(float, (5, 3), elements=st.floats(-50, 50)))
def test_indices_and_positions_are_inverse(grid, ijk):
    np.testing.assert_allclose(grid.ijk(grid.ras(ijk)), ijk, atol=1e-6)
    assert grid.voxel_volume_mm3 == pytest.approx(grid.spacing.prod())
    assert grid.is_orthogonal


@given(grids(), orders)
def test_reordered_grid_keeps_every_voxel_in_its_place(grid, order):
    array = np.arange(np.prod(grid.shape)).reshape(grid.shape)
    axes, flips = order
    stored = Volume(array, grid).reordered(axes, flips)
    where = {}
    for volume in (Volume(array, grid), stored):
        for kji in itertools.product(*map(range, volume.geometry.shape)):
            where.setdefault(int(volume.array[kji]), []).append(volume.geometry.ras(kji[::-1]))
    for first, second in where.values():
        np.testing.assert_allclose(first, second, atol=1e-9)
    assert stored.array.base is not None, "no copy"
    back = stored.reordered(*inverse_order(axes, flips))
    np.testing.assert_array_equal(back.array, array)
    assert back.geometry.same_grid(grid, 1e-9)


@given(grids(), orders)
def test_canonical_order_is_the_same_for_every_storage(grid, order):
    array = np.arange(np.prod(grid.shape)).reshape(grid.shape)
    one, other = Volume(array, grid).canonical(), Volume(array, grid).reordered(*order).canonical()
    assert one.geometry.canonical_order() == ((0, 1, 2), (False, False, False))
    if np.abs(np.abs(grid.directions) - 1 / np.sqrt(2)).min() > 1e-3:
        np.testing.assert_array_equal(one.array, other.array)
        assert one.geometry.same_grid(other.geometry, 1e-6)


def test_canonical_of_lps_is_ras():
    lps = Geometry.from_spacing((2, 3, 4), (1, 2, 3), (10, 20, 30), np.diag([-1, -1, 1]))
    axes, flips = lps.canonical_order()
    assert axes == (0, 1, 2) and flips == (False, True, True)
    np.testing.assert_allclose(lps.reordered(axes, flips).directions, np.eye(3))
    np.testing.assert_allclose(lps.reordered(axes, flips).origin, (10 - 3, 20 - 4, 30))


@given(grids(), shapes)
def test_resized_grid_fills_the_same_box(grid, shape):
    other = grid.resized(shape)
    np.testing.assert_allclose(other.corners_ras(), grid.corners_ras(), atol=1e-6)
    assert other.shape == tuple(shape)


@given(grids(), st.floats(0.3, 4))
def test_with_spacing_keeps_the_box_and_comes_near_the_spacing(grid, spacing):
    other = grid.with_spacing([spacing] * 3)
    np.testing.assert_allclose(other.corners_ras(), grid.corners_ras(), atol=1e-6)
    extents = np.array(grid.shape[::-1]) * grid.spacing
    assert np.all((np.abs(extents / other.spacing - extents / spacing) <= 0.5 + 1e-6) | (extents < spacing))


@given(grids(), st.floats(0.5, 5), st.floats(0, 10))
@settings(max_examples=50)
def test_bounding_grid_covers(grid, spacing, margin):
    box = grid.bounding_grid([spacing] * 3, margin)
    np.testing.assert_allclose(box.directions, np.eye(3))
    inside = box.corners_ras()
    assert np.all(inside.min(0) <= grid.corners_ras().min(0) - margin + 1e-4)
    assert np.all(inside.max(0) >= grid.corners_ras().max(0) + margin - 1e-4)


@given(grids())
def test_transformed_grid_moves_with_the_patient(grid):
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = Rotation.from_rotvec([0.3, -0.2, 0.5]).as_matrix(), (5, 6, 7)
    moved = grid.transformed(matrix)
    np.testing.assert_allclose(moved.center, matrix[:3, :3] @ grid.center + matrix[:3, 3], atol=1e-9)
    np.testing.assert_allclose(moved.spacing, grid.spacing)


def test_crop_and_pad():
    grid = Geometry.from_spacing((5, 6, 7), (1, 2, 3), (4, 5, 6))
    assert np.allclose(grid.cropped((1, 2, 3), (2, 2, 2)).origin, grid.ras((3, 2, 1)))
    assert np.allclose(grid.cropped((-1, 0, 0), (7, 6, 7)).origin, grid.ras((0, 0, -1)))


def test_contains_reaches_to_the_faces():
    grid = Geometry.from_spacing((1, 1, 2), (2, 2, 2))
    assert grid.contains([[-0.99, 0, 0], [2.99, 0, 0], [-1.01, 0, 0], [0, 1.01, 0]]).tolist() == [
        True,
        True,
        False,
        False,
    ]


def test_same_grid_tolerates_rounding_only():
    grid = Geometry.from_spacing((50, 60, 70), (0.5, 0.5, 2))
    shifted = [Geometry.from_spacing((50, 60, 70), (0.5, 0.5, 2), (d, 0, 0)) for d in (1e-5, 1e-2)]
    assert grid.same_grid(shifted[0]) and not grid.same_grid(shifted[1])
    assert not grid.same_grid(grid.resized((50, 60, 71)))


@pytest.mark.parametrize(
    ("matrix", "shape", "words"),
    [
        (np.full((4, 4), np.nan), (1, 1, 1), "finite"),
        (np.eye(3), (1, 1, 1), "4×4"),
        (np.diag([1.0, 1, 0, 1]), (1, 1, 1), "singular"),
        (np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), (1, 1, 1), "singular"),
        (np.diag([1.0, 1, 1, 2]), (1, 1, 1), "affine"),
        (np.eye(4), (0, 1, 1), "positive extents"),
        (np.eye(4), (1, 1), "positive extents"),
    ],
)
def test_impossible_grids_are_refused(matrix, shape, words):
    with pytest.raises(InputError, match=words):
        Geometry(matrix, shape)


def test_matrix_cannot_be_changed_later():
    grid = Geometry(np.eye(4), (1, 1, 1))
    with pytest.raises(ValueError):
        grid.ijk_to_ras[0, 0] = 2
    assert not Geometry(np.array([[1, 0, 0.3, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), (1, 1, 1)).is_orthogonal


def test_reorder_array_leaves_components_alone():
    array = np.random.default_rng(0).random((2, 3, 4, 5))
    got = reorder_array(array, (2, 0, 1), (True, False, False))
    np.testing.assert_array_equal(got, array.transpose(2, 0, 1, 3)[::-1])
