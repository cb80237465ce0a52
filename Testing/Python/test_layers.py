"""The layers of docs/architecture.md: an import only ever points down."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "MedImgAI/MedImgAILib"
LEVELS = {"core": 0, "tasks": 1, "runners": 2, "hosts": 3, "panel": 4}


def layer(module: str) -> str:
    """The layer of a dotted module name of the product."""
    parts = module.split(".")
    if parts[0] != "MedImgAILib":
        return "tasks"
    if len(parts) == 1 or parts[1] == "__version__":
        return "core"  # the package itself holds the version only
    if parts[1] == "__main__":
        return "hosts"
    return parts[1] if parts[1] in LEVELS else "tasks"


def module_name(path: Path) -> str:
    base = next(p for p in path.parents if p.parent.parent == ROOT and p.name.endswith("Lib"))
    parts = path.relative_to(base.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path):
    """Absolute names of the product's modules that a file imports, at any depth of its code."""
    name = module_name(path)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
            stem = ".".join(filter(None, (base, node.module)))
            names = [f"{stem}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (n for n in names if n.split(".")[0].startswith("MedImgAI"))


FILES = sorted(p for lib in ROOT.glob("MedImgAI*/*Lib") for p in lib.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path):
    own = layer(module_name(path))
    for name in imported(path):
        other = layer(name)
        assert LEVELS[other] <= LEVELS[own], f"{own} imports {name} of {other}"
        if own == "core":
            assert other == "core", f"core imports {name}"


def test_a_task_never_touches_mrml_qt_or_http():
    """Tasks and core see arrays only, so that they run on a server or in a worker without Slicer."""
    forbidden = {"slicer", "qt", "ctk", "vtk", "http", "requests", "socket"}
    for path in FILES:
        if LEVELS[layer(module_name(path))] > 1:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = (
                [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom) and not node.level
                else []
            )
            assert not {n.split(".")[0] for n in names} & forbidden, f"{path.name} imports {names}"
