"""The form in which benchmarks report."""

import importlib
import json
import sys
from types import ModuleType

import pytest
from Benchmarks import measuring, run


@pytest.mark.parametrize(
    ("value", "goal", "met"),
    [(1.9, "< 2", True), (2, "< 2", False), (2, "≤ 2", True), (3, "> 2", True), (1, "= 1", True), (None, "< 2", False),
     (float("nan"), "< 2", False)],
)  # fmt: skip
def test_row_tells_whether_the_goal_is_met(value, goal, met):
    row = measuring.row("f", value, goal, "s")
    assert row["met"] is met and row["ours"] is row["value"] is value and row["peer"] is None
    assert list(row) == ["figure", "ours", "peer", "value", "goal", "unit", "met"]


def test_interleaved_takes_turns():
    calls = []
    ours, peer = measuring.interleaved(lambda: calls.append("o"), lambda: calls.append("p"), 3)
    assert "".join(calls) == "op" + "po" + "op" + "po"
    assert ours >= 0 and peer >= 0


def test_run_prints_and_writes(tmp_path, capsys, monkeypatch):
    module = ModuleType("Benchmarks.made_up")
    module.rows = lambda: [measuring.row("speed", 0.5, "< 1", "s"), measuring.row("ratio", 3.0, "< 2", "", 6.0, 2.0)]
    monkeypatch.setitem(sys.modules, "Benchmarks.made_up", module)
    monkeypatch.setattr(run, "names", lambda: ["made_up"])
    run.main(["made_up", "--output", str(tmp_path / "out")])
    assert json.loads((tmp_path / "out" / "made_up.json").read_text()) == module.rows()
    printed = capsys.readouterr().out
    assert "1 of 2 goals met" in printed and "NO" in printed
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["made_up.json"]


def test_a_part_that_fails_loses_nothing(tmp_path, capsys, monkeypatch):
    """What the others gave is in the file, and the failure is a row whose goal is missed."""

    def good():
        return [measuring.row("speed", 0.5, "< 1", "s")]

    def bad():
        assert len(json.loads((tmp_path / "made_up.json").read_text())) == 1
        raise ValueError("no such peer")

    module = ModuleType("Benchmarks.made_up")
    module.PARTS = (good, bad, good)
    monkeypatch.setitem(sys.modules, "Benchmarks.made_up", module)
    monkeypatch.setattr(run, "names", lambda: ["made_up"])
    run.main(["made_up", "--output", str(tmp_path)])
    rows = json.loads((tmp_path / "made_up.json").read_text())
    assert [row["met"] for row in rows] == [True, False, True] and rows[1]["value"] is None
    assert "no such peer" in rows[1]["figure"] and "2 of 3 goals met" in capsys.readouterr().out


def test_core_is_among_the_benchmarks():
    assert "core" in run.names() and "run" not in run.names()
    for name in run.names():
        module = importlib.import_module(f"Benchmarks.{name}")
        assert all(callable(part) for part in getattr(module, "PARTS", ()) or (module.rows,))


def test_strokes_for_the_pixel_classifier():
    """In every sixth slice all of the lesion, and some of what is bright beside it."""
    import numpy as np
    from Benchmarks.segmentation_classical import _strokes
    from MedImgAILib.core import Geometry, Volume

    lesion = np.zeros((13, 20, 20), bool)
    lesion[4:8, 5:9, 5:9] = True
    image = Volume(np.ones(lesion.shape, np.float32), Geometry.from_spacing(lesion.shape))
    painted = _strokes(image, lesion).layers[0]
    assert set(np.flatnonzero(painted.any(axis=(1, 2)))) == {0, 6, 12}
    assert ((painted == 2) == (lesion & (np.arange(13) % 6 == 0)[:, None, None])).all()
    assert 20 < (painted == 1).sum() < 120
