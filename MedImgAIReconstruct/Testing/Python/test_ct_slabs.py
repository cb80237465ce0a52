"""Reconstruction in slabs: the same volume with less memory at a time, chosen by the free memory."""

from dataclasses import replace

import numpy as np
import pytest
from ct_testing import scan_of
from MedImgAILib.core import Context, Projections, ResourceError, ScanGeometry, Volume
from MedImgAIReconstructLib.ct import accelerate, slabs
from MedImgAIReconstructLib.ct.fbp import FDK, BackProjection, FilteredBackProjection
from MedImgAIReconstructLib.ct.iterative_tasks import CGLS, OSSART, SIRT, residual_table
from MedImgAIReconstructLib.ct.phantoms import shepp_logan


def parallel(rows=13, views=40, columns=48, **more):
    scan = ScanGeometry("parallel", np.pi * np.arange(views) / views, **more)
    return scan_of(shepp_logan(20.0, scale=0.02), scan, rows, columns)


def cone(rows=31, **more):
    scan = ScanGeometry("cone", 2 * np.pi * np.arange(50) / 50, (2.0, 2.0), (3.0, 0.0), 300.0, 500.0, **more)
    return scan_of(shepp_logan(20.0, scale=0.02), scan, rows, 60)


def run(task, data, context=None, reference=None, **parameters):
    inputs = {"projections": data} | ({"reference": reference} if reference is not None else {})
    return task().execute(inputs, parameters, context or Context("cpu"))


@pytest.mark.parametrize("count", [2, 5, 100])
@pytest.mark.parametrize(
    "task, data, parameters",
    [
        (FilteredBackProjection, parallel(), {}),
        (FilteredBackProjection, parallel(), {"method": "interpolation", "units": "HU"}),
        (FilteredBackProjection, parallel(offset_mm=(0.3, 0.0)), {"voxel_mm": 1.5}),
        (FDK, cone(), {}),
        (FDK, cone(curved=True, axis_shift_mm=2.0), {"filter": "hann"}),
        (FDK, cone(tilt_rad=0.03), {}),
        (SIRT, parallel(), {"iterations": 4}),
        (OSSART, parallel(), {"iterations": 2, "subsets": 5}),
    ],
)
def test_slabs_give_the_same_volume(task, data, parameters, count):
    whole = run(task, data, slabs=1, **parameters)["volume"]
    parts = run(task, data, slabs=count, **parameters)["volume"]
    np.testing.assert_allclose(parts.array, whole.array, atol=1e-4 * np.abs(whole.array).max())
    np.testing.assert_array_equal(parts.geometry.ijk_to_ras, whole.geometry.ijk_to_ras)


def test_slabs_on_a_reference_between_the_detector_rows():
    data = parallel()
    whole = run(FilteredBackProjection, data)["volume"]
    grid = whole.geometry.resized((9, 30, 31))
    reference = Volume(np.zeros(grid.shape, np.float32), grid)
    one, four = (run(FilteredBackProjection, data, reference=reference, slabs=n)["volume"] for n in (1, 4))
    np.testing.assert_allclose(four.array, one.array, atol=1e-5)


def test_short_memory_makes_the_task_split_itself(monkeypatch):
    """Enough for the result and a part of the working memory: split; less than the result: refused."""
    data = parallel(rows=64)
    messages = []

    class Listening(Context):
        def on_log(self, level, message):
            messages.append(message)

    whole = run(SIRT, data, iterations=3)["volume"]
    result = whole.array.nbytes
    working = SIRT().working_bytes(data, slabs_grid(data))
    monkeypatch.setattr(slabs, "free_memory_bytes", lambda _device: int(result + working / 5))
    split = run(SIRT, data, Listening("cpu"), iterations=3)["volume"]
    assert any("8 slabs" in m for m in messages)
    np.testing.assert_allclose(split.array, whole.array, atol=1e-6)
    with pytest.raises(ResourceError, match="GiB.*smaller field of view, or filtered"):
        run(CGLS, data, iterations=3)
    monkeypatch.setattr(slabs, "free_memory_bytes", lambda _device: result // 2)
    with pytest.raises(ResourceError, match="even in slabs"):
        run(SIRT, data, iterations=3)
    monkeypatch.setattr(slabs, "free_memory_bytes", lambda _device: None)
    run(SIRT, data, iterations=1)


def slabs_grid(data):
    from MedImgAIReconstructLib.ct.grid import automatic_grid

    return automatic_grid(data.scan, *data.array.shape[1:])


def test_what_couples_slices_is_not_split():
    data = parallel()
    grid = slabs_grid(data)
    assert SIRT().can_split(data, grid) and FilteredBackProjection().can_split(data, grid)
    assert not CGLS().can_split(data, grid) and not BackProjection().can_split(data, grid)
    assert not SIRT().can_split(cone(), slabs_grid(cone()))
    assert not SIRT().can_split(replace(data, scan=replace(data.scan, offset_mm=(0.4, 0.0))), grid)


def test_cropping_keeps_the_rows_in_place():
    data = parallel(rows=10)
    part = slabs.cropped(data, slabs_grid(data).slab(3, 6))
    np.testing.assert_array_equal(part.array, data.array[:, 3:6])
    assert part.scan.offset_mm[0] == pytest.approx(-0.5)
    assert slabs.cropped(replace(data, scan=replace(data.scan, tilt_rad=0.1)), slabs_grid(data)).array.shape[1] == 10


def test_a_cone_slab_needs_few_rows():
    data = cone(rows=200)
    grid = slabs_grid(data)
    assert slabs.cropped(data, grid.slab(0, 10)).array.shape[1] < 60


def test_residuals_of_slabs_add_up():
    table = residual_table([(3.0, [0.5, 0.1]), (4.0, [0.5]), (0.0, [])])
    np.testing.assert_allclose(table.columns["relative residual"], [0.5, np.hypot(0.3, 2.0) / 5])
    data = parallel()
    one, three = (run(SIRT, data, iterations=3, slabs=n)["objective"] for n in (1, 3))
    np.testing.assert_allclose(three.columns["relative residual"], one.columns["relative residual"], rtol=1e-4)


def test_an_empty_slab_is_zero():
    data = parallel()
    array = data.array.copy()
    array[:, :6] = 0
    result = run(SIRT, Projections(array, data.scan), slabs=13, iterations=3)["volume"].array
    assert not result[:6].any() and result[7].any()


def test_a_containers_limit_counts(tmp_path):
    for name, text in {"max": "1000", "current": "700", "stat": "anon 5\ninactive_file 200\n"}.items():
        (tmp_path / f"memory.{name}").write_text(text + "\n")
    assert accelerate._control_group_memory(str(tmp_path)) == 500
    (tmp_path / "memory.max").write_text("max\n")
    assert accelerate._control_group_memory(str(tmp_path)) is None
    assert accelerate._control_group_memory(str(tmp_path / "none")) is None
