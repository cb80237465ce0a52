"""What every registered task owes its users, whatever it computes; a new task is covered by being registered."""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from MedImgAILib.core import (
    Cancelled,
    ChoiceParameter,
    Context,
    FloatParameter,
    IntegerParameter,
    MedImgAIError,
    ParameterError,
    RangeParameter,
    ResourceError,
    Sequence,
    Volume,
    VolumePort,
    registry,
)
from MedImgAILib.core.codec import decode, encode
from task_comparison import ORDERS, assert_same, contiguous, mapped, oblique_matrix

TASKS = list(registry())
BUDGET_S = 8.0
"""Time for the storage orders of one task; a slow task is run on fewer of the 47."""
UNITS = {
    "_mm": ("mm",), "_ms": ("ms",), "_s": ("s",), "_deg": ("°",), "_hu": ("HU",), "_percent": ("%",), "_hz": ("Hz",),
    "_ml": ("mL",), "_kev": ("keV",), "_mm2": ("mm²",), "_per_mm": ("1/mm",), "_ppm": ("ppm",), "_t": ("T",),
}  # fmt: skip
every_task = pytest.mark.parametrize("task", TASKS, ids=[t.id for t in TASKS])


class Recorder(Context):
    """Counts how often it is asked about cancel, says yes after ``stop_after`` times, and keeps the progress."""

    def __init__(self, stop_after: int | None = None):
        super().__init__("cpu", seed=3)
        self.in_worker = True
        self.asked, self.fractions, self.stop_after = 0, [], stop_after

    def is_cancelled(self):
        self.asked += 1
        return self.stop_after is not None and self.asked > self.stop_after

    def on_progress(self, fraction, message):
        self.fractions.append(fraction)


@pytest.fixture(autouse=True)
def able(request):
    """Skips a task whose packages are missing."""
    task = getattr(request.node, "callspec", None) and request.node.callspec.params.get("task")
    if task and "declaration" not in request.node.name and task.missing_packages():
        pytest.skip(f"needs {', '.join(task.missing_packages())}")


def arrays_of(value) -> list[np.ndarray]:
    arrays = []
    encode(value, arrays)
    return arrays


def frozen(inputs: dict) -> dict:
    for array in arrays_of(inputs):
        array.flags.writeable = False
    return inputs


_first_runs: dict = {}


def first_run(task):
    """(inputs, parameters, outputs, recorder, seconds) of the task on its own example, run once."""
    if task.id not in _first_runs:
        inputs, parameters = task.example()
        frozen(inputs)
        before = [a.copy() for a in arrays_of(inputs)]
        recorder, start = Recorder(), time.perf_counter()
        outputs = task.execute(inputs, parameters, recorder)
        seconds = time.perf_counter() - start
        assert all(np.array_equal(a, b) for a, b in zip(arrays_of(inputs), before)), "an input was changed"
        _first_runs[task.id] = inputs, parameters, outputs, recorder, seconds
    return _first_runs[task.id]


def assert_sentence(error):
    text = str(error)
    assert re.match(r"^[A-Z0-9'\"(k].*\.$", text) and "\n" not in text and len(text) < 300, f"not one sentence: {text}"


def run_or_refuse(task, inputs, parameters):
    """The outputs, or None if the task refuses the input in one sentence; anything else fails the test."""
    try:
        return task.execute(frozen(inputs), parameters, Recorder())
    except MedImgAIError as error:
        assert_sentence(error)
        return None


# Geometry


@every_task
def test_same_answer_in_other_storage_orders(task):
    _check_storage_orders(task, BUDGET_S, at_least=3)


@pytest.mark.slow
@every_task
def test_same_answer_in_every_storage_order(task):
    _check_storage_orders(task, 20 * BUDGET_S, at_least=8)


def _check_storage_orders(task, budget_s: float, at_least: int):
    inputs, parameters, wanted, _, seconds = first_run(task)
    if not any(hasattr(v, "reordered") for value in inputs.values() for v in np.atleast_1d(value).tolist()):
        pytest.skip("its inputs have no storage order")
    count = int(np.clip(budget_s / max(seconds, 1e-3), at_least, len(ORDERS)))
    # A step that shares no factor with 47 spreads a few orders over all axes and flips.
    for number in range(count):
        axes, flips = ORDERS[(7 + 11 * number) % len(ORDERS)]
        stored = mapped(lambda v, _: contiguous(v.reordered(axes, flips)), inputs, "reordered")  # noqa: B023
        got = task.execute(frozen(stored), parameters, Recorder())
        assert set(got) == set(wanted)
        for name, value in got.items():
            assert_same(value, wanted[name], task.orientation_tolerance, f"{task.id}.{name}, order {axes} {flips}")
            assert _keeps_grid(wanted[name], inputs) == _keeps_grid(value, stored), f"{name}: not in the input's order"


def _keeps_grid(value, inputs: dict) -> bool:
    """Whether the result lies on the grid of one of the inputs, voxel for voxel in the same order."""
    given = [v for many in inputs.values() for v in (many if isinstance(many, (list, tuple)) else [many])]
    grids = [v.geometry for v in given if hasattr(v, "reordered")]
    return hasattr(value, "reordered") and any(value.geometry.same_grid(grid) for grid in grids)


@every_task
def test_same_answer_when_the_patient_lies_obliquely(task):
    inputs, parameters, wanted, _, _ = first_run(task)
    matrix = oblique_matrix()
    moved = mapped(lambda v, _: v.transformed(matrix), inputs, "transformed")
    got = task.execute(frozen(moved), parameters, Recorder())
    for name, value in got.items():
        expected = wanted[name].transformed(matrix) if hasattr(wanted[name], "transformed") else wanted[name]
        assert_same(value, expected, task.orientation_tolerance, f"{task.id}.{name}, oblique", moved=True)


@every_task
def test_inputs_may_be_stored_differently_from_each_other(task):
    inputs, parameters, wanted, _, _ = first_run(task)
    orders = [ORDERS[3], ORDERS[30], ORDERS[17], ORDERS[41]]
    stored = mapped(lambda v, n: contiguous(v.reordered(*orders[n % 4])), inputs, "reordered")
    got = run_or_refuse(task, stored, parameters)
    for name, value in (got or {}).items():
        assert_same(value, wanted[name], task.orientation_tolerance, f"{task.id}.{name}, mixed orders")


# Results


@every_task
def test_results_stand_on_their_ports_with_provenance(task):
    inputs, parameters, outputs, _, _ = first_run(task)
    for name, value in outputs.items():
        task.port(name).check(value)
        record = json.loads(json.dumps(value.provenance))
        assert record["task"] == task.id and record["output"] == name and record["seed"] == 3
        assert set(record["parameters"]) == {p.name for p in task.parameters}
        assert set(record["inputs"]) == set(inputs)
        arrays = []
        copy = decode(json.loads(json.dumps(encode(value, arrays))), arrays)
        assert type(copy) is type(value)


@every_task
def test_same_seed_same_result(task):
    inputs, parameters, wanted, _, _ = first_run(task)
    got = task.execute(inputs, parameters, Recorder())
    for name, value in got.items():
        for one, other in zip(arrays_of(value), arrays_of(wanted[name]), strict=True):
            assert np.array_equal(one, other, equal_nan=one.dtype.kind in "fc"), f"{name} differs"


@every_task
def test_progress_rises_from_0_to_1(task):
    fractions = first_run(task)[3].fractions
    assert fractions[0] == 0.0 and fractions[-1] == 1.0
    assert len(fractions) > 2, "no progress between start and end"
    assert all(b >= a - 1e-9 for a, b in zip(fractions, fractions[1:])), fractions


@every_task
def test_cancel_is_honoured(task, tmp_path):
    inputs, parameters, _, recorder, _ = first_run(task)
    for stop_after in sorted({0, 1, recorder.asked // 2, recorder.asked - 1}):
        if "folder" in parameters:  # a training would find that it is done already
            parameters = parameters | {"folder": str(tmp_path / f"run {stop_after}")}
        with pytest.raises(Cancelled):
            task.execute(inputs, parameters, Recorder(stop_after))


# Input that is not as it should be


@every_task
def test_nan_is_refused_in_one_sentence(task):
    inputs, parameters, _, _, _ = first_run(task)
    for name, given in inputs.items():
        many = isinstance(given, (list, tuple))
        array = getattr(given[0] if many else given, "array", None)
        if array is None and isinstance(given, Sequence):
            array = given.items[0].array
        if array is None or array.dtype.kind not in "fc" or getattr(task.port(name), "allow_nan", False):
            continue
        broken = array.copy()
        broken.flat[broken.size // 2] = np.nan
        first = given[0] if many else given.items[0] if isinstance(given, Sequence) else given
        bad = replace(first, array=broken)
        if isinstance(given, Sequence):
            bad = replace(given, items=(bad, *given.items[1:]))
        bad = [bad, *given[1:]] if many else bad
        with pytest.raises(MedImgAIError) as refusal:
            task.execute(inputs | {name: bad}, parameters, Recorder())
        assert_sentence(refusal.value)


@every_task
@pytest.mark.parametrize("kind", ["constant", "zero", "single slice", "one voxel", "int16", "vector", "uint8"])
def test_unusual_volumes_are_processed_or_refused(task, kind):
    inputs, parameters, _, _, _ = first_run(task)

    def unusual(volume):
        array, geometry = volume.array, volume.geometry
        if kind == "constant":
            array = np.full_like(array, 7)
        elif kind == "zero":
            array = np.zeros_like(array)
        elif kind in ("single slice", "one voxel"):
            shape = (1, *geometry.shape[1:]) if kind == "single slice" else (1, 1, 1)
            middle = geometry.shape[0] // 2
            array, geometry = (
                array[middle : middle + 1, : shape[1], : shape[2]],
                geometry.cropped((middle, 0, 0), shape),
            )
        elif kind == "vector":
            array = np.stack([array, array, array, array, array], axis=3) if array.ndim == 3 else array[..., 0]
        else:
            array = np.clip(np.rint(array.real), 0, 255).astype(kind)
        return replace(volume, array=np.ascontiguousarray(array), geometry=geometry)

    for port in task.inputs:
        given = inputs.get(port.name)
        if isinstance(port, VolumePort) and given is not None:
            changed = [unusual(v) for v in given] if port.multiple else unusual(given)
            run_or_refuse(task, inputs | {port.name: changed}, parameters)


@every_task
def test_isolated_tasks_refuse_to_run_outside_the_worker(task):
    if not task.isolated:
        pytest.skip("it may run anywhere")
    inputs, parameters = task.example()
    with pytest.raises(ResourceError) as refusal:
        task.execute(inputs, parameters, Context("cpu"))
    assert_sentence(refusal.value)


@pytest.mark.slow
def test_isolated_tasks_run_in_the_worker_process():
    from MedImgAILib.runners.base import Job
    from MedImgAILib.runners.worker import WorkerRunner

    tasks = [t for t in TASKS if t.isolated and not t.missing_packages()]
    if not tasks:
        pytest.skip("no isolated task has its packages installed")
    runner = WorkerRunner()
    try:
        for task in tasks:
            inputs, parameters, wanted, _, _ = first_run(task)
            got = runner.submit(Job(task.id, inputs, parameters, "cpu", 3)).wait(timeout=300)
            for name, value in got.items():
                assert_same(value, wanted[name], task.orientation_tolerance, f"{task.id}.{name}, worker")
    finally:
        runner.close()


# Declaration


@every_task
def test_declaration_is_complete(task):
    assert re.fullmatch(r"[a-z]+\.[a-z0-9_]+", task.id)
    assert task.title and task.group and task.references
    assert re.fullmatch(r"[A-Z].*\.", task.summary), "the summary is a sentence"
    assert task.outputs
    names = [p.name for p in (*task.inputs, *task.parameters, *task.outputs)]
    assert len(set(names)) == len(names), "names repeat"
    for part in (*task.inputs, *task.parameters, *task.outputs):
        assert re.fullmatch(r"[a-z][a-z0-9_]*", part.name) and part.title, part.name
        assert part.help.strip(), f"{part.name} has no help"
    json.dumps([p.schema() for p in task.parameters])


@every_task
def test_declared_parameters_are_sane(task):
    by_name = {p.name: p for p in task.parameters}
    for parameter in task.parameters:
        assert parameter.check(parameter.default) == parameter.default
        is_range = isinstance(parameter, RangeParameter)
        text = " ".join(map(str, parameter.default)) if is_range else str(parameter.default)
        assert parameter.parse(text) == parameter.default
        suffix = next((s for s in sorted(UNITS, key=len, reverse=True) if parameter.name.endswith(s)), None)
        if suffix:
            assert parameter.unit in UNITS[suffix], f"{parameter.name} is in '{parameter.unit}'"
        elif parameter.unit:
            suffixes = [s for s, units in UNITS.items() if parameter.unit in units]
            assert not suffixes, f"{parameter.name} should end with {suffixes[0]}"
        if parameter.enabled_when:
            other, values = parameter.enabled_when
            assert all(by_name[other].check(v) == v for v in values)
        if isinstance(parameter, RangeParameter) and parameter.bounds_from:
            assert parameter.bounds_from in {p.name for p in task.inputs}
        if isinstance(parameter, ChoiceParameter):
            assert all(parameter.choices.values())
        for limit, step in (("minimum", -1), ("maximum", 1)):
            bound = getattr(parameter, limit, None)
            if bound is not None and isinstance(parameter, (FloatParameter, IntegerParameter)):
                with pytest.raises(ParameterError) as refusal:
                    task.checked_parameters({parameter.name: bound + step})
                assert_sentence(refusal.value)


@every_task
def test_declaration_file_imports_nothing_slow(task):
    folder = Path(inspect.getfile(type(task))).parent
    allowed = sys.stdlib_module_names | {"numpy", "MedImgAILib", task.library}
    for path in folder.glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                assert node.module.split(".")[0] in allowed, f"{path.name}: {node.module}"
            if isinstance(node, ast.Import):
                assert all(a.name.split(".")[0] in allowed for a in node.names), path.name


def test_finding_the_tasks_imports_nothing_slow():
    code = (
        "import sys; from MedImgAILib.core import registry; r = registry(); assert not r.failures, r.failures;"
        "print([m for m in ('scipy', 'SimpleITK', 'torch', 'vtk', 'pydicom') if m in sys.modules])"
    )
    paths = [str(Path(__file__).parents[2] / m) for m in ("MedImgAI", "MedImgAIReconstruct", "MedImgAIFusion")]
    code = f"import sys; sys.path[:0] = {paths}; {code}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_volume_is_a_volume():
    """Guards the comparison itself: it must see one wrong voxel and one shifted grid."""
    task = registry()["enhance.gaussian"]
    _, _, outputs, _, _ = first_run(task)
    volume = outputs["smoothed"]
    array = volume.array.copy()
    array[2, 3, 4] += 5
    with pytest.raises(AssertionError, match="differs by"):
        assert_same(replace(volume, array=array), volume, 1e-4, "smoothed")
    with pytest.raises(AssertionError, match="does not have the voxels"):
        assert_same(Volume(volume.array, volume.geometry.transformed(oblique_matrix())), volume, 1e-4, "smoothed")
