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


class MedImgAIFusion(ScriptedLoadableModule):
    """Describes the module to Slicer."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("MedImgAI Fusion")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Registration")]
        self.parent.dependencies = ["MedImgAI"]
        self.parent.contributors = ["MedImgAI contributors"]
        self.parent.helpText = _("""
<p>Brings images of several modalities together: registration, resampling and fusion of segmentations.</p>
<p>See <a href="https://github.com/MedImgAI/MedImgAI#readme">the documentation</a>.
For research use only.</p>
""")
        self.parent.acknowledgementText = _("""
MedImgAI builds on 3D Slicer, ITK, VTK, NumPy and SciPy. Each task names the publication that it follows.
""")
        slicer.app.connect("startupCompleted()", registerSampleData)


def registerSampleData():
    """Add images to try the module on to the Sample Data module."""
    import SampleData

    icon = os.path.join(os.path.dirname(__file__), "Resources", "Icons", "MedImgAIFusion.png")
    samples = (
        (
            _("Brain CT and MR"),
            [
                ("CT-brain.nrrd", "CTBrain", "6a5b6caccb76576a863beb095e3bfb910c50ca78f4c9bf043aa42f976cfa53d1"),
                ("MR-brain-T1.nrrd", "MRBrainT1", "2da3f655ed20356ee8cdf32aa0f8f9420385de4b6e407d28e67f9974d7ce1593"),
                ("MR-brain-T2.nrrd", "MRBrainT2", "fa1fe5910a69182f2b03c0150d8151ac6c75df986449fb5a6c5ae67141e0f5e7"),
            ],
        ),
        (
            _("Brain tumor MR, two times"),
            [
                ("RegLib_C01_1.nrrd", "MRTumor1", "998cb522173839c78657f4bc0ea907cea09fd04e44601f17c82ea27927937b95"),
                ("RegLib_C01_2.nrrd", "MRTumor2", "1a64f3f422eb3d1c9b093d1a18da354b13bcf307907c66317e2463ee530b7a97"),
            ],
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


class MedImgAIFusionWidget(ScriptedLoadableModuleWidget):
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
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/MedImgAIFusion.ui"))
        self.layout.addWidget(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = MedImgAIFusionLogic()
        self.panel = TaskPanel(uiWidget, self.logic, "MedImgAIFusionLib", "fusion.rigid_registration")
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


class MedImgAIFusionLogic(ScriptedLoadableModuleLogic):
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

        :param taskId: such as "fusion.rigid_registration"
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


class MedImgAIFusionTest(ScriptedLoadableModuleTest):
    """Runs tasks of the module for real, on small images."""

    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self):
        for name in sorted(name for name in dir(self) if name.startswith("test_")):
            self.setUp()
            self.delayDisplay(name)
            getattr(self, name)()

    def test_RigidRegistration(self):
        """An image that was moved by a known transform is brought back to within a fraction of a voxel."""
        import numpy as np

        k, j, i = np.indices((24, 30, 36))
        head = ((k - 11.5) / 9) ** 2 + ((j - 14.5) / 12) ** 2 + ((i - 17.5) / 14) ** 2 < 1
        ball = ((k - 14) / 4) ** 2 + ((j - 10) / 5) ** 2 + ((i - 22) / 5) ** 2 < 1
        array = (100.0 * head + 60.0 * ball).astype(np.float32)
        fixed = self.addVolume("Fixed", array, np.diag([-2.0, -2.0, 2.0, 1.0]))
        angle = np.deg2rad(4.0)
        move = np.eye(4)
        move[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        move[:3, 3] = (3.0, -2.0, 4.0)
        moving = self.addVolume("Moving", array, move @ np.diag([-2.0, -2.0, 2.0, 1.0]))
        corners = np.array([[0, 0, 0, 1], [-70, 0, 0, 1], [0, -58, 0, 1], [0, 0, 46, 1.0]]).T
        for runner in ("in_process", "worker"):
            nodes = {"fixed": fixed, "moving": moving}
            result = MedImgAIFusionLogic().process(
                "fusion.rigid_registration", nodes, {"search": "header"}, runner=runner
            )
            found = slicer.util.arrayFromTransformMatrix(result["transform"])
            error = np.linalg.norm((found @ move @ corners - corners)[:3], axis=0)
            self.assertLess(error.max(), 0.5)

    def addVolume(self, name, array, ijkToRAS):
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
        slicer.util.updateVolumeFromArray(node, array)
        node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(ijkToRAS))
        return node
