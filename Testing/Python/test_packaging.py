"""What CMake and pip install is what the tree holds, and the metadata is what the Extensions Index asks for."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODELS = "MedImgAI/Resources/Models/"
MODULES = ("MedImgAI", "MedImgAIReconstruct", "MedImgAIFusion")


def tracked(*patterns: str) -> set[str]:
    """Files of the tree below the given folders that git knows or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return {name for name in listed if (ROOT / name).exists()}


def product_files() -> set[str]:
    """Everything of the three modules that is meant for a user's machine."""
    return {f for f in tracked(*MODULES) if "/Testing/" not in f and not f.endswith("CMakeLists.txt")}


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The extension configured and installed with a stand-in for Slicer's build system."""
    folder = tmp_path_factory.mktemp("cmake")
    cmake = Path(sys.executable).with_name("cmake")
    cmake = str(cmake) if cmake.exists() else shutil.which("cmake")
    if cmake is None:
        pytest.skip("cmake is not installed")
    configure = [cmake, "-S", ROOT, "-B", folder / "build", f"-DSlicer_DIR={ROOT / 'Testing/cmake'}"]
    for language in ("C", "CXX"):  # nothing is compiled, so no compiler is needed
        configure += [f"-DCMAKE_{language}_COMPILER={sys.executable}", f"-DCMAKE_{language}_COMPILER_FORCED=ON"]
    for command in (configure, [cmake, "--install", folder / "build", "--prefix", folder / "package"]):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_file_is_installed(installed):
    package = installed / "package/lib/Slicer-5.12/qt-scripted-modules"
    found = {str(p.relative_to(package)) for p in package.rglob("*") if p.is_file()}
    expected = {name.split("/", 1)[1] for name in product_files()}
    assert found == expected


def test_each_module_is_a_unit_test(installed):
    tests = (installed / "build/unittests.txt").read_text().split()
    assert tests == [f"{m}.py" for m in MODULES]


def test_extension_metadata(installed):
    metadata = dict(line.split("=", 1) for line in (installed / "build/metadata.txt").read_text().splitlines())
    assert metadata["DEPENDS"] == "NA"
    assert not any("@" in value or "${" in value for value in metadata.values())
    for url in (metadata["ICONURL"], *metadata["SCREENSHOTURLS"].split()):
        relative = url.split("/main/", 1)[1]
        assert (ROOT / relative).exists(), f"{relative} is named in CMakeLists.txt but is not in the tree"


def test_index_entry():
    entry = json.loads((ROOT / "Resources/MedImgAI.json").read_text())
    allowed = {
        "$schema", "category", "scm_url", "scm_revision", "scm_type", "build_dependencies", "dicom_support_rule",
        "build_subdirectory", "enabled", "tier",
    }  # fmt: skip
    assert set(entry) <= allowed
    assert {"$schema", "category", "scm_url"} <= set(entry)
    assert entry["scm_url"].startswith("https://") and entry["build_dependencies"] == []


@pytest.mark.parametrize("icon", ["Resources/MedImgAI.png", *(f"{m}/Resources/Icons/{m}.png" for m in MODULES)])
def test_icons_are_128_pixels(icon):
    header = (ROOT / icon).read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", header[16:24]) == (128, 128)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Made by way of a source distribution, from a copy, so that setuptools leaves nothing in the tree."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "source"
    for name in tracked("pyproject.toml", "setup.py", "README.md", "LICENSE.txt", *MODULES):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    pack = "import setuptools.build_meta as b; print(b.build_sdist('..'))"
    done = subprocess.run([sys.executable, "-c", pack], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (source,) = folder.glob("*.tar.gz")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, source]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


def test_wheel_holds_the_three_libraries_and_the_models(wheel):
    packed = {n for n in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in n}
    expected = {n.split("/", 1)[1] for n in product_files() if re.match(r"\w+/\w+Lib/", n)}
    models = {n.replace("MedImgAI/", "MedImgAILib/", 1) for n in product_files() if n.startswith(MODELS)}
    assert len(models) > 5
    assert packed == expected | models
    entry_points = zipfile.ZipFile(wheel).read("medimgai-0.1.0.dist-info/entry_points.txt").decode()
    assert "medimgai = MedImgAILib.hosts.cli:main" in entry_points


FIND_MODELS = """
from MedImgAILib.core.model_package import ModelPackage
from MedImgAILib.networks.catalogue import read_catalogue
from MedImgAILib.networks.installed import SHIPPED, find_package
print(SHIPPED)
names = sorted(path.parent.name for path in SHIPPED.glob("*/model.json"))
for name in names:
    assert ModelPackage.load(SHIPPED / name).card.id == find_package(name).card.id == name
assert len(read_catalogue()) > 20
print(*names)
"""


def test_models_are_found_in_every_kind_of_installation(wheel, installed, tmp_path):
    """By the code that lies there, and by no other."""
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", tmp_path / "site"]
    subprocess.run([*command, wheel], check=True, capture_output=True)
    slicer = installed / "package/lib/Slicer-5.12/qt-scripted-modules"
    named = {n.split("/")[3] for n in product_files() if n.startswith(MODELS)}
    for library in (tmp_path / "site", slicer, ROOT / "MedImgAI"):
        environment = {**os.environ, "PYTHONPATH": str(library), "MEDIMGAI_MODELS": str(tmp_path / "own")}
        command = [sys.executable, "-c", FIND_MODELS]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        folder, names = done.stdout.splitlines()
        assert Path(folder).is_relative_to(library.resolve()) and set(names.split()) == named


def test_requirement_files_agree_with_the_tasks():
    """Each package that a task asks for stands in a requirements file of its module, with >= and without torch."""
    from MedImgAILib.core import registry
    from MedImgAILib.core.packages import distribution_name

    bundled = {"numpy", "scipy", "simpleitk", "vtk", "pydicom", "torch", "slicer"}
    listed = {}
    for module in MODULES:
        lines = [
            line.strip()
            for path in (ROOT / module / "Resources").glob("requirements*.txt")
            for line in path.read_text().splitlines()
            if line.strip() and not line.startswith("#")
        ]
        assert all(">=" in line and "==" not in line for line in lines), lines
        listed[module] = set(lines)
        assert not {distribution_name(line).lower() for line in lines} & bundled
    for task in registry():
        for requirement in task.requirements:
            if distribution_name(requirement).lower() not in bundled:
                module = task.library.removesuffix("Lib")
                assert requirement in listed[module], f"{task.id} needs {requirement}"
