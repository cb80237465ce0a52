"""The stand-in refuses and forgets what Slicer refuses and forgets."""

import pytest

from slicer_standin.fixtures import slicer_app  # noqa: F401  isort: skip

import qt
import slicer


def test_enumerations_of_another_class_cannot_be_set(slicer_app):  # noqa: F811
    """As in Slicer: "Property 'sizeAdjustPolicy' of type 'QComboBox::SizeAdjustPolicy' does not accept an object …"."""
    for selector in (slicer.qMRMLNodeComboBox(), slicer.qMRMLCheckableNodeComboBox()):
        with pytest.raises(AttributeError, match="QComboBox::SizeAdjustPolicy"):
            selector.sizeAdjustPolicy = qt.QComboBox.AdjustToContents


def test_selection_is_lost_when_a_scene_was_imported(slicer_app):  # noqa: F811
    """As in Slicer, whose model lists all nodes anew then."""
    scene = slicer_app.scene
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes, selector.noneEnabled = ["vtkMRMLScalarVolumeNode"], True
    selector.setMRMLScene(scene)
    selector.setCurrentNode(node)
    heard = []
    selector.connect("currentNodeChanged(vtkMRMLNode*)", heard.append)
    scene.StartState(scene.ImportState)
    scene.EndState(scene.ImportState)
    assert selector.currentNode() is None and heard == [None]


def test_sample_data_counts_its_lists(slicer_app):  # noqa: F811
    """As in Slicer, also where a function makes the data and nothing is downloaded."""
    from SampleData import SampleDataLogic

    register = SampleDataLogic.registerCustomSampleDataSource
    with pytest.raises(TypeError):
        register("Made", "A", nodeNames=["Node"], customDownloader=lambda source: [])
    with pytest.raises(ValueError, match="same length"):
        register("Made", "A", uris=["u"], fileNames=["a", "b"])
    register("Made", "A", uris=[], fileNames=[], nodeNames=[], customDownloader=lambda source: [])
