"""The panel of MedImgAIReconstruct: raw data from files, which no node of the scene can hold."""

import json

import numpy as np
import panel_testing as pt
import pytest
from panel_testing import extra_tasks  # noqa: F401
from slicer_standin.fixtures import slicer_app  # noqa: F401


@pytest.fixture
def driver(slicer_app, extra_tasks):  # noqa: F811
    driver = pt.PanelDriver(slicer_app, "MedImgAIReconstruct")
    driver.choose("reconstruct.fft")
    return driver


@pytest.fixture
def scan(tmp_path):
    """One coil, two slices of a square, as k-space in a file."""
    image = np.zeros((2, 16, 24))
    image[:, 4:9, 6:18] = 7.0
    shifted = np.fft.ifftshift(image[None], axes=(-2, -1))
    kspace = np.fft.fftshift(np.fft.fft2(shifted, norm="ortho"), axes=(-2, -1))
    np.save(tmp_path / "scan.npy", kspace.astype(np.complex64))
    description = {"type": "KSpace", "spacing_mm": [1.0, 1.5, 4.0]}
    (tmp_path / "scan.json").write_text(json.dumps(description))
    return tmp_path / "scan.npy", image


def test_a_file_is_chosen_remembered_and_reconstructed(driver, scan):
    import slicer

    path, image = scan
    assert driver.ui.applyButton.toolTip == "k-space: select a k-space data set."
    assert "*.npy" in driver.input("kspace").nameFilters[0]
    driver.input("kspace").currentPath = str(path)
    assert driver.ui.applyButton.enabled
    driver.choose("reconstruct.fbp")
    driver.choose("reconstruct.fft")
    assert driver.input("kspace").currentPath == str(path)
    driver.apply()
    driver.finish()
    (node,) = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    np.testing.assert_allclose(slicer.util.arrayFromVolume(node), image, atol=1e-4)
    np.testing.assert_allclose(node.GetSpacing(), (1.0, 1.5, 4.0))


@pytest.mark.parametrize("content", [None, b"", b"no array at all"])
def test_a_bad_file_is_one_sentence(driver, tmp_path, content):
    path = tmp_path / "bad.npy"
    if content is not None:
        path.write_bytes(content)
    driver.input("kspace").currentPath = str(path)
    before = pt.snapshot(driver.app.scene)
    driver.apply()
    assert not driver.panel.run.is_running
    assert "bad.npy" in driver.status and driver.status.endswith(".")
    assert pt.snapshot(driver.app.scene) == before and driver.app.dialogs == []
