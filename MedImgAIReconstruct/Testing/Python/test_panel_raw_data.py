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


def test_projections_go_through_the_scene(driver, tmp_path):
    """Simulate, save and load the scene, reconstruct: the image is back in its place, and no file was chosen."""
    import slicer
    from MedImgAILib.hosts import mrml

    head = pt.add_volume(slicer.mrmlScene, "Head", shape=(3, 32, 32), low=0.0, high=0.02)
    head.SetSpacing(1.5, 1.5, 4.0)
    head.SetOrigin(10.0, -20.0, 30.0)
    y, x = np.mgrid[:32, :32] - 15.5
    slicer.util.updateVolumeFromArray(head, np.broadcast_to(0.02 * (x**2 + (y - 3) ** 2 < 60), (3, 32, 32)).astype("f"))
    driver.app.flush()
    driver.choose("reconstruct.simulate_projections")
    task, state = driver.panel.task, driver.panel.state
    port = task.port("sinogram")
    assert not state.is_output_on(task, port)
    state.set_output_on(task, port, True)
    assert state.is_output_on(task, port)
    state.set_output_on(task, port, False)
    driver.apply()
    driver.finish()
    assert driver.status.startswith("Simulate a CT scan finished")
    (projections,) = [n for n in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if n.GetName() == "Head scan"]
    assert slicer.util.arrayFromVolume(projections).shape[0] == 360
    mrml.save_scene(slicer.mrmlScene, tmp_path / "scan.mrb")
    loaded = mrml.new_scene()
    mrml.load_scene(loaded, tmp_path / "scan.mrb")
    again = mrml.read_node(loaded.GetFirstNodeByName("Head scan"), port=driver.panel.tasks["reconstruct.fbp"].inputs[0])
    np.testing.assert_array_equal(again.array, slicer.util.arrayFromVolume(projections))
    driver.choose("reconstruct.fbp")
    selector = driver.panel.rows.inputs["projections"]
    assert selector.candidates() == [projections]
    driver.input("projections").setCurrentNode(projections)
    driver.input("reference").setCurrentNode(head)
    driver.apply()
    driver.finish()
    assert driver.status.startswith("Filtered back-projection finished")
    (result,) = [n for n in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if "back-projection" in n.GetName()]
    truth, found = (slicer.util.arrayFromVolume(node) for node in (head, result))
    assert np.corrcoef(truth.ravel(), found.ravel())[0, 1] > 0.97
    np.testing.assert_allclose(result.GetOrigin(), head.GetOrigin(), atol=1e-6)


def test_what_is_no_projections_is_refused(driver):
    import slicer
    from MedImgAILib.core import InputError
    from MedImgAILib.hosts import mrml

    node = pt.add_volume(slicer.mrmlScene, "Head")
    port = driver.panel.tasks["reconstruct.fbp"].inputs[0]
    with pytest.raises(InputError, match="'Head' holds no projections"):
        mrml.read_node(node, port)
    for damaged in ("{", '{"kind": "cone"}', '{"kind": "helix", "angles_rad": [0, 1, 2, 3, 4, 5]}', "[1]"):
        node.SetAttribute("MedImgAI.Scan", damaged)
        with pytest.raises(InputError, match=r"\.$"):
            mrml.read_node(node, port)
    node.SetAttribute("MedImgAI.Scan", '{"kind": "parallel", "angles_rad": [0, 1]}')
    with pytest.raises(InputError, match="6 views but 2 angles"):
        mrml.read_node(node, port)
