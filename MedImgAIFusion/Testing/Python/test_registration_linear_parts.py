"""The parts of rigid and affine registration: likenesses, poses, pyramid, figures of quality."""

import numpy as np
import pytest
from MedImgAIFusionLib.registration import comparison, linear, metric, poses, pyramid
from MedImgAIFusionLib.registration.quality import compare, normalized_mutual_information
from MedImgAIFusionLib.registration.tasks import RigidRegistration
from MedImgAILib.core import Geometry, Volume
from registration_testing import euler
from scipy.spatial.transform import Rotation


@pytest.mark.parametrize("kind", list(metric.METRICS.values()))
def test_derivatives_are_those_of_finite_differences(kind):
    rng = np.random.default_rng(0)
    fixed = rng.random(400).astype(np.float32)
    values = (fixed * 3 + rng.normal(0, 0.2, 400)).clip(0.1, 2.9).astype(np.float32)
    likeness = kind(fixed, (0.0, 1.0), (0.0, 3.0), 16)
    inside = np.ones(400, bool)
    _, slopes = likeness(inside, values)
    for number in range(0, 400, 40):
        ends = []
        for step in (-0.01, 0.01):
            nudged = values.copy()
            nudged[number] += np.float32(step)
            ends.append(likeness(inside, nudged)[0])
        assert slopes[number] == pytest.approx((ends[1] - ends[0]) / 0.02, rel=0.05, abs=2e-5)


@pytest.mark.parametrize("model", list(poses.MODELS.values()))
def test_the_chain_rule_of_poses(model):
    rng = np.random.default_rng(1)
    start = poses.Pose(euler(10, 20, 30), rng.normal(size=3), rng.normal(size=3))
    chart, at = model(start, 50.0), rng.normal(size=model.size) * 5
    by_linear, by_shift = rng.normal(size=(3, 3)), rng.normal(size=3)

    def linearised(parameters):
        pose = chart.pose(parameters)
        return (pose.linear * by_linear).sum() + pose.shift @ by_shift

    slopes = [(linearised(at + h) - linearised(at - h)) / 2e-4 for h in np.eye(model.size) * 1e-4]
    np.testing.assert_allclose(chart.chain(at, by_linear, by_shift), slopes, atol=1e-6)


def test_the_sampler_interpolates_linearly_with_its_gradient():
    k, j, i = np.meshgrid(np.arange(5.0), np.arange(6.0), np.arange(7.0), indexing="ij")
    array = (2 * k - 3 * j + 0.5 * i + k * i).astype(np.float32)
    points = np.random.default_rng(0).uniform(-1, 6, (3, 200))
    inside, values, gradients = metric.Sampler(array)(points)
    np.testing.assert_array_equal(inside, ((points >= 0) & (points <= [[4], [5], [6]])).all(axis=0))
    z, y, x = points[:, inside]
    np.testing.assert_allclose(values, 2 * z - 3 * y + 0.5 * x + z * x, atol=1e-4)
    np.testing.assert_allclose(gradients, [2 + x, -3 + 0 * y, 0.5 + z], atol=1e-4)


def test_rotations_cover_all_orientations():
    turns = poses.rotations(720)
    np.testing.assert_allclose(turns @ turns.transpose(0, 2, 1), np.broadcast_to(np.eye(3), turns.shape), atol=1e-9)
    worst = 0.0
    for wanted in Rotation.random(300, rng=0).as_matrix():
        worst = max(worst, min(poses.angle_between(wanted, turn) for turn in turns))
    assert worst < 26


def test_the_pyramid_keeps_positions():
    geometry = Geometry.from_spacing((30, 61, 120), (0.5, 1.0, 2.0), (7.0, 8.0, 9.0), euler(20, 10, 5))
    k, j, i = np.meshgrid(*(np.arange(n) for n in geometry.shape), indexing="ij")
    ramp = Volume((geometry.ras(np.stack([i, j, k], axis=-1)) @ [1.0, 2.0, 3.0]).astype(np.float32), geometry)
    frame = pyramid.frame_of(ramp)
    back = np.linalg.inv(frame)
    for level in pyramid.build(ramp, None, frame, pyramid.level_spacings(ramp)).levels:
        middle = np.array(level.array.shape) // 2
        place = back[:3, :3] @ level.geometry.ras(middle[::-1]) + back[:3, 3]
        assert level.array[tuple(middle)] == pytest.approx(place @ [1.0, 2.0, 3.0], abs=0.05)


def test_normalised_mutual_information_of_the_same_and_of_independent_images():
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 200000))
    assert normalized_mutual_information(first, first) == pytest.approx(2)
    assert normalized_mutual_information(first, -3 * first) == pytest.approx(2)
    assert normalized_mutual_information(first, second) == pytest.approx(1, abs=0.005)
    assert normalized_mutual_information(first, np.ones(200000)) == 1


def test_a_tiny_shift_costs_no_overlap():
    """An image reaches half a voxel beyond its outer voxel centres, also with few thick slices."""
    geometry = Geometry.from_spacing((5, 40, 40), (1.0, 1.0, 17.0))
    volume = Volume(np.random.default_rng(0).random(geometry.shape), geometry)
    for shift, share in ((0.0, 1.0), (0.4, 1.0), (17.0, 0.8), (170.0, 0.0)):
        matrix = np.eye(4)
        matrix[2, 3] = shift
        assert compare(volume, volume, matrix, points=10**6)[1] == pytest.approx(share)


def test_derivatives_of_gradient_fields_by_the_pose():
    inputs, _ = RigidRegistration().example()
    fixed, moving = inputs["fixed"], inputs["moving"]
    frame = pyramid.frame_of(fixed)
    spacings = pyramid.level_spacings(fixed)
    first, second = (pyramid.build(volume, None, frame, spacings) for volume in (fixed, moving))
    points = pyramid.sample_points(first.levels[0], first.levels[-1], 9000, np.random.default_rng(0))
    # Far from the border, where no point comes or goes with the pose.
    points = np.ascontiguousarray(points[:, np.abs(points).max(axis=0) < 7])
    options = linear.Options(metric="normalized_gradients")
    likeness = comparison.comparison(first, second, 0, options, np.zeros(3), points)
    model = poses.AffineModel(poses.Pose(euler(5, 3, -4), np.array([1.0, -2.0, 0.5]), np.zeros(3)), 20.0)
    at = np.random.default_rng(1).normal(size=12) * 0.3
    _, by_linear, by_shift, share = likeness(model.pose(at))
    assert share > 0.5
    step = 1e-2
    slopes = [
        (likeness(model.pose(at + h))[0] - likeness(model.pose(at - h))[0]) / (2 * step) for h in np.eye(12) * step
    ]
    got = model.chain(at, by_linear, by_shift)
    np.testing.assert_allclose(got, slopes, atol=0.1 * np.abs(slopes).max())
