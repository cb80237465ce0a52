"""Optional packages: asked for at Apply, installed with consent, and each way that can end."""

import logging
import sys
from importlib import metadata
from pathlib import Path

import panel_testing as pt
import pytest
from MedImgAILib.core.errors import MissingPackageError
from MedImgAILib.hosts import slicer_packages
from panel_testing import extra_tasks  # noqa: F401
from slicer_standin.fixtures import slicer_app  # noqa: F401


@pytest.fixture
def driver(slicer_app, extra_tasks, monkeypatch):  # noqa: F811
    """A panel whose task needs packages that the stand-in says are missing."""
    slicer_app.app.setTestingEnabled(False)
    driver = pt.PanelDriver(slicer_app, "MedImgAI")
    pt.add_volume(slicer_app.scene)
    slicer_app.flush()
    driver.misbehave("double")
    need(driver, monkeypatch, "nosuchpackage>=1.2")
    return driver


def need(driver, monkeypatch, *requirements):
    """Let the task need packages of the stand-in's; the real check is by what is really installed."""
    packages = driver.app.packages

    def missing_packages():
        def is_there(requirement):
            name = requirement.split(">")[0]
            installed = {entry.split(">")[0] for entry in packages.installed}
            return name in installed

        return tuple(r for r in requirements if not is_there(r))

    task = driver.panel.task
    monkeypatch.setattr(task, "requirements", requirements, raising=False)
    monkeypatch.setattr(task, "missing_packages", missing_packages, raising=False)


def test_accepted_and_the_run_goes_on(driver, extra_tasks, monkeypatch):  # noqa: F811
    restarts = []
    monkeypatch.setattr(extra_tasks, "restart", lambda: restarts.append(True))
    driver.apply()
    assert driver.app.packages.installed == ["nosuchpackage>=1.2"]
    assert driver.app.packages.requesters == ["MedImgAI"]
    assert restarts == [True]
    driver.finish()
    assert driver.status.startswith("Misbehave finished")
    assert "Installed nosuchpackage>=1.2." in driver.ui.logText.toPlainText()
    driver.apply()
    driver.finish()
    assert len(driver.app.dialogs) == 1 and restarts == [True], "nothing is asked a second time"


def test_declined_changes_nothing(driver, caplog):
    driver.app.packages.outcome = "declined"
    before = pt.snapshot(driver.app.scene)
    driver.apply()
    assert not driver.panel.run.is_running
    assert driver.status == (
        "'Misbehave' was not run, because nosuchpackage>=1.2 may not be installed; nothing was changed."
    )
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING], "a choice, not a fault"
    assert driver.app.packages.installed == [] and pt.snapshot(driver.app.scene) == before
    assert driver.ui.applyButton.text == "Apply" and driver.ui.applyButton.enabled


def test_failed_is_a_sentence_with_details_in_the_log(driver, caplog):
    driver.app.packages.outcome = "failed"
    with caplog.at_level(logging.ERROR, logger="MedImgAI"):
        driver.apply()
    assert not driver.panel.run.is_running
    assert "could not be installed; check the network connection" in driver.status
    assert "CalledProcessError" in caplog.text and "pip install" in caplog.text


def test_another_installation_under_way_is_no_refusal(driver):
    driver.app.packages.in_progress = True
    driver.apply()
    assert "nosuchpackage>=1.2 could not be installed" in driver.status


def test_an_update_in_use_needs_a_restart(driver, monkeypatch):
    versions = {"numpy": ["2.0.0", "2.1.0"]}
    monkeypatch.setattr(slicer_packages, "_versions_in_use", lambda: {"numpy": "2.0.0"})
    real = slicer_packages._version
    monkeypatch.setattr(slicer_packages, "_version", lambda name: versions[name][1] if name in versions else real(name))
    driver.apply()
    assert not driver.panel.run.is_running
    assert driver.status == (
        "The packages for 'Misbehave' were installed; restart Slicer before you use it, because numpy was updated "
        "while in use."
    )


def test_torch_needs_the_pytorch_extension(driver, monkeypatch):
    need(driver, monkeypatch, "torch>=2.2", "nosuchpackage>=1.2")
    driver.apply()
    assert "install the extension 'PyTorch' in the Extensions Manager" in driver.status
    assert driver.app.packages.installed == [] and driver.app.dialogs == []


def test_torch_comes_through_the_pytorch_extension(driver, monkeypatch):
    need(driver, monkeypatch, "torch>=2.2", "nosuchpackage>=1.2")
    driver.app.provide_pytorch_extension(True)
    real = slicer_packages._version
    monkeypatch.setattr(slicer_packages, "_version", lambda name: None if name == "torch" else real(name))
    driver.app.answers.append(False)
    driver.apply()
    assert "may not be installed; nothing was changed" in driver.status and driver.app.packages.installed == []
    driver.apply()
    assert driver.app.packages.installed == ["torch>=2.2", "nosuchpackage>=1.2"]
    assert len(driver.app.dialogs) == 2, "one question for all packages"
    driver.finish()
    assert driver.status.startswith("Misbehave finished")


def test_an_old_torch_is_not_replaced(driver, monkeypatch):
    need(driver, monkeypatch, "torch>=99")
    driver.app.provide_pytorch_extension(True)
    driver.apply()
    assert f"needs torch>=99, but torch {metadata.version('torch')} is installed" in driver.status
    assert driver.app.packages.installed == []


def test_nothing_is_installed_while_slicer_runs_tests(driver):
    driver.app.app.setTestingEnabled(True)
    driver.apply()
    assert "needs Python packages that are not installed: nosuchpackage>=1.2" in driver.status
    assert driver.app.packages.installed == []


def test_packages_of_slicer_are_pinned(driver, monkeypatch):
    import slicer.packaging

    seen = {}

    def pip_ensure(requirements, constraints, skip_packages, **options):
        seen.update(requirements=requirements, lines=Path(constraints).read_text().splitlines(), skip=skip_packages)
        driver.app.packages.installed.extend(requirements)

    monkeypatch.setattr(slicer.packaging, "pip_ensure", pip_ensure)
    driver.apply()
    for name in ("numpy", "scipy", "SimpleITK", "vtk", "pydicom", "torch"):
        assert f"{name}=={metadata.version(name)}" in seen["lines"]
    assert seen["requirements"] == ["nosuchpackage>=1.2"] and seen["skip"] is None
    driver.finish()


def test_constraints_without_metadata_or_torch(tmp_path, monkeypatch):
    """A package that pip does not know of is skipped, and no package can bring a PyTorch of its own."""
    real = metadata.version

    def version(name):
        if name in ("vtk", "torch", "torchvision", "torchaudio"):
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", version)
    assert slicer_packages.write_constraints(tmp_path / "constraints.txt") == ["vtk"]
    lines = (tmp_path / "constraints.txt").read_text().splitlines()
    assert "torch<0" in lines and not any(line.startswith("vtk") for line in lines)


def test_pip_understands_the_constraints(tmp_path):
    """The real pip keeps what is installed: a request that contradicts it fails instead of replacing it."""
    import subprocess

    path = tmp_path / "constraints.txt"
    slicer_packages.write_constraints(path)
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "-c", str(path)]
    result = subprocess.run([*command, "numpy"], capture_output=True, text=True)
    assert result.returncode == 0 and "Would install" not in result.stdout, result.stderr
    result = subprocess.run([*command, "numpy<1"], capture_output=True, text=True)
    assert result.returncode != 0


def test_outside_slicer_there_is_only_the_sentence(monkeypatch):
    from MedImgAILib.core import Task

    class Needy(Task):
        id = "test.needy"
        title = "Needy"
        requirements = ("nosuchpackage>=1",)

    monkeypatch.setattr(slicer_packages, "_slicer_application", lambda: None)
    with pytest.raises(
        MissingPackageError, match="'Needy' needs Python packages that are not installed: nosuchpackage"
    ):
        slicer_packages.ensure(Needy())
    monkeypatch.setattr(Needy, "requirements", ())
    assert slicer_packages.ensure(Needy()) is False
