"""The form in which benchmarks report."""

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


def test_core_is_among_the_benchmarks():
    assert "core" in run.names() and "run" not in run.names()
