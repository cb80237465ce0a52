"""A bare Slicer brings NumPy, SciPy, SimpleITK, VTK and pydicom: everything imports and opens with nothing more."""

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = ("MedImgAILib", "MedImgAIReconstructLib", "MedImgAIFusionLib")
BROUGHT = {"numpy", "scipy", "simpleitk", "vtk", "pydicom", "requests", "packaging", "slicer-core"}
HIDE = """
import importlib.abc, sys
class Bare(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in HIDDEN:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
sys.meta_path.insert(0, Bare())
"""


def hidden(also: tuple[str, ...]) -> set[str]:
    """The modules that are installed here and that a bare Slicer lacks."""
    allowed = BROUGHT | set(also)
    return {
        module
        for module, names in metadata.packages_distributions().items()
        if not any(name.lower().replace("_", "-") in allowed for name in names) and not module.startswith("MedImgAI")
    }


def run(script: str, *also: str) -> str:
    """Run a script where only the packages of a bare Slicer, and ``also``, can be imported."""
    folders = [ROOT / "Testing", *(ROOT / name for name in ("MedImgAI", "MedImgAIReconstruct", "MedImgAIFusion"))]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, folders)), "QT_QPA_PLATFORM": "offscreen"}
    script = f"HIDDEN = {hidden(also)!r}\n{HIDE}{script}"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_module_imports(library):
    """All but the panels, which the test below opens."""
    names = run(
        "import importlib, pkgutil\n"
        f"package = importlib.import_module({library!r})\n"
        f"for info in pkgutil.walk_packages(package.__path__, {library!r} + '.'):\n"
        "    if '.panel' not in info.name and not info.name.endswith('__main__'):\n"
        "        importlib.import_module(info.name); print(info.name)\n"
    ).split()
    assert len(names) > 8


@pytest.mark.parametrize("name", ["MedImgAI", "MedImgAIReconstruct", "MedImgAIFusion"])
def test_every_task_shows_its_panel(name):
    """Each task is chosen in turn, as its rows ask the hosts for node classes and file types."""
    shown = run(
        "import slicer_standin; slicer_standin.install()\n"
        "from slicer_standin import loading; from slicer_standin.application import application, new_scene\n"
        "from slicer_standin.state import STATE; import slicer\n"
        "app = application(); app.useScene(new_scene())\n"
        f"panel = loading.load_module({name!r}).open().panel\n"
        "from MedImgAILib.core.registry import registry\n"
        "assert not registry().failures, registry().failures\n"
        "for task in panel.tasks.values():\n"
        "    panel._task_chosen(task); print(task.id)\n"
        "    assert panel.task is task and not STATE.errors, STATE.errors\n",
        "pyside6-essentials",
        "shiboken6",
    ).split()
    assert shown
