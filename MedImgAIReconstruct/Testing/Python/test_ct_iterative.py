"""Iterative reconstructions against peers, least squares in double precision, and exact phantoms."""

import numpy as np
import pytest
from ct_testing import run, scan_of, scans
from MedImgAILib.core import Context, InputError, Projections, ScanGeometry
from MedImgAIReconstructLib.ct import iterative
from MedImgAIReconstructLib.ct.fbp import FilteredBackProjection
from MedImgAIReconstructLib.ct.grid import Grid
from MedImgAIReconstructLib.ct.iterative_tasks import CGLS, OSSART, SIRT, TotalVariation
from MedImgAIReconstructLib.ct.phantoms import sample, shepp_logan
from MedImgAIReconstructLib.ct.projector import Projector

SIZE = 64


@pytest.fixture(scope="module")
def head():
    scan = ScanGeometry("parallel", np.pi * np.arange(60) / 60)
    data = scan_of(shepp_logan(SIZE / 2, flat=True), scan, 1, SIZE, 4)
    grid = Grid((1, SIZE, SIZE), (1.0, 1.0, 1.0))
    return data, Projector(scan, 1, SIZE, grid), sample(shepp_logan(SIZE / 2, flat=True), grid, 4)


def last(iterates):
    for image, residual in iterates:
        result = image, residual
    return result


def error(image, truth):
    return float(np.linalg.norm(image - truth) / np.linalg.norm(truth))


@pytest.mark.parametrize(("name", "method", "count"), [("SIRT", iterative.sirt, 50), ("CGLS", iterative.cgls, 3)])
def test_iterates_are_astras(head, name, method, count):
    astra = pytest.importorskip("astra")
    data, projector, _ = head
    volume = astra.create_vol_geom(SIZE, SIZE)
    detector = astra.create_proj_geom("parallel", 1.0, SIZE, data.scan.angles_rad)
    image = astra.data2d.create("-vol", volume)
    settings = astra.astra_dict(name)
    settings["ProjectorId"] = astra.create_projector("linear", detector, volume)
    settings["ProjectionDataId"] = astra.data2d.create("-sino", detector, np.ascontiguousarray(data.array[:, 0]))
    settings["ReconstructionDataId"] = image
    astra.algorithm.run(astra.algorithm.create(settings), count)
    ours, _ = last(method(projector, data.array, np.zeros(projector.volume_shape, np.float32), count))
    assert error(ours[0], astra.data2d.get(image)[::-1]) < 1e-3


def test_cgls_is_least_squares(head):
    from scipy.sparse.linalg import lsqr

    data, projector, _ = head
    operator = projector.linear_operator()
    wanted = lsqr(operator, data.array.ravel().astype(float), iter_lim=12, atol=0, btol=0)[0]
    ours, _ = last(iterative.cgls(projector, data.array, np.zeros(projector.volume_shape, np.float32), 12))
    assert error(ours.ravel(), wanted) < 1e-3


@pytest.mark.parametrize("task", [SIRT, OSSART, CGLS, TotalVariation])
def test_residual_falls_and_image_nears_the_truth(head, task):
    data, _, truth = head
    result = run(task, {"projections": data}, iterations=20)
    residual = result["objective"].columns["relative residual"]
    assert residual[-1] < 0.3 * residual[0]
    assert error(result["volume"].array, truth) < 0.5
    assert result["plot"].table.rows == 20
    if task is not CGLS:
        assert result["volume"].array.min() >= 0


def test_total_variation_beats_filtered_back_projection_on_few_noisy_views():
    scan = ScanGeometry("parallel", np.pi * np.arange(30) / 30)
    clean = scan_of(shepp_logan(SIZE / 2, flat=True, scale=0.02), scan, 1, SIZE, 4)
    noise = np.random.default_rng(0).normal(0, 0.01, clean.array.shape)
    data = Projections((clean.array + noise).astype(np.float32), scan)
    truth = sample(shepp_logan(SIZE / 2, flat=True, scale=0.02), Grid((1, SIZE, SIZE), (1.0, 1.0, 1.0)), 4)
    tv = error(run(TotalVariation, {"projections": data}, iterations=150)["volume"].array, truth)
    fbp = error(run(FilteredBackProjection, {"projections": data})["volume"].array, truth)
    assert tv < 0.6 * fbp


def test_difference_and_divergence_are_adjoint():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 5, 6, 7))
    for axis in range(3):
        inner = np.vdot(iterative.difference(x, axis), y)
        assert inner == pytest.approx(-np.vdot(x, iterative.divergence(y, axis)))


@pytest.mark.parametrize("task, more", [(SIRT, {}), (OSSART, {"subsets": 1})])
def test_relaxation_scales_the_step(head, task, more):
    data, _, _ = head
    whole, half = (
        run(task, {"projections": data}, iterations=1, nonnegative=False, relaxation=r, **more)["volume"].array
        for r in (1.0, 0.5)
    )
    np.testing.assert_allclose(half, 0.5 * whole, atol=1e-6 * np.abs(whole).max())


def test_warm_start_goes_on_where_it_stopped(head):
    data, _, _ = head
    once = run(SIRT, {"projections": data}, iterations=10)["volume"]
    twice = run(
        SIRT, {"projections": data, "start": run(SIRT, {"projections": data}, iterations=5)["volume"]}, iterations=5
    )
    np.testing.assert_allclose(twice["volume"].array, once.array, atol=1e-5)


@pytest.mark.parametrize("task", [SIRT, OSSART, CGLS, TotalVariation])
def test_stop_and_keep_gives_the_last_whole_iterate(head, task):
    class Stopping(Context):
        points = ()

        def on_curve(self, name, x, y):
            self.points += ((name, x, y),)

        def is_finishing(self):
            return len(self.points) >= 4

    data, _, _ = head
    context = Stopping("cpu")
    kept = task().execute({"projections": data}, {"iterations": 10}, context)
    assert kept["objective"].rows == 4 and kept["volume"].provenance["finished_early"]
    assert {name for name, _x, _y in context.points} == {"Relative residual"}
    np.testing.assert_allclose([y for _name, _x, y in context.points], kept["objective"].columns["relative residual"])
    wanted = run(task, {"projections": data}, iterations=4)["volume"].array
    np.testing.assert_allclose(kept["volume"].array, wanted, atol=1e-6)


def test_empty_projections_are_refused():
    scan, rows, columns = scans(10)["parallel"]
    with pytest.raises(InputError, match="nothing to reconstruct"):
        run(CGLS, {"projections": scan_of([], scan, rows, columns)})


def test_far_order_visits_each_subset_once():
    assert sorted(iterative.far_order(7)) == list(range(7))
    assert iterative.far_order(8) == [0, 4, 2, 6, 1, 5, 3, 7]
