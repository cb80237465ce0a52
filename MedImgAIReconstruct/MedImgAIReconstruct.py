import logging
import os

import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)


class MedImgAIReconstruct(ScriptedLoadableModule):
    """Describes the module to Slicer."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("MedImgAI Reconstruct")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Tomographic Reconstruction")]
        self.parent.dependencies = ["MedImgAI"]
        self.parent.contributors = ["MedImgAI contributors"]
        self.parent.helpText = _("""
<p>Reconstructs images from raw data: k-space of magnetic resonance imaging and projections of tomography.</p>
<p>See <a href="https://github.com/MedImgAI/MedImgAI#readme">the documentation</a>.
For research use only.</p>
""")
        self.parent.acknowledgementText = _("""
MedImgAI builds on 3D Slicer, ITK, VTK, NumPy and SciPy. Each task names the publication that it follows.
""")
        slicer.app.connect("startupCompleted()", registerSampleData)


def registerSampleData():
    """Add raw data to try the module on to the Sample Data module."""
    import SampleData

    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="MedImgAI",
        sampleName=_("Simulated sinogram"),
        thumbnailFileName=os.path.join(os.path.dirname(__file__), "Resources", "Icons", "MedImgAIReconstruct.png"),
        # Nothing is downloaded; the Sample Data module counts the entries of these lists all the same.
        uris=[],
        fileNames=[],
        nodeNames=[],
        customDownloader=simulateSinogram,
    )


def simulateSinogram(source=None):
    """Make a volume with the parallel projections of the Shepp-Logan head: slices, views, detector columns.

    :param source: the entry of the Sample Data module; not needed
    :return: the volume node, in a list as the Sample Data module wants it
    """
    import numpy as np
    from MedImgAILib.core import ScanGeometry
    from MedImgAIReconstructLib.ct.phantoms import project, shepp_logan

    views, rows, columns, pixel = 180, 5, 192, 1.25
    scan = ScanGeometry("parallel", np.pi * np.arange(views) / views, pixel_mm=(8.0, pixel))
    projections = project(shepp_logan(100.0, scale=0.096), scan, rows, columns, sub_rays=2)
    node = slicer.mrmlScene.AddNewNodeByClass(
        "vtkMRMLScalarVolumeNode", slicer.mrmlScene.GenerateUniqueName("Sinogram")
    )
    slicer.util.updateVolumeFromArray(node, np.ascontiguousarray(projections.swapaxes(0, 1), np.float32))
    node.SetSpacing(pixel, 1.0, 8.0)
    node.CreateDefaultDisplayNodes()
    return [node]


class MedImgAIReconstructWidget(ScriptedLoadableModuleWidget):
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
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/MedImgAIReconstruct.ui"))
        self.layout.addWidget(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = MedImgAIReconstructLogic()
        self.panel = TaskPanel(uiWidget, self.logic, "MedImgAIReconstructLib", "reconstruct.fbp")
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


class MedImgAIReconstructLogic(ScriptedLoadableModuleLogic):
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

        :param taskId: such as "reconstruct.fft"
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


class MedImgAIReconstructTest(ScriptedLoadableModuleTest):
    """Runs tasks of the module for real, on small images."""

    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self):
        for name in sorted(name for name in dir(self) if name.startswith("test_")):
            self.setUp()
            self.delayDisplay(name)
            getattr(self, name)()

    def test_FourierReconstruction(self):
        """The image behind simulated two-coil k-space comes back, in the right place."""
        import json
        import tempfile

        import numpy as np

        image = np.zeros((2, 32, 40))
        image[0, 8:20, 10:30] = 100.0
        image[1, 12:16, 5:15] = 50.0
        weights = np.linspace(0.0, 0.5 * np.pi, 40)
        coils = np.stack([image * np.cos(weights), image * np.sin(weights)])
        shifted = np.fft.ifftshift(coils, axes=(-2, -1))
        kspace = np.fft.fftshift(np.fft.fft2(shifted, norm="ortho"), axes=(-2, -1))
        matrix = [[-1.5, 0, 0, 20.0], [0, -1.25, 0, 30.0], [0, 0, 4.0, -5.0], [0, 0, 0, 1.0]]
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "scan.npy")
            np.save(path, kspace.astype(np.complex64))
            with open(os.path.join(folder, "scan.json"), "w", encoding="utf-8") as file:
                json.dump({"type": "KSpace", "ijk_to_ras": matrix, "shape": [2, 32, 40]}, file)
            for runner in ("in_process", "worker"):
                result = MedImgAIReconstructLogic().process("reconstruct.fft", {"kspace": path}, runner=runner)
                node = result["image"]
                self.assertLess(np.abs(slicer.util.arrayFromVolume(node) - image).max(), 1e-3)
                found = vtk.vtkMatrix4x4()
                node.GetIJKToRASMatrix(found)
                self.assertLess(np.abs(slicer.util.arrayFromVTKMatrix(found) - matrix).max(), 1e-6)

    def test_FilteredBackProjection(self):
        """The simulated sinogram gives the phantom back: skull, brain and ventricle have their attenuation."""
        import numpy as np

        (sinogram,) = simulateSinogram()
        values = {"units": "1/mm", "voxel_mm": 1.25}
        result = MedImgAIReconstructLogic().process("reconstruct.fbp", {"sinogram": sinogram}, values)["volume"]
        array = slicer.util.arrayFromVolume(result)
        toIJK = vtk.vtkMatrix4x4()
        result.GetRASToIJKMatrix(toIJK)
        for x, y, expected in ((0, 0, 0.0192), (22, 0, 0.0), (-22, 0, 0.0), (0, 35, 0.0288)):
            i, j, k = np.rint(slicer.util.arrayFromVTKMatrix(toIJK) @ (x, y, 0.0, 1.0))[:3].astype(int)
            found = array[k, j - 2 : j + 3, i - 2 : i + 3].mean()
            self.assertLess(abs(found - expected), 0.002)
