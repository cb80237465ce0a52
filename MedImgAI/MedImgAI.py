import logging
import os

import qt
import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)

SAMPLE_DATA_URL = "https://github.com/Slicer/SlicerTestingData/releases/download/SHA256/"


class MedImgAI(ScriptedLoadableModule):
    """Describes the module to Slicer."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("MedImgAI")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = ["Segmentations"]
        self.parent.contributors = ["MedImgAI contributors"]
        self.parent.helpText = _("""
<p>Enhances, segments and annotates medical images: choose a task, select its nodes, set its parameters and apply.</p>
<p>See <a href="https://github.com/MedImgAI/MedImgAI#readme">the documentation</a>.
For research use only.</p>
""")
        self.parent.acknowledgementText = _("""
MedImgAI builds on 3D Slicer, ITK, VTK, NumPy and SciPy. Each task names the publication that it follows.
""")
        slicer.app.connect("startupCompleted()", registerSampleData)
        slicer.app.connect("startupCompleted()", registerSegmentEditorEffects)


def registerSegmentEditorEffects():
    """Add the pixel classifier to the Segment Editor module."""
    import qSlicerSegmentationsEditorEffectsPythonQt as effects

    folder = os.path.join(os.path.dirname(__file__), "MedImgAILib", "panel", "MedImgAISegmentEditorEffects")
    effect = effects.qSlicerSegmentEditorScriptedEffect(None)
    effect.setPythonSource(os.path.join(folder, "SegmentEditorPixelClassifierEffect.py").replace("\\", "/"))
    effect.self().register()


def registerSampleData():
    """Add images to try the module on to the Sample Data module."""
    import SampleData

    icon = os.path.join(os.path.dirname(__file__), "Resources", "Icons", "MedImgAI.png")
    samples = (
        (
            _("Head MR"),
            [("MR-head.nrrd", "MRHead", "cc211f0dfd9a05ca3841ce1141b292898b2dd2d3f08286affadf823a7e58df93")],
        ),
        (
            _("Chest CT"),
            [("CT-chest.nrrd", "CTChest", "4507b664690840abb6cb9af2d919377ffc4ef75b167cb6fd0f747befdb12e38e")],
        ),
    )
    for sampleName, files in samples:
        SampleData.SampleDataLogic.registerCustomSampleDataSource(
            category="MedImgAI",
            sampleName=sampleName,
            thumbnailFileName=icon,
            uris=[SAMPLE_DATA_URL + sha256 for _fileName, _nodeName, sha256 in files],
            fileNames=[fileName for fileName, _nodeName, _sha256 in files],
            nodeNames=[nodeName for _fileName, nodeName, _sha256 in files],
            checksums=["SHA256:" + sha256 for _fileName, _nodeName, sha256 in files],
        )


class MedImgAIWidget(ScriptedLoadableModuleWidget):
    """Puts the task panel into the module's frame."""

    logic = None
    panel = None

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        try:
            from MedImgAILib.panel.task_panel import TaskPanel
        except ImportError:
            logging.exception("The library of MedImgAI could not be loaded.")
            label = qt.QLabel(_("MedImgAI's library was not found; add the folder MedImgAI to the module paths."))
            label.wordWrap = True
            self.layout.addWidget(label)
            return
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/MedImgAI.ui"))
        self.layout.addWidget(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = MedImgAILogic()
        self.panel = TaskPanel(uiWidget, self.logic, "MedImgAILib", "segment.threshold")
        # After a reload the module is shown already, and nobody enters it again.
        if getattr(self.parent, "isEntered", True):
            self.panel.enter()

    def cleanup(self):
        if self.panel:
            self.panel.cleanup()

    def enter(self):
        if self.panel:
            self.panel.enter()

    def exit(self):
        if self.panel:
            self.panel.exit()


class MedImgAILogic(ScriptedLoadableModuleLogic):
    """Runs tasks on nodes without the panel."""

    def getParameterNode(self):
        from MedImgAILib.panel.state import TaskPanelParameterNode

        return TaskPanelParameterNode(super().getParameterNode())

    def process(
        self,
        taskId,
        inputNodes,
        parameters=None,
        outputNodes=None,
        runner="in_process",
        device="auto",
        seed=0,
        onEvent=None,
    ):
        """Run a task, wait for it and return the result nodes as {output name: node}.

        :param taskId: such as "enhance.gaussian"
        :param inputNodes: {input name: node, or list of nodes where the input takes several}
        :param parameters: {parameter name: value}; what is missing has its default
        :param outputNodes: {output name: node to overwrite}; what is missing gets a new node
        :param runner: "in_process" or "worker"
        :param device: "auto", "cpu", "cuda" or "mps"
        :param seed: of the random numbers, if the task draws any
        :param onEvent: called with each progress and log event
        """
        from MedImgAILib.panel.scene_job import process

        return process(
            slicer.mrmlScene,
            taskId,
            inputNodes,
            parameters,
            outputNodes,
            runner=runner,
            device=device,
            seed=seed,
            on_event=onEvent,
        )


class MedImgAITest(ScriptedLoadableModuleTest):
    """Runs tasks of the module for real, on small images."""

    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self):
        for name in sorted(name for name in dir(self) if name.startswith("test_")):
            self.setUp()
            self.delayDisplay(name)
            getattr(self, name)()

    def test_GaussianOfAPoint(self):
        """A smoothed point is the Gaussian itself; both places to run give the same."""
        import numpy as np

        array = np.zeros((21, 25, 31), np.float32)
        array[10, 12, 15] = 1000.0
        volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Point")
        volume.SetSpacing(1.0, 1.2, 1.5)
        slicer.util.updateVolumeFromArray(volume, array)
        k, j, i = np.indices(array.shape)
        distance2 = ((k - 10) * 1.5) ** 2 + ((j - 12) * 1.2) ** 2 + ((i - 15) * 1.0) ** 2
        expected = 1000.0 * 1.0 * 1.2 * 1.5 * np.exp(-distance2 / (2 * 2.0**2)) / (2 * np.pi * 2.0**2) ** 1.5
        for runner in ("in_process", "worker"):
            result = MedImgAILogic().process("enhance.gaussian", {"image": volume}, {"sigma_mm": 2.0}, runner=runner)
            smoothed = slicer.util.arrayFromVolume(result["smoothed"])
            self.assertLess(np.abs(smoothed - expected).max(), 0.02 * expected.max())

    def test_BadInputChangesNothing(self):
        """A parameter out of range is refused in one sentence before anything runs."""
        import numpy as np
        from MedImgAILib.core import ParameterError

        volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Image")
        slicer.util.updateVolumeFromArray(volume, np.ones((5, 6, 7), np.float32))
        count = slicer.mrmlScene.GetNumberOfNodes()
        with self.assertRaises(ParameterError):
            MedImgAILogic().process("enhance.gaussian", {"image": volume}, {"sigma_mm": -1.0})
        self.assertEqual(slicer.mrmlScene.GetNumberOfNodes(), count)
