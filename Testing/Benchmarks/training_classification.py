"""Classification's figures: evaluation, explanation and conformal sets against their peers, and two data sets."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np

from .measuring import row, seconds

_PNEUMONIA = "cxr/pneumoniamnist_train_val.npz"


def _data(relative: str) -> Path:
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    return Path(os.environ.get("MEDIMGAI_TEST_DATA", beside)) / relative


def _predictions(count: int = 2000):
    rng = np.random.default_rng(0)
    truth = rng.random(count) < 0.3
    latent = 1.6 * truth + rng.normal(0, 1, count)
    first = 1 / (1 + np.exp(-(latent - 1)))
    second = 1 / (1 + np.exp(-(latent - 1 + rng.normal(0, 0.7, count))))
    return truth, np.round(first, 3), np.round(second, 3)


def evaluation() -> list[dict]:
    """Largest difference from published implementations."""
    from MedImgAILib.evaluate import delong, intervals, metrics
    from MLstatkit import Delong_test
    from scipy.stats import bootstrap
    from sklearn import metrics as peer
    from statsmodels.stats.contingency_tables import mcnemar

    truth, first, second = _predictions()
    both = np.stack([1 - first, first], axis=1)
    ranking = metrics.Ranking(truth, first)
    found = delong.compare_aucs(truth, first, second)
    z, p, *_ = Delong_test(truth.astype(int), first, second)
    rows = [
        row("DeLong: z against MLstatkit", abs(found["z"] + z), "≤ 1e-9", "", found["z"], -z),
        row("DeLong: p against MLstatkit", abs(found["p"] - p), "≤ 1e-9", "", found["p"], p),
    ]
    pairs = {
        "AUC": (ranking.auc(), peer.roc_auc_score(truth, first)),
        "average precision": (ranking.average_precision(), peer.average_precision_score(truth, first)),
        "Brier score": (metrics.brier(truth, first), peer.brier_score_loss(truth, first)),
    }
    for name, (ours, other) in pairs.items():
        rows.append(row(f"{name} against scikit-learn", abs(ours - other), "≤ 1e-9", "", ours, other))
    rows += _calibration_error(truth, both)
    few = np.arange(200)
    small = metrics.Ranking(truth[few], first[few])
    for method in ("percentile", "BCa"):
        wanted = bootstrap(
            (few,), lambda chosen: metrics.Ranking(truth[chosen], first[chosen]).auc(), vectorized=False, method=method,
            n_resamples=1000, rng=np.random.default_rng(1),
        )  # fmt: skip
        drawn = intervals.bootstrap(lambda w: {"auc": small.auc(w)}, 200, 1000, np.random.default_rng(1))["auc"]
        if method == "percentile":
            got = intervals.percentile_interval(drawn)
        else:
            got = intervals.bca_interval(drawn, small.auc(), np.array([small.auc(few != n) for n in few]))
        gap = float(np.abs(np.subtract(got, wanted.confidence_interval)).max())
        rows.append(row(f"Bootstrap interval ({method}) against SciPy", gap, "≤ 1e-9", ""))
    right = (first > 0.5) == truth, (second > 0.5) == truth
    table = [[np.sum(right[0] & right[1]), np.sum(right[0] & ~right[1])],
             [np.sum(~right[0] & right[1]), np.sum(~right[0] & ~right[1])]]  # fmt: skip
    ours, other = intervals.mcnemar(*right)["p"], float(mcnemar(table, exact=False).pvalue)
    rows.append(row("McNemar: p against statsmodels", abs(ours - other), "≤ 1e-9", "", ours, other))
    return rows


def _calibration_error(truth, probabilities) -> list[dict]:
    """Beside scikit-learn's calibration curve, weighted by its bins, and torchmetrics, which has single precision."""
    import torch
    from MedImgAILib.evaluate import metrics
    from sklearn.calibration import calibration_curve
    from torchmetrics.functional.classification import multiclass_calibration_error

    ours = metrics.calibration_error(truth, probabilities, 15)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    observed, predicted = calibration_curve(right, confidence, n_bins=15)
    bins = np.searchsorted(np.linspace(0, 1, 16)[1:-1], confidence)
    shares = np.bincount(bins, minlength=15) / len(bins)
    exact = float((shares[shares > 0] * np.abs(observed - predicted)).sum())
    single = float(
        multiclass_calibration_error(
            torch.from_numpy(probabilities), torch.from_numpy(truth.astype(np.int64)), num_classes=2, n_bins=15
        )
    )
    name = "Expected calibration error against"
    return [
        row(f"{name} scikit-learn's calibration curve", abs(ours - exact), "≤ 1e-9", "", ours, exact),
        row(f"{name} torchmetrics (single precision)", abs(ours - single), "≤ 1e-6", "", ours, single),
    ]


def explanation() -> list[dict]:
    """Largest difference from MONAI's and captum's maps, relative to their largest value."""
    import captum.attr
    import torch
    from MedImgAILib.classify import attribution
    from monai.networks.nets import DenseNet121
    from monai.visualize import GradCAM, GradCAMpp

    rows = []
    for dimensions in (2, 3):
        torch.manual_seed(0)
        network = DenseNet121(dimensions, 1, 3).eval()
        sample = torch.rand((1, 1, *(96, 80, 72)[:dimensions]))
        for name, peer, plus in (("Grad-CAM", GradCAM, False), ("Grad-CAM++", GradCAMpp, True)):
            wanted = peer(network, "class_layers.relu", postprocessing=lambda m: m)(sample, class_idx=1)
            wanted = wanted[0, 0].detach().numpy()
            got = attribution.class_activation(network, sample, 1, "", plus)
            gap = float(np.abs(got - wanted).max() / max(np.abs(wanted).max(), 1e-12))
            rows.append(row(f"{name} against MONAI, {dimensions}-D", gap, "≤ 1e-5", "of the maximum"))
        if dimensions == 2:
            got, gap = attribution.integrated_gradients(network, sample, 1, None, 32)
            wanted = captum.attr.IntegratedGradients(network).attribute(sample, 0.0, target=1, n_steps=32)
            wanted = wanted[0, 0].detach().numpy()
            error = float(np.abs(got - wanted).max() / np.abs(wanted).max())
            rows.append(row("Integrated gradients against captum", error, "≤ 1e-5", "of the maximum"))
    return rows


def conformal_coverage() -> list[dict]:
    """Mean coverage over 1000 splits of a badly calibrated model's cases."""
    from MedImgAILib.classify import calibration, conformal

    rng = np.random.default_rng(0)
    scores = rng.normal(0, 1.5, (1000, 3))
    truth = (rng.random((1000, 1)) > calibration.softmax(scores).cumsum(axis=1)).sum(axis=1)
    probabilities = calibration.softmax(3 * scores)
    rows = []
    for wanted in (0.8, 0.9, 0.95):
        covered = []
        for _ in range(1000):
            own, rest = np.split(rng.permutation(1000), [500])
            largest = conformal.limits(conformal.nonconformity(probabilities[own], truth[own]), truth[own], 3, wanted)
            covered.append(conformal.sets(probabilities[rest], largest)[np.arange(500), truth[rest]].mean())
        mean = 100 * float(np.mean(covered))
        rows.append(row(f"Conformal coverage of {100 * wanted:g} %: deviation over 1000 splits",
                        abs(mean - 100 * wanted), "≤ 2", "%", mean, 100 * wanted))  # fmt: skip
    return rows


def wisconsin() -> list[dict]:
    """Nested cross-validation on the Wisconsin breast-cancer set."""
    from MedImgAILib.core import Context, Table, registry
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    columns = {"truth": tuple(data.target_names[t] for t in data.target)}
    columns |= {name: data.data[:, n] for n, name in enumerate(data.feature_names)}
    task = registry()["classify.train_features"]
    parameters = {"classifier": "logistic", "positive": "malignant"}
    figures = task.execute({"features": Table(columns, "Wisconsin")}, parameters, Context("cpu"))["figures"].columns
    at = {name: n for n, name in reversed(list(enumerate(figures["figure"])))}
    value, low, high = (100 * float(figures[c][at["accuracy"]]) for c in ("value", "lower", "upper"))
    what = f"Wisconsin, nested cross-validation: accuracy (95 % interval {low:.1f}…{high:.1f} %)"
    return [row(what, value, "≥ 97", "%")]


def pneumonia() -> list[dict]:
    """PneumoniaMNIST by the documented command; on its validation part and on the folds that simulate a shift.

    The official test part is judged too where ``cxr/pneumoniamnist.npz`` lies among the test data.
    """
    from MedImgAILib.core import Context, registry

    path = _data(_PNEUMONIA)
    if not path.exists():
        print(f"{path} is not there; PneumoniaMNIST is left out.")
        return []
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        parameters = {"data": str(path), "folder": f"{folder}/run"}

        def train():
            found.update(registry()["classify.train_robust"].execute({}, parameters, Context("cpu")))

        rows = [row("PneumoniaMNIST: training", seconds(train) / 60, "≤ 30", "min")]
        figures = found["figures"].columns
        judged = {where: n for n, where in enumerate(figures["judged on"])}
        for where, n in judged.items():
            rows += _goals(where, *(float(figures[c][n]) for c in ("accuracy", "AUC", "expected calibration error")))
        official = _data("cxr/pneumoniamnist.npz")
        if official.exists():
            rows += _goals("official test part", *_judged(official, f"{folder}/run/model"))
    return rows


def _goals(where: str, accuracy: float, area: float, error: float) -> list[dict]:
    return [
        row(f"PneumoniaMNIST, {where}: accuracy", accuracy, "≥ 0.95", ""),
        row(f"PneumoniaMNIST, {where}: AUC", area, "≥ 0.99", ""),
        row(f"PneumoniaMNIST, {where}: expected calibration error", error, "≤ 0.03", ""),
    ]


def _judged(path: Path, model: str) -> tuple[float, float, float]:
    from MedImgAILib.core import Context, registry
    from MedImgAILib.evaluate import metrics

    task = registry()["classify.apply_set"]
    table = task.execute({}, {"data": str(path), "model": model, "part": "test"}, Context("cpu"))["predictions"].columns
    names = [c.removeprefix("probability ") for c in table if c.startswith("probability ")]
    truth = np.array([names.index(t) for t in table["truth"]])
    probabilities = np.stack([table[f"probability {n}"] for n in names], axis=1)
    right = float(np.mean([c == t for c, t in zip(table["called"], table["truth"])]))
    area = metrics.Ranking(truth == 1, probabilities[:, 1]).auc()
    return right, area, metrics.calibration_error(truth, probabilities)


PARTS = (evaluation, explanation, conformal_coverage, wisconsin, pneumonia)


def rows() -> list[dict]:
    """All of them."""
    return [entry for part in PARTS for entry in part()]
