"""The medimgai command: listing, help, runs, and one sentence with the right exit code for everything that is wrong."""

import json
import logging
import re
from pathlib import Path

import numpy as np
import pytest
from MedImgAILib.core import (
    BooleanParameter,
    ChoiceParameter,
    Geometry,
    InputError,
    IntegerParameter,
    OutputError,
    Plot,
    PlotPort,
    Points,
    RangeParameter,
    Segment,
    Segmentation,
    SegmentationPort,
    Series,
    Table,
    TablePort,
    Task,
    Text,
    TextParameter,
    TextPort,
    Volume,
    VolumePort,
    registry,
)
from MedImgAILib.hosts import cli
from MedImgAILib.hosts.cli_arguments import parse
from MedImgAILib.hosts.files import read_file, write_file

SHAPE = (6, 8, 10)


class Mixed(Task):
    """Every kind of port and parameter that the command must map."""

    id = "test.mixed"
    title = "Mixed"
    group = "Test"
    summary = "For the tests of the command."
    inputs = (
        VolumePort("images", "Images", multiple=True, minimum_count=2),
        SegmentationPort("segmentation", "Segmentation", optional=True),
    )
    parameters = (
        IntegerParameter("seed", "Seed voxel", 4, minimum=0, maximum=9),
        RangeParameter("value_range", "Range", (0.0, 1.0), unit="HU"),
        BooleanParameter("fill_holes", "Fill holes", False),
        ChoiceParameter("mode", "Mode", "mean", choices={"mean": "Mean", "sum": "Sum 100 %"}),
        TextParameter("note", "Note", ""),
        IntegerParameter("terms", "Terms", 2, minimum=1, maximum=9, enabled_when=("mode", ("sum",))),
    )
    outputs = (
        VolumePort("result", "Result", optional=True),
        SegmentationPort("segmentation", "Segmentation", optional=True),
        TablePort("measures", "Measures", optional=True),
        TextPort("report", "Report", optional=True),
        PlotPort("curve", "Curve", optional=True),
    )

    def run(self, inputs, parameters, context):
        context.warn("Two voxels were odd.")
        context.progress(0.5, "Half")
        if parameters.note == "fail":
            raise OutputError("The scanner has gone.")
        if parameters.note == "bug":
            raise ZeroDivisionError("divided")
        first = inputs.images[0]
        total = sum(v.array.astype(np.float32) for v in inputs.images)
        labels = (total > 0).astype(np.uint8)
        return {
            "result": first.with_array(total),
            "segmentation": Segmentation((labels,), first.geometry, (Segment("All"),)),
            "measures": Table(
                {"mean": [float(total.mean())], "low": [parameters.value_range[0]]}, units={"mean": "HU"}
            ),
            "report": None if parameters.note == "silent" else Text(f"mode {parameters.mode}"),
            "curve": Plot(Table({"bin": np.arange(500)}), (Series("bin"),)),
        }


@pytest.fixture
def mixed(monkeypatch):
    task = Mixed()
    task.library = "MedImgAILib"
    monkeypatch.setitem(registry().tasks, task.id, task)
    return task


@pytest.fixture
def images(tmp_path):
    paths = []
    for number in range(2):
        array = np.random.default_rng(number).integers(-50, 100, SHAPE).astype(np.int16)
        geometry = Geometry.from_spacing(SHAPE, (1.0, 1.2, 2.0), (5, 6, 7), np.diag([-1.0, -1.0, 1.0]))
        paths.append(tmp_path / f"in{number}.nrrd")
        write_file(Volume(array, geometry), paths[-1])
    return [str(p) for p in paths]


def sentence(capsys) -> str:
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("Error: ")]
    assert captured.out == "" and len(lines) == 1 and "Traceback" not in captured.err
    return lines[0].removeprefix("Error: ")


def made(tmp_path) -> set:
    return {p.name for p in tmp_path.iterdir()} - {"in0.nrrd", "in1.nrrd"}


def test_tasks(capsys):
    assert cli.main(["tasks"]) == 0
    text = capsys.readouterr().out
    assert "enhance.gaussian" in text and "Gaussian smoothing" in text
    assert cli.main(["tasks", "--json"]) == 0
    listed = {task["id"]: task for task in json.loads(capsys.readouterr().out)}
    assert set(listed) == set(registry().tasks)
    sigma = listed["enhance.gaussian"]["parameters"]["sigma_mm"]
    assert (sigma["unit"], sigma["minimum"], sigma["maximum"], sigma["default"]) == ("mm", 0.0, 50.0, 1.0)


def test_help_of_every_task(capsys):
    for task in registry():
        assert cli.main([task.id, "--help"]) == 0
        text = " ".join(capsys.readouterr().out.split())
        for declared in (*task.inputs, *task.outputs, *task.parameters):
            assert re.search(rf"--\w*-?{declared.name.replace('_', '-')}\b", text)
        for parameter in task.parameters:
            assert "default" in text and " ".join(parameter.describe_range().split()) in text


def test_help_of_the_command(capsys):
    assert cli.main(["--help"]) == 0
    assert "medimgai tasks" in capsys.readouterr().out
    assert cli.main([]) == 2
    assert cli.main(["--version"]) == 0


def test_a_run_as_the_library_computes_it(tmp_path, images, capsys):
    from scipy.ndimage import gaussian_filter

    for sigma in ("--sigma-mm", "--sigma_mm"):
        assert (
            cli.main(["enhance.gaussian", "--input", images[0], "--output", str(tmp_path / "o.nii.gz"), sigma, "2"])
            == 0
        )
    source, result = read_file(images[0]), read_file(tmp_path / "o.nii.gz")
    sigmas = 2.0 / np.array([2.0, 1.2, 1.0])
    expected = gaussian_filter(source.array.astype(np.float32), sigmas, mode="nearest")
    np.testing.assert_allclose(result.array, expected, atol=1e-4)
    assert result.geometry.same_grid(source.geometry)
    record = json.loads((tmp_path / "o.nii.gz.provenance.json").read_text())
    assert record["task"] == "enhance.gaussian" and record["inputs"]["image"]["source"] == images[0]
    assert record["parameters"] == {"sigma_mm": 2.0}
    captured = capsys.readouterr()
    assert captured.out == "" and "100 %" in captured.err


def test_names_and_kinds_of_options(mixed):
    options = "--images a b --parameter-seed 7 --seed 3 --value-range -100.5 -.5 --fill_holes --mode sum --device=cpu"
    files = "--output-segmentation s.seg.nrrd --segmentation in.seg.nrrd --input c"
    given = parse(mixed, [*options.split(), "--note", "-5 dB", *files.split()])
    assert given.inputs == {"images": [Path("a"), Path("b"), Path("c")], "segmentation": [Path("in.seg.nrrd")]}
    assert given.outputs == {"segmentation": Path("s.seg.nrrd")}
    assert given.parameters == {
        "seed": 7, "value_range": (-100.5, -0.5), "fill_holes": True, "mode": "sum", "note": "-5 dB",
    }  # fmt: skip
    assert (given.seed, given.device) == (3, "cpu")
    for text in ("--value_range=-3,4", "--value-range -3,4", "--value-range -3e0 4"):
        assert parse(mixed, [*text.split(), "--fill-holes", "no"]).parameters["value_range"] == (-3, 4)


def test_results_asked_for_are_written_and_the_rest_printed(mixed, tmp_path, images, capsys):
    assert cli.main([mixed.id, "--images", *images, "--output", str(tmp_path / "r.mha")]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("mean [HU],low\n") and captured.out.endswith("mode mean\n")
    assert "Warning: Two voxels were odd." in captured.err
    assert made(tmp_path) == {"r.mha", "r.mha.provenance.json"}
    assert cli.main([mixed.id, "--images", *images, "--measures", str(tmp_path / "m.csv"), "--quiet"]) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("mode mean\n", "")
    assert made(tmp_path) == {"r.mha", "r.mha.provenance.json", "m.csv", "m.csv.provenance.json"}


def test_json_progress(mixed, images, capsys):
    assert cli.main([mixed.id, "--images", *images, "--json-progress"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    fractions = [e["fraction"] for e in events if e["event"] == "progress"]
    assert 0.5 in fractions and fractions == sorted(fractions) and fractions[-1] == 1
    assert {"event": "log", "level": "warning", "message": "Two voxels were odd."} in events
    assert cli.main([mixed.id, "--json-progress"]) == 2
    assert json.loads(capsys.readouterr().err)["event"] == "error"


WRONG = [
    (["enhance.gausian"], "There is no task 'enhance.gausian'; did you mean 'enhance.gaussian'?"),
    (["--input", "a"], "The name of a task comes first"),
    (["tasks", "--xml"], "does not know '--xml'"),
    (["enhance.gaussian", "--input", "IN", "--output", "o.nrrd", "--sigma", "1"], "no option '--sigma'; did you mean"),
    (["enhance.gaussian", "--input", "IN", "--output", "o.nrrd", "stray"], "'stray' stands alone"),
    (["enhance.gaussian", "--input", "IN", "--output", "o.nrrd", "--sigma-mm"], "xpected one argument"),
    (
        ["enhance.gaussian", "--input", "IN", "--output", "o.nrrd", "--sigma-mm", "-1"],
        "between 0 mm and 50 mm, not -1.0",
    ),
    (["enhance.gaussian", "--input", "IN", "--output", "o.nrrd", "--sigma-mm", "wide"], "must be a number"),
    (["enhance.gaussian", "--input", "IN", "--output", "o.nrrd", "--seed", "-1"], "seed must be at least 0"),
    (["enhance.gaussian", "--input", "IN", "--output", "o.nrrd", "--device", "tpu"], "invalid choice: 'tpu'"),
    (["enhance.gaussian", "--input", "IN"], "No result was asked for; give a file for at least one of: --smoothed."),
    (["enhance.gaussian", "--output", "o.nrrd"], "Image: no volume was given; choose one."),
    (["enhance.gaussian", "--input", "IN", "--input", "IN", "--output", "o.nrrd"], "2 files were given where one is"),
    (["enhance.gaussian", "--input", "IN", "--output", "o.xyz"], "no suffix that a volume can be written to"),
    (["enhance.gaussian", "--input", "IN", "--output", "gone/o.nrrd"], "The folder 'gone' does not exist"),
    (["enhance.gaussian", "--input", "gone.nrrd", "--output", "o.nrrd"], "'gone.nrrd' does not exist"),
    (["enhance.gaussian", "--input", "NAN", "--output", "o.nrrd"], "contains NaN or infinite voxels"),
    (["enhance.gaussian", "--input", "CUT", "--output", "o.nrrd"], "truncated"),
    (["test.mixed", "--images", "IN", "--output", "o.nrrd"], "Images: needs at least 2, not 1"),
    (["test.mixed", "--images", "IN", "RGB", "--output", "o.nrrd"], "has 3 components per voxel; 1 is needed"),
    (["test.mixed", "--images", "IN", "IN", "--output", "o.nrrd", "--mode", "max"], "one of mean, sum, not 'max'"),
    (["test.mixed", "--images", "IN", "IN", "--output", "o.nrrd", "--value-range", "3", "1"], "the lower first"),
    (["test.mixed", "--images", "IN", "IN", "--output", "o.nrrd", "--report", "o.nrrd"], "no suffix that a text"),
    (["test.mixed", "--images", "IN", "IN", "--report", "r.txt", "--note", "silent"], "made no 'report' from these"),
]


@pytest.mark.parametrize(("argv", "words"), WRONG)
def test_one_sentence_and_nothing_left(mixed, tmp_path, images, monkeypatch, capsys, argv, words):
    monkeypatch.chdir(tmp_path)
    geometry = Geometry.from_spacing(SHAPE)
    elsewhere = tmp_path / "sources"
    elsewhere.mkdir()
    write_file(Volume(np.full(SHAPE, np.nan, np.float32), geometry), elsewhere / "nan.nrrd")
    write_file(Volume(np.zeros((*SHAPE, 3), np.uint8), geometry), elsewhere / "rgb.nrrd")
    (elsewhere / "cut.nii.gz").write_bytes(b"\x1f\x8b" + bytes(30))
    write_file(Volume(np.random.default_rng(0).normal(size=SHAPE), geometry), elsewhere / "whole.nii")
    (elsewhere / "cut.nii").write_bytes((elsewhere / "whole.nii").read_bytes()[:1000])
    files = {"IN": images[0], "NAN": "sources/nan.nrrd", "RGB": "sources/rgb.nrrd", "CUT": "sources/cut.nii"}
    assert cli.main([files.get(a, a) for a in argv]) == 2
    assert words in sentence(capsys)
    assert made(tmp_path) == {"sources"}


def test_failures_have_code_1_or_2_and_no_traceback(mixed, images, tmp_path, capsys):
    arguments = [mixed.id, "--images", *images, "--output", str(tmp_path / "o.nrrd")]
    assert cli.main([*arguments, "--note", "fail"]) == 2
    assert sentence(capsys) == "The scanner has gone."
    assert cli.main([*arguments, "--note", "bug"]) == 1
    assert "\n" not in sentence(capsys)
    assert made(tmp_path) == set()


def test_all_results_or_none(mixed, images, tmp_path, monkeypatch, capsys):
    from MedImgAILib.hosts.files import atomic

    real = atomic._sync

    def full(path):
        if path.name.endswith("m.csv"):
            raise OSError(28, "No space left on device")
        real(path)

    monkeypatch.setattr(atomic, "_sync", full)
    outputs = ["--output", str(tmp_path / "o.nrrd"), "--measures", str(tmp_path / "m.csv")]
    assert cli.main([mixed.id, "--images", *images, *outputs]) == 2
    assert "m.csv' could not be written because the disk is full" in sentence(capsys)
    assert made(tmp_path) == set()


def test_missing_package(mixed, images, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Mixed, "requirements", ("no-such-package>=1",))
    assert cli.main([mixed.id, "--images", *images, "--output", str(tmp_path / "o.nrrd")]) == 2
    assert "not installed: no-such-package>=1" in sentence(capsys)


def test_picture_with_spacing(tmp_path, capsys):
    plane = np.arange(99, dtype=np.uint8).reshape(1, 9, 11)
    write_file(Volume(plane, Geometry.from_spacing(plane.shape)), tmp_path / "p.png")
    arguments = ["enhance.gaussian", "--input", str(tmp_path / "p.png"), "--output", str(tmp_path / "o.nrrd")]
    assert cli.main(arguments) == 2
    assert "give the size of a pixel in mm (--spacing-mm 0.2)" in sentence(capsys)
    assert cli.main([*arguments, "--spacing-mm", "0.25"]) == 0
    np.testing.assert_allclose(read_file(tmp_path / "o.nrrd").geometry.spacing[:2], 0.25)


def test_worker_computes_the_same_voxels(images, tmp_path):
    for runner in ("in-process", "worker"):
        arguments = ["--input", images[0], "--output", str(tmp_path / f"{runner}.nrrd"), "--runner", runner]
        assert cli.main(["enhance.gaussian", *arguments, "--sigma-mm", "1.5", "--quiet"]) == 0
    first, second = (read_file(tmp_path / f"{r}.nrrd") for r in ("in-process", "worker"))
    np.testing.assert_array_equal(first.array, second.array)


def test_internal_errors_go_to_the_log(mixed, monkeypatch, capsys, caplog):
    def fail(*arguments):
        raise KeyError("inner")

    monkeypatch.setattr(cli, "parse", fail)
    with caplog.at_level(logging.DEBUG, "MedImgAI"):
        assert cli.main([mixed.id]) == 1
    assert sentence(capsys).startswith("An internal error occurred (KeyError")
    assert any(record.exc_info for record in caplog.records)


def test_points_and_errors_of_inputs_come_before_anything_runs(mixed, images, tmp_path, monkeypatch):
    write_file(Points([[1, 2, 3]]), tmp_path / "p.mrk.json")
    monkeypatch.setattr(Mixed, "run", lambda *a: pytest.fail("it ran"))
    monkeypatch.setattr(Mixed, "validate", lambda self, i, p: (_ for _ in ()).throw(InputError("No.")))
    assert cli.main([mixed.id, "--images", *images, "--output", str(tmp_path / "o.nrrd")]) == 2


def test_a_parameter_that_is_switched_off_gets_a_warning(mixed, images, tmp_path, capsys):
    argv = ["test.mixed", "--images", *images, "--output", str(tmp_path / "o.nrrd"), "--terms", "3"]
    assert cli.main(argv) == 0
    assert "Warning: Terms has no effect; it counts only if --mode is sum.\n" in capsys.readouterr().err
    assert cli.main([*argv, "--mode", "sum"]) == 0
    assert "no effect" not in capsys.readouterr().err


def test_a_plot_is_written_only_when_asked_for(mixed, images, tmp_path, capsys):
    argv = ["test.mixed", "--images", *images, "--output", str(tmp_path / "o.nrrd")]
    assert cli.main(argv) == 0
    assert "499" not in capsys.readouterr().out
    assert cli.main([*argv, "--curve", str(tmp_path / "c.csv")]) == 0
    assert (tmp_path / "c.csv").read_text().splitlines()[-1] == "499"


def test_a_folder_is_no_output(mixed, images, tmp_path, capsys):
    assert cli.main(["test.mixed", "--images", *images, "--result", str(tmp_path)]) == 2
    assert "is a folder" in sentence(capsys) and made(tmp_path) == set()
