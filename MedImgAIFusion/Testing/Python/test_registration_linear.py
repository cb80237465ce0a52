"""Rigid and affine registration recover known motions of real images."""

import numpy as np
import pytest
import SimpleITK as sitk
from MedImgAIFusionLib.registration import metric
from MedImgAIFusionLib.registration.tasks import AffineRegistration, RigidRegistration
from MedImgAILib.core import (
    BSplineTransform,
    Cancelled,
    Context,
    Geometry,
    InputError,
    LinearTransform,
    Segment,
    Segmentation,
    Volume,
)
from MedImgAILib.core.resampling import resample_volume
from registration_testing import Listener, euler, load, row
from scipy.spatial.transform import Rotation
from testing_data import data_path


def glioma(case, spacing_mm=None):
    folder = f"glioma_NC/brats_2013_pat000{case}_1/"
    files = ("T1c_subtrMeanDivStd.nii.gz", "Flair_subtrMeanDivStd.nii.gz", "brainmask.nii.gz")
    return [load(folder + name, spacing_mm) for name in files]


def motion(rotation, shift, center):
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    matrix[:3, 3] = center - rotation @ center + shift
    return matrix


def register(fixed, moving, task=None, inputs=None, context=None, **parameters):
    inputs = {"fixed": fixed, "moving": moving} | (inputs or {})
    return (task or RigidRegistration()).execute(inputs, parameters, context or Listener())


def error_mm(transform, motion_matrix, points):
    """Distances between where the transform and the inverse of the motion put the moved points."""
    moved = points @ motion_matrix[:3, :3].T + motion_matrix[:3, 3]
    return np.linalg.norm(transform.map_points(moved) - points, axis=1)


def brain_points(mask, count=2000):
    inside = np.argwhere(mask.array > 0)
    return mask.geometry.ras(inside[:: max(1, len(inside) // count), ::-1])


@pytest.mark.parametrize("case", [pytest.param(n, marks=pytest.mark.slow if n > 2 else []) for n in (2, 3, 5, 6)])
def test_flair_is_brought_to_t1c(case):
    fixed, moving, mask = glioma(case)
    matrix = motion(euler(14, -12, 15), (15, -11, 9), fixed.geometry.center)
    context = Listener()
    result = register(fixed, moving.transformed(matrix), context=context)
    assert error_mm(result["transform"], matrix, brain_points(mask)).mean() < 0.25
    assert not context.warnings
    before, after = row(result["quality"], "Normalised mutual information")
    assert after > before + 0.1
    inside = mask.array > 0
    assert np.corrcoef(result["registered"].array[inside], moving.array[inside])[0, 1] > 0.99


def cube_rotations():
    return [r for r in Rotation.create_group("O").as_matrix() if not np.allclose(r, np.eye(3))]


@pytest.mark.parametrize(
    "rotation", [*cube_rotations()[::5], euler(60, -60, 60), euler(-60, 60, 60), euler(170, 30, 80)]
)
def test_any_orientation_and_wrong_headers_are_recovered(rotation):
    fixed, moving, mask = glioma(3, 3.0)
    matrix = motion(rotation, (40, -25, 300), fixed.geometry.center)
    result = register(fixed, moving.transformed(matrix), samples=10000, resample=False)
    assert error_mm(result["transform"], matrix, brain_points(mask)).mean() < 1.0
    assert row(result["quality"], "Failed (1 = yes)")[1] == 0
    assert "registered" not in result


def published(name):
    """(4, 4) RAS matrix from the common space to an image, from the ITK file beside it."""
    transform = sitk.ReadTransform(str(data_path(f"longitudinal_ms/patient12/{name}_to_common_space.tfm")))
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([transform.TransformPoint(tuple(axis)) for axis in np.eye(3)], axis=1) - origin[:, None]
    matrix[:3, 3] = origin
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    return flip @ matrix @ flip


def test_two_visits_align_as_well_as_the_published_affines():
    first, second = (load(f"longitudinal_ms/patient12/study{n}_FLAIR.nii.gz") for n in (1, 2))
    brain = load("longitudinal_ms/patient12/brainmask.nii.gz")

    def on_common(volume, to_common):
        return resample_volume(volume, brain.geometry, "linear", LinearTransform(to_common)).array[brain.array > 0]

    base = np.linalg.inv(published("study1_FLAIR"))
    fixed = on_common(first, base)
    theirs = np.corrcoef(fixed, on_common(second, np.linalg.inv(published("study2_FLAIR"))))[0, 1]
    for task, goal in ((RigidRegistration(), 0.94), (AffineRegistration(), theirs - 0.002)):
        found = register(first, second, task, resample=False)["transform"].matrix
        assert np.corrcoef(fixed, on_common(second, base @ found))[0, 1] >= goal


def test_affine_recovers_scale_and_shear():
    fixed, moving, mask = glioma(2, 2.0)
    linear = euler(8, -10, 12) @ np.array([[1.08, 0.04, 0.0], [0.0, 0.94, 0.03], [0.02, 0.0, 1.05]])
    matrix = motion(linear, (9, -8, 7), fixed.geometry.center)
    affine = register(fixed, moving.transformed(matrix), AffineRegistration(), samples=20000)
    assert error_mm(affine["transform"], matrix, brain_points(mask)).mean() < 0.5
    rigid = register(fixed, moving.transformed(matrix), samples=20000)
    assert error_mm(rigid["transform"], matrix, brain_points(mask)).mean() > 1.5


def small():
    inputs, _ = RigidRegistration().example()
    return inputs["fixed"], inputs["moving"]


def test_same_seed_same_answer_other_seed_nearly():
    fixed, moving = small()
    first, again, other = (
        register(fixed, moving, context=Context(seed=s), samples=4000)["transform"].matrix for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() < 0.2 and not np.array_equal(first, other)


def test_masks_keep_what_moved_apart_out_of_the_comparison():
    fixed, moving = small()
    k, j, i = np.meshgrid(*(np.arange(n) for n in fixed.geometry.shape), indexing="ij")
    upper = k < 13
    # Above slice 13 the moving image shows something else.
    spoiled = moving.with_array(
        np.where(upper, moving.array, np.roll(moving.array, 9, axis=2)[::-1] * 2), name="spoiled"
    )
    half = Segmentation.from_labels(upper.astype(np.uint8), fixed.geometry, [Segment("valid")], "half")
    points = fixed.geometry.ras(np.stack([i, j, k], axis=-1)[upper][::50])
    truth = LinearTransform(moving.geometry.ijk_to_ras @ fixed.geometry.ras_to_ijk).inverse()
    result = register(fixed, spoiled, inputs={"fixed_mask": half}, search="center", samples=6000)["transform"]
    assert np.linalg.norm(result.map_points(truth.inverse().map_points(points)) - points, axis=1).mean() < 0.3
    moved_half = Segmentation(half.layers, moving.geometry, half.segments)
    inputs = {"moving_mask": moved_half, "fixed_mask": half}
    result = register(fixed, spoiled, inputs=inputs, search="center", samples=6000)["transform"]
    assert np.linalg.norm(result.map_points(truth.inverse().map_points(points)) - points, axis=1).mean() < 0.3


def test_a_start_transform_leads_where_the_header_does_not():
    fixed, moving = small()
    away = np.eye(4)
    away[:3, 3] = (200, 0, 0)
    with pytest.raises(InputError, match="do not overlap"):
        register(fixed, moving.transformed(away), search="header")
    start = LinearTransform(np.linalg.inv(away))
    found = register(fixed, moving.transformed(away), inputs={"start": start}, search="header", samples=6000)
    direct = register(fixed, moving, search="header", samples=6000)
    np.testing.assert_allclose(found["transform"].matrix @ away, direct["transform"].matrix, atol=0.05)


def test_unrelated_images_are_called_a_failure():
    fixed, _ = small()
    noise = np.random.default_rng(7).normal(size=fixed.array.shape).astype(np.float32)
    context = Listener()
    result = register(fixed, fixed.with_array(noise), context=context, samples=4000)
    assert len(context.warnings) == 1 and context.warnings[0].startswith("This registration failed because")
    assert row(result["quality"], "Failed (1 = yes)")[1] == 1


def test_what_cannot_be_registered_is_refused():
    fixed, moving = small()
    with pytest.raises(InputError, match="'flat' is constant"):
        register(fixed, fixed.with_array(np.ones(fixed.array.shape), name="flat"))
    with pytest.raises(InputError, match="complex"):
        register(fixed, moving.with_array(moving.array.astype(np.complex64)))
    with pytest.raises(InputError, match="single slice"):
        register(fixed, Volume(fixed.array[:1], fixed.geometry.cropped((0, 0, 0), (1, 26, 32))))
    empty = Segmentation.from_labels(
        np.zeros(fixed.geometry.shape, np.uint8), fixed.geometry, [Segment("none")], "void"
    )
    with pytest.raises(InputError, match="'void' has no voxel inside"):
        register(fixed, moving, inputs={"fixed_mask": empty})
    warp = BSplineTransform(np.zeros((4, 4, 4, 3)), Geometry.from_spacing((4, 4, 4)), name="warp")
    with pytest.raises(InputError, match="'warp' is not linear"):
        register(fixed, moving, inputs={"start": warp})


def test_cancel_stops_within_the_search():
    class Impatient(Context):
        calls = 0

        def is_cancelled(self):
            self.calls += 1
            return self.calls > 50

    fixed, moving = small()
    with pytest.raises(Cancelled):
        register(fixed, moving, context=Impatient())


@pytest.mark.parametrize("name", list(metric.METRICS))
def test_every_likeness_finds_a_motion_of_the_same_contrast(name):
    fixed, _ = small()
    matrix = motion(euler(6, -5, 8), (2.0, -3.0, 1.5), fixed.geometry.center)
    inside = fixed.geometry.ras(np.argwhere(fixed.array > 60)[::40, ::-1])
    result = register(fixed, fixed.transformed(matrix), metric=name, search="center", samples=6000, resample=False)
    assert error_mm(result["transform"], matrix, inside).mean() < 0.2


def test_a_checkerboard_on_request():
    fixed, moving = small()
    result = register(fixed, moving, search="center", samples=4000, make_checkerboard=True)
    assert result["checkerboard"].geometry.same_grid(fixed.geometry)
    assert result["registered"].name == "moving on fixed"


def test_gradient_fields_find_another_contrast():
    """The same head with its contrast folded over: bright and dark both turn into bright."""
    fixed, _, mask = glioma(3, 3.0)
    moving = fixed.with_array(np.abs(fixed.array - 0.5) + 0.2 * np.sin(3 * fixed.array), name="folded")
    matrix = motion(euler(12, -8, 10), (9, -7, 6), fixed.geometry.center)
    result = register(fixed, moving.transformed(matrix), metric="normalized_gradients", samples=10000, resample=False)
    assert error_mm(result["transform"], matrix, brain_points(mask)).mean() < 0.6
    assert row(result["quality"], "Failed (1 = yes)")[1] == 0


def test_the_inverse_and_its_consistency_are_given():
    fixed, moving = small()
    result = register(fixed, moving, search="center", samples=6000)
    np.testing.assert_allclose(result["inverse"].matrix @ result["transform"].matrix, np.eye(4), atol=1e-9)
    assert result["inverse"].name == "fixed to moving"
    assert row(result["quality"], "Inverse consistency, mean, mm")[1] < 0.3


def test_a_small_image_is_found_in_a_large_one():
    """A fifteenth of the head's field of view, somewhere else: the roles of fixed and moving do not matter."""
    fixed, moving, mask = glioma(3, 3.0)
    shape = (30, 40, 40)
    start = [(n - m) // 2 + s for n, m, s in zip(moving.geometry.shape, shape, (4, -3, 2), strict=True)]
    window = tuple(slice(s, s + n) for s, n in zip(start, shape, strict=True))
    slab = Volume(moving.array[window], moving.geometry.cropped(start, shape), name="slab")
    matrix = motion(euler(10, -8, 6), (20, -15, 12), fixed.geometry.center)
    points = slab.geometry.ras(np.random.default_rng(0).uniform(0, 1, (200, 3)) * np.array(shape[::-1]))
    there = register(fixed, slab.transformed(matrix), samples=10000)
    back = register(slab.transformed(matrix), fixed, samples=10000)
    for result, found in ((there, there["transform"]), (back, back["inverse"])):
        assert error_mm(found, matrix, points).mean() < 1.0
        assert row(result["quality"], "Failed (1 = yes)")[1] == 0


@pytest.mark.parametrize("task", [RigidRegistration(), AffineRegistration()], ids=["rigid", "affine"])
def test_another_organ_is_called_a_failure(task):
    brain, abdomen = load("brain/mni152_t1.nii.gz", 4.0), load("ct/ts_abdomen_ct.nii.gz", 4.0)
    for fixed, moving in ((brain, abdomen), (abdomen, brain)):
        context = Listener()
        result = register(fixed, moving, task, context=context, samples=10000, resample=False)
        assert row(result["quality"], "Failed (1 = yes)")[1] == 1 and len(context.warnings) == 1


def test_other_people_and_other_contrasts_are_not():
    pairs = [("brain/mni152_t1.nii.gz", "brain/ch2.nii.gz")]
    folder = "longitudinal_ms/patient12/study1_"
    pairs += [(f"{folder}FLAIR.nii.gz", f"{folder}{name}.nii.gz") for name in ("T1W", "T2W")]
    for one, other in pairs:
        context = Listener()
        register(load(one, 3.0), load(other, 3.0), context=context, samples=10000, resample=False)
        assert not context.warnings, (other, context.warnings)


def test_units_do_not_matter():
    """HU, SUV, 16 bit or a huge offset: the same motion."""
    fixed, moving = small()
    wanted = register(fixed, moving, search="center", samples=6000)["transform"].matrix
    stored = (
        moving.array * 12 - 1024,
        moving.array.astype(np.float64) / 1000 + 5e4,
        np.rint(moving.array * 10).astype(np.int16),
    )
    for array in stored:
        got = register(fixed, moving.with_array(array), search="center", samples=6000)["transform"].matrix
        np.testing.assert_allclose(got, wanted, atol=0.1)


def test_an_engine_that_is_not_installed_is_named():
    from MedImgAILib.core import MissingPackageError

    fixed, moving = small()
    for engine, package in (("elastix", "itk-elastix"), ("ants", "antspyx")):
        with pytest.raises(InputError, match="There is no Python at '/nowhere/python'"):
            register(fixed, moving, engine=engine, engine_python="/nowhere/python")
        try:
            register(fixed, moving, engine=engine, search="header")
        except MissingPackageError as error:
            assert package in str(error) and package in error.requirements[0]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["elastix", "ants"])
def test_optional_engines_recover_a_motion(engine):
    python = optional_python(engine)
    fixed, moving, mask = glioma(3, 3.0)
    matrix = motion(euler(8, -6, 5), (6, -5, 4), fixed.geometry.center)
    found = register(fixed, moving.transformed(matrix), engine=engine, engine_python=python)
    assert error_mm(found["transform"], matrix, brain_points(mask)).mean() < 1.5
    assert "curve" not in found and row(found["quality"], "Failed (1 = yes)")[1] == 0


def optional_python(engine):
    """Empty if the engine is installed here, else the Python of an environment that the benchmark made."""
    from importlib import metadata
    from pathlib import Path

    try:
        metadata.version({"elastix": "itk-elastix", "ants": "antspyx"}[engine])
        return ""
    except metadata.PackageNotFoundError:
        python = Path(__file__).parents[3] / "build" / "antspyx" / "bin" / "python"
        if engine == "ants" and python.exists():
            return str(python)
        pytest.skip(f"{engine} is not installed")
