"""Classification from tables of features: radiomics, deep features, clinical values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..core import (
    ChoiceParameter,
    FloatParameter,
    InputError,
    IntegerParameter,
    Table,
    TablePort,
    Task,
    Text,
    TextParameter,
    TextPort,
)
from ..core.errors import listed
from ..evaluate.predictions import Predictions, texts
from .attention import check_torch
from .calibration import threshold_for_sensitivity
from .feature_model import FeatureModel
from .feature_training import CLASSIFIERS, POOLINGS, cross_validated, final_model
from .known import COUNT_HELP, KNOWN, chosen, similar_cases, with_known

_REFERENCES = (
    "Varma S, Simon R. Bias in error estimation when using cross-validation for model selection. BMC Bioinformatics "
    "2006; 7:91.",
    "Ilse M, Tomczak J, Welling M. Attention-based deep multiple instance learning. ICML 2018: 2127-2136.",
    "Pedregosa F, Varoquaux G, Gramfort A, et al. Scikit-learn: machine learning in Python. JMLR 2011; 12:2825-2830.",
)
_KEYWORDS = ("radiomics", "machine learning", "random forest", "SVM", "logistic regression", "boosting",
             "cross-validation", "multiple instance", "tabular")  # fmt: skip
_CASE = TextParameter(
    "case_column", "Column of the case", "case",
    "Column with each case's name; several rows of a case (slices, patches, lesions) are one bag.",
)  # fmt: skip


class TrainOnFeatures(Task):
    """A classifier of a table of features, judged by nested cross-validation."""

    id = "classify.train_features"
    title = "Train on features"
    group = "Classification"
    summary = "Learns to tell classes apart from a table of features and says how well, by nested cross-validation."
    references = _REFERENCES
    keywords = _KEYWORDS

    inputs = (TablePort("features", "Features", "One row for each case (or slice, patch): its class and its numbers."),)
    parameters = (
        TextParameter("truth_column", "Column of the truth", "truth", "The column with the true class."),
        _CASE,
        TextParameter("patient_column", "Patients", "patient", "Column with the patient, who is never on both sides."),
        TextParameter("ignored_columns", "Ignore", "", "Further columns that are no features, with commas."),
        ChoiceParameter("classifier", "Classifier", "logistic", "What learns.", choices=CLASSIFIERS),
        ChoiceParameter(
            "pooling", "Pooling", "mean", "How several rows of a case become one; attention learns which count and "
            "replaces the classifier (needs torch).", choices=POOLINGS,
        ),
        TextParameter("positive", "Positive class", "", "Which of two classes is positive; empty takes the last one."),
        IntegerParameter("folds", "Folds", 10, "Of the cross-validation that judges.", minimum=2, maximum=100),
        IntegerParameter(
            "inner_folds", "Inner folds", 5, "Of the cross-validation that chooses, within each of the others.",
            minimum=2, maximum=20, advanced=True,
        ),
        FloatParameter(
            "sensitivity", "Sensitivity", 0.0,
            "Of two classes: sensitivity that the threshold shall reach; 0 calls what is likelier.",
            minimum=0.0, maximum=1.0, step=0.01, advanced=True,
        ),
        KNOWN,
    )  # fmt: skip
    outputs = (
        TextPort("trained", "Trained classifier", "For 'Classify by features'; can be saved as .json."),
        TablePort("figures", "Figures", "Of the cross-validation, with intervals."),
        TablePort("predictions", "Held-out predictions", "Of every case, for 'Evaluate a classifier'."),
    )

    requirements = ("scikit-learn>=1.3",)

    def validate(self, inputs, parameters):
        if parameters.pooling == "attention":
            check_torch()

    def example(self):
        rng = np.random.default_rng(0)
        truth = np.arange(40) % 2
        columns = {"case": [f"case {n}" for n in range(40)], "truth": np.where(truth, "sick", "well").tolist()}
        columns |= {f"feature {n}": rng.normal(truth * (2 - n), 1.0) for n in range(3)}
        return {"features": Table(columns, "features")}, {"folds": 3, "inner_folds": 2}

    def run(self, inputs, parameters, context):
        from ..evaluate.summary import summarize

        table = inputs.features
        special = [parameters.truth_column, parameters.case_column, parameters.patient_column]
        ignored = {c.strip() for c in [*special, *parameters.ignored_columns.split(",")]}
        actual = texts(table, parameters.truth_column)
        names, values = feature_values(table, ignored)
        bags, cases, owner = bags_of(table, values, parameters.case_column)
        labels = _one_each(actual, owner, len(bags), "class", table)
        classes = _classes(labels, parameters.positive, table)
        truth = np.array([classes.index(label) for label in labels])
        patients = np.arange(len(bags))
        if parameters.patient_column in table.columns:
            whose = _one_each(texts(table, parameters.patient_column), owner, len(bags), "patient", table)
            # Of whom it is not known is one of his own.
            patients = np.unique([f"1 {w}" if w else f"0 {n}" for n, w in enumerate(whose)], return_inverse=True)[1]
        arguments = (classes, parameters.classifier, parameters.pooling)
        with context.part(0.0, 0.7) as part:
            found, fold = cross_validated(
                bags, truth, patients, len(classes), *arguments[1:], parameters.folds, parameters.inner_folds,
                context.seed, part,
            )  # fmt: skip
        context.progress(0.7, "Learning from all cases")
        sensitivity = parameters.sensitivity if len(classes) == 2 else 0.0
        model = final_model(
            bags, truth, patients, classes, names, *arguments[1:], parameters.inner_folds, sensitivity, found,
            context.seed, context,
        )  # fmt: skip
        kept = chosen(truth, len(classes), context.seed)
        seen = model.embeddings([bags[n] for n in kept])
        names_kept = [cases[n] for n in kept]
        model = replace(
            model, diagnosis=with_known(model.diagnosis, seen, truth[kept], names_kept, parameters.known_cases)
        )
        given = Predictions(classes, truth, found, {}, patients if len(np.unique(patients)) < len(bags) else None)
        with context.part(0.85, 1.0) as part:
            threshold = threshold_for_sensitivity(truth == 1, found[:, 1], sensitivity) if sensitivity else 0.5
            figures = summarize(given, threshold, 0.95, 500, 15, part)
        columns = {"case": cases, "truth": labels, "fold": fold}
        columns |= {f"probability {c}": found[:, n] for n, c in enumerate(classes)}
        return {
            "trained": Text(model.to_text(), "Feature classifier"),
            "figures": figures,
            "predictions": Table(columns, "Held-out predictions"),
        }


class ClassifyByFeatures(Task):
    """A trained classifier on other cases' features."""

    id = "classify.apply_features"
    title = "Classify by features"
    group = "Classification"
    summary = "Gives each case's class probabilities from its features, by a classifier that was trained on others."
    references = _REFERENCES
    keywords = _KEYWORDS

    inputs = (
        TablePort("features", "Features", "With the columns that the classifier was trained on, in any order."),
        TextPort("trained", "Trained classifier", "What 'Train on features' gave."),
    )
    parameters = (
        _CASE,
        FloatParameter(
            "coverage", "Coverage", 0.95, "How often the set of possible classes shall hold the true one.",
            minimum=0.5, maximum=0.999, step=0.01, decimals=3,
        ),
        IntegerParameter("neighbours", "Similar cases", 5, COUNT_HELP, minimum=0, maximum=100, advanced=True),
    )  # fmt: skip
    outputs = (
        TablePort("predictions", "Predictions", "Probabilities, called class and possible classes."),
        TablePort("similar", "Similar cases", "Of each case, the known cases most like it.", optional=True),
    )

    def example(self):
        from ..segment.pixel_model import PixelModel
        from .diagnosis import Diagnosis

        rng = np.random.default_rng(0)
        truth = np.arange(60) % 2
        scores = np.stack([np.zeros(60), 3.0 * truth - 1.5 + rng.normal(0, 1, 60)], axis=1)
        model = PixelModel("logistic", 2, 2, (), (), np.array([[1.0, -1.0]]), np.array([0.2]))
        trained = FeatureModel(
            ("size", "contrast"), np.zeros(2), np.zeros(2), np.ones(2), model, "mean",
            Diagnosis.fitted(scores, truth, ("well", "sick")),
        )  # fmt: skip
        table = Table({"case": ["a", "b"], "contrast": [0.1, 1.0], "size": [2.0, -1.0]}, "features")
        return {"features": table, "trained": Text(trained.to_text(), "classifier")}, {}

    def run(self, inputs, parameters, context):
        model = FeatureModel.from_text(inputs.trained.text)
        missing = [name for name in model.features if name not in inputs.features.columns]
        if missing:
            raise InputError(f"{inputs.features.label} lacks columns of the classifier: {listed(missing)}.")
        columns = {name: inputs.features.columns[name] for name in model.features}
        _, values = feature_values(Table(columns, inputs.features.name), set())
        context.progress(0.2)
        bags, cases, _ = bags_of(inputs.features, values, parameters.case_column)
        gaps = int((~np.isfinite(values)).sum())
        if gaps:
            context.warn(f"{gaps} missing values were replaced by the medians of the training cases.")
        probabilities = model.probabilities(bags)
        context.progress(0.8)
        diagnosis = model.diagnosis
        columns = {"case": cases} | diagnosis.columns(probabilities, parameters.coverage)
        similar = similar_cases(diagnosis, model.embeddings(bags), parameters.neighbours, cases)
        return {"predictions": Table(columns, "Predictions"), "similar": similar}


def feature_values(table: Table, ignored: set) -> tuple[list[str], np.ndarray]:
    """Names and (rows, F) values of the columns that are numbers; infinite values count as missing.

    Raises
    ------
    InputError
        If there is none, or a column holds text.
    """
    names = [name for name in table.columns if name not in ignored]
    words = [name for name in names if isinstance(table.columns[name], tuple)]
    if words:
        raise InputError(f"{table.label} has text in {listed(words)}; name such columns under 'Ignore'.")
    if not names or not table.rows:
        raise InputError(f"{table.label} has no features.")
    values = np.stack([np.asarray(table.columns[name], float) for name in names], axis=1)
    return names, np.where(np.isfinite(values), values, np.nan)


def bags_of(table: Table, values: np.ndarray, column: str):
    """The rows of each case, the cases' names, and the position of each row's case."""
    if column not in table.columns:
        rows = len(values)
        return [v[None] for v in values], tuple(f"case {n + 1}" for n in range(rows)), np.arange(rows)
    names = texts(table, column)
    place = {name: n for n, name in enumerate(dict.fromkeys(names))}
    owner = np.array([place[name] for name in names])
    return [values[owner == n] for n in range(len(place))], tuple(place), owner


def _one_each(values, owner, count: int, what: str, table: Table) -> tuple[str, ...]:
    found: list = [None] * count
    for value, place in zip(values, owner):
        if found[place] not in (None, value):
            raise InputError(f"{table.label} gives a case two values of its {what} ('{found[place]}', '{value}').")
        found[place] = value
    return tuple(found)


def _classes(labels, positive: str, table: Table) -> tuple[str, ...]:
    if "" in labels:
        raise InputError(f"{table.label} lacks the true class of a case; remove such rows.")
    classes = sorted(set(labels))
    if len(classes) < 2:
        raise InputError(f"{table.label} holds one class only ('{classes[0]}'); at least two are needed.")
    if positive and positive not in classes:
        raise InputError(f"{table.label} has the classes {listed(classes)}; '{positive}' is none of them.")
    if positive:
        classes = [c for c in classes if c != positive] + [positive]
    return tuple(classes)
