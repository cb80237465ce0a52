"""The page that a screening exam ends in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..core import Table
from ..core.errors import listed
from ..evaluate.report import charts_html, page, paragraph, table_html
from .thumbnail import thumbnail_html
from .view import VIEWS, ViewResult

if TYPE_CHECKING:
    from .model import Answer

ASYMMETRY_PERCENT = 10.0
"""Difference of the dense shares of both breasts that is worth a sentence."""
UNTRAINED = "Nothing here was trained or validated on labelled screening exams."
LIMITS = (
    "Regions and marked places come from brightness and shape alone and were not validated on labelled screening "
    "exams; most marked places are normal tissue, and a mark missing means nothing. The density class is the share of "
    "dense area by a threshold (quartiles of BI-RADS, 4th edition), not a reader's judgement."
)
WITHOUT_MODEL = "No network or classifier took part, so there is no probability of cancer in this report."
NOT_FOR_DIAGNOSIS = "For research only, not for diagnosis."


def report_html(results: dict[str, ViewResult], views: Table, breasts: Table, answer: Answer | None = None) -> str:
    """The report as one HTML page.

    Parameters
    ----------
    results : dict
        View name to result.
    views, breasts : Table
    answer : Answer, optional
        What a trained model says.
    """
    missing = [title for name, title in VIEWS.items() if name not in results]
    overview = [paragraph(sentence) for sentence in _sentences(results, breasts)]
    if missing:
        overview.append(paragraph(f"Not given: {', '.join(missing)}."))
    overview += [paragraph(sentence) for sentence in (_told(answer) if answer else [WITHOUT_MODEL])]
    pictures = [
        (_caption(result, answer), thumbnail_html(result, answer.saliency.get(result.name) if answer else None))
        for result in results.values()
    ]
    sections = [("", "".join(overview)), ("Breasts", table_html(breasts)), ("Views", charts_html(pictures))]
    if answer and answer.reasons is not None:
        sections.append(("Contributions", paragraph(_HOW_CONTRIBUTIONS) + table_html(answer.reasons)))
    sections.append(("Measures", table_html(views)))
    limits = [f"Limits of the model: {answer.card.limits}" if answer else UNTRAINED, LIMITS, NOT_FOR_DIAGNOSIS]
    return page("Breast screening exam", (*sections, ("Limits", "".join(map(paragraph, limits)))))


_HOW_CONTRIBUTIONS = (
    "What a measure adds to the logarithm of the odds of a breast, compared with the median breast of the training:"
    " 0.7 doubles the odds, −0.7 halves them."
)


def _told(answer: Answer) -> list[str]:
    """What the model says, how its operating point came about, and on what it was validated."""
    from .cards import validated_on

    diagnosis, disease = answer.diagnosis, answer.diagnosis.classes[1]
    sentences = []
    for side, p in answer.breasts.items():
        said = answer.set_text(side)
        said = f"the model {said}" if said.startswith("does not know") else f"possible: {said}"
        start = f"{side.capitalize()} breast: probability of {disease} {100 * p:.0f} %"
        sentences.append(f"{start}, called {answer.called(side)}; {said}.")
    if names := sorted({name for side in answer.unlike.values() for name in side}):
        sentences.append(
            f"The exam is unlike all that the model has seen in {listed(names)}: its probabilities mean nothing here."
        )
    point = f"Called {disease} from {100 * diagnosis.threshold:.0f} % on"
    if np.isfinite(diagnosis.sensitivity):
        point += f", the operating point for a sensitivity of {100 * diagnosis.sensitivity:g} %"
    if diagnosis.prior is not None:
        point += f"; probabilities assume that {100 * diagnosis.prior[1]:.0f} % of the breasts are {disease}"
    return [*sentences, point + ".", validated_on(answer.card)]


def _caption(result: ViewResult, answer: Answer | None) -> str:
    kinds = ", ".join(f"{f.kind} {f.strength:.2f}" for f in result.findings) or "nothing marked"
    said = f"{answer.diagnosis.classes[1]} {100 * answer.views[result.name]:.0f} %; " if answer else ""
    return f"{VIEWS[result.name]}: {said}{kinds}"


def _sentences(results, breasts: Table) -> list[str]:
    sentences = [
        f"{side} breast: density {density} ({share:.0f} % dense area), highest suspicion {strength:.2f}."
        for side, density, share, strength in zip(
            *(breasts.columns[name] for name in ("breast", "density", "dense_percent", "highest_suspicion"))
        )
    ]
    shares = breasts.columns["dense_percent"]
    if len(shares) == 2 and abs(shares[0] - shares[1]) > ASYMMETRY_PERCENT:
        sentences.append(f"The breasts differ by {abs(shares[0] - shares[1]):.0f} % of dense area.")
    return sentences
