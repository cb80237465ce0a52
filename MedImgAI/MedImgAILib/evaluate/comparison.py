"""Comparison of two classifiers on the same cases."""

from __future__ import annotations

import numpy as np

from ..core import InputError, IntegerParameter, PlotPort, Table, TablePort, Task, Text, TextParameter, TextPort
from ..core.errors import listed
from .charts import Line, chart
from .classification import COLUMNS, REFERENCES, line_plot
from .delong import compare_aucs
from .intervals import bootstrap, mcnemar, percentile_interval
from .metrics import Ranking
from .predictions import read_predictions, texts
from .report import charts_html, page, paragraph, table_html
from .summary import Figures


class CompareClassifiers(Task):
    """Whether one of two classifiers is better than chance explains, on the same cases."""

    id = "evaluate.compare"
    title = "Compare two classifiers"
    group = "Evaluation"
    summary = "Compares the predictions of two classifiers for the same cases by the tests of DeLong and McNemar."
    references = (
        *REFERENCES[:2],
        "McNemar Q. Note on the sampling error of the difference between correlated proportions or percentages. "
        "Psychometrika 1947; 12:153-157.",
    )
    keywords = ("DeLong", "McNemar", "AUC", "significance", "paired")

    inputs = (
        TablePort("first", "First", "Predictions of one classifier, with the truth."),
        TablePort("second", "Second", "Predictions of the other; its truth, if any, must be the same."),
    )
    parameters = (
        *COLUMNS,
        TextParameter(
            "case_column", "Column of the case", "case",
            "Column with each case's name, by which rows are matched; without it the rows must be in the same order.",
        ),
        IntegerParameter(
            "samples", "Bootstrap samples", 2000, "How often the cases are drawn anew for the intervals.",
            minimum=100, maximum=100_000, advanced=True,
        ),
    )  # fmt: skip
    outputs = (
        TablePort("differences", "Differences", "Each figure of both, first minus second, with its interval."),
        TablePort("tests", "Tests", "Statistic and p of the tests."),
        PlotPort("roc", "ROC curves", "Both curves; for two classes.", optional=True),
        TextPort("report", "Report", "All of it as one HTML page; save it as .html.", optional=True),
    )

    def example(self):
        rng = np.random.default_rng(0)
        truth = rng.integers(0, 2, 60)
        tables = {}
        for name, noise in (("first", 0.7), ("second", 1.5)):
            score = 1 / (1 + np.exp(-(2 * truth - 1 + rng.normal(0, noise, 60))))
            tables[name] = Table({"case": [f"case {n}" for n in range(60)], "truth": truth, "probability": score}, name)
        return tables, {"samples": 100}

    def run(self, inputs, parameters, context):
        first_table, second_table = _matched(inputs.first, inputs.second, parameters)
        first, second = (
            read_predictions(t, parameters.truth_column, parameters.probability_columns, parameters.positive)
            for t in (first_table, second_table)
        )
        if first.classes != second.classes:
            if sorted(first.classes) != sorted(second.classes):
                raise InputError(f"First and second have other classes: {listed(first.classes)}; "
                                 f"{listed(second.classes)}.")  # fmt: skip
            raise InputError("First and second name their classes in another order; say which class is positive.")
        if (first.truth != second.truth).any():
            row = int(np.flatnonzero(first.truth != second.truth)[0]) + 1
            raise InputError(f"First and second disagree about the truth of case {row}; they must be the same cases.")
        differences = _differences(first, second, parameters, context)
        right = [p.predicted(parameters.threshold) == p.truth for p in (first, second)]
        tests = _tests(first, second, right, parameters)
        plot, charts = None, []
        if first.is_binary and 0 < first.truth.sum() < len(first.truth):
            lines = [
                Line(name, *Ranking(p.truth == 1, p.score).roc()[:2])
                for name, p in zip(_names(inputs), (first, second))
            ]
            plot = line_plot("ROC curves", "false-positive rate", "true-positive rate", lines)
            chance = Line("chance", np.array([0.0, 1.0]), np.array([0.0, 1.0]), dashed=True)
            charts = [("ROC curves", chart([*lines, chance], "false-positive rate", "true-positive rate"))]
        names = _names(inputs)
        title = f"{names[0]} against {names[1]}"
        sections = [
            ("", paragraph(f"{len(first.truth)} cases. Differences are first minus second.")),
            ("Differences", table_html(differences)), ("Tests", table_html(tests)),
            *([("Curves", charts_html(charts))] if charts else []),
        ]  # fmt: skip
        return {"differences": differences, "tests": tests, "roc": plot, "report": Text(page(title, sections), title)}


def _names(inputs) -> tuple[str, str]:
    one, other = inputs.first.name or "first", inputs.second.name or "second"
    return (one, other) if one != other else (f"{one} (first)", f"{other} (second)")


def _matched(first: Table, second: Table, parameters) -> tuple[Table, Table]:
    """Both tables with their rows in the order of the first."""
    column = parameters.case_column.strip()
    if not column or column not in first.columns or column not in second.columns:
        if first.rows != second.rows:
            raise InputError(
                f"First has {first.rows} rows and second {second.rows}; give both a column '{column or 'case'}' to "
                "match them by."
            )
        return first, _with_truth(first, second, parameters)
    names = texts(first, column), texts(second, column)
    for table, own in zip((first, second), names):
        if len(set(own)) < len(own):
            raise InputError(f"{table.label} names a case twice in its column '{column}'.")
    if set(names[0]) != set(names[1]):
        only = sorted(set(names[0]) ^ set(names[1]))
        raise InputError(f"First and second have not the same cases; only one has {listed(only, 3)}.")
    place = {name: n for n, name in enumerate(names[1])}
    order = [place[name] for name in names[0]]
    columns = {k: tuple(v[n] for n in order) if isinstance(v, tuple) else v[order] for k, v in second.columns.items()}
    return first, _with_truth(first, Table(columns, second.name), parameters)


def _with_truth(first: Table, second: Table, parameters) -> Table:
    column = parameters.truth_column
    if column in second.columns or column not in first.columns:
        return second
    return Table({column: first.columns[column], **second.columns}, second.name)


def _differences(first, second, parameters, context) -> Table:
    figures = [Figures(p, parameters.threshold, 15) for p in (first, second)]

    def both(weights=None):
        one, other = (f(weights) for f in figures)
        return {name: one[name] - other[name] for name in one}

    drawn = bootstrap(both, len(first.truth), parameters.samples, context.rng, None, context.progress)
    one, other = (f() for f in figures)
    bounds = np.array([percentile_interval(drawn[name], parameters.confidence) for name in one])
    columns = {
        "figure": tuple(one), "first": np.array(list(one.values())), "second": np.array(list(other.values())),
        "difference": np.array([one[n] - other[n] for n in one]), "lower": bounds[:, 0], "upper": bounds[:, 1],
    }  # fmt: skip
    return Table(columns, "Differences")


def _tests(first, second, right, parameters) -> Table:
    rows = []
    if first.is_binary:
        found = compare_aucs(first.truth == 1, first.score, second.score, parameters.confidence)
        rows.append(("DeLong, AUC", found["difference"], found["lower"], found["upper"], found["z"], found["p"]))
    found = mcnemar(*right)
    difference = float(np.mean(right[0]) - np.mean(right[1]))
    rows.append(
        ("McNemar, accuracy (continuity-corrected)", difference, np.nan, np.nan, found["statistic"], found["p"])
    )
    rows.append(("McNemar, accuracy (exact)", difference, np.nan, np.nan, np.nan, found["exact p"]))
    names = ("test", "difference", "lower", "upper", "statistic", "p")
    columns = dict(zip(names, zip(*rows)))
    return Table({k: v if k == "test" else np.array(v, float) for k, v in columns.items()}, "Tests")
