"""The Segment Editor effect of the pixel classifier: its session, what it does to a scene, and its buttons."""

import importlib.util
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from MedImgAILib.core import Context, Geometry, InputError, Segment, Segmentation, Volume
from MedImgAILib.panel import MedImgAISegmentEditorEffects
from MedImgAILib.segment.pixel_classifier_tasks import TrainPixelClassifier
from MedImgAILib.segment.pixel_session import PixelSession, Settings
from slicer_standin.fixtures import slicer_app  # noqa: F401

pytest.importorskip("sklearn")
SETTINGS = Settings(scales_mm=(1.0, 2.0), trees=8)
SEGMENTS = (Segment("Background", 1, id="a"), Segment("Bright", 2, (0.9, 0.2, 0.1), id="b"))


@pytest.fixture
def image():
    geometry = Geometry.from_spacing((16, 30, 28), (1.0, 1.0, 1.5), (-10, 5, 3))
    k, j, i = np.indices(geometry.shape)
    ball = (k - 8) ** 2 * 2.25 + (j - 14) ** 2 + (i - 13) ** 2 < 64
    noise = np.random.default_rng(0).normal(0, 8, geometry.shape)
    return Volume((60.0 * ball + noise).astype(np.float32), geometry, "ball")


def painted(image, *strokes):
    """Strokes as (label, k, j, first i, last i)."""
    labels = np.zeros(image.geometry.shape, np.uint8)
    for label, k, j, first, last in strokes:
        labels[k, j, first : last + 1] = label
    return Segmentation.from_labels(labels, image.geometry, SEGMENTS, "strokes")


FIRST = ((1, 8, 2, 2, 20), (2, 8, 14, 9, 17))


def test_preview_is_a_slice_of_what_the_task_gives(image):
    """Whatever was kept from earlier strokes: the same features, the same training, the same labels."""
    session = PixelSession([image], SETTINGS)
    session.warm_up(image.geometry.center)
    session.preview(painted(image, *FIRST), image.geometry.center)
    more = painted(image, *FIRST, (1, 12, 27, 2, 20), (2, 6, 14, 10, 15))
    point = image.geometry.ras([13, 14, 8])
    task = TrainPixelClassifier().execute(
        {"images": [image], "strokes": more}, {"scales_mm": "1, 2", "trees": 8}, Context("cpu")
    )
    for axis, cut in (("S", np.s_[8:9]), ("A", np.s_[:, 14:15]), ("R", np.s_[:, :, 13:14])):
        found = session.preview(more, point, axis)
        wanted = task["segmentation"].canonical()
        spans = _whole(cut, wanted)
        part = wanted.geometry.cropped(tuple(s.start for s in spans), tuple(s.stop - s.start for s in spans))
        assert found.geometry.same_grid(part)
        assert (found.layers[0] == wanted.layers[0][cut]).mean() > 0.995
    whole = session.apply(more)
    assert (whole["segmentation"].layers[0] == task["segmentation"].layers[0]).mean() > 0.999
    np.testing.assert_allclose(whole["uncertainty"].array, task["uncertainty"].array, atol=0.02)


def _whole(cut, segmentation):
    cuts = cut if isinstance(cut, tuple) else (cut,)
    cuts = (*cuts, *([slice(None)] * (3 - len(cuts))))
    return [slice(*c.indices(n)) for c, n in zip(cuts, segmentation.geometry.shape)]


def test_features_of_known_voxels_are_not_computed_again(image, monkeypatch):
    session = PixelSession([image], SETTINGS)
    made = []
    blank = session._blank().__class__
    bank = blank.bank
    monkeypatch.setattr(blank, "bank", lambda self, *a, **k: made.append(a) or bank(self, *a, **k))
    strokes = painted(image, *FIRST)
    point = image.geometry.ras([13, 14, 8])
    session.preview(strokes, point)
    session.preview(painted(image, *FIRST, (2, 8, 15, 9, 17)), point)
    assert len(made) == 1, "the slice in view was looked at once"


def test_newest_stroke_and_its_slice(image):
    session = PixelSession([image], SETTINGS)
    point, axis = session.newest(painted(image, *FIRST))
    assert axis == "S" and image.geometry.ijk(point)[2] == pytest.approx(8)
    assert session.newest(painted(image, *FIRST)) is None
    more = painted(image, *FIRST)
    more.layers[0][3:9, 10:16, 20] = 2
    point, axis = session.newest(more)
    assert axis == "R" and image.geometry.ijk(point)[0] == pytest.approx(20)


def test_classifier_is_saved_and_loaded(image):
    session = PixelSession([image], SETTINGS)
    with pytest.raises(InputError, match="paint two segments or load"):
        session.apply(None)
    expected = session.apply(painted(image, *FIRST))["segmentation"].layers[0]
    other = PixelSession([image], SETTINGS)
    other.load(session.classifier.to_text())
    np.testing.assert_array_equal(other.apply(None)["segmentation"].layers[0], expected)
    with pytest.raises(InputError, match="trained on 1 images"):
        PixelSession([image, image], SETTINGS).load(session.classifier.to_text())


class ScriptedEffect:
    """As much of qSlicerSegmentEditorScriptedEffect as the effect uses."""

    def __init__(self, node):
        import qt

        self.node, self.values, self.frame = node, {}, qt.QWidget()
        self.form = qt.QFormLayout(self.frame)

    def parameterSetNode(self):
        return self.node

    def addOptionsWidget(self, item):
        self.form.addRow(item)

    def addLabeledOptionsWidget(self, label, item):
        self.form.addRow(label, item)

    def setParameter(self, name, value):
        self.values[name] = str(value)

    def setParameterDefault(self, name, value):
        self.values.setdefault(name, str(value))

    def parameter(self, name):
        return self.values.get(name, "")

    def integerParameter(self, name):
        return int(self.values.get(name, 0))


@pytest.fixture
def effect(slicer_app, image, monkeypatch):  # noqa: F811
    import slicer
    from MedImgAILib.hosts.mrml.results import write_node

    class AbstractScriptedSegmentEditorEffect:
        def __init__(self, scriptedEffect):
            self.scriptedEffect = scriptedEffect

    module = types.ModuleType("SegmentEditorEffects")
    module.AbstractScriptedSegmentEditorEffect = AbstractScriptedSegmentEditorEffect
    monkeypatch.setitem(sys.modules, "SegmentEditorEffects", module)
    path = Path(MedImgAISegmentEditorEffects.__file__).with_name("SegmentEditorPixelClassifierEffect.py")
    # As qSlicerSegmentEditorScriptedEffect::setPythonSource: by path, the class has the file's name.
    namespace = {"__file__": str(path), "__name__": "MedImgAISegmentEditorEffects"}
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), namespace)
    volume = write_node(image, slicer.mrmlScene, name="ball")
    strokes = write_node(painted(image, *FIRST), slicer.mrmlScene, name="strokes")
    node = slicer.vtkMRMLSegmentEditorNode()
    slicer.mrmlScene.AddNode(node)
    node.SetAndObserveSegmentationNode(strokes)
    node.SetAndObserveSourceVolumeNode(volume)
    made = namespace[path.stem](ScriptedEffect(node))
    made.setupOptionsFrame()
    made.setMRMLDefaults()
    made.updateGUIFromMRML()
    yield made
    made.cleanup()


def nodes(kind):
    import slicer

    found = slicer.util.getNodesByClass(kind)
    return {n.GetName(): n for n in found}


def test_effect_previews_applies_and_saves(effect, slicer_app, tmp_path):  # noqa: F811
    import slicer

    effect.activate()
    slicer_app.flush()
    effect.onStroke()
    assert "axial slice" in effect.statusLabel.text
    preview = nodes("vtkMRMLSegmentationNode")["strokes preview"]
    assert not preview.GetSaveWithScene()
    # A further stroke starts the timer, whose end shows the new preview in the same node.
    segmentation = effect.segmentationNode().GetSegmentation()
    segmentation.InvokeEvent(segmentation.SourceRepresentationModified)
    assert effect.timer.isActive()
    effect.classifierBox.setCurrentIndex(3)
    assert effect.scriptedEffect.parameter("Classifier") == "logistic"
    effect.applyButton.click()
    assert "were added" in effect.statusLabel.text
    assert set(nodes("vtkMRMLSegmentationNode")) == {"strokes", "ball classified"}
    uncertainty = slicer.util.arrayFromVolume(nodes("vtkMRMLScalarVolumeNode")["ball uncertainty"])
    assert uncertainty.shape == (16, 30, 28) and uncertainty.min() >= 0 and uncertainty.max() <= 1
    found = nodes("vtkMRMLSegmentationNode")["ball classified"].GetSegmentation()
    assert [found.GetNthSegment(n).GetName() for n in range(found.GetNumberOfSegments())] == ["Bright"]
    effect.editor.save(tmp_path / "classifier.json")
    effect.editor.load(tmp_path / "classifier.json")
    assert not slicer_app.errors


def test_effect_tells_in_one_sentence_what_is_missing(effect, slicer_app):  # noqa: F811
    effect.segmentationNode().GetSegmentation().RemoveSegment("b")
    effect.previewButton.click()
    assert "in two segments at least" in effect.statusLabel.text
    effect.scriptedEffect.node.SetAndObserveSourceVolumeNode(None)
    effect.applyButton.click()
    assert "Choose a source volume" in effect.statusLabel.text
    assert not slicer_app.errors


def test_effect_is_registered_at_start(slicer_app, monkeypatch):  # noqa: F811
    """By path, with forward slashes, as in Slicer's template of such a module."""
    made = []

    class Effect:
        def __init__(self, parent):
            made.append(self)

        def setPythonSource(self, path):
            self.path = path

        def self(self):
            return types.SimpleNamespace(register=lambda: made.append("registered"))

    module = types.ModuleType("qSlicerSegmentationsEditorEffectsPythonQt")
    module.qSlicerSegmentEditorScriptedEffect = Effect
    monkeypatch.setitem(sys.modules, module.__name__, module)
    file = Path(MedImgAISegmentEditorEffects.__file__).parents[3] / "MedImgAI.py"
    specification = importlib.util.spec_from_file_location("MedImgAI_module", file)
    loaded = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(loaded)
    loaded.registerSegmentEditorEffects()
    assert Path(made[0].path).is_file() and "\\" not in made[0].path and made[1] == "registered"
