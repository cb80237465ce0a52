"""Calibration, operating points and conformal sets against analytic truth, scikit-learn and simulation."""

from __future__ import annotations

import json

import numpy as np
import pytest
from MedImgAILib.classify import calibration, conformal
from MedImgAILib.classify.diagnosis import Diagnosis
from MedImgAILib.classify.pooling import pooled
from MedImgAILib.core import ModelError
from MedImgAILib.evaluate.metrics import calibration_error

CLASSES = ("benign", "malignant")


def drawn(n, temperature=1.0, classes=3, seed=0):
    """Scores of a perfectly calibrated model, multiplied by ``temperature``, and classes drawn from its belief."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 1.5, (n, classes))
    cumulated = calibration.softmax(scores).cumsum(axis=1)
    truth = (rng.random((n, 1)) > cumulated).sum(axis=1)
    return scores * temperature, truth


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_temperature_is_found(temperature):
    scores, truth = drawn(40_000, temperature)
    assert calibration.fit_temperature(scores, truth) == pytest.approx(temperature, rel=0.03)


def test_temperature_is_where_the_likelihood_has_no_slope():
    scores, truth = drawn(500, 2.0)
    found = calibration.fit_temperature(scores, truth)

    def loss(t):
        return -np.log(calibration.softmax(scores / t)[np.arange(500), truth]).mean()

    assert abs(loss(found * 1.001) - loss(found / 1.001)) < 1e-8
    assert loss(found) <= min(loss(found * 1.05), loss(found / 1.05))


def test_isotonic_is_that_of_scikit_learn():
    isotonic = pytest.importorskip("sklearn.isotonic")
    rng = np.random.default_rng(0)
    score = np.round(rng.random(400), 2)
    truth = rng.random(400) < score**2
    wanted = isotonic.IsotonicRegression(out_of_bounds="clip").fit(score, truth)
    places, values = calibration.fit_isotonic(score, truth)
    asked = np.linspace(-0.1, 1.1, 333)
    np.testing.assert_allclose(np.interp(asked, places, values), wanted.predict(asked), atol=1e-9)


def test_isotonic_of_few_cases():
    for score, truth in (([0.5], [1]), ([0.2, 0.7], [0, 1]), ([0.7, 0.2], [0, 1]), ([0.3, 0.3, 0.3], [0, 1, 1])):
        places, values = calibration.fit_isotonic(score, truth)
        assert np.all(np.diff(values) >= 0) and np.interp(0.3, places, values) == pytest.approx(
            np.mean(truth) if score[0] != 0.2 else 0.2, abs=1.0
        )


def test_another_prevalence_is_bayes_rule():
    """Two normal densities: the posterior at one prevalence turned into that at another."""
    from scipy.stats import norm

    x = np.linspace(-3, 4, 50)
    density = np.stack([norm.pdf(x, 0), norm.pdf(x, 1)], axis=1)

    def posterior(share):
        joint = density * [1 - share, share]
        return joint / joint.sum(axis=1, keepdims=True)

    got = calibration.with_prior(posterior(0.74), [0.26, 0.74], [0.9, 0.1])
    np.testing.assert_allclose(got, posterior(0.1), atol=1e-12)


def test_operating_points():
    truth = np.array([1, 1, 1, 1, 0, 0, 0, 0])
    score = np.array([0.9, 0.8, 0.6, 0.2, 0.7, 0.3, 0.3, 0.1])
    for wanted, threshold in ((1.0, 0.2), (0.75, 0.6), (0.7, 0.6), (0.5, 0.8)):
        found = calibration.threshold_for_sensitivity(truth, score, wanted)
        assert found == threshold and (score[truth == 1] >= found).mean() >= wanted
    for wanted in (0.25, 0.5, 0.75, 1.0):
        found = calibration.threshold_for_specificity(truth, score, wanted)
        assert (score[truth == 0] < found).mean() >= wanted
    assert calibration.threshold_for_specificity(truth, score, 0.75) == pytest.approx(0.3, abs=1e-12)
    best = calibration.balanced_threshold([1, 1, 1, 0, 0, 0], [0.9, 0.8, 0.3, 0.5, 0.2, 0.1])
    assert best == pytest.approx(0.25) or best == pytest.approx(0.65)  # one error on either side
    with pytest.raises(ValueError, match="no case is positive"):
        calibration.threshold_for_sensitivity([0, 0], [0.1, 0.2], 0.9)


@pytest.mark.parametrize("by_class", [False, True])
def test_conformal_sets_cover_over_a_thousand_splits(by_class):
    """The mean over the splits lies within 2 % of what was asked for, in each class too where that is promised."""
    scores, truth = drawn(1000, 2.5, seed=4)
    probabilities = calibration.softmax(scores)  # far too sure of itself
    rng, wanted = np.random.default_rng(0), 0.9
    covered = np.zeros((1000, 4))
    for split in range(1000):
        order = rng.permutation(1000)
        own, rest = order[:500], order[500:]
        largest = conformal.limits(conformal.nonconformity(probabilities[own], truth[own]), truth[own], 3, wanted,
                                   by_class)  # fmt: skip
        held = conformal.sets(probabilities[rest], largest)[np.arange(500), truth[rest]]
        covered[split] = held.mean(), *(held[truth[rest] == c].mean() for c in range(3))
    mean = covered.mean(axis=0)
    assert abs(mean[0] - wanted) <= 0.02
    if by_class:
        assert np.abs(mean[1:] - wanted).max() <= 0.02


def test_too_few_calibration_cases_promise_nothing():
    largest = conformal.limits([0.1, 0.2, 0.3], [0, 0, 1], 2, 0.95)
    assert np.isinf(largest).all() and conformal.sets([[0.99, 0.01]], largest).all()


def binary_diagnosis(kind="temperature", n=4000, seed=0):
    scores, truth = drawn(n, 3.0, 2, seed)
    return Diagnosis.fitted(scores, truth, CLASSES, kind, 0.9), scores, truth


@pytest.mark.parametrize("kind", ["temperature", "isotonic"])
def test_calibration_helps_on_other_cases(kind):
    diagnosis, _, _ = binary_diagnosis(kind)
    scores, truth = drawn(4000, 3.0, 2, seed=9)
    raw, calibrated = calibration.softmax(scores), diagnosis.calibrated(scores)
    assert calibration_error(truth, raw) > 0.08 and calibration_error(truth, calibrated) < 0.03
    called = diagnosis.called(calibrated)
    # The steps of isotonic regression give many cases the same probability, so that more may be reached.
    assert 0.87 < (called[truth == 1] == 1).mean() < (0.93 if kind == "temperature" else 0.97)


@pytest.mark.parametrize("kind", ["none", "temperature", "isotonic"])
def test_a_diagnosis_is_stored_and_read(kind, tmp_path):
    from MedImgAILib.classify.diagnosis import load_diagnosis
    from MedImgAILib.core.model_package import DIAGNOSIS

    pytest.importorskip("safetensors")
    given, scores, _ = binary_diagnosis(kind, 60)
    known = np.eye(3, 8, dtype=np.float32)
    given = Diagnosis(**{**vars(given), "embeddings": known, "known": np.array([0, 1, 1]), "names": ("a", "b", "c")})
    (tmp_path / DIAGNOSIS).write_bytes(given.to_bytes())
    stored, text = load_diagnosis(tmp_path), Diagnosis.from_text(given.to_text())
    for read in (stored, text):
        np.testing.assert_allclose(read.calibrated(scores), given.calibrated(scores), atol=1e-12)
        assert read.threshold == given.threshold and read.classes == CLASSES
        assert np.array_equal(read.sets(given.calibrated(scores), 0.8), given.sets(given.calibrated(scores), 0.8))
    assert stored.nearest(np.eye(1, 8, 1)[0], 2)[0] == (1, 1.0) and stored.names == ("a", "b", "c")
    assert load_diagnosis(tmp_path / "nothing") is None


def test_damaged_calibrations_are_refused_in_one_sentence(tmp_path):
    from MedImgAILib.classify.diagnosis import load_diagnosis
    from MedImgAILib.core.model_package import DIAGNOSIS

    pytest.importorskip("safetensors")
    good = json.loads(binary_diagnosis("isotonic", 60)[0].to_text())
    inner = json.loads(good["diagnosis"])
    broken = [
        "", "[]", "{}", "not JSON", json.dumps({**good, "arrays": {}}),
        json.dumps({**good, "arrays": {**good["arrays"], "numbers": [-1.0, 0.5, 0.9]}}),
        json.dumps({**good, "arrays": {**good["arrays"], "truth": [0.0] * 7}}),
        json.dumps({**good, "arrays": {k: v for k, v in good["arrays"].items() if k != "curve 0"}}),
        json.dumps({**good, "diagnosis": json.dumps({**inner, "classes": ["one"]})}),
        json.dumps({**good, "diagnosis": json.dumps({**inner, "version": 99})}),
    ]  # fmt: skip
    for text in broken:
        with pytest.raises(ModelError) as refusal:
            Diagnosis.from_text(text)
        assert str(refusal.value).endswith(".") and "\n" not in str(refusal.value)
    for content in (b"", b"\x08\x00\x00\x00\x00\x00\x00\x00notjson!", binary_diagnosis()[0].to_bytes()[:-40]):
        (tmp_path / DIAGNOSIS).write_bytes(content)
        with pytest.raises(ModelError):
            load_diagnosis(tmp_path)


def test_pooling():
    each = np.log([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    assert pooled(each, "max") == pytest.approx([0.2, 0.8])
    assert pooled(each, "noisy_or")[0] == pytest.approx(0.9 * 0.2 * 0.6)
    product = np.prod(np.exp(each), axis=0) ** (1 / 3)
    assert pooled(each, "mean") == pytest.approx(product / product.sum())
    for how in ("mean", "max", "noisy_or"):
        assert pooled(each[:1], how) == pytest.approx([0.9, 0.1])
