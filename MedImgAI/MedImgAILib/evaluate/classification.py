"""Evaluation of a classifier's predictions."""

from __future__ import annotations

import numpy as np

from ..core import (
    FloatParameter,
    InputError,
    IntegerParameter,
    Plot,
    PlotPort,
    Series,
    Table,
    TablePort,
    Task,
    Text,
    TextParameter,
    TextPort,
)
from . import metrics
from .charts import Line, chart
from .predictions import PREFIX, Predictions, read_predictions
from .report import charts_html, page, paragraph, table_html
from .summary import confusion_table, subgroup_table, summarize

REFERENCES = (
    "DeLong ER, DeLong DM, Clarke-Pearson DL. Comparing the areas under two or more correlated receiver operating "
    "characteristic curves. Biometrics 1988; 44:837-845.",
    "Sun X, Xu W. Fast implementation of DeLong's algorithm. IEEE Signal Process Lett 2014; 21:1389-1393.",
    "Guo C, Pleiss G, Sun Y, Weinberger KQ. On calibration of modern neural networks. ICML 2017: 1321-1330.",
    "Vickers AJ, Elkin EB. Decision curve analysis. Med Decis Making 2006; 26:565-574.",
    "Maier-Hein L, Reinke A, Godau P, et al. Metrics reloaded. Nat Methods 2024; 21:195-212.",
)
COLUMNS = (
    TextParameter("truth_column", "Column of the truth", "truth", "The column with the true class, as text or number."),
    TextParameter(
        "probability_columns", "Columns of probabilities", PREFIX,
        "Either one column of this name (probability of the positive class), or one for each class that begins with "
        "it, as 'probability benign'.",
    ),
    TextParameter("positive", "Positive class", "", "Which of two classes is positive; empty takes the last one."),
    FloatParameter(
        "threshold", "Threshold", 0.5, "Of two classes, the positive one is called where its probability is at least "
        "this.", minimum=0.0, maximum=1.0, step=0.05, decimals=4,
    ),
    FloatParameter(
        "confidence", "Confidence", 0.95, "Share of repetitions in which an interval holds the true value.",
        minimum=0.5, maximum=0.999, step=0.01, decimals=3, advanced=True,
    ),
)  # fmt: skip


class EvaluateClassification(Task):
    """Figures with intervals, curves, confusion matrix, subgroups and a report, for two classes or more."""

    id = "evaluate.classification"
    title = "Evaluate a classifier"
    group = "Evaluation"
    summary = (
        "Judges predicted probabilities against the truth: figures with intervals, curves, subgroups and a report."
    )
    references = REFERENCES
    keywords = ("accuracy", "sensitivity", "specificity", "AUC", "ROC", "calibration", "ECE", "Brier", "F1", "fairness",
                "decision curve", "confusion matrix", "precision", "recall")  # fmt: skip

    inputs = (TablePort("predictions", "Predictions", "One row for each case: its true class and its probabilities."),)
    parameters = (
        *COLUMNS,
        IntegerParameter(
            "samples", "Bootstrap samples", 2000, "How often the cases are drawn anew for the intervals.",
            minimum=100, maximum=100_000, advanced=True,
        ),
        TextParameter(
            "group_columns", "Subgroups", "", "Columns to compare subgroups by, with commas, as 'sex, scanner'."
        ),
        TextParameter(
            "patient_column", "Patients", "",
            "Column with the patient's id, where a patient may have several rows: intervals then count patients.",
        ),
        FloatParameter(
            "gap", "Gap", 0.05, "A subgroup is flagged if it falls behind the others by more than this, beyond chance.",
            minimum=0.0, maximum=1.0, step=0.01, advanced=True,
        ),
        IntegerParameter(
            "smallest_group", "Smallest subgroup", 10, "Subgroups with fewer cases are listed but not judged.",
            minimum=1, maximum=10_000, advanced=True,
        ),
        IntegerParameter(
            "bins", "Bins of calibration", 15, "Intervals of the confidence for the expected calibration error.",
            minimum=2, maximum=100, advanced=True,
        ),
    )  # fmt: skip
    outputs = (
        TablePort("figures", "Figures", "Each figure with the bounds of its interval."),
        TablePort("confusion", "Confusion matrix", "True classes in rows, called classes in columns."),
        TablePort("subgroups", "Subgroups", "Figures of each subgroup and its gap.", optional=True),
        PlotPort("roc", "ROC curve", "True-positive against false-positive rate.", optional=True),
        PlotPort("precision_recall", "Precision and recall", "Precision against recall.", optional=True),
        PlotPort("calibration", "Calibration", "Observed share against predicted probability.", optional=True),
        PlotPort("decision", "Decision curve", "Net benefit against threshold; for two classes.", optional=True),
        TextPort("report", "Report", "All of it as one HTML page; save it as .html.", optional=True),
    )

    def example(self):
        rng = np.random.default_rng(0)
        truth = rng.integers(0, 2, 60)
        score = 1 / (1 + np.exp(-(2 * truth - 1 + rng.normal(0, 1, 60))))
        table = Table({"truth": truth, "probability": score, "sex": ["F", "M"] * 30}, "predictions")
        return {"predictions": table}, {"samples": 100, "group_columns": "sex"}

    def run(self, inputs, parameters, context):
        groups = [g.strip() for g in parameters.group_columns.split(",") if g.strip()]
        given = read_predictions(
            inputs.predictions, parameters.truth_column, parameters.probability_columns, parameters.positive, groups,
            parameters.patient_column.strip(),
        )  # fmt: skip
        if len(given.truth) < 2:
            raise InputError(f"{inputs.predictions.label} has one case only; figures need several.")
        absent = [name for n, name in enumerate(given.classes) if not (given.truth == n).any()]
        if absent:
            context.warn(f"No case is truly '{absent[0]}', so that some figures are not defined.")
        with context.part(0.0, 0.85):
            figures = summarize(
                given, parameters.threshold, parameters.confidence, parameters.samples, parameters.bins, context
            )
        context.progress(0.85, "Curves and subgroups")
        confusion = confusion_table(given, parameters.threshold)
        subgroups = subgroup_table(
            given, parameters.threshold, parameters.confidence, parameters.gap, parameters.smallest_group, context
        )
        for label, gap in zip(*(subgroups.columns[c] for c in ("subgroup", "gap"))) if subgroups else ():
            if "−" in gap:
                context.warn(f"Subgroup '{label}' falls behind the others: {gap}.")
        plots, charts = curves(given)
        name = inputs.predictions.name or "predictions"
        head = _what(given, parameters)
        sections = [("", paragraph(head)), ("Figures", table_html(figures)),
                    ("Confusion matrix", table_html(confusion)), ("Curves", charts_html(charts))]  # fmt: skip
        if subgroups:
            sections.append(("Subgroups", table_html(subgroups, "gap")))
        report = Text(page(f"Evaluation of {name}", sections), f"Evaluation of {name}")
        return plots | {"figures": figures, "confusion": confusion, "subgroups": subgroups, "report": report}


def _what(given: Predictions, parameters) -> str:
    counts = ", ".join(f"{name}: {int((given.truth == n).sum())}" for n, name in enumerate(given.classes))
    patients = "" if given.patients is None else f" of {int(given.patients.max()) + 1} patients"
    cut = f" '{given.classes[1]}' is called from a probability of {parameters.threshold:g}." if given.is_binary else ""
    return (
        f"{len(given.truth)} cases{patients} ({counts}).{cut} Intervals hold the true value in "
        f"{100 * parameters.confidence:g} % of repetitions of such a study; they say nothing about other patients, "
        "scanners or hospitals."
    )


def curves(given: Predictions) -> tuple[dict[str, Plot], list[tuple[str, str]]]:
    """Plots by port, and the same as charts with captions."""
    shown = [1] if given.is_binary else range(len(given.classes))
    drawn: dict[str, list[Line]] = {"roc": [], "precision_recall": [], "calibration": []}
    for c in shown:
        truth, score, name = given.truth == c, given.probabilities[:, c], given.classes[c]
        if truth.all() or not truth.any():
            continue
        ranking = metrics.Ranking(truth, score)
        drawn["roc"].append(Line(name, *ranking.roc()[:2]))
        drawn["precision_recall"].append(Line(name, *ranking.precision_recall()[:2]))
        bins = metrics.calibration_curve(truth, score)
        drawn["calibration"].append(Line(name, bins["predicted"], bins["observed"], marks=True))
    if not drawn["roc"]:
        return {}, []
    titles = {
        "roc": ("ROC curve", "false-positive rate", "true-positive rate"),
        "precision_recall": ("Precision and recall", "recall", "precision"),
        "calibration": ("Calibration", "predicted probability", "observed share"),
    }
    chance = Line("chance", np.array([0.0, 1.0]), np.array([0.0, 1.0]), dashed=True)
    ideal = Line("ideal", chance.x, chance.y, dashed=True)
    reference = {"roc": [chance], "precision_recall": [], "calibration": [ideal]}
    plots = {key: line_plot(*titles[key], lines) for key, lines in drawn.items()}
    charts = [
        (titles[key][0], chart([*lines, *reference[key]], *titles[key][1:])) for key, lines in drawn.items()
    ]  # fmt: skip
    if given.is_binary:
        benefit = metrics.decision_curve(given.truth == 1, given.score, np.arange(1, 100) / 100)
        names = ("model", "treat all", "treat none")
        lines = [Line(n, benefit["threshold"], benefit[n], dashed=n != "model") for n in names]
        plots["decision"] = line_plot("Decision curve", "threshold probability", "net benefit", lines)
        top = max(float((given.truth == 1).mean()), 0.05)
        charts.append(("Decision curve", chart(lines, "threshold probability", "net benefit", (-top / 4, top))))
    return plots, charts


def line_plot(title: str, x_title: str, y_title: str, lines) -> Plot:
    """A plot whose table has an x and a y column for each line, padded with NaN to the longest."""
    longest = max(len(line.x) for line in lines)
    columns, series = {}, []
    for line in lines:
        x_name, y_name = f"{x_title} {line.name}", f"{y_title} {line.name}"
        for column, values in ((x_name, line.x), (y_name, line.y)):
            columns[column] = np.r_[values, np.full(longest - len(values), np.nan)]
        series.append(Series(y_name, x_name, line.name))
    return Plot(Table(columns, title), tuple(series), title, title, x_title, y_title)
