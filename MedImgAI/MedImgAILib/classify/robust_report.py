"""Tables, report and limits of a robust training; see :mod:`.robust_task`."""

from __future__ import annotations

import numpy as np

from ..core import Table
from ..core.model_package import ModelPackage


def figures_table(rows: dict) -> Table:
    """``{judged on: {figure: value}}`` as a table."""
    names = list(next(iter(rows.values())))
    columns = {"judged on": tuple(rows)} | {n: np.array([found[n] for found in rows.values()]) for n in names}
    return Table(columns, "Figures")


def predictions_table(learnt, probabilities, folds) -> Table:
    """One row for each case, as 'Evaluate a classifier' takes them; folds count from 1."""
    fold = np.zeros(len(learnt.truth), int)
    for number, held_out in enumerate(folds, start=1):
        fold[held_out] = number
    columns = {"case": learnt.names, "truth": tuple(learnt.classes[t] for t in learnt.truth), "fold": fold}
    if len(set(learnt.patients)) < len(learnt.patients):
        columns["patient"] = learnt.patients
    columns |= {f"probability {c}": probabilities[:, n] for n, c in enumerate(learnt.classes)}
    return Table(columns, "Held-out predictions")


def report_text(package: ModelPackage, figures: Table, diagnosis) -> str:
    """The training in words (Markdown)."""
    lines = [f"# {package.card.title}", "", "For research only, not for diagnosis.", "", f"Model: {package.folder}", ""]
    names = list(figures.columns)[1:]
    for n, where in enumerate(figures.columns["judged on"]):
        lines.append(f"- {where}: " + ", ".join(f"{name} {figures.columns[name][n]:.3f}" for name in names))
    lines += ["", f"Temperature {diagnosis.temperature:.2f}, threshold {diagnosis.threshold:.3f}.", package.card.limits]
    return "\n".join(lines) + "\n"


def limits_text(shifted: bool) -> str:
    """For the card; ``shifted`` tells whether the most misleading fold was judged."""
    how = "the figures on the most misleading fold show how much worse" if shifted else "how much worse is not known"
    return (
        f"Pictures of other devices, ages or hospitals may be judged worse; {how}. The probabilities assume that all "
        "classes are equally frequent."
    )
