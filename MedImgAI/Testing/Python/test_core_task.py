"""Declarations: parameters, ports, requirements, the registry, the context, and what executing a task promises."""

from __future__ import annotations

import importlib.metadata
import json
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from MedImgAILib.core import (
    BooleanParameter,
    Cancelled,
    ChoiceParameter,
    Context,
    FloatParameter,
    Geometry,
    InputError,
    IntegerParameter,
    MissingPackageError,
    ParameterError,
    Points,
    PointsPort,
    RangeParameter,
    Registry,
    ResourceError,
    SegmentationPort,
    Task,
    TextParameter,
    Volume,
    VolumePort,
)
from MedImgAILib.core.context import resolve_device
from MedImgAILib.core.packages import distribution_name, is_satisfied

WIDTH = FloatParameter("width_mm", "Width", 1.0, "How wide.", "mm", minimum=0.0, maximum=10.0)
COUNT = IntegerParameter("count", "Count", 3, minimum=1, maximum=9)
RANGE = RangeParameter("range", "Range", (0.0, 5.0), minimum=-10, maximum=10)
FLAG = BooleanParameter("flag", "Flag", False)
KIND = ChoiceParameter("kind", "Kind", "a", choices={"a": "First", "b": "Second"})


@pytest.mark.parametrize(
    ("parameter", "text", "value"),
    [
        (WIDTH, "2.5", 2.5),
        (WIDTH, "1e1", 10.0),
        (COUNT, "4", 4),
        (COUNT, "4.0", 4),
        (RANGE, "-1,2", (-1.0, 2.0)),
        (RANGE, "-1 2", (-1.0, 2.0)),
        (FLAG, "yes", True),
        (FLAG, "False", False),
        (KIND, "b", "b"),
        (TextParameter("name", "Name", ""), "any thing", "any thing"),
    ],
)
def test_command_line_text_becomes_a_value(parameter, text, value):
    parsed = parameter.parse(text)
    assert parsed == value and type(parsed) is type(value)
    assert parameter.check(json.loads(json.dumps(parsed))) == value


@pytest.mark.parametrize(
    ("parameter", "value", "words"),
    [
        (WIDTH, "wide", "a number"),
        (WIDTH, 11, "between 0 mm and 10 mm"),
        (WIDTH, float("nan"), "finite"),
        (WIDTH, True, "finite number"),
        (WIDTH, None, "a number"),
        (COUNT, 2.5, "whole number"),
        (COUNT, "inf", "whole number"),
        (COUNT, 0, "between 1 and 9"),
        (RANGE, (3, 1), "lower first"),
        (RANGE, "1", "two numbers"),
        (RANGE, (0, 99), "between -10 and 10"),
        (FLAG, "perhaps", "yes or no"),
        (FLAG, 1, "yes or no"),
        (KIND, "c", "one of a, b"),
    ],
)
def test_a_wrong_value_gets_one_sentence_that_names_it(parameter, value, words):
    with pytest.raises(ParameterError, match=words) as caught:
        parameter.check(value)
    sentence = str(caught.value)
    assert sentence.startswith(f"{parameter.title} must be") and sentence.endswith(".") and "\n" not in sentence


@given(st.floats(-1e6, 1e6))
def test_a_number_is_accepted_exactly_when_in_range(value):
    if 0 <= value <= 10:
        assert WIDTH.check(value) == value
    else:
        with pytest.raises(ParameterError):
            WIDTH.check(value)


def test_a_default_outside_its_range_is_a_programming_error():
    with pytest.raises(ParameterError):
        FloatParameter("x", "X", 5.0, maximum=1.0)


def test_schemas_are_json_and_say_type_limits_and_unit():
    schema = json.loads(json.dumps(WIDTH.schema()))
    assert schema["type"] == "number" and schema["unit"] == "mm"
    assert (schema["minimum"], schema["maximum"], schema["default"]) == (0.0, 10.0, 1.0)
    assert KIND.schema()["enum"] == ["a", "b"]
    assert RANGE.schema()["items"]["minimum"] == -10 and COUNT.schema()["type"] == "integer"


def test_enabled_when_follows_the_other_parameter():
    parameter = FloatParameter("x", "X", 0.0, enabled_when=("kind", ("b",)))
    assert parameter.is_enabled({"kind": "b"}) and not parameter.is_enabled({"kind": "a"})


def _volume(shape=(4, 5, 6), value=1.0):
    return Volume(np.full(shape, value, np.float32), Geometry.from_spacing(shape[:3]), name="scan")


def _typed(dtype, value):
    return Volume(np.full((4, 5, 6), value, dtype), Geometry.from_spacing((4, 5, 6)), name="scan")


@pytest.mark.parametrize(
    ("port", "value", "words"),
    [
        (VolumePort("v", "Image"), None, "no volume was given"),
        (VolumePort("v", "Image"), Points([[0, 0, 0]]), "Points was given where a volume"),
        (VolumePort("v", "Image"), _volume((4, 5, 6, 3)), "3 components per voxel; 1 is needed"),
        (VolumePort("v", "Image", components=(3, 4)), _volume(), "1 component per voxel; 3 or 4"),
        (VolumePort("v", "Image"), _typed(np.complex64, 1 + 2j), "complex"),
        (VolumePort("v", "Image"), _typed(np.float64, 1e302), "beyond"),
        (VolumePort("v", "Image"), _typed(np.float64, -1e302), "beyond"),
        (VolumePort("v", "Image"), _typed(np.float64, 1e-310), "below"),
        (VolumePort("v", "Image"), _volume(value=np.nan), "NaN"),
        (VolumePort("v", "Image"), _volume(value=np.inf), "infinite"),
        (VolumePort("v", "Image", three_d=True), _volume((1, 5, 6)), "single slice"),
        (VolumePort("v", "Image", minimum_shape=8), _volume(), "too small"),
        (VolumePort("v", "Images", multiple=True, minimum_count=2), [_volume()], "at least 2, not 1"),
        (PointsPort("p", "Seeds"), Points([]), "empty; place at least one point"),
        (SegmentationPort("s", "Mask"), _volume(), "Volume was given where a segmentation"),
    ],
)
def test_a_wrong_input_gets_one_sentence_that_names_the_port(port, value, words):
    with pytest.raises(InputError, match=words) as caught:
        port.check(value)
    assert str(caught.value).startswith(port.title) and str(caught.value).endswith(".")


def test_optional_inputs_may_be_missing():
    VolumePort("v", "Image", optional=True).check(None)
    VolumePort("v", "Images", multiple=True, optional=True, minimum_count=2).check([])


@pytest.mark.parametrize("value", [0.0, 1e30, 1e-30])
def test_values_that_single_precision_holds_are_taken(value):
    VolumePort("v", "Image").check(_typed(np.float64, value))


def test_a_port_may_take_anything():
    VolumePort("v", "Image", allow_nan=True, allow_complex=True).check(_typed(np.complex64, 1j))
    VolumePort("v", "Image", allow_nan=True).check(_typed(np.float64, 1e302))


def test_large_finite_values_are_not_mistaken_for_infinity():
    assert _volume(value=3e38).is_finite
    assert Volume(np.full((4, 5, 6), 1e308), Geometry.from_spacing((4, 5, 6))).is_finite


@pytest.mark.parametrize(
    ("requirement", "satisfied"),
    [
        ("numpy", True),
        ("numpy>=1.0", True),
        ("numpy>=1.0,<99", True),
        ("numpy>=99", False),
        ("no-such-package-anywhere", False),
        ("no-such-package-anywhere>=1", False),
    ],
)
def test_requirements(requirement, satisfied):
    assert is_satisfied(requirement, importlib.metadata) is satisfied


def test_versions_are_compared_as_numbers():
    class Installed:
        PackageNotFoundError = LookupError

        @staticmethod
        def version(name):
            return {"torch": "2.13.0+cpu", "early": "1.9rc1"}[name]

    assert is_satisfied("torch>=2.2", Installed) and is_satisfied("torch[opt]>=2.13", Installed)
    assert not is_satisfied("torch>=2.14", Installed) and not is_satisfied("early>=1.10", Installed)
    assert distribution_name("scikit-learn >= 1.3") == "scikit-learn"


class Doubling(Task):
    id = ""  # not registered: the shared tests must not find it
    title = "Doubling"
    inputs = (VolumePort("image", "Image"),)
    parameters = (WIDTH,)
    outputs = (VolumePort("result", "Result"), VolumePort("extra", "Extra", optional=True))

    def run(self, inputs, parameters, context):
        context.progress(0.5)
        return {"result": inputs.image.with_array(inputs.image.array * 2), "extra": None}


def test_executing_checks_runs_and_stamps():
    outputs = Doubling().execute({"image": _volume()}, {"width_mm": 2}, Context(device="cpu", seed=7))
    assert set(outputs) == {"result"}
    record = outputs["result"].provenance
    assert record["parameters"] == {"width_mm": 2.0} and record["seed"] == 7 and record["output"] == "result"
    assert record["inputs"]["image"]["name"] == "scan"
    json.dumps(record)


@pytest.mark.parametrize(
    ("inputs", "parameters", "words"),
    [
        ({}, {}, "no volume was given"),
        ({"image": _volume(), "imag": _volume()}, {}, "no input 'imag'"),
        ({"image": _volume()}, {"with_mm": 1}, "no parameter 'with_mm'"),
        ({"image": _volume()}, {"width_mm": 99}, "between"),
    ],
)
def test_nothing_runs_on_bad_input(inputs, parameters, words, monkeypatch):
    monkeypatch.setattr(Doubling, "run", lambda *a: pytest.fail("the task ran"))
    with pytest.raises((InputError, ParameterError), match=words):
        Doubling().execute(inputs, parameters, Context())


def test_missing_packages_and_isolation_are_refused_before_running():
    class Needy(Doubling):
        requirements = ("no-such-package-anywhere>=1",)

    class Risky(Doubling):
        isolated = True

    with pytest.raises(MissingPackageError, match="no-such-package-anywhere") as caught:
        Needy().execute({"image": _volume()}, {}, Context())
    assert caught.value.requirements == ("no-such-package-anywhere>=1",)
    with pytest.raises(ResourceError, match="worker process"):
        Risky().execute({"image": _volume()}, {}, Context())


def test_a_task_that_returns_the_wrong_outputs_is_a_programming_error():
    class Wrong(Doubling):
        def run(self, inputs, parameters, context):
            return {"other": inputs.image}

    with pytest.raises(RuntimeError, match="other"):
        Wrong().execute({"image": _volume()}, {}, Context())


def test_progress_of_parts_is_a_fraction_of_the_whole():
    seen = []

    class Watching(Context):
        def on_progress(self, fraction, message):
            seen.append(round(fraction, 6))

    context = Watching()
    with context.part(0.2, 0.6):
        context.progress(0.5)
        with context.part(0.5, 1.0):
            context.progress(0.0)
            context.progress(2.0)  # more than done is done
    context.progress(1.0)
    assert seen == [0.4, 0.4, 0.6, 1.0]


def test_cancel_stops_at_the_next_report():
    class Stopped(Context):
        def is_cancelled(self):
            return True

    with pytest.raises(Cancelled):
        Stopped().progress(0.1)


def test_an_absent_device_is_refused():
    assert resolve_device("cpu") == "cpu" and resolve_device("auto") in ("cpu", "cuda", "mps")
    for device in ("cuda", "mps"):
        try:
            assert resolve_device(device) == device
        except ResourceError as error:
            assert device in str(error)


@pytest.fixture
def library(tmp_path, monkeypatch):
    """An importable library with a good task, a broken file and a subfolder."""
    root = tmp_path / "SampleTasksLib"
    (root / "deeper").mkdir(parents=True)
    (root / "__init__.py").write_text("")
    (root / "deeper/__init__.py").write_text("")
    template = "from MedImgAILib.core import Task\nclass T(Task):\n    id = '{}'\n    title = group = 'x'\n"
    (root / "good.py").write_text(template.format("sample.good"))
    (root / "deeper/better.py").write_text(template.format("sample.better"))
    (root / "broken.py").write_text("import a_package_that_does_not_exist\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield root
    for name in [n for n in sys.modules if n.startswith("SampleTasksLib")]:
        del sys.modules[name]


def test_a_broken_file_costs_only_its_own_tasks(library):
    found = Registry(("SampleTasksLib",))
    assert set(found.tasks) == {"sample.good", "sample.better"}
    assert list(found.failures) == ["SampleTasksLib.broken"]
    assert "a_package_that_does_not_exist" in found.failures["SampleTasksLib.broken"]
    assert {t.id for t in found.of_library("SampleTasksLib")} == set(found.tasks)


def test_an_unknown_task_gets_a_suggestion(library):
    with pytest.raises(InputError, match="did you mean 'sample.good'"):
        Registry(("SampleTasksLib",))["sample.goood"]
