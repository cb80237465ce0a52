"""What the pages print can be typed: commands, task names, parameters, files and benchmarks exist."""

import re
import shlex
from functools import cache
from pathlib import Path

import pytest
from MedImgAILib.core import registry
from MedImgAILib.hosts.cli_arguments import parse, task_parser
from MedImgAILib.hosts.files.api import check_suffix
from MedImgAILib.hosts.model_cli import _parser as models_parser

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLE = "MedImgAI/MedImgAILib/enhance/invert.py"
"""The file that a reader is told to write."""
GROUPS = "annotate|cases|classify|decision|enhance|evaluate|explain|features|fusion|reconstruct|segment|train"


@cache
def options() -> set[str]:
    """Of all tasks, of the command itself and of the scripts."""
    found = {"--markdown"}
    for task in registry():
        found |= {option for action in task_parser(task)[0]._actions for option in action.option_strings}
    library = ROOT / "MedImgAI"
    for file in (library / "MedImgAILib" / "hosts" / "model_cli.py", *(library / "Scripts").glob("*.py")):
        found |= set(re.findall(r'add_argument\(\s*"(--[a-z-]+)"', file.read_text(encoding="utf-8")))
    return found


def code_lines(page: Path):
    """Lines of code blocks, fenced or indented, joined where they go on; without comments."""
    fenced, joined = False, ""
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    ") or joined:
            joined += line.strip()
            if joined.endswith("\\"):
                joined = joined[:-1]
                continue
            yield joined.partition("  #")[0]
            joined = ""


def commands():
    for page in PAGES:
        for line in code_lines(page):
            if "…" in line:
                continue
            words = shlex.split(line) if re.match(r"(medimgai|torchrun) |.* -m MedImgAILib ", line) else []
            for start in ("medimgai", "MedImgAILib"):
                if start in words:
                    yield pytest.param(words[words.index(start) + 1 :], id=f"{page.stem}: {line[:60]}")


@pytest.mark.parametrize("words", list(commands()))
def test_commands_of_the_pages_are_understood(words):
    if words[0] == "models":
        models_parser().parse_args(words[1:])
        return
    if words[0] in ("tasks", "--version") or words[1:] == ["--help"]:
        assert words[0] in ("tasks", "--version") or registry()[words[0]]
        return
    task = registry()[words[0]]
    arguments = parse(task, words[1:])
    task.checked_parameters(arguments.parameters)
    for port in task.inputs:
        files = arguments.inputs.get(port.name, [])
        assert files or port.optional, f"{port.name} is missing"
        for file in files:
            if file.suffix:
                check_suffix(file, port)
    ports = {port.name: port for port in task.outputs}
    for name, file in arguments.outputs.items():
        check_suffix(file, ports[name])


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_tasks_options_files_and_benchmarks_of_the_pages_exist(page):
    text = page.read_text(encoding="utf-8")
    known = {task.id for task in registry()}
    for name in re.findall(rf"`((?:{GROUPS})\.[a-z0-9_]+)`", text):
        assert name in known or (ROOT / name).exists(), name
    for target in re.findall(r"\]\(([^)#: ]+)(?:#[^)]*)?\)", text):
        assert (page.parent / target).exists(), target
    for name in re.findall(r"make bench NAME=(\w+)", text):
        assert (ROOT / "Testing" / "Benchmarks" / f"{name}.py").exists(), name
    for name in re.findall(r"\b((?:MedImgAI|MedImgAIFusion|MedImgAIReconstruct|Testing|Demo)/[\w/.-]+\.\w+)", text):
        assert name == EXAMPLE or (ROOT / name).exists(), name
    for name in re.findall(r"`(--[a-z-]+)[ `]", text):
        assert name in options(), name
