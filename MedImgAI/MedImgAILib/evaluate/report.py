"""One HTML file about a classifier or the comparison of two; it loads nothing from elsewhere."""

from __future__ import annotations

from html import escape

import numpy as np

from ..core import Table

NOTE = "For research only, not for diagnosis."
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:62em;margin:2em auto;padding:0 1em;color:#222}"
    "table{border-collapse:collapse;margin:.5em 0 1.2em}td,th{border-bottom:1px solid #ddd;padding:.2em .8em;"
    "text-align:left}td.n{text-align:right;font-variant-numeric:tabular-nums}h2{margin-top:1.6em}"
    ".note{background:#fff4d6;padding:.5em 1em}.charts{display:grid;grid-template-columns:repeat(auto-fit,"
    "minmax(22em,1fr));gap:1em}figure{margin:0}svg text{font-size:11px;fill:#444}.legend{font-size:.85em;margin:0}"
    "tr.gap td{background:#fdeaea}"
)


def table_html(table: Table, marked: str = "") -> str:
    """A table; rows whose text in the column ``marked`` begins like a gap are tinted."""
    head = "".join(f"<th>{escape(name)}</th>" for name in table.columns)
    rows = []
    for cells in zip(*table.columns.values()):
        entry = dict(zip(table.columns, cells))
        tint = ' class="gap"' if marked and "−" in str(entry[marked]) else ""
        rows.append(f"<tr{tint}>" + "".join(_cell(c) for c in cells) + "</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _cell(value) -> str:
    if isinstance(value, (float, np.floating)):
        return f'<td class="n">{"–" if not np.isfinite(value) else _number(value)}</td>'
    if isinstance(value, (int, np.integer)):
        return f'<td class="n">{value}</td>'
    return f"<td>{escape(str(value))}</td>"


def _number(value: float) -> str:
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1000 or value == 0 else f"{value:.3g}"


def page(title: str, sections) -> str:
    """A whole page.

    Parameters
    ----------
    title : str
    sections : sequence of (heading, html)
        Without a heading the text stands alone.
    """
    body = [f"<h1>{escape(title)}</h1>", f'<p class="note">{NOTE}</p>']
    for heading, html in sections:
        body.append((f"<h2>{escape(heading)}</h2>" if heading else "") + html)
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )


def paragraph(text: str) -> str:
    """A paragraph of plain text."""
    return f"<p>{escape(text)}</p>"


def charts_html(charts) -> str:
    """``(caption, svg)`` pairs beside one another."""
    figures = "".join(f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>" for caption, svg in charts)
    return f'<div class="charts">{figures}</div>'
