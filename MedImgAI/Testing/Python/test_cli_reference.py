"""The reference documentation says everything that a declaration says."""

from __future__ import annotations

from MedImgAILib.core import registry
from MedImgAILib.hosts.cli import main


def test_every_declaration_is_documented(capsys):
    assert main(["tasks", "--markdown"]) == 0
    page = capsys.readouterr().out
    sections = {}
    for text in page.split("\n### ")[1:]:
        sections[text.split("`")[1]] = text
    assert set(sections) == {task.id for task in registry()}
    for task in registry():
        text = sections[task.id]
        assert task.summary in text
        for port in (*task.inputs, *task.outputs):
            assert f"| `{port.name}` |" in text
        for parameter in task.parameters:
            row = next(line for line in text.splitlines() if line.startswith(f"| `{parameter.name}`"))
            assert parameter.title in row and row.replace("\\|", "").count("|") == 5
            assert not parameter.unit or f" {parameter.unit} |" in row
        for line in (*task.references, *task.requirements):
            assert line in text


def test_unknown_option_is_named(capsys):
    assert main(["tasks", "--html"]) == 2
    assert "--html" in capsys.readouterr().err
