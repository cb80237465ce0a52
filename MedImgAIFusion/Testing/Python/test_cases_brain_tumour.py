"""The brain-tumour case study: preparation, region classification, training and the whole path."""

from types import SimpleNamespace

import numpy as np
import pytest
from MedImgAIFusionLib.cases import exam, tumour, tumour_regions
from MedImgAIFusionLib.cases.tumour import BrainTumour, measure
from MedImgAIFusionLib.cases.tumour_example import example_folder, made_up
from MedImgAIFusionLib.cases.tumour_train import TrainBrainTumour
from MedImgAILib.core import (
    Context,
    InputError,
    ModelError,
    ParameterError,
    ResourceError,
    Segment,
    Segmentation,
)
from MedImgAILib.core.resampling import resample_volume

SETTINGS = SimpleNamespace(alignment="automatic", bias="none", stripping="automatic")


def settings(**changes):
    return SimpleNamespace(**vars(SETTINGS) | changes)


def given(**images):
    return exam.given_images(SimpleNamespace(**{name: images.get(name) for name in exam.MODALITIES}))


def test_the_first_of_the_order_is_the_reference():
    images, _ = made_up(0)
    assert list(given(flair=images["FLAIR"], t1c=images["T1c"])) == ["T1c", "FLAIR"]
    with pytest.raises(InputError, match="at least one of T1"):
        given()


def test_a_moved_image_is_brought_back():
    """FLAIR turned by 8° and shifted: the landmarks return within a voxel and a half of these 4 mm voxels."""
    images, _ = made_up(0)
    angle = np.deg2rad(8.0)
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix[:3, 3] = (5.0, -3.0, 2.0)
    center = images["T1c"].geometry.center
    moved = images["FLAIR"].transformed(matrix)
    result = exam.prepare_exam(given(t1c=images["T1c"], flair=moved), None, settings(), Context("cpu"))
    back = result.transforms["FLAIR"].map_points(moved.geometry.center[None])[0]
    assert np.linalg.norm(back - center) < 6
    assert result.images["FLAIR"].geometry.same_grid(images["T1c"].geometry)
    assert result.notes[0] == "FLAIR was registered to T1c."
    unmoved = exam.prepare_exam(given(t1c=images["T1c"], flair=images["FLAIR"]), None, settings(), Context("cpu"))
    assert not unmoved.transforms
    np.testing.assert_array_equal(unmoved.images["FLAIR"].array, images["FLAIR"].array)


def test_images_of_another_grid_are_resampled_without_registration_on_request():
    images, _ = made_up(0)
    coarse = images["FLAIR"].geometry.resized((12, 16, 14))
    flair = resample_volume(images["FLAIR"], coarse)
    result = exam.prepare_exam(given(t1c=images["T1c"], flair=flair), None, settings(alignment="never"), Context("cpu"))
    assert not result.transforms and result.images["FLAIR"].array.shape == images["T1c"].array.shape


def test_a_given_brain_mask_is_used():
    images, _ = made_up(0)
    mask = np.zeros(images["T1c"].array.shape, np.uint8)
    mask[4:20, 4:28, 4:24] = 1
    brain = Segmentation.from_labels(mask, images["T1c"].geometry, [Segment("Brain", 1)], "drawn")
    result = exam.prepare_exam(given(t1c=images["T1c"]), brain, settings(), Context("cpu"))
    np.testing.assert_array_equal(result.brain, mask > 0)
    assert not result.images["T1c"].array[mask == 0].any() and "'drawn'" in result.notes[0]
    empty = Segmentation.from_labels(np.zeros_like(mask), images["T1c"].geometry, [Segment("Brain", 1)])
    with pytest.raises(InputError, match="less than 1 mL"):
        exam.prepare_exam(given(t1c=images["T1c"]), empty, settings(), Context("cpu"))


def test_an_image_that_shows_nothing_of_the_brain_is_refused():
    """Blank, or somewhere else and not registered: neither is an image of this brain."""
    images, _ = made_up(0)
    away = np.eye(4)
    away[0, 3] = 500.0
    brain = Segmentation.from_labels((images["T1c"].array > 0).astype(np.uint8), images["T1c"].geometry,
                                     [Segment("Brain", 1)])  # fmt: skip
    blank = images["FLAIR"].with_array(np.full(images["FLAIR"].array.shape, 7, np.float32))
    for flair, mask in ((images["FLAIR"].transformed(away), brain), (blank, brain)):
        with pytest.raises(InputError, match="FLAIR is the same everywhere in the brain"):
            exam.prepare_exam(given(t1c=images["T1c"], flair=flair), mask, settings(alignment="never"), Context("cpu"))


def test_a_head_needs_a_network_and_that_needs_t1():
    images, _ = made_up(0)
    head = {name: v.with_array(v.array + 10, name=name) for name, v in images.items()}
    with pytest.raises(InputError, match="needs a T1 or T1c"):
        exam.prepare_exam(given(flair=head["FLAIR"]), None, settings(stripping="deepbet"), Context("cpu"))
    with pytest.raises(ResourceError, match="worker process"):
        exam.prepare_exam(given(t1c=head["T1c"]), None, settings(stripping="deepbet"), Context("cpu"))


def test_a_head_is_stripped_by_the_network_for_any_contrast(tmp_path, monkeypatch):
    """A network that takes the bright for brain; the head has a dark skull, and there is FLAIR alone."""
    torch = pytest.importorskip("torch")
    from MedImgAILib.core.model_card import ModelCard, ModelInput, ModelOutput
    from MedImgAILib.core.model_inference import Inference
    from MedImgAILib.core.model_intensity import Intensity
    from MedImgAILib.core.model_package import ModelPackage
    from MedImgAILib.networks.anatomy import segments

    network = torch.nn.Conv3d(1, 2, 1)
    with torch.no_grad():
        network.weight[:] = torch.tensor([0.0, 10.0]).reshape(2, 1, 1, 1, 1)
        network.bias[:] = torch.tensor([0.0, -3.0])
    card = ModelCard(
        id=exam.BRAIN_MODEL, version="1.0.0", title="Brain", task="segmentation", architecture="torch.Conv3d",
        inputs=(ModelInput("image", "MR", 1, (4.0, 4.0, 4.0), "RAS", Intensity("percentiles", lower=0, upper=100)),),
        outputs=(ModelOutput("segmentation", "segmentation", segments("Brain")),),
        arguments={"in_channels": 1, "out_channels": 2, "kernel_size": 1}, inference=Inference(window=(16, 16, 16)),
        license="Apache-2.0", citation="None.", training_data="None.", intended_use="Tests.", limits="All.",
    )  # fmt: skip
    ModelPackage.create(tmp_path / exam.BRAIN_MODEL, card, network.state_dict())
    monkeypatch.setenv("MEDIMGAI_MODELS", str(tmp_path))
    monkeypatch.setattr(exam, "SHIPPED", tmp_path)
    images, _ = made_up(0)
    brain = images["FLAIR"].array > 0
    rng = np.random.default_rng(0)
    head = images["FLAIR"].with_array(np.where(brain, images["FLAIR"].array, rng.uniform(1, 9, brain.shape)), name="h")
    for stripping in ("automatic", "network"):
        found = exam.prepare_exam(given(flair=head), None, settings(stripping=stripping), Context("cpu"))
        assert np.count_nonzero(found.brain != brain) < 0.01 * brain.sum()
        assert "found the brain in FLAIR" in found.notes[0] and not found.images["FLAIR"].array[~found.brain].any()
    monkeypatch.setattr(exam, "SHIPPED", tmp_path / "nowhere")
    with pytest.raises(InputError, match="deepbet needs a T1 or T1c"):
        exam.prepare_exam(given(flair=head), None, settings(), Context("cpu"))


def test_n4_takes_a_drawn_bias_off_and_leaves_z_scores_alone():
    images, _ = made_up(0)
    volume = images["T1c"]
    field = np.linspace(0.7, 1.3, volume.array.shape[2], dtype=np.float32)
    biased = volume.with_array(volume.array * field, name="T1c")
    result = exam.prepare_exam(given(t1c=biased), None, settings(bias="n4"), Context("cpu"))
    inside = result.brain & (volume.array < 130)
    columns = [result.images["T1c"].array[..., n][inside[..., n]].mean() for n in (6, 21)]
    before = [biased.array[..., n][inside[..., n]].mean() for n in (6, 21)]
    assert abs(np.log(columns[1] / columns[0])) < 0.4 * abs(np.log(before[1] / before[0]))
    scored = volume.with_array(np.where(volume.array > 0, volume.array - 100, 0), name="T1c")
    same = exam.prepare_exam(given(t1c=scored), None, settings(bias="n4"), Context("cpu"))
    np.testing.assert_array_equal(same.images["T1c"].array, scored.array)
    assert not any("evened" in note for note in same.notes) and "N4 left T1c alone" in same.notes[-1]
    assert result.notes[-1] == "N4 evened out the brightness of T1c."
    holes = np.random.default_rng(0).random(volume.array.shape) < 0.01
    brain = Segmentation.from_labels(result.brain.astype(np.uint8), volume.geometry, [Segment("Brain", 1)])
    pierced = biased.with_array(np.where(holes, 0, biased.array).astype(np.float32), name="T1c")
    pierced = exam.prepare_exam(given(t1c=pierced), brain, settings(bias="n4"), Context("cpu")).images["T1c"].array
    assert not pierced[holes].any()
    columns = [pierced[..., n][(inside & ~holes)[..., n]].mean() for n in (6, 21)]
    assert abs(np.log(columns[1] / columns[0])) < 0.4 * abs(np.log(before[1] / before[0])), "vessels are no z-scores"


def test_labels_of_a_reader_become_tissues():
    _, segmentation = made_up(0)
    tissues = tumour_regions.tissue_labels(segmentation, "1, 2, 3, 4", "1, 3, 4", "Segment 4")
    labels = segmentation.layers[0]
    expected = np.select([labels == 4, labels == 1, labels == 2], [3, 2, 1], 0)
    np.testing.assert_array_equal(tissues.layers[0], expected)
    with pytest.raises(ParameterError, match="no voxel labelled 9"):
        tumour_regions.tissue_labels(segmentation, "9", "9", "9")


def test_nested_parts_and_their_volumes():
    labels = np.array([[[0, 1, 1, 2, 3, 3, 3, 0]]], np.uint8)
    table = measure(labels, np.ones(labels.shape, bool), 500.0)
    np.testing.assert_allclose(table.columns["volume"], [3.0, 2.0, 1.5])
    np.testing.assert_allclose(table.columns["share of brain"], [75.0, 50.0, 37.5])
    images, segmentation = made_up(0)
    nested = tumour_regions.nested(segmentation.layers[0] % 4, images["T1c"].geometry, "Tumour")
    assert [s.name for s in nested.segments] == ["Whole tumour", "Tumour core", "Enhancing tumour"]


def test_regions_are_blocks_with_their_own_features():
    rng = np.random.default_rng(0)
    array = rng.normal(size=(2, 6, 8, 10))
    array[1] = np.nan
    tumour = np.zeros(array.shape[1:], bool)
    tumour[1:5, 2:6, 2:8] = True
    found = tumour_regions.regions_of(array, tumour, (4.0, 4.0, 4.0))
    assert found.numbers.max() == len(found.features) == 2 * 2 * 3
    inside = found.numbers == 1
    assert inside.sum() == 8 and found.features[0, 0] == pytest.approx(array[0][inside].mean())
    assert found.features[0, 3] == pytest.approx(np.percentile(array[0][inside], 90))
    assert np.isnan(found.features[:, 4:8]).all()
    labels = np.where(inside, 3, 1) * tumour
    np.testing.assert_array_equal(tumour_regions.majority(found, labels), [3] + [1] * 11)
    nothing = tumour_regions.regions_of(array, np.zeros_like(tumour), (4.0, 4.0, 4.0))
    assert nothing.features.shape == (0, 9)


@pytest.mark.parametrize("classes", [(1, 3), (1, 2, 3)])
def test_the_region_classifier_is_scikit_learns_and_survives_its_file(classes):
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(1)
    tissues = rng.choice(classes, 300)
    features = rng.normal(size=(300, 5)) + tissues[:, None]
    trained = tumour_regions.RegionClassifier.train(["T1c"], features, tissues, 0)
    again = tumour_regions.RegionClassifier.from_json(trained.to_json())
    ready = (features - features.mean(0)) / features.std(0)
    peer = LogisticRegression(C=0.5, class_weight="balanced", max_iter=2000).fit(ready, tissues)
    found = again.probabilities(features)
    np.testing.assert_allclose(found[:, [c - 1 for c in classes]], peer.predict_proba(ready), atol=1e-6)
    missing = features.copy()
    missing[:, 0] = np.nan
    np.testing.assert_allclose(again.probabilities(missing).sum(1), 1.0)
    for damaged in ("{", "{}", trained.to_json().replace('"T1c"', '"T1c", "T2"')):
        with pytest.raises(ModelError, match="damaged"):
            tumour_regions.RegionClassifier.from_json(damaged)
    with pytest.raises(InputError, match="one tissue only"):
        tumour_regions.RegionClassifier.train(["T1c"], features, np.ones(300), 0)


def test_learns_from_a_folder_and_finds_the_tumour_of_another_patient(tmp_path, monkeypatch):
    parameters = {
        "data": str(example_folder()), "spacing_mm": 4.0, "steps": 45, "patch": 16, "model": str(tmp_path / "model"),
    }  # fmt: skip
    trained = TrainBrainTumour().execute({}, parameters, Context("cpu"))
    cases = trained["cases"].columns
    assert list(cases["case"]) == ["patient1", "patient2"] and (cases["region accuracy"] > 0.8).all()
    images, truth = made_up(7)
    inputs = {"t1c": images["T1c"], "flair": images["FLAIR"]}
    result = BrainTumour().execute(inputs, {"model": str(tmp_path / "model"), "bias": "none"}, Context("cpu"))
    whole = result["segmentation"].mask("Whole tumour")
    assert tumour_regions.dice(whole, truth.layers[0] > 0) > 0.7
    core = result["segmentation"].mask("Tumour core")
    assert not (core & ~whole).any()
    volume = whole.sum() * images["T1c"].geometry.voxel_volume_mm3 / 1000
    assert result["measures"].columns["volume"][0] == pytest.approx(volume)
    report = result["report"].text
    assert f"{volume:.1f} mL" in report and "For research only" in report and report.count("<img") == 2
    alone = BrainTumour().execute({"flair": images["FLAIR"]}, {"model": str(tmp_path / "model")}, Context("cpu"))
    assert "went without T1c" in alone["report"].text and "t1c_brain" not in alone
    warnings = []

    class Listening(Context):
        def warn(self, message):
            warnings.append(message)

    share = result["measures"].columns["share of brain"][0]
    for largest in (share + 1, share - 1):
        monkeypatch.setattr(tumour, "LARGEST_SHARE", largest)
        BrainTumour().execute(inputs, {"model": str(tmp_path / "model"), "bias": "none"}, Listening("cpu"))
    assert [w for w in warnings if w.startswith(f"The outline takes {share:.0f} % of the brain")] == warnings[-1:]
    with pytest.raises(ParameterError, match="none of them was given"):
        BrainTumour().execute({"t2": images["FLAIR"]}, {"model": str(tmp_path / "model")}, Context("cpu"))
    with pytest.raises(ParameterError, match="exists already"):
        TrainBrainTumour().execute({}, parameters, Context("cpu"))
