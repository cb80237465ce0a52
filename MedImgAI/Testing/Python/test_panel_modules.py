"""The three modules: what Slicer is told of them, their frames, their own tests, and a picture of each panel."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import panel_testing as pt
import pytest
from panel_testing import extra_tasks  # noqa: F401
from slicer_standin.fixtures import slicer_app  # noqa: F401

ROOT = Path(__file__).resolve().parents[3]
CATEGORIES = {
    "MedImgAI": ("MedImgAI", "Segmentation", ["Segmentations"]),
    "MedImgAIReconstruct": ("MedImgAI Reconstruct", "Tomographic Reconstruction", ["MedImgAI"]),
    "MedImgAIFusion": ("MedImgAI Fusion", "Registration", ["MedImgAI"]),
}
SECTIONS = ["Task", "Inputs", "Parameters", "Advanced", "Outputs", "Run", "Results", "Log"]


@pytest.fixture(params=CATEGORIES)
def name(request):
    return request.param


def test_what_slicer_is_told(slicer_app, name):  # noqa: F811
    module = slicer_app.load_module(name).module
    title, category, dependencies = CATEGORIES[name]
    assert (module.title, list(module.categories), list(module.dependencies)) == (title, [category], dependencies)
    assert list(module.contributors) == ["MedImgAI contributors"]
    assert "research use only" in module.helpText and 'href="https://' in module.helpText
    assert len(module.acknowledgementText.strip()) > 40 and not module.icon.isNull()


def test_frame_is_the_same_for_all(name):
    def text(module):
        return (ROOT / module / "Resources" / "UI" / f"{module}.ui").read_text(encoding="utf-8").replace(module, "@")

    assert text(name) == text("MedImgAI")
    tree = ElementTree.fromstring(text(name))
    sections = [
        widget.find("property[@name='text']/string").text
        for widget in tree.iter("widget")
        if widget.get("class") == "ctkCollapsibleButton"
    ]
    assert sections == SECTIONS
    assert tree.find("widget").get("class") == "qMRMLWidget"


def test_own_tests_pass(slicer_app, name):  # noqa: F811
    loaded = slicer_app.load_module(name)
    case = getattr(loaded.python, f"{name}Test")()
    case.messageDelay = 1
    case.runTest()


def test_sample_data(slicer_app, name):  # noqa: F811
    import slicer

    loaded = slicer_app.load_module(name)
    slicer.modules.sampleDataSources.clear()
    loaded.python.registerSampleData()
    sources = slicer.modules.sampleDataSources["MedImgAI"]
    assert sources and len(sources) == len({source.sampleName for source in sources})
    for source in sources:
        assert Path(source.thumbnailFileName).is_file()
        if source.customDownloader:
            (node,) = source.customDownloader(source)
            assert node.GetImageData().GetScalarRange()[1] > 0
            continue
        for uri, checksum in zip(source.uris, source.checksums, strict=True):
            digest = re.fullmatch("SHA256:([0-9a-f]{64})", checksum).group(1)
            assert uri == f"https://github.com/Slicer/SlicerTestingData/releases/download/SHA256/{digest}"


def test_without_the_library_there_is_a_sentence(slicer_app, name, monkeypatch):  # noqa: F811
    import builtins

    import qt

    loaded = slicer_app.load_module(name)
    real = builtins.__import__

    def broken(module, *args, **kwargs):
        if module.startswith("MedImgAILib.panel"):
            raise ImportError("no library")
        return real(module, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", broken)
    widget = loaded.open()
    loaded.leave()
    labels = [label.text for label in loaded.container.findChildren(qt.QLabel)]
    assert any("add the folder MedImgAI to the module paths" in text for text in labels)
    assert widget.panel is None and slicer_app.errors == []


def test_frame_fits_a_narrow_panel(slicer_app, extra_tasks, name, tmp_path):  # noqa: F811
    """Every task's form fits the width that Slicer's module panel has at least, and has nothing cut off."""
    driver = pt.PanelDriver(slicer_app, name)
    for task_id in driver.panel.tasks:
        driver.choose(task_id)
        driver.ui.advancedCollapsibleButton.collapsed = False
        slicer_app.flush()
        assert driver.loaded.container.minimumSizeHint.width() <= 480, task_id
    assert slicer_app.screenshot(driver.loaded.container, tmp_path / f"{name}.png", width=440).stat().st_size > 10_000


def test_picture_for_the_documentation(slicer_app, name, tmp_path):  # noqa: F811
    """What ``make screenshots`` does: a task is run and the panel with its result is saved."""
    import screenshots

    path = screenshots.take(name, tmp_path / f"panel-{name}.png")
    assert path.read_bytes()[:4] == b"\x89PNG" and path.stat().st_size > 20_000
