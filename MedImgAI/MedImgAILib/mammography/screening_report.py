"""The page that a screening exam ends in."""

from __future__ import annotations

from html import escape

from ..core import Table
from ..evaluate.report import charts_html, page, paragraph, table_html
from .thumbnail import thumbnail_html
from .view import VIEWS, ViewResult

ASYMMETRY_PERCENT = 10.0
"""Difference of the dense shares of both breasts that is worth a sentence."""
LIMITS = (
    "Nothing here was trained or validated on labelled screening exams: regions and suspicious places come from "
    "brightness and shape alone, most marked places are normal tissue, and a mark missing means nothing. The density "
    "class is the share of dense area by a threshold (quartiles of BI-RADS, 4th edition), not a reader's judgement. "
    "For research only, not for diagnosis."
)


def report_html(results: dict[str, ViewResult], views: Table, breasts: Table) -> str:
    """The report as one HTML page.

    Parameters
    ----------
    results : dict
        View name to result.
    views, breasts : Table
    """
    missing = [title for name, title in VIEWS.items() if name not in results]
    overview = [paragraph(sentence) for sentence in _sentences(results, breasts)]
    if missing:
        overview.append(paragraph(f"Not given: {', '.join(missing)}."))
    overview.append(
        paragraph("No network or classifier took part, so there is no probability of cancer in this report.")
    )
    pictures = [(_caption(result), thumbnail_html(result)) for result in results.values()]
    return page(
        "Breast screening exam",
        (
            ("", "".join(overview)),
            ("Breasts", table_html(breasts)),
            ("Views", charts_html(pictures)),
            ("Measures", table_html(views)),
            ("Limits", paragraph(LIMITS)),
        ),
    )


def _caption(result: ViewResult) -> str:
    kinds = ", ".join(f"{f.kind} {f.strength:.2f}" for f in result.findings) or "nothing marked"
    return f"{VIEWS[result.name]}: {kinds}"


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
    return [escape(sentence, quote=False) for sentence in sentences]
