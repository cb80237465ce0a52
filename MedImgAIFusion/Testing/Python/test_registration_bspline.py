"""B-spline registration recovers known deformations; its splines are ITK's."""

import numpy as np
import pytest
import SimpleITK as sitk
from MedImgAIFusionLib.registration import bspline
from MedImgAIFusionLib.registration.bspline_task import BSplineRegistration
from MedImgAILib.core import BSplineTransform, Context, DisplacementTransform, Geometry, InputError, Volume
from MedImgAILib.core.itk import volume_from_itk
from MedImgAILib.core.resampling import resample_volume
from testing_data import data_path


class Listener(Context):
    def __init__(self, **kwargs):
        super().__init__("cpu", **kwargs)
        self.warnings, self.curves = [], set()

    def warn(self, message):
        self.warnings.append(message)

    def on_curve(self, name, x, y):
        self.curves.add(name)


@pytest.fixture(scope="module")
def breathing():
    """A real chest CT at 6 mm in HU, the same after a known smooth motion of up to 12 mm, and that motion."""
    image = sitk.ReadImage(str(data_path("ct/ts_abdomen_ct.nii.gz")), sitk.sitkFloat32)
    volume = volume_from_itk(image)
    fixed = resample_volume(volume, volume.geometry.with_spacing([6.0] * 3), outside=-1024)
    fixed = fixed.with_array(fixed.array, name="exhale")
    k, j, i = np.meshgrid(*(np.arange(n) for n in fixed.geometry.shape), indexing="ij")
    ras = fixed.geometry.ras(np.stack([i, j, k], axis=-1)) - fixed.geometry.center
    size = 12 * np.exp(-((np.linalg.norm(ras, axis=-1) / 90) ** 2))
    truth = DisplacementTransform(size[..., None] * np.array([0.1, 0.3, 0.95]), fixed.geometry)
    moving = resample_volume(fixed, fixed.geometry, "linear", truth, -1024)
    return fixed, moving.with_array(moving.array, name="inhale"), truth


def register(fixed, moving, context=None, inputs=None, **parameters):
    inputs = {"fixed": fixed, "moving": moving} | (inputs or {})
    return BSplineRegistration().execute(inputs, {"initial": "none"} | parameters, context or Listener())


def error_mm(found, truth, fixed):
    """Errors and motions at places of the body that moved."""
    at = fixed.geometry.ras(np.argwhere(fixed.array > -200)[::31, ::-1])
    wanted = truth.map_points(at)
    moved = np.linalg.norm(wanted - at, axis=1) > 3
    at, wanted = at[moved], wanted[moved]
    return np.linalg.norm(found["transform"].map_points_inverse(at) - wanted, axis=1), np.linalg.norm(
        wanted - at, axis=1
    )


@pytest.mark.parametrize("metric", ["mutual_information", "correlation", "mean_squares"])
def test_a_known_motion_is_recovered(breathing, metric):
    fixed, moving, truth = breathing
    context = Listener()
    found = register(fixed, moving, context, metric=metric, samples=20000)
    error, size = error_mm(found, truth, fixed)
    assert size.mean() > 4 and error.mean() < 0.25 * size.mean(), (error.mean(), size.mean())
    assert not context.warnings and context.curves
    table = dict(zip(found["quality"].columns["measure"], found["quality"].columns["after"], strict=True))
    assert table["Least Jacobian determinant"] > 0.2 and table["Voxels that fold, %"] == 0
    assert isinstance(found["transform"].parts[1], BSplineTransform)


def test_forth_and_back_meet(breathing):
    fixed, moving, _ = breathing
    found = register(fixed, moving, samples=10000, iterations=20)
    rng = np.random.default_rng(0)
    points = fixed.geometry.ras(rng.uniform(3, np.array(fixed.geometry.shape[::-1]) - 4, (300, 3)))
    there = found["transform"].map_points_inverse(points)
    assert np.linalg.norm(there - points, axis=1).max() > 5
    assert np.linalg.norm(found["inverse"].map_points_inverse(there) - points, axis=1).mean() < 0.3


def test_stiffness_smooths(breathing):
    fixed, moving, _ = breathing

    def roughness(stiffness):
        found = register(fixed, moving, samples=8000, iterations=25, stiffness=stiffness)
        return np.abs(np.diff(found["transform"].parts[1].vectors, n=2, axis=0)).mean()

    assert roughness(100.0) < 0.6 * roughness(0.01)


def test_the_same_modality_is_not_needed(breathing):
    """HU against another unit and contrast."""
    fixed, moving, truth = breathing
    other = np.sin(np.clip(moving.array, -1024, 600) / 300) * 4 + 5
    found = register(fixed, moving.with_array(other.astype(np.float32), name="SUV"), samples=20000)
    assert error_mm(found, truth, fixed)[0].mean() < 3


def test_slices_move_in_their_plane(breathing):
    fixed, moving, truth = breathing
    middle = fixed.geometry.shape[1] // 2
    flat = fixed.geometry.cropped((0, middle, 0), (fixed.geometry.shape[0], 1, fixed.geometry.shape[2]))
    one, other = (Volume(v.array[:, middle : middle + 1], flat, name=v.name) for v in (fixed, moving))
    found = register(one, other, samples=5000)
    at = flat.ras(np.argwhere(one.array > -200)[::13, ::-1])
    moved = found["transform"].map_points_inverse(at) - at
    along = flat.directions[:, 1]
    assert np.abs(moved @ along).max() < 1e-3
    want = truth.map_points(at) - at
    large = np.linalg.norm(want, axis=1) > 4
    off = (moved - want)[large]
    off -= np.outer(off @ along, along)
    assert np.linalg.norm(off, axis=1).mean() < 0.5 * np.linalg.norm(want[large], axis=1).mean()


def test_what_does_not_overlap_is_refused(breathing):
    fixed, moving, _ = breathing
    away = np.eye(4)
    away[:3, 3] = (900, 0, 0)
    with pytest.raises(InputError, match="do not overlap where the start puts them"):
        register(fixed, moving.transformed(away))
    with pytest.raises(InputError, match="is constant"):
        register(fixed, moving.with_array(np.zeros_like(moving.array), name="flat"))


def test_stop_and_keep_ends_with_a_whole_result(breathing):
    class Finishing(Listener):
        def is_finishing(self):
            return bool(self.curves)

    fixed, moving, truth = breathing
    found = register(fixed, moving, Finishing(), samples=8000)
    error, size = error_mm(found, truth, fixed)
    assert error.mean() < size.mean() and len(found["curve"].table.columns["evaluation"]) < 30


def test_spline_weights_are_itks():
    lattice = Geometry.from_spacing((7, 8, 9), (11.0, 9.0, 13.0))
    rng = np.random.default_rng(0)
    coefficients = rng.normal(size=(3, 7, 8, 9))
    transform = sitk.BSplineTransform(3, 3)
    transform.SetTransformDomainMeshSize([6, 5, 4])
    transform.SetTransformDomainOrigin([11.0, 9.0, 13.0])
    transform.SetTransformDomainPhysicalDimensions([66.0, 45.0, 52.0])
    transform.SetParameters(coefficients.ravel().tolist())
    points = rng.uniform([11, 9, 13], [77, 54, 65], (50, 3))
    weights = bspline.spline_weights(lattice, points.T)
    got = (weights @ coefficients.reshape(3, -1).T) + points
    np.testing.assert_allclose(got, [transform.TransformPoint(p.tolist()) for p in points], atol=1e-9)


def test_displacements_on_a_grid_are_those_at_its_points():
    rng = np.random.default_rng(1)
    grid = Geometry.from_spacing((5, 6, 7), (2.0, 3.0, 4.0), (5.0, 6.0, 7.0))
    lattice = bspline.lattice_of(grid, 8.0)
    result = bspline.Result(lattice, rng.normal(size=(3, *lattice.shape)))
    points = grid.ras(np.indices(grid.shape)[::-1].reshape(3, -1).T)
    mm = (bspline.spline_weights(lattice, points.T) @ result.coefficients.reshape(3, -1).T).T
    wanted = mm[::-1].reshape(3, *grid.shape) / grid.spacing_kji[:, None, None, None]
    np.testing.assert_allclose(bspline.on_grid(result, grid), wanted, atol=1e-5)
