"""Feature level: reductions against textbook formulas, joined tables, and classifiers on images with a known answer."""

from __future__ import annotations

import json

import numpy as np
import pytest
from MedImgAIFusionLib.feature.classifier import FusedClassifier
from MedImgAIFusionLib.feature.reduction import Reduction, fit
from MedImgAIFusionLib.feature.voxels import Features, deep_features
from MedImgAIFusionLib.model.cases import Patient, prepare
from MedImgAILib.core import (
    Context,
    Geometry,
    InputError,
    ModelError,
    Segment,
    Segmentation,
    Table,
    Text,
    Volume,
    registry,
)

TRAIN, APPLY, JOIN = (registry()[name] for name in ("fusion.features_train", "fusion.features_apply", "fusion.tables"))
QUICK = {"voxel_mm": 0.0, "scales_mm": "1", "trees": 10, "samples": 300, "components": 6}


def patient(seed: int, shape=(14, 18, 20), name="patient"):
    """The first image shows one ball, the second another; together they show both."""
    rng = np.random.default_rng(seed)
    geometry = Geometry.from_spacing(shape, (1.0, 1.0, 1.5))
    k, j, i = np.mgrid[: shape[0], : shape[1], : shape[2]]
    labels = np.zeros(shape, np.uint8)
    shift = seed % 3
    labels[(k - 6) ** 2 + (j - 6 - shift) ** 2 + (i - 6) ** 2 < 14] = 1
    labels[(k - 7) ** 2 + (j - 11) ** 2 + (i - 13 + shift) ** 2 < 14] = 2
    images = [
        Volume((rng.normal(0, 1, shape) + 5 * (labels == n + 1)).astype(np.float32), geometry, name=kind)
        for n, kind in enumerate(("T1c", "FLAIR"))
    ]
    segments = [Segment("core", 1), Segment("oedema", 2)]
    return images, Segmentation.from_labels(labels, geometry, segments, name)


def overlap(found, wanted, name):
    one, other = found.mask(name), wanted.mask(name)
    return 2 * (one & other).sum() / (one.sum() + other.sum())


def trained(**changes):
    images, segmentation = patient(0)
    more, other = patient(1)
    inputs = {"images": [*images, *more], "segmentations": [segmentation, other]}
    return TRAIN.execute(inputs, QUICK | changes, Context("cpu", 1))


# Reductions


def test_principal_components_are_those_of_the_correlation_matrix():
    rng = np.random.default_rng(0)
    rows = rng.normal(0, 1, (300, 6)) @ rng.normal(0, 1, (6, 6)) * [1, 10, 100, 1, 1, 1] + 7
    found = fit(rows, np.zeros(6, int), "pca", 3).apply(rows)
    values = np.sort(np.linalg.eigvalsh(np.corrcoef(rows.T)))[::-1][:3]
    assert found.var(axis=0) == pytest.approx(values, rel=1e-4)
    assert np.abs(np.corrcoef(found.T) - np.eye(3)).max() < 1e-4


def test_canonical_components_are_those_of_two_sets():
    """For two sets MAXVAR is Hotelling's analysis: singular values of the whitened cross-covariance."""
    rng = np.random.default_rng(1)
    common = rng.normal(0, 1, (2000, 1))
    first = np.hstack([common + 0.3 * rng.normal(0, 1, (2000, 1)), 5 * rng.normal(0, 1, (2000, 2))])
    second = np.hstack([rng.normal(0, 1, (2000, 2)), -common + 0.3 * rng.normal(0, 1, (2000, 1))])
    rows, groups = np.hstack([first, second]), np.repeat([0, 1], 3)
    component = fit(rows, groups, "cca", 1).apply(rows)[:, 0]

    def white(x):
        centred = x - x.mean(0)
        return centred @ np.linalg.inv(np.linalg.cholesky(np.cov(centred.T))).T

    a, b = white(first), white(second)
    left, singular, right = np.linalg.svd(a.T @ b / len(a))
    variates = a @ left[:, 0], b @ right[0]
    assert np.corrcoef(variates)[0, 1] == pytest.approx(singular[0], abs=1e-2) and singular[0] > 0.9
    assert abs(np.corrcoef(component, sum(variates))[0, 1]) > 0.999
    assert abs(np.corrcoef(component, common[:, 0])[0, 1]) > 0.95


def test_what_does_not_vary_is_left_out_or_refused():
    rows = np.random.default_rng(0).normal(0, 1, (50, 3))
    rows[:, 1] = 4
    assert np.abs(fit(rows, np.arange(3), "pca", 3).projection[1]).max() == 0
    with pytest.raises(InputError, match="none of them varies"):
        fit(np.ones((10, 2)), np.zeros(2, int), "pca", 2)
    with pytest.raises(InputError, match="at least two modalities"):
        fit(rows, np.array([0, 1, 0]), "cca", 2)


def test_reduction_survives_storage():
    rows = np.random.default_rng(0).normal(0, 1, (50, 4))
    one = fit(rows, np.zeros(4, int), "pca", 2)
    two = Reduction.from_json(json.loads(json.dumps(one.to_json())))
    assert np.array_equal(one.apply(rows), two.apply(rows))
    with pytest.raises(ModelError, match="damaged"):
        Reduction.from_json(one.to_json() | {"mean": [0.0, float("nan"), 0, 0]})


# Tables


def test_tables_are_joined_by_their_texts():
    ct = Table({"patient": ["a", "b", "c", "d"], "volume": [1.0, 2, 3, 4]}, "CT")
    pet = Table({"patient": ["d", "a", "c", "e"], "peak": [40.0, 10, 30, 50]}, "PET")
    fused = JOIN.execute({"tables": [ct, pet]}, {"reduction": "none"}, Context())["fused"].columns
    assert fused["patient"] == ("a", "c", "d")
    assert fused["CT volume"].tolist() == [1, 3, 4] and fused["PET peak"].tolist() == [10, 30, 40]
    reduced = JOIN.execute({"tables": [ct, pet]}, {"components": 1}, Context())["fused"].columns
    assert np.corrcoef(reduced["PCA 1"], [1, 3, 4])[0, 1] == pytest.approx(1, abs=1e-6)


def test_tables_that_cannot_be_joined_get_a_sentence():
    ct = Table({"patient": ["a", "b", "a"], "volume": [1.0, 2, 3]}, "CT")
    with pytest.raises(InputError, match="two rows with the same patient"):
        JOIN.execute({"tables": [ct]}, {}, Context())
    with pytest.raises(InputError, match="no row has the same patient"):
        other = Table({"patient": ["x"], "peak": [1.0]}, "PET")
        JOIN.execute({"tables": [Table({"patient": ["a"], "v": [1.0]}, "CT"), other]}, {}, Context())


# Voxels


def test_features_of_both_modalities_find_what_none_shows_alone():
    result = trained()
    images, wanted = patient(2)
    found = APPLY.execute({"images": images[::-1], "trained": result["trained"]}, {}, Context("cpu"))
    for name in ("core", "oedema"):
        assert overlap(found["segmentation"], wanted, name) > 0.9
        volume = found["measures"].columns["volume"][found["measures"].columns["segment"].index(name)]
        assert volume == pytest.approx(found["segmentation"].mask(name).sum() * 1.5e-3)


@pytest.mark.parametrize("changes", [{"reduction": "cca"}, {"reduction": "none", "classifier": "logistic"}])
def test_other_reductions_and_classifiers(changes):
    images, wanted = patient(2)
    text = trained(**changes)["trained"]
    found = APPLY.execute({"images": images, "trained": text}, {}, Context("cpu"))["segmentation"]
    assert overlap(found, wanted, "core") > 0.8


def test_images_on_other_grids_are_brought_to_the_first_one():
    text = trained()["trained"]
    images, wanted = patient(2)
    fine = images[1].geometry.with_spacing((0.5, 0.5, 0.75))
    doubled = np.repeat(np.repeat(np.repeat(images[1].array, 2, 0), 2, 1), 2, 2)
    inputs = {"images": [images[0], Volume(doubled, fine, name="FLAIR")], "trained": text}
    found = APPLY.execute(inputs, {}, Context("cpu"))["segmentation"]
    assert found.geometry.same_grid(images[0].geometry) and overlap(found, wanted, "oedema") > 0.8


def test_a_missing_modality_is_told(caplog):
    text = trained()["trained"]
    images, wanted = patient(2)
    found = APPLY.execute({"images": images[:1], "trained": text}, {}, Context("cpu"))["segmentation"]
    assert "FLAIR is missing" in caplog.text and overlap(found, wanted, "core") > 0.5
    with pytest.raises(InputError, match="fits none of the model's inputs"):
        odd = images[0].with_array(images[0].array, name="PET")
        APPLY.execute({"images": [odd], "trained": text}, {}, Context("cpu"))


def test_stored_classifier_is_the_same_and_damage_is_noticed():
    text = trained()["trained"].text
    assert FusedClassifier.from_text(text).to_text() == text
    value = json.loads(text)
    for change in ({"prior": [1, 1]}, {"modalities": ["T1c"]}, {"deep": [["x", 3]]}, {"version": 2}):
        with pytest.raises(ModelError):
            FusedClassifier.from_text(json.dumps(value | change))
    with pytest.raises(ModelError):
        APPLY.execute({"images": patient(2)[0], "trained": Text("{}", "t")}, {}, Context("cpu"))


def test_training_is_repeatable():
    assert trained()["trained"].text == trained()["trained"].text


def test_a_segment_that_is_empty_gets_a_sentence():
    images, segmentation = patient(0)
    blank = Segmentation.from_labels(np.zeros_like(segmentation.layers[0]), images[0].geometry, segmentation.segments)
    with pytest.raises(InputError, match="segment 'core' has 0 voxels"):
        TRAIN.execute({"images": images, "segmentations": [blank]}, QUICK, Context("cpu"))


def test_constant_channel_and_single_slice():
    images, segmentation = patient(0)
    flat = images[1].with_array(np.full_like(images[1].array, 3), name="FLAIR")
    result = TRAIN.execute({"images": [images[0], flat], "segmentations": [segmentation]}, QUICK, Context("cpu"))
    assert result["measures"].columns["Dice"][0] > 0.8
    one = [Volume(v.array[6:7], v.geometry.cropped((6, 0, 0), (1, 18, 20)), name=v.name) for v in images]
    cut = Segmentation.from_labels(segmentation.layers[0][6:7], one[0].geometry, segmentation.segments)
    result = TRAIN.execute({"images": one, "segmentations": [cut]}, QUICK, Context("cpu"))
    assert result["segmentation"].geometry.shape == (1, 18, 20)


def test_deep_features_are_the_input_of_the_last_layer():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv3d(2, 5, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv3d(5, 3, 1)).eval()
    images, segmentation = patient(0)
    case = prepare(Patient("p", dict(zip(("a", "b"), images)), segmentation), ["a", "b"], 0.0, ["core"])
    found = deep_features(network, case.array, Context("cpu"))
    with torch.no_grad():
        wanted = network[:2](torch.from_numpy(case.array)[None])[0].numpy()
    assert np.allclose(found, wanted, atol=1e-5)
    features = Features(case, (1.0,), [(network, (0, 1))], Context("cpu"))
    assert features.plane(3).shape[0] == 2 * 9 + 5
    places = np.array([[3, 4, 5], [7, 1, 2]])
    assert np.allclose(features.at(places, Context())[0], features.plane(3)[:, 4, 5])
    with pytest.raises(ModelError, match="does not take these images"):
        deep_features(network, case.array[:1], Context("cpu"))
