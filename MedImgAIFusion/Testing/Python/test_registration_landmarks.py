"""Landmarks: fits against known transforms, errors, and their part in the other registrations."""

import numpy as np
import pytest
from MedImgAIFusionLib.registration.deformable import DeformableRegistration
from MedImgAIFusionLib.registration.landmark_task import LandmarkRegistration
from MedImgAIFusionLib.registration.tasks import RigidRegistration
from MedImgAILib.core import Context, InputError, Points
from MedImgAILib.core.examples import example_volume
from scipy.spatial.transform import Rotation


def cloud(count=8, seed=0):
    return np.random.default_rng(seed).uniform(-60, 60, (count, 3))


def fit(from_points, to_points, model="rigid", **volumes):
    inputs = {
        "moving_points": Points(from_points, name="moving"),
        "fixed_points": Points(to_points, name="fixed"),
    } | volumes
    return LandmarkRegistration().execute(inputs, {"model": model}, Context())


def known(scale=1.0, shear=0.0):
    linear = Rotation.from_euler("xyz", (30, -70, 140), degrees=True).as_matrix() * scale
    linear = linear @ np.array([[1, shear, 0], [0, 1, -shear], [0, 0, 1 + shear]])
    return linear, np.array([20.0, -300.0, 55.0])


@pytest.mark.parametrize(("model", "scale", "shear"), [("rigid", 1, 0), ("similarity", 1.3, 0), ("affine", 0.8, 0.2)])
def test_a_known_transform_is_found_exactly(model, scale, shear):
    points = cloud()
    linear, shift = known(scale, shear)
    result = fit(points, points @ linear.T + shift, model)
    np.testing.assert_allclose(result["transform"].matrix[:3, :3], linear, atol=1e-9)
    np.testing.assert_allclose(result["transform"].matrix[:3, 3], shift, atol=1e-7)
    assert result["errors"].columns["after_mm"].max() < 1e-7


def test_noisy_points_are_fitted_as_scipy_does():
    rng = np.random.default_rng(1)
    points = cloud(12)
    linear, shift = known()
    fixed = points @ linear.T + shift + rng.normal(0, 2, points.shape)
    result = fit(points, fixed)
    expected, rssd = Rotation.align_vectors(fixed - fixed.mean(0), points - points.mean(0))
    np.testing.assert_allclose(result["transform"].matrix[:3, :3], expected.as_matrix(), atol=1e-9)
    assert result["errors"].columns["after_mm"][-1] == pytest.approx(rssd / np.sqrt(12))
    assert result["errors"].columns["landmark"][-1] == "Root mean square"


def test_mirrored_points_are_never_fitted_by_a_reflection():
    points = cloud()
    for model in ("rigid", "similarity"):
        assert np.linalg.det(fit(points, points * [-1, 1, 1], model)["transform"].matrix[:3, :3]) > 0


def test_three_points_in_a_plane_suffice_for_a_rigid_fit():
    points = cloud(3)
    linear, shift = known()
    np.testing.assert_allclose(fit(points, points @ linear.T + shift)["transform"].matrix[:3, :3], linear, atol=1e-9)


def test_the_spline_meets_every_point_and_an_affine_map_everywhere():
    points = cloud(10)
    linear, shift = known(0.9, 0.1)
    smooth = points @ linear.T + shift
    where = cloud(50, seed=5) * 0.8
    result = fit(points, smooth, "spline")["transform"]
    np.testing.assert_allclose(result.map_points(where), where @ linear.T + shift, atol=1e-3)
    bent = points + 4 * np.sin(points[:, ::-1] / 40)
    result = fit(points, bent, "spline")
    assert result["errors"].columns["before_mm"][-1] > 3
    assert result["errors"].columns["after_mm"].max() < 0.3


def test_the_image_follows_the_points():
    fixed = example_volume("fixed")
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = known()
    moving = fixed.transformed(np.linalg.inv(matrix))
    points = Points(cloud())
    result = fit(points.transformed(np.linalg.inv(matrix)).positions, points.positions, fixed=fixed, moving=moving)
    np.testing.assert_allclose(result["registered"].array, fixed.array, atol=1e-2)
    assert result["registered"].name == "fixed on fixed"


def test_what_cannot_be_fitted_is_refused():
    points = cloud()
    with pytest.raises(InputError, match="has 8 points and point list 'moving' 7"):
        fit(points[:7], points)
    with pytest.raises(InputError, match="at least 3 pairs"):
        fit(points[:2], points[:2])
    line = np.outer(np.arange(5.0), [1, 2, 3])
    with pytest.raises(InputError, match="on a line"):
        fit(line, line)
    plane = points * [1, 1, 0]
    with pytest.raises(InputError, match="in a plane"):
        fit(plane, plane, "affine")
    with pytest.raises(InputError, match="at least 5 pairs"):
        fit(points[:4], points[:4], "spline")


def row(quality, measure):
    number = quality.columns["measure"].index(measure)
    return quality.columns["before"][number], quality.columns["after"][number]


def test_landmarks_start_a_rigid_registration_and_measure_it():
    example, _ = RigidRegistration().example()
    fixed, moving = example["fixed"], example["moving"]
    motion = moving.geometry.ijk_to_ras @ fixed.geometry.ras_to_ijk
    away = np.eye(4)
    away[:3, 3] = (300, 0, 0)
    on_fixed = Points(fixed.geometry.center + cloud(4) / 6)
    on_moving = on_fixed.transformed(away @ motion)
    inputs = {"fixed": fixed, "moving": moving.transformed(away)}
    given = {"fixed_points": on_fixed, "moving_points": on_moving}
    result = RigidRegistration().execute(inputs | given, {"search": "header", "samples": 4000}, Context())
    before, after = row(result["quality"], "Target registration error, mean, mm")
    assert before > 250 and after < 0.5
    assert result["registered"].name == "moving on fixed"
    with pytest.raises(InputError, match="do not overlap"):
        RigidRegistration().execute(inputs, {"search": "header"}, Context())
    with pytest.raises(InputError, match="landmarks of both images or none"):
        RigidRegistration().execute(inputs | {"fixed_points": on_fixed}, {}, Context())


def test_landmarks_measure_a_deformable_registration():
    inputs, parameters = DeformableRegistration().example()
    at = inputs["fixed"].geometry.center + np.array([[4.0, -3.0, 1.0]])
    # The moving image shows the fixed image's place x + u(x) at x; u is that of the example at its middle.
    displaced = at - 2.5 * np.array([0.8, -0.5, 0.3])
    points = {"fixed_points": Points(at), "moving_points": Points(displaced)}
    quality = DeformableRegistration().execute(inputs | points, parameters, Context())["quality"]
    before, after = row(quality, "Target registration error, mean, mm")
    assert before == pytest.approx(2.5 * np.sqrt(0.98), rel=1e-6)
    assert after < 0.6 * before
