"""Figures of classifiers against scikit-learn, SciPy, statsmodels, all-pairs DeLong and published values."""

from __future__ import annotations

import numpy as np
import pytest
from MedImgAILib.evaluate import delong, intervals, metrics

EXACT = {"rtol": 0, "atol": 1e-9}
sk = pytest.importorskip("sklearn.metrics")


def made(n=300, seed=0, digits=2):
    """Truth, a score with ties and weights that are counts."""
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < 0.35
    score = np.round(1 / (1 + np.exp(-(1.5 * truth - 0.8 + rng.normal(0, 1, n)))), digits)
    return truth, score, rng.integers(0, 4, n)


def made_multiclass(n=400, classes=4, seed=1):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, n)
    logits = rng.normal(0, 1, (n, classes)) + 1.2 * np.eye(classes)[truth]
    probabilities = np.exp(logits)
    return truth, probabilities / probabilities.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("weighted", [False, True])
def test_threshold_figures_are_those_of_scikit_learn(weighted):
    truth, score, weights = made()
    w = weights if weighted else None
    called = score >= 0.5
    figures = metrics.threshold_figures(*metrics.counts(truth, called, w))
    wanted = {
        "accuracy": sk.accuracy_score(truth, called, sample_weight=w),
        "sensitivity": sk.recall_score(truth, called, sample_weight=w),
        "specificity": sk.recall_score(~truth, ~called, sample_weight=w),
        "precision": sk.precision_score(truth, called, sample_weight=w),
        "negative predictive value": sk.precision_score(~truth, ~called, sample_weight=w),
        "F1": sk.f1_score(truth, called, sample_weight=w),
        "balanced accuracy": sk.balanced_accuracy_score(truth, called, sample_weight=w),
        "Matthews correlation": sk.matthews_corrcoef(truth, called, sample_weight=w),
    }
    assert set(figures) == set(wanted)
    for name, value in wanted.items():
        np.testing.assert_allclose(figures[name], value, **EXACT, err_msg=name)


def test_multiclass_figures_are_those_of_scikit_learn():
    truth, probabilities = made_multiclass()
    called = probabilities.argmax(axis=1)
    matrix = metrics.confusion_matrix(truth, called, 4)
    assert np.array_equal(matrix, sk.confusion_matrix(truth, called))
    figures = metrics.multiclass_figures(matrix)
    for name, value in {
        "accuracy": sk.accuracy_score(truth, called),
        "mean sensitivity": sk.recall_score(truth, called, average="macro"),
        "mean precision": sk.precision_score(truth, called, average="macro"),
        "mean F1": sk.f1_score(truth, called, average="macro"),
        "balanced accuracy": sk.balanced_accuracy_score(truth, called),
        "Matthews correlation": sk.matthews_corrcoef(truth, called),
    }.items():
        np.testing.assert_allclose(figures[name], value, **EXACT, err_msg=name)


@pytest.mark.parametrize("weighted", [False, True])
def test_areas_and_scores_are_those_of_scikit_learn(weighted):
    truth, score, weights = made()
    w = weights if weighted else None
    ranking = metrics.Ranking(truth, score)
    both = np.stack([1 - score, score], axis=1)
    np.testing.assert_allclose(ranking.auc(w), sk.roc_auc_score(truth, score, sample_weight=w), **EXACT)
    wanted = sk.average_precision_score(truth, score, sample_weight=w)
    np.testing.assert_allclose(ranking.average_precision(w), wanted, **EXACT)
    wanted = sk.brier_score_loss(truth, score, sample_weight=w)
    np.testing.assert_allclose(metrics.brier(truth, score, w), wanted, **EXACT)
    np.testing.assert_allclose(
        metrics.log_loss(truth, both, w), sk.log_loss(truth, score, sample_weight=w), rtol=0, atol=1e-9
    )  # fmt: skip


def test_curves_are_those_of_scikit_learn():
    from sklearn.calibration import calibration_curve

    truth, score, _ = made()
    fpr, tpr, thresholds = metrics.Ranking(truth, score).roc()
    for got, wanted in zip((fpr, tpr, thresholds), sk.roc_curve(truth, score, drop_intermediate=False)):
        np.testing.assert_allclose(got, wanted, **EXACT)
    recall, precision, _ = metrics.Ranking(truth, score).precision_recall()
    wanted_precision, wanted_recall, _ = sk.precision_recall_curve(truth, score)
    np.testing.assert_allclose(recall[::-1], wanted_recall, **EXACT)
    np.testing.assert_allclose(precision[::-1], wanted_precision, **EXACT)
    for strategy in ("uniform", "quantile"):
        got = metrics.calibration_curve(truth, score, 8, strategy == "quantile")
        observed, predicted = calibration_curve(truth, score, n_bins=8, strategy=strategy)
        np.testing.assert_allclose(got["observed"], observed, **EXACT)
        np.testing.assert_allclose(got["predicted"], predicted, **EXACT)


def test_brier_of_several_classes_is_that_of_scikit_learn():
    truth, probabilities = made_multiclass()
    wanted = sk.brier_score_loss(truth, probabilities, scale_by_half=False)
    np.testing.assert_allclose(metrics.brier(truth, probabilities), wanted, **EXACT)


def test_calibration_error_follows_its_definition():
    """Bin by bin, as Guo 2017 writes it; and a case that can be counted by hand."""
    truth, probabilities = made_multiclass(1000)
    confidence, called = probabilities.max(axis=1), probabilities.argmax(axis=1)
    wanted = 0.0
    for low, high in zip(np.arange(15) / 15, np.arange(1, 16) / 15):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            wanted += inside.mean() * abs((called == truth)[inside].mean() - confidence[inside].mean())
    np.testing.assert_allclose(metrics.calibration_error(truth, probabilities), wanted, **EXACT)
    sure = np.array([[0.1, 0.9]] * 10)
    assert metrics.calibration_error([1] * 7 + [0] * 3, sure) == pytest.approx(0.2)


def test_decision_curve_by_hand():
    truth, probability = [1, 1, 0, 0], [0.9, 0.4, 0.6, 0.1]
    curve = metrics.decision_curve(truth, probability, [0.25, 0.5, 0.75])
    assert curve["model"] == pytest.approx([2 / 4 - 1 / 4 / 3, 0.25 - 0.25, 0.25])
    assert curve["treat all"] == pytest.approx([0.5 - 0.5 / 3, 0.0, 0.5 - 0.5 * 3])


def all_pairs_delong(truth, scores):
    """The variance by its definition: placement values of all pairs."""
    fields = []
    for score in scores:
        one, zero = score[truth], score[~truth]
        fields.append((one[:, None] > zero[None]) + 0.5 * (one[:, None] == zero[None]))
    m, n = fields[0].shape
    ten = np.cov(np.stack([f.mean(axis=1) for f in fields]))
    oh_one = np.cov(np.stack([f.mean(axis=0) for f in fields]))
    return np.array([f.mean() for f in fields]), ten / m + oh_one / n


@pytest.mark.parametrize("digits", [1, 8])
def test_delong_is_the_sum_over_all_pairs(digits):
    truth, first, _ = made(digits=digits)
    second = np.round(first + np.random.default_rng(5).normal(0, 0.2, len(first)), digits)
    areas, covariance = delong.aucs_with_covariance(truth, [first, second])
    wanted_areas, wanted = all_pairs_delong(truth, [first, second])
    np.testing.assert_allclose(areas, wanted_areas, **EXACT)
    np.testing.assert_allclose(covariance, wanted, rtol=1e-9, atol=1e-15)
    found = delong.compare_aucs(truth, first, second)
    z = (wanted_areas[0] - wanted_areas[1]) / np.sqrt(wanted[0, 0] + wanted[1, 1] - 2 * wanted[0, 1])
    assert found["z"] == pytest.approx(z, abs=1e-9)


def test_delong_of_one_class_or_one_case_is_undefined():
    areas, covariance = delong.aucs_with_covariance([True, True], [0.1, 0.2])
    assert np.isnan(areas).all() and np.isnan(covariance).all()
    areas, covariance = delong.aucs_with_covariance([True, False, False], [0.9, 0.2, 0.3])
    assert areas[0] == 1 and np.isnan(covariance).all()


def test_same_score_twice_does_not_differ():
    truth, score, _ = made()
    found = delong.compare_aucs(truth, score, score)
    assert found["difference"] == 0 and found["p"] == 1


@pytest.mark.parametrize("method", ["percentile", "BCa"])
def test_bootstrap_is_that_of_scipy(method):
    from scipy import stats

    truth, score, _ = made(80)
    samples, cases = 500, np.arange(80)

    def statistic(chosen):
        return metrics.Ranking(truth[chosen], score[chosen]).auc()

    wanted = stats.bootstrap(
        (cases,), statistic, n_resamples=samples, vectorized=False, method=method, rng=np.random.default_rng(7)
    )
    ranking = metrics.Ranking(truth, score)
    drawn = intervals.bootstrap(lambda w: {"auc": ranking.auc(w)}, 80, samples, np.random.default_rng(7))["auc"]
    np.testing.assert_allclose(drawn, wanted.bootstrap_distribution, **EXACT)
    if method == "percentile":
        got = intervals.percentile_interval(drawn)
    else:
        left_out = np.array([ranking.auc(cases != n) for n in cases])
        got = intervals.bca_interval(drawn, ranking.auc(), left_out)
    np.testing.assert_allclose(got, wanted.confidence_interval, **EXACT)


def test_bootstrap_draws_whole_patients():
    groups = np.repeat(np.arange(10), 3)
    seen = []
    intervals.bootstrap(lambda w: seen.append(w) or {"n": w.sum()}, 30, 20, np.random.default_rng(0), groups)
    for weights in seen:
        assert (weights.reshape(10, 3) == weights[::3, None]).all() and weights.sum() == 30


@pytest.mark.parametrize("hits, total", [(0, 7), (3, 10), (81, 263), (10, 10)])
def test_wilson_is_that_of_statsmodels(hits, total):
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    wanted = proportion.proportion_confint(hits, total, method="wilson")
    np.testing.assert_allclose(intervals.wilson(hits, total), wanted, **EXACT)


def test_wilson_published():
    """Newcombe RG, Stat Med 1998; 17:857-872, table I: 81 of 263."""
    assert intervals.wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_mcnemar_is_that_of_statsmodels():
    tables = pytest.importorskip("statsmodels.stats.contingency_tables")
    rng = np.random.default_rng(3)
    first, second = rng.random(200) < 0.8, rng.random(200) < 0.7
    found = intervals.mcnemar(first, second)
    table = [[np.sum(first & second), np.sum(first & ~second)], [np.sum(~first & second), np.sum(~first & ~second)]]
    wanted = tables.mcnemar(table, exact=False, correction=True)
    np.testing.assert_allclose([found["statistic"], found["p"]], [wanted.statistic, wanted.pvalue], **EXACT)
    np.testing.assert_allclose(found["exact p"], tables.mcnemar(table, exact=True).pvalue, **EXACT)


def test_mcnemar_without_disagreement():
    found = intervals.mcnemar([True, False], [True, False])
    assert found["exact p"] == 1 and found["p"] == 1 and np.isnan(found["statistic"])
