"""Projectors: adjoint to rounding, true to exact line integrals, the same in every implementation and as ASTRA's."""

from dataclasses import replace

import numpy as np
import pytest
from ct_testing import scans
from MedImgAILib.core import InputError, ScanGeometry
from MedImgAIReconstructLib.ct import accelerate
from MedImgAIReconstructLib.ct.grid import Grid
from MedImgAIReconstructLib.ct.phantoms import Ellipsoid, project, sample
from MedImgAIReconstructLib.ct.projector import Projector
from MedImgAIReconstructLib.ct.rays import detector_position, pixel_position, rays

SCANS = scans(12)
ENGINES = ("compiled", "scipy", "torch")


def projector(name, engine, monkeypatch, shape=(24, 38, 41)):
    scan, rows, columns = SCANS[name]
    if engine == "compiled":
        pytest.importorskip("numba")
    if engine == "torch":
        pytest.importorskip("torch")
    monkeypatch.setattr(accelerate, "_DISABLED", {"numba"} if engine == "scipy" else set())
    grid = Grid((1, *shape[1:]) if scan.kind == "fan" else shape, (1.2, 1.0, 1.1), (0.5, 3.0, -2.0))
    if scan.kind == "fan":
        grid = replace(grid, center_mm=(0.0, 3.0, -2.0))
    return Projector(scan, rows, columns, grid, "cpu:0" if engine == "torch" else "cpu")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", SCANS)
def test_adjoint(name, engine, monkeypatch):
    a = projector(name, engine, monkeypatch)
    rng = np.random.default_rng(0)
    x = rng.standard_normal(a.volume_shape).astype(np.float32)
    y = rng.standard_normal(a.projection_shape).astype(np.float32)
    ax, aty = a.forward(x), a.adjoint(y)
    inner, outer = np.vdot(ax.astype(float), y), np.vdot(x, aty.astype(float))
    assert abs(inner - outer) < 1e-6 * np.linalg.norm(ax) * np.linalg.norm(y)


@pytest.mark.parametrize("name", ["parallel shifted", "parallel", "fan curved", "cone flat", "cone tilted"])
def test_engines_agree(name, monkeypatch):
    rng = np.random.default_rng(0)
    results = []
    for engine in ENGINES:
        a = projector(name, engine, monkeypatch)
        results.append(a.forward(rng.random(a.volume_shape).astype(np.float32)))
        rng = np.random.default_rng(0)
    for other in results[1:]:
        np.testing.assert_allclose(other, results[0], atol=2e-5 * results[0].max())


@pytest.mark.parametrize("name", SCANS)
def test_true_line_integrals(name, monkeypatch):
    a = projector(name, "compiled", monkeypatch, (40, 64, 66))
    third = np.inf if a.scan.kind == "fan" else 11.0
    phantom = [Ellipsoid(1.0, (19, 14, third), (3, -2, 1), 0.4), Ellipsoid(-0.5, (6, 4, third), (9, 3, 2), 0.0)]
    exact = project(phantom, a.scan, a.rows, a.columns)
    ours = a.forward(sample(phantom, a.grid, 3))
    error = float(np.linalg.norm(ours - exact) / np.linalg.norm(exact))
    assert error < 0.05, "more than voxels of 1 mm explain"


def test_phantom_integrals_are_those_of_a_dense_sum():
    scan, rows, columns = SCANS["cone tilted"]
    ellipsoid = Ellipsoid(0.7, (9.0, 14.0, 11.0), (3.0, -2.0, 4.0), 0.6)
    origin, direction = rays(scan, rows, columns, 3)
    at = (slice(20, 40, 5), slice(40, 80, 9))
    direction = direction[at]
    steps = np.arange(300, 500, 0.05)
    points = origin + direction[..., None, :] * steps[:, None]
    wanted = 0.7 * 0.05 * ellipsoid.inside(points).sum(-1)
    np.testing.assert_allclose(ellipsoid.integral(origin, direction), wanted, atol=0.1)


@pytest.mark.parametrize("name", SCANS)
def test_rays_and_detector_positions_are_inverse(name):
    scan, rows, columns = SCANS[name]
    origin, direction = rays(scan, rows, columns, 5)
    v, u = detector_position(scan, scan.angles_rad[5], origin + direction * 371.0)
    row, column = pixel_position(scan, rows, columns, v, u)
    r, c = np.indices((rows, columns))
    np.testing.assert_allclose(row, r, atol=1e-8)
    np.testing.assert_allclose(column, c, atol=1e-8)


def test_same_projections_as_astra():
    astra = pytest.importorskip("astra")
    angles = np.pi * np.arange(40) / 40
    image = np.random.default_rng(0).random((64, 64)).astype(np.float32)
    volume, detector = astra.create_vol_geom(64, 64), astra.create_proj_geom("parallel", 1.0, 90, angles)
    _, wanted = astra.create_sino(image, astra.create_projector("linear", detector, volume))
    a = Projector(ScanGeometry("parallel", angles), 1, 90, Grid((1, 64, 64), (1.0, 1.0, 1.0)))
    # ASTRA's rows run from +y to −y.
    np.testing.assert_allclose(a.forward(image[None, ::-1])[:, 0], wanted, atol=2e-4 * wanted.max())


def test_linear_operator():
    a = Projector(*SCANS["fan flat"], Grid((1, 30, 30), (1.0, 1.0, 1.0)))
    operator = a.linear_operator()
    x, y = np.ones(operator.shape[1], np.float32), np.ones(operator.shape[0], np.float32)
    np.testing.assert_allclose((operator @ x).reshape(a.projection_shape), a.forward(x.reshape(a.volume_shape)))
    np.testing.assert_allclose((operator.H @ y).reshape(a.volume_shape), a.adjoint(y.reshape(a.projection_shape)))


def test_a_source_inside_the_grid_is_refused():
    with pytest.raises(InputError, match="source"):
        Projector(*SCANS["fan flat"], Grid((1, 900, 900), (1.0, 1.0, 1.0)))
