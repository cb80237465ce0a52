import logging
import os

import qt
import slicer
from SegmentEditorEffects import AbstractScriptedSegmentEditorEffect
from slicer.i18n import tr as _


class SegmentEditorPixelClassifierEffect(AbstractScriptedSegmentEditorEffect):
    """Learns from strokes painted with Slicer's own Paint effect; shows one slice at once, and all on Apply."""

    DELAY_MS = 150
    """Painting one stroke modifies the segments several times."""

    def __init__(self, scriptedEffect):
        scriptedEffect.name = "MedImgAI pixel classifier"
        scriptedEffect.title = _("Pixel classifier")
        scriptedEffect.perSegment = False
        scriptedEffect.requireSegments = True
        AbstractScriptedSegmentEditorEffect.__init__(self, scriptedEffect)
        self.editor = None
        self.observed = None
        self.observerTags = []
        self.timer = qt.QTimer()
        self.timer.setSingleShot(True)
        self.timer.interval = self.DELAY_MS
        self.timer.connect("timeout()", self.onStroke)

    def cleanup(self):
        self.timer.stop()
        self.timer.disconnect("timeout()", self.onStroke)
        self.observe(None)

    def clone(self):
        import qSlicerSegmentationsEditorEffectsPythonQt as effects

        clonedEffect = effects.qSlicerSegmentEditorScriptedEffect(None)
        clonedEffect.setPythonSource(__file__.replace("\\", "/"))
        return clonedEffect

    def icon(self):
        libraryPath = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        iconPath = os.path.join(os.path.dirname(libraryPath), "Resources", "Icons", "MedImgAI.png")
        return qt.QIcon(iconPath) if os.path.exists(iconPath) else qt.QIcon()

    def helpText(self):
        return _(
            "Learns from a few strokes. Paint some voxels in each structure with the Paint effect, and some of "
            "everything else in a segment called Background. After each stroke its slice is previewed. Apply "
            "classifies the whole volume into a new segmentation, beside a volume that shows where it is uncertain."
        )

    def setupOptionsFrame(self):
        self.classifierBox = qt.QComboBox()
        for value, text in (
            ("forest", _("Random forest")),
            ("boosting", _("Gradient boosting")),
            ("svm", _("Linear support vector machine")),
            ("logistic", _("Logistic regression")),
        ):
            self.classifierBox.addItem(text, value)
        self.classifierBox.setToolTip(_("What learns from the strokes; the forest is a good first choice."))
        self.scriptedEffect.addLabeledOptionsWidget(_("Classifier:"), self.classifierBox)

        self.quantitativeBox = qt.QCheckBox(_("Values have a unit (CT)"))
        self.quantitativeBox.setToolTip(_("Leave the values as they are, in place of making images alike."))
        self.scriptedEffect.addOptionsWidget(self.quantitativeBox)

        self.previewBox = qt.QCheckBox(_("Preview after each stroke"))
        self.previewBox.setToolTip(_("Show the slice of the latest stroke classified."))
        self.scriptedEffect.addOptionsWidget(self.previewBox)

        self.previewButton = qt.QPushButton(_("Preview"))
        self.previewButton.setToolTip(_("Show the slice of the latest stroke classified, now."))
        self.loadButton = qt.QPushButton(_("Load..."))
        self.loadButton.setToolTip(_("Use a classifier that was saved."))
        self.saveButton = qt.QPushButton(_("Save..."))
        self.saveButton.setToolTip(_("Save the trained classifier for other cases."))
        self.applyButton = qt.QPushButton(_("Apply"))
        self.applyButton.objectName = self.__class__.__name__ + "Apply"
        self.applyButton.setToolTip(_("Classify the whole volume into a new segmentation."))
        row = qt.QHBoxLayout()
        for button in (self.previewButton, self.loadButton, self.saveButton, self.applyButton):
            row.addWidget(button)
        self.scriptedEffect.addOptionsWidget(row)

        self.statusLabel = qt.QLabel("")
        self.statusLabel.wordWrap = True
        self.scriptedEffect.addOptionsWidget(self.statusLabel)

        self.classifierBox.connect("currentIndexChanged(int)", self.updateMRMLFromGUI)
        self.quantitativeBox.connect("toggled(bool)", self.updateMRMLFromGUI)
        self.previewBox.connect("toggled(bool)", self.updateMRMLFromGUI)
        self.previewButton.connect("clicked()", self.onPreview)
        self.loadButton.connect("clicked()", self.onLoad)
        self.saveButton.connect("clicked()", self.onSave)
        self.applyButton.connect("clicked()", self.onApply)

    def createCursor(self, widget):
        return slicer.util.mainWindow().cursor

    # Parameters

    def setMRMLDefaults(self):
        self.scriptedEffect.setParameterDefault("Classifier", "forest")
        self.scriptedEffect.setParameterDefault("Quantitative", 0)
        self.scriptedEffect.setParameterDefault("AutoPreview", 1)

    def updateGUIFromMRML(self):
        for widget in (self.classifierBox, self.quantitativeBox, self.previewBox):
            widget.blockSignals(True)
        self.classifierBox.setCurrentIndex(
            max(0, self.classifierBox.findData(self.scriptedEffect.parameter("Classifier")))
        )
        self.quantitativeBox.setChecked(self.scriptedEffect.integerParameter("Quantitative") != 0)
        self.previewBox.setChecked(self.scriptedEffect.integerParameter("AutoPreview") != 0)
        for widget in (self.classifierBox, self.quantitativeBox, self.previewBox):
            widget.blockSignals(False)

    def updateMRMLFromGUI(self, _value=None):
        classifier = self.classifierBox.itemData(self.classifierBox.currentIndex)
        self.scriptedEffect.setParameter("Classifier", str(classifier))
        self.scriptedEffect.setParameter("Quantitative", 1 if self.quantitativeBox.checked else 0)
        self.scriptedEffect.setParameter("AutoPreview", 1 if self.previewBox.checked else 0)

    # What the user does

    def activate(self):
        self.observe(self.segmentationNode())
        # In the next turn of the event loop, so that the options are shown first.
        qt.QTimer.singleShot(0, self.warmUp)

    def deactivate(self):
        """The strokes are painted with another effect, so that they are watched on."""

    def sourceVolumeNodeChanged(self):
        if self.editor is not None:
            self.editor.clear()

    def warmUp(self):
        """Prepare the first preview while the user looks for the brush."""
        if self.volumeNode() is None or not self.hasPackages(False):
            return
        try:
            self.begin()
            self.editor.session.warm_up(self.editor.center())
        except Exception as error:
            self.tell(error)

    def onSegmentationModified(self, caller, event):
        if self.scriptedEffect.integerParameter("AutoPreview") != 0:
            self.timer.start()

    def onStroke(self):
        if self.volumeNode() is None or not self.hasPackages(False):
            return
        try:
            self.begin()
            self.statusLabel.text = self.editor.preview(self.segmentationNode()) or self.statusLabel.text
        except Exception as error:
            self.tell(error)

    def onPreview(self):
        self.run(lambda: self.editor.preview(self.segmentationNode(), self.editor.center()))

    def onApply(self):
        def apply():
            self.editor.apply(self.segmentationNode(), self.volumeNode())
            return _("A new segmentation and its uncertainty were added.")

        self.run(apply)

    def onSave(self):
        path = qt.QFileDialog.getSaveFileName(slicer.util.mainWindow(), _("Save classifier"), "", "*.json")
        if path:
            self.run(lambda: self.editor.save(path if path.endswith(".json") else path + ".json"))

    def onLoad(self):
        path = qt.QFileDialog.getOpenFileName(slicer.util.mainWindow(), _("Load classifier"), "", "*.json")
        if path:
            self.run(lambda: self.editor.load(path))

    # Helpers

    def run(self, action):
        """Do something that may take a while, and tell what came of it."""
        if self.volumeNode() is None:
            self.statusLabel.text = _("Choose a source volume first.")
            return
        if not self.hasPackages(True):
            return
        qt.QApplication.setOverrideCursor(qt.Qt.WaitCursor)
        try:
            self.begin()
            self.statusLabel.text = action() or ""
        except Exception as error:
            self.tell(error)
        finally:
            qt.QApplication.restoreOverrideCursor()

    def begin(self):
        from MedImgAILib.panel.pixel_classifier_editor import PixelClassifierEditor, Settings

        if self.editor is None:
            self.editor = PixelClassifierEditor(slicer.mrmlScene)
        quantitative = self.scriptedEffect.integerParameter("Quantitative") != 0
        settings = Settings(
            classifier=self.scriptedEffect.parameter("Classifier"),
            normalization="none" if quantitative else "percentile",
        )
        self.editor.begin(self.volumeNode(), settings)

    def tell(self, error):
        """One sentence for the user; anything unforeseen goes to the log as well."""
        from MedImgAILib.core.errors import MedImgAIError

        if isinstance(error, MedImgAIError):
            self.statusLabel.text = str(error)
            return
        logging.error("The pixel classifier failed.", exc_info=error)
        self.statusLabel.text = _("The pixel classifier failed; the log says why.")

    def hasPackages(self, ask):
        """Whether scikit-learn is there; with ``ask`` it is installed if the user agrees."""
        from MedImgAILib.core.errors import MedImgAIError
        from MedImgAILib.hosts import slicer_packages
        from MedImgAILib.segment.pixel_classifier_tasks import TrainPixelClassifier

        task = TrainPixelClassifier()
        if not task.missing_packages():
            return True
        if ask:
            try:
                slicer_packages.ensure(task)
            except MedImgAIError as error:
                self.tell(error)
            return not task.missing_packages()
        self.statusLabel.text = _("scikit-learn is not installed yet; press Preview to install it.")
        return False

    def segmentationNode(self):
        node = self.scriptedEffect.parameterSetNode()
        return node.GetSegmentationNode() if node else None

    def volumeNode(self):
        node = self.scriptedEffect.parameterSetNode()
        return node.GetSourceVolumeNode() if node else None

    def observe(self, segmentationNode):
        """Watch the segments of a node, or none."""
        segmentation = segmentationNode.GetSegmentation() if segmentationNode else None
        if segmentation is self.observed:
            return
        for tag in self.observerTags:
            self.observed.RemoveObserver(tag)
        self.observed, self.observerTags = segmentation, []
        if segmentation is not None:
            for event in (segmentation.SourceRepresentationModified, segmentation.SegmentRemoved):
                self.observerTags.append(segmentation.AddObserver(event, self.onSegmentationModified))
