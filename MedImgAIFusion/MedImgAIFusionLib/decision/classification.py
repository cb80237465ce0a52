"""Fusion of classifiers: one decision per case from several tables of probabilities or decisions."""

from __future__ import annotations

import numpy as np
from MedImgAILib.core import (
    ChoiceParameter,
    FloatParameter,
    InputError,
    IntegerParameter,
    ParameterError,
    Plot,
    PlotPort,
    Series,
    Table,
    TablePort,
    Task,
    TextParameter,
)
from MedImgAILib.core.errors import listed

from .classifiers import Answers, Columns, betting, read_answers
from .evidence import belief, dempster_shafer
from .stacking import stack

UNDECIDED = "undecided"
FUSED = "fused"


def votes(answers: Answers, weights: np.ndarray) -> np.ndarray:
    """(N, C) share of the votes; ties go to the class with the higher mean probability, then to the first.

    Parameters
    ----------
    answers : Answers
    weights : (R,) votes of each classifier
    """
    called = answers.called()
    count = np.stack([((called == c) * weights[:, None]).sum(axis=0) for c in range(len(answers.classes))], axis=1)
    return _shares(count)


def mean(answers: Answers, weights: np.ndarray) -> np.ndarray:
    """(N, C) weighted mean of the probabilities (the sum rule of Kittler et al. 1998)."""
    return _shares((np.nan_to_num(answers.probabilities) * weights[:, None, None]).sum(axis=0))


def product(answers: Answers, weights: np.ndarray) -> np.ndarray:
    """(N, C) product of the probabilities, each to the power of its weight over the mean weight; NaN if all vanish."""
    power = weights / weights.mean()
    with np.errstate(divide="ignore"):
        logs = np.log(np.where(answers.said[..., None], answers.probabilities, 1.0)) * power[:, None, None]
    total = logs.sum(axis=0)
    top = total.max(axis=1, keepdims=True)
    shares = np.exp(total - np.where(np.isfinite(top), top, 0))
    return _shares(np.where(answers.said.any(axis=0)[:, None], shares, 0))


def _shares(values: np.ndarray) -> np.ndarray:
    total = values.sum(axis=1, keepdims=True)
    return np.divide(values, total, out=np.full_like(values, np.nan), where=total > 0)


class FuseClassifiers(Task):
    """Decision-level fusion for cases instead of voxels."""

    id = "fusion.classifiers"
    title = "Fuse classifiers"
    group = "Decision fusion"
    summary = (
        "Makes one decision per case from the tables of several classifiers or readers: vote, weighted mean, product, "
        "Dempster-Shafer with the conflict shown, or stacking."
    )
    references = (
        "Kittler J, Hatef M, Duin RPW, Matas J. On combining classifiers. IEEE Trans Pattern Anal Mach Intell "
        "1998;20:226-239. doi:10.1109/34.667881",
        "Shafer G. A mathematical theory of evidence. Princeton University Press 1976.",
        "Yager RR. On the Dempster-Shafer framework and new combination rules. Inf Sci 1987;41:93-137.",
        "Wolpert DH. Stacked generalization. Neural Netw 1992;5:241-259. doi:10.1016/S0893-6080(05)80023-1",
    )
    keywords = ("ensemble", "late fusion", "vote", "soft voting", "evidence", "belief", "stacking", "readers")

    inputs = (
        TablePort(
            "tables", "Classifiers", "One table for each: a row per case, with 'probability <class>' columns, or one "
            "'probability' of the positive class, or 'mass <class>' columns, or a 'decision'.",
            multiple=True, minimum_count=2,
        ),
        TablePort(
            "truth", "Truth", "Cases and their true class, if it does not stand in the other tables.", optional=True
        ),
    )  # fmt: skip
    parameters = (
        ChoiceParameter(
            "method", "Method", "mean",
            "Vote counts decisions; mean and product join probabilities; stacking learns from cases with known truth.",
            choices={
                "majority": "Majority vote",
                "mean": "Weighted mean",
                "product": "Product",
                "dempster_shafer": "Dempster-Shafer",
                "stacking": "Stacking",
            },
        ),
        TextParameter(
            "weights", "Weights", "",
            "One for each classifier, such as '1, 1, 2'; empty for equal ones; 'accuracy' takes the accuracy on the "
            "cases with known truth. For Dempster-Shafer they are reliabilities, 0…1.",
            enabled_when=("method", ("majority", "mean", "product", "dempster_shafer")),
        ),
        ChoiceParameter(
            "conflict", "Conflict", "dempster", "What becomes of the mass on which classifiers contradict each other.",
            choices={"dempster": "Divided out (Dempster)", "yager": "Becomes ignorance (Yager)"},
            enabled_when=("method", ("dempster_shafer",)),
        ),
        IntegerParameter(
            "folds", "Folds", 5, "Cases with known truth are decided by a model trained on the other folds.",
            minimum=2, maximum=100, enabled_when=("method", ("stacking",)),
        ),
        FloatParameter(
            "strength", "Inverse ridge", 1.0, "The smaller, the more alike the classifiers' influence.",
            minimum=1e-6, maximum=1e6, decimals=4, advanced=True, enabled_when=("method", ("stacking",)),
        ),
        TextParameter("positive", "Positive class", "", "Its name, where a table has one column 'probability'."),
        TextParameter("case_column", "Case column", "case", "Matches the cases; without it their order does."),
        TextParameter("truth_column", "Truth column", "truth", "The true class, where known.", advanced=True),
        TextParameter(
            "probability_columns", "Probabilities", "probability", "Beginning of the columns with probabilities.",
            advanced=True,
        ),
        TextParameter("decision_column", "Decision column", "decision", "The class that was called.", advanced=True),
        TextParameter(
            "patient_column", "Patient column", "", "Keeps the cases of a patient in one fold.", advanced=True
        ),
    )  # fmt: skip
    outputs = (
        TablePort("decisions", "Decisions", "Of every case: decision, probability of every class, how many said it."),
        TablePort(
            "classifiers", "Classifiers", "Of every classifier and of the fusion: cases, weight, agreement with the "
            "fusion, accuracy where the truth is known.", optional=True,
        ),
        PlotPort("chart", "Chart", "Accuracy of classifiers and fusion, or their agreement without truth.",
                 optional=True),
    )  # fmt: skip

    def example(self):
        rng = np.random.default_rng(0)
        truth = rng.integers(0, 2, 30)
        tables = []
        for number in range(3):
            score = 1 / (1 + np.exp(-(2 * truth - 1 + rng.normal(0, 1, 30))))
            columns = {
                "case": [f"case {n}" for n in range(30)],
                "probability ill": score,
                "probability well": 1 - score,
            }
            tables.append(Table(columns, f"classifier {number + 1}"))
        known = Table({"case": [f"case {n}" for n in range(30)], "truth": ["ill" if t else "well" for t in truth]})
        return {"tables": tables, "truth": known}, {}

    def run(self, inputs, parameters, context):
        columns = Columns(
            parameters.case_column, parameters.probability_columns, parameters.decision_column, parameters.truth_column,
            parameters.patient_column,
        )  # fmt: skip
        answers = read_answers(inputs.tables, inputs.truth, columns, parameters.positive.strip())
        context.progress(0.3, "Fusing")
        _warn(answers, context)
        weights = _weights(parameters, answers)
        extra: dict[str, np.ndarray] = {}
        if parameters.method == "majority":
            fused = votes(answers, weights)
            order = fused + 1e-9 * mean(answers, weights)
        elif parameters.method == "mean":
            fused = order = mean(answers, weights)
        elif parameters.method == "product":
            fused = order = product(answers, weights)
        elif parameters.method == "dempster_shafer":
            fused, extra = _evidence(answers, weights, parameters.conflict)
            order = fused
        else:
            fused = order = stack(
                answers.probabilities, answers.truth, answers.patients, parameters.folds, parameters.strength,
                context.seed, context.check,
            )  # fmt: skip
        decided = np.where(np.isfinite(order).all(axis=1), np.nan_to_num(order).argmax(axis=1), -1)
        nothing = int((decided < 0).sum())
        if nothing:
            first = answers.cases[int(np.flatnonzero(decided < 0)[0])]
            context.warn(
                f"Undecided are {nothing} cases where the classifiers contradict each other wholly or say nothing "
                f"(first: {first})."
            )
        context.progress(0.9, "Writing the results")
        table = _classifier_table(answers, decided, weights if parameters.method != "stacking" else None)
        return {
            "decisions": _decision_table(answers, fused, decided, extra),
            "classifiers": table,
            "chart": _chart(table),
        }


def _warn(answers: Answers, context):
    silent = (~answers.said).sum(axis=1)
    missing = [f"{name} ({n})" for name, n in zip(answers.names, silent, strict=True) if n]
    if missing:
        context.warn(f"Cases without an answer: {listed(missing)}.")


def _weights(parameters, answers: Answers) -> np.ndarray:
    text, count = parameters.weights.strip(), len(answers.names)
    if not text or parameters.method == "stacking":
        return np.ones(count)
    if text.casefold() == "accuracy":
        weights = answers.accuracy()
        if not np.isfinite(weights).all() or not weights.sum() > 0:
            raise InputError("Weights by accuracy need cases with known truth for every classifier.")
        return weights
    try:
        weights = np.array([float(word) for word in text.replace(",", " ").split()])
    except ValueError:
        raise ParameterError(f"Weights must be numbers separated by commas, or 'accuracy', not '{text}'.") from None
    most = 1 if parameters.method == "dempster_shafer" else np.inf
    if (
        len(weights) != count
        or not ((weights >= 0) & (weights <= most) & np.isfinite(weights)).all()
        or not weights.any()
    ):
        kind = "numbers 0…1" if most == 1 else "numbers of at least 0"
        raise ParameterError(f"Weights must be {count} {kind}, one for each classifier, not '{text}'.")
    return weights


def _evidence(answers: Answers, reliability, rule):
    classes = len(answers.classes)
    masses, conflict = dempster_shafer(answers.masses, classes, answers.said, reliability, rule)
    low, high = belief(masses, classes)
    unknown = masses.get(frozenset(range(classes)), np.zeros(len(conflict)))
    extra = {"conflict": conflict, "ignorance": unknown}
    for number, name in enumerate(answers.classes):
        extra |= {f"belief {name}": low[:, number], f"plausibility {name}": high[:, number]}
    fused = betting(masses, classes)
    fused[~answers.said.any(axis=0)] = np.nan
    return fused, extra


def _decision_table(answers: Answers, fused, decided, extra) -> Table:
    names = (*answers.classes, UNDECIDED)
    called = answers.called()
    columns = {"case": answers.cases, "decision": [names[n] for n in decided]}
    if (answers.truth >= 0).any():
        columns["truth"] = [answers.classes[t] if t >= 0 else "" for t in answers.truth]
    even = np.where(np.isfinite(fused), fused, 1 / len(answers.classes))
    columns |= {f"probability {name}": even[:, n] for n, name in enumerate(answers.classes)}
    columns["answers"] = answers.said.sum(axis=0)
    columns["agreeing"] = ((called == decided) & answers.said).sum(axis=0)
    return Table(columns | extra, name="Fused decisions")


def _classifier_table(answers: Answers, decided, weights) -> Table:
    called, said = answers.called(), answers.said
    judged = answers.truth >= 0
    rows = {"classifier": [*answers.names, FUSED]}
    rows["cases"] = [*said.sum(axis=1).tolist(), int((decided >= 0).sum())]
    if weights is not None:
        rows["weight"] = [*weights.tolist(), float("nan")]
    both = said & (decided >= 0)
    same = ((called == decided) & both).sum(axis=1) / np.maximum(both.sum(axis=1), 1)
    rows["agreement"] = [*same.tolist(), 1.0]
    if judged.any():
        fused = float((decided == answers.truth)[judged].mean())
        rows["accuracy"] = [*answers.accuracy().tolist(), fused]
    return Table(rows, name="Classifiers")


def _chart(table: Table) -> Plot:
    figure = "accuracy" if "accuracy" in table.columns else "agreement"
    return Plot(
        table, (Series(figure, name=figure.capitalize(), kind="bar"),), name=f"{figure.capitalize()} of classifiers",
        title="Classifiers and their fusion", x_title="Classifier, in the order of the table; the last is the fusion",
        y_title=figure.capitalize(),
    )  # fmt: skip
