"""The stand-in's errors, dialogs, packages and module logics are those of Slicer."""

from __future__ import annotations

import subprocess
import sys

import pytest
from slicer_standin import surface

from slicer_standin.fixtures import slicer_app  # noqa: F401  isort: skip

import qt
import slicer
import slicer.packaging


def test_slot_errors_are_collected_not_raised(slicer_app):  # noqa: F811
    button = qt.QPushButton("x")
    button.clicked.connect(lambda: 1 / 0)
    button.click()
    qt.QTimer.singleShot(0, lambda: [][1])
    slicer_app.flush(10)
    assert ["ZeroDivisionError" in slicer_app.errors[0], "IndexError" in slicer_app.errors[1]] == [True, True]
    slicer_app.errors.clear()


def test_dialogs_are_recorded_and_answered(slicer_app):  # noqa: F811
    slicer.util.errorDisplay("The input volume is empty.", detailedText="trace")
    assert slicer.util.confirmOkCancelDisplay("Install?") is True
    slicer_app.answers.extend([False, "/data/ct.nii.gz"])
    assert slicer.util.confirmYesNoDisplay("Sure?") is False
    assert qt.QFileDialog.getOpenFileName(None, "Open") == "/data/ct.nii.gz"
    assert [dialog.kind for dialog in slicer_app.dialogs] == ["error", "question", "question", "getOpenFileName"]
    assert slicer_app.dialogs[0].details["detailedText"] == "trace"
    with pytest.raises(RuntimeError), slicer.util.tryWithErrorDisplay("Failed."):
        raise RuntimeError("no")


@pytest.mark.parametrize("outcome", ["accepted", "declined", "failed", "restart"])
def test_package_installation_outcomes(slicer_app, outcome):  # noqa: F811
    slicer_app.app.setTestingEnabled(False)
    slicer_app.packages.outcome = outcome
    assert slicer.packaging.pip_check("numpy>=1.20") and not slicer.packaging.pip_check("numpy>=99")
    slicer_app.packages.missing = {"nibabel"}
    expected = {"declined": RuntimeError, "failed": subprocess.CalledProcessError}.get(outcome)
    if expected:
        with pytest.raises(expected):
            slicer.packaging.pip_ensure("nibabel>=5", requester="Test")
        assert slicer_app.packages.installed == []
    else:
        slicer.packaging.pip_ensure("nibabel>=5", requester="Test")
        assert slicer_app.packages.installed == ["nibabel>=5"] and slicer.packaging.pip_check("nibabel")
    restarted = [name for name, *_ in slicer_app.view_calls if name == "restart"]
    assert restarted == (["restart"] if outcome == "restart" else [])


@pytest.mark.skipif(surface.full() is None, reason="the full list of Slicer's names is not here (MEDIMGAI_SLICER_API)")
def test_names_that_slicer_lacks_are_refused_to_the_project(slicer_app):  # noqa: F811
    """PySide 6 has accessibleIdentifier and setRowVisible; Qt 5 in Slicer has not."""
    with pytest.raises(AttributeError, match="does not exist in Slicer"):
        qt.QChronoTimer  # noqa: B018
    for source in ("qt.QWidget().accessibleIdentifier", "qt.QFormLayout().setRowVisible(0, True)"):
        code = compile(source, str(surface.REPOSITORY / "MedImgAI" / "imagined.py"), "eval")
        with pytest.raises(AttributeError, match="does not exist in Slicer"):
            eval(code, {"qt": qt})
    assert qt.QFormLayout().setRowVisible  # Qt itself and the tests may use it


def test_errors_left_behind_fail_a_test(slicer_app):  # noqa: F811
    slicer_app.state.raise_leftover_errors()
    button = qt.QPushButton("x")
    button.clicked.connect(lambda: {}["missing"])
    button.click()
    with pytest.raises(AssertionError, match="KeyError: 'missing'"):
        slicer_app.state.raise_leftover_errors()


def test_errors_in_observers_are_collected(slicer_app):  # noqa: F811
    def observer(caller, event):
        raise LookupError("observer")

    slicer_app.scene.AddObserver(slicer.vtkMRMLScene.NodeAddedEvent, observer)
    slicer_app.scene.AddNewNodeByClass("vtkMRMLModelNode", "skin")
    assert "LookupError: observer" in "".join(slicer_app.errors)
    slicer_app.errors.clear()


def test_nothing_is_really_installed(slicer_app):  # noqa: F811
    slicer.util.pip_install("no-such-package-at-all")
    assert slicer_app.packages.installed == ["no-such-package-at-all"]
    with pytest.raises(ImportError):
        import PyTorchUtils  # noqa: F401
    slicer_app.provide_pytorch_extension()
    slicer_app.packages.torch_installed = False
    from PyTorchUtils import PyTorchUtilsLogic

    assert not PyTorchUtilsLogic.torchInstalled()
    slicer_app.packages.outcome = "declined"
    assert PyTorchUtilsLogic().installTorch(askConfirmation=True) is None
    slicer_app.packages.outcome = "accepted"
    assert PyTorchUtilsLogic().installTorch(askConfirmation=True, torchVersionRequirement=">=2.2") is not None
    assert PyTorchUtilsLogic.torchInstalled() and "PyTorchUtils" in sys.modules


def test_logics_of_slicers_modules(slicer_app):  # noqa: F811
    logic = slicer.util.getModuleLogic("Volumes")
    assert logic is slicer.modules.volumes.logic() and logic.GetMRMLScene() is slicer_app.scene
    node = slicer_app.scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    node.GetSegmentation().AddEmptySegment("liver", "Liver")
    view = slicer.qMRMLSegmentsTableView()
    view.setSegmentationNode(node)
    assert view.segmentCount == 1 and view.tableWidget().item(0, 1).text() == "Liver"
