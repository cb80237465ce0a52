"""Deformable registration recovers known deformations and carries labels between real images."""

import numpy as np
import pytest
from MedImgAIFusionLib.registration import fields, forces
from MedImgAIFusionLib.registration.deformable import DeformableRegistration
from MedImgAILib.core import (
    Cancelled,
    Context,
    DisplacementTransform,
    Geometry,
    InputError,
    LinearTransform,
    Segment,
    Segmentation,
    Volume,
)
from MedImgAILib.core.resampling import resample_segmentation, resample_volume
from registration_testing import Listener, load, row
from task_comparison import ORDERS, oblique_matrix


def register(fixed, moving, inputs=None, context=None, **parameters):
    inputs = {"fixed": fixed, "moving": moving} | (inputs or {})
    return DeformableRegistration().execute(inputs, {"initial": "none"} | parameters, context or Listener())


@pytest.fixture(scope="module")
def bent_brain():
    """A real brain at 4 mm, the same bent by a smooth known field of up to 6 mm, and that field."""
    volume = load("brain/mni152_t1.nii.gz")
    fixed = resample_volume(volume, volume.geometry.with_spacing([4.0] * 3))
    fixed = fixed.with_array(fixed.array, name="brain")
    k, j, i = np.meshgrid(*(np.arange(n) for n in fixed.geometry.shape), indexing="ij")
    ras = fixed.geometry.ras(np.stack([i, j, k], axis=-1)) - fixed.geometry.center
    waves = [np.sin(ras @ w / 18.0) for w in ((0.3, 0.6, -0.2), (-0.5, 0.2, 0.4), (0.2, -0.3, 0.6))]
    window = np.exp(-((np.linalg.norm(ras, axis=-1) / 75) ** 4))
    truth = DisplacementTransform(6 * window[..., None] * np.stack(waves, axis=-1), fixed.geometry)
    # A fixed position x shows what lies at x + u(x) in the moving image.
    moving = resample_volume(fixed, fixed.geometry, "linear", truth)
    return fixed, moving.with_array(moving.array, name="bent"), truth


def endpoint_error(transform, truth, fixed):
    """Distances in mm, within the brain, between the found and the true place of each fixed position."""
    bright = np.argwhere(fixed.array > np.percentile(fixed.array, 60))[::7, ::-1]
    at = fixed.geometry.ras(bright)
    # The moving image was made by ``truth``; going back from it is truth's to-parent direction.
    return np.linalg.norm(transform.map_points_inverse(at) - truth.map_points(at), axis=1), np.linalg.norm(
        truth.map_points(at) - at, axis=1
    )


LIMITS_MM = {"local_correlation": 0.8, "mean_squares": 1.7, "mutual_information": 1.2, "normalized_gradients": 0.8}


@pytest.mark.parametrize("metric", list(forces.FORCES))
def test_a_known_smooth_deformation_is_recovered(bent_brain, metric):
    fixed, moving, truth = bent_brain
    context = Listener()
    result = register(fixed, moving, metric=metric, context=context)
    error, size = endpoint_error(result["transform"], truth, fixed)
    assert size.mean() > 2.5
    assert error.mean() < LIMITS_MM[metric]
    assert not context.warnings
    quality = result["quality"]
    assert row(quality, "Least Jacobian determinant")[1] > 0
    assert row(quality, "Voxels that fold, %")[1] == 0
    assert row(quality, "Inverse consistency, mean, mm")[1] < 0.1 * 4
    assert row(quality, "Normalised mutual information")[1] > row(quality, "Normalised mutual information")[0] + 0.05
    assert result["registered"].name == "bent on brain"


def test_forth_and_back_meet(bent_brain):
    fixed, moving, _ = bent_brain
    result = register(fixed, moving)
    points = fixed.geometry.ras(np.random.default_rng(0).uniform(2, np.array(fixed.geometry.shape[::-1]) - 3, (500, 3)))
    there = result["transform"].map_points_inverse(points)
    assert np.linalg.norm(there - points, axis=1).max() > 3
    back = result["inverse"].map_points_inverse(there)
    assert np.linalg.norm(back - points, axis=1).mean() < 0.1 * 4


def test_the_same_whatever_the_storage_order_and_obliquity(bent_brain):
    fixed, moving, truth = bent_brain
    wanted = register(fixed, moving, iterations=15)["transform"]
    points = fixed.geometry.ras(np.random.default_rng(0).uniform(5, np.array(fixed.geometry.shape[::-1]) - 6, (300, 3)))
    got = register(fixed.reordered(*ORDERS[19]), moving.reordered(*ORDERS[30]), iterations=15)["transform"]
    np.testing.assert_allclose(got.map_points_inverse(points), wanted.map_points_inverse(points), atol=0.02)
    matrix = oblique_matrix(40.0)
    turned = register(fixed.transformed(matrix), moving.transformed(matrix), iterations=15)["transform"]
    back = turned.transformed(np.linalg.inv(matrix))
    np.testing.assert_allclose(back.map_points_inverse(points), wanted.map_points_inverse(points), atol=0.05)


PAIRS = (("004", "007"), ("158", "161"), ("217", "222"))


def hippocampus(name):
    image, labels = (load(f"hippocampus/{kind}/hippocampus_{name}.nii.gz") for kind in ("images", "labels"))
    segments = [Segment("anterior", 1), Segment("posterior", 2)]
    return image, Segmentation.from_labels(labels.array.astype(np.uint8), labels.geometry, segments, name)


def mean_dice(first, second):
    return np.mean(
        [2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in ((first.mask(s), second.mask(s)) for s in first.segments)]
    )


def test_labels_of_real_hippocampi_overlap_better_than_by_affine():
    gains = []
    for one, other in PAIRS:
        (fixed, labels), (moving, moving_labels) = hippocampus(one), hippocampus(other)
        context = Listener()
        result = register(fixed, moving, initial="affine", context=context)
        whole = result["transform"]
        affine, warped = (resample_segmentation(moving_labels, fixed.geometry, t) for t in (whole.parts[0], whole))
        gains.append(mean_dice(labels, warped) - mean_dice(labels, affine))
        assert not context.warnings
        assert row(result["quality"], "Least Jacobian determinant")[1] > 0
        assert row(result["quality"], "Inverse consistency, mean, mm")[1] < 0.1
    assert np.mean(gains) > 0.05, gains


def test_a_mask_keeps_the_outside_from_pulling(bent_brain):
    fixed, moving, _ = bent_brain
    k = np.arange(fixed.geometry.shape[0])[:, None, None]
    lower = np.broadcast_to(k < fixed.geometry.shape[0] // 3, fixed.geometry.shape)
    mask = Segmentation.from_labels(lower.astype(np.uint8), fixed.geometry, [Segment("lower")], "lower")
    moved = register(fixed, moving, {"fixed_mask": mask}, iterations=15)["transform"]
    everywhere = register(fixed, moving, iterations=15)["transform"]
    top = fixed.geometry.ras(np.argwhere(~lower)[::50, ::-1])
    top = top[top[:, 2] > fixed.geometry.center[2] + 20]
    far = [np.linalg.norm(t.map_points_inverse(top) - top, axis=1).mean() for t in (moved, everywhere)]
    assert far[0] < 0.2 * far[1]


def test_a_start_transform_is_kept(bent_brain):
    fixed, moving, _ = bent_brain
    away = np.eye(4)
    away[:3, 3] = (0, 400, 0)
    with pytest.raises(InputError, match="do not overlap where the start puts them"):
        register(fixed, moving.transformed(away))
    start = LinearTransform(np.linalg.inv(away))
    found = register(fixed, moving.transformed(away), {"start": start}, iterations=10)
    direct = register(fixed, moving, iterations=10)
    np.testing.assert_allclose(found["registered"].array, direct["registered"].array, atol=0.5)


def test_slices_are_registered_in_their_plane(bent_brain):
    fixed, moving, _ = bent_brain
    middle = fixed.geometry.shape[0] // 2
    flat = fixed.geometry.cropped((middle, 0, 0), (1, *fixed.geometry.shape[1:]))
    one, other = (Volume(v.array[middle : middle + 1], flat, name=v.name) for v in (fixed, moving))
    result = register(one, other)
    before, after = row(result["quality"], "Normalised mutual information")
    assert after > before + 0.03
    points = flat.ras(np.random.default_rng(0).uniform(5, 30, (50, 3)) * [1, 1, 0])
    np.testing.assert_allclose((result["transform"].map_points_inverse(points) - points)[:, 2], 0, atol=1e-4)
    with pytest.raises(InputError, match="single slice and the other image is not"):
        register(one, moving)
    again = register(one, other, initial="affine")
    np.testing.assert_array_equal(again["registered"].array, result["registered"].array)


def test_unrelated_images_are_called_a_failure(bent_brain):
    fixed, _, _ = bent_brain
    noise = np.random.default_rng(7).normal(size=fixed.array.shape).astype(np.float32)
    context = Listener()
    result = register(fixed, fixed.with_array(noise), context=context)
    assert context.warnings and context.warnings[0].startswith("This registration failed because")
    assert row(result["quality"], "Failed (1 = yes)")[1] == 1


def test_constant_images_are_refused(bent_brain):
    fixed, _, _ = bent_brain
    with pytest.raises(InputError, match="'flat' is constant"):
        register(fixed, fixed.with_array(np.ones(fixed.array.shape), name="flat"))


def test_cancel_stops_within_a_level(bent_brain):
    class Impatient(Context):
        calls = 0

        def is_cancelled(self):
            self.calls += 1
            return self.calls > 20

    with pytest.raises(Cancelled):
        register(*bent_brain[:2], context=Impatient())


def test_the_checkerboard_shows_both(bent_brain):
    fixed, moving, _ = bent_brain
    board = register(fixed, moving, iterations=2, make_checkerboard=True)["checkerboard"]
    low, high = np.percentile(fixed.array, (1, 99))
    own = np.abs(board.array - np.clip((fixed.array - low) / (high - low), 0, 1)) < 1e-5
    bright = fixed.array > np.percentile(fixed.array, 60)
    assert 0.4 < own[bright].mean() < 0.7


# The parts


def wavy(shape=(20, 24, 28), size=1.5):
    axes = np.meshgrid(*(np.linspace(0, np.pi, n) for n in shape), indexing="ij")
    window = np.prod([np.sin(a) for a in axes], axis=0)
    return np.stack([size * window * np.cos(2 * axes[n] + n) for n in range(3)]).astype(np.float32)


def test_the_inverse_of_a_field():
    field = wavy()
    for composed in (fields.compose(field, fields.inverse(field)), fields.compose(fields.inverse(field), field)):
        assert np.abs(composed).max() < 0.1


def test_the_jacobian_of_a_linear_map():
    matrix = np.array([[1.1, 0.2, 0.0], [-0.1, 0.9, 0.3], [0.05, 0.0, 1.2]])
    index = np.indices((6, 7, 8)).reshape(3, -1)
    field = ((matrix - np.eye(3)) @ index).reshape(3, 6, 7, 8)
    np.testing.assert_allclose(fields.jacobian(field), np.linalg.det(matrix), rtol=1e-6)


def test_small_steps_compose_to_first_order():
    field, step = wavy(), wavy(size=0.3)[::-1]
    exact = fields.compose(field, step)
    assert np.abs(fields.advance(field, step) - exact).max() < 0.3 * np.abs(field + step - exact).max()


def test_a_field_keeps_its_millimetres_on_another_grid():
    field = wavy((20, 24, 28))
    coarse = fields.on_grid(field, (10, 12, 14))
    np.testing.assert_allclose(coarse[:, 5, 6, 7] * 2, field[:, 10:12, 12:14, 14:16].mean(axis=(1, 2, 3)), atol=0.03)


@pytest.mark.parametrize("name", ["mean_squares", "mutual_information", "normalized_gradients"])
def test_forces_point_uphill(name):
    rng = np.random.default_rng(0)
    first = rng.random((8, 9, 10)).astype(np.float32)
    second = np.clip(first + rng.normal(0, 0.2, first.shape), 0, 1).astype(np.float32)
    weights = np.ones_like(first)
    value, _, slopes = forces.FORCES[name](first, second, weights, (2, 2, 2))
    stepped = second + 0.02 * slopes / np.abs(slopes).max()
    assert forces.FORCES[name](first, stepped.astype(np.float32), weights, (2, 2, 2))[0] > value


def test_local_correlation_is_that_of_each_window():
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 5, 5, 5)).astype(np.float32)
    weights = np.zeros_like(first)
    weights[2, 2, 2] = 1
    value, _, _ = forces.local_correlation(first, second, weights, (2, 2, 2))
    assert value == pytest.approx(np.corrcoef(first.ravel(), second.ravel())[0, 1] ** 2, rel=0.01)


def test_grid_of_a_stretched_image_stays_coarse_along_thick_slices():
    from MedImgAIFusionLib.registration.diffeomorphic import level_grids

    grids = level_grids(Geometry.from_spacing((20, 256, 256), (1.0, 1.0, 5.0)))
    assert [g.shape[0] for _, g in grids][-1] == 20 and all(g.spacing[2] >= 5 - 1e-9 for _, g in grids)


def test_a_warp_may_be_the_start(bent_brain):
    """From a third of the known deformation the rest is found, and the transform holds both."""
    fixed, moving, truth = bent_brain
    third = DisplacementTransform(truth.vectors / 3, truth.geometry, name="third")
    found = register(fixed, moving, {"start": third}, initial="affine")
    assert endpoint_error(found["transform"], truth, fixed)[0].mean() < 1.5
    points = fixed.geometry.ras(np.random.default_rng(0).uniform(4, np.array(fixed.geometry.shape[::-1]) - 5, (300, 3)))
    there = found["transform"].map_points_inverse(points)
    assert np.linalg.norm(found["inverse"].map_points_inverse(there) - points, axis=1).mean() < 0.5


@pytest.mark.parametrize("metric", ["local_correlation", "normalized_gradients"])
def test_pytorch_gives_the_same(bent_brain, metric):
    pytest.importorskip("torch")
    fixed, moving, truth = bent_brain
    results = [
        register(fixed, moving, metric=metric, engine=engine, iterations=8, context=Listener(device="cpu"))
        for engine in ("built_in", "torch")
    ]
    points = fixed.geometry.ras(np.random.default_rng(0).uniform(2, np.array(fixed.geometry.shape[::-1]) - 3, (500, 3)))
    first, second = (r["transform"].map_points_inverse(points) for r in results)
    assert np.linalg.norm(first - points, axis=1).mean() > 1
    np.testing.assert_allclose(first, second, atol=0.02)


def test_another_organ_is_called_a_failure(bent_brain):
    fixed, _, _ = bent_brain
    abdomen = load("ct/ts_abdomen_ct.nii.gz")
    context = Listener()
    result = register(fixed, abdomen, initial="affine", context=context, iterations=10)
    assert row(result["quality"], "Failed (1 = yes)")[1] == 1 and len(context.warnings) == 1


def test_stop_and_keep_ends_with_a_whole_result(bent_brain):
    class Finishing(Listener):
        points = 0

        def on_curve(self, name, x, y):
            self.points += 1

        def is_finishing(self):
            return self.points >= 10

    fixed, moving, truth = bent_brain
    context = Finishing()
    error, size = endpoint_error(register(fixed, moving, context=context)["transform"], truth, fixed)
    assert error.mean() < 0.8 * size.mean() and context.points < 15


def test_a_mask_outside_the_image_is_refused(bent_brain):
    fixed, moving, _ = bent_brain
    away = np.eye(4)
    away[:3, 3] = (0, 900, 0)
    everywhere = np.ones(fixed.geometry.shape, np.uint8)
    mask = Segmentation.from_labels(everywhere, fixed.geometry, [Segment("all")], "far").transformed(away)
    with pytest.raises(InputError, match="'far' has no voxel inside"):
        register(fixed, moving, {"fixed_mask": mask})
