"""A report in one HTML file: chapters of a finding, pictures and tables; nothing is loaded from outside."""

from __future__ import annotations

import html
import json
from pathlib import Path

import numpy as np
from MedImgAILib.core import Table

_STYLE = """
:root { --ink:#12202f; --paper:#f7f8fa; --line:#d9dee5; --accent:#1d6fa5; }
body { margin:0; background:var(--paper); color:var(--ink); font:16px/1.5 system-ui, sans-serif; }
main { max-width:1080px; margin:0 auto; padding:32px 24px 64px; }
h1 { font-size:30px; margin:0 0 4px; } h2 { font-size:21px; margin:44px 0 6px; }
p { max-width:78ch; } img { width:100%; border-radius:8px; display:block; margin:14px 0; }
table { border-collapse:collapse; margin:14px 0; font-size:14px; background:white; }
th,td { border:1px solid var(--line); padding:5px 12px; text-align:right; }
th { background:#eaf0f5; } th:first-child,td:first-child { text-align:left; }
.notice { border-left:4px solid #d08a00; background:#fff6e0; padding:8px 14px; }
details { margin:10px 0; }
pre { background:white; border:1px solid var(--line); padding:12px; overflow:auto; font-size:12px; }
"""


def _cell(value) -> str:
    if isinstance(value, (float, np.floating)):
        return "–" if np.isnan(value) else f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return html.escape(str(value))


class Report:
    """Collects chapters; :meth:`write` puts them into one file."""

    def __init__(self, title: str, introduction: str):
        self._parts = [f"<h1>{html.escape(title)}</h1><p>{html.escape(introduction)}</p>"]
        self._parts.append('<p class="notice">For research. Not for diagnosis or treatment.</p>')

    def chapter(self, finding: str, text: str = ""):
        self._parts.append(f"<h2>{html.escape(finding)}</h2>" + (f"<p>{html.escape(text)}</p>" if text else ""))

    def picture(self, uri: str, description: str):
        self._parts.append(f'<img src="{uri}" alt="{html.escape(description)}">')

    def table(self, table: Table):
        heads = [f"{k} ({table.units[k]})" if table.units.get(k) else k for k in table.columns]
        head = "".join(f"<th>{html.escape(h)}</th>" for h in heads)
        rows = zip(*table.columns.values(), strict=True)
        body = "".join("<tr>" + "".join(f"<td>{_cell(v)}</td>" for v in row) + "</tr>" for row in rows)
        self._parts.append(f"<table><tr>{head}</tr>{body}</table>")

    def details(self, summary: str, value):
        text = html.escape(json.dumps(value, indent=1, ensure_ascii=False))
        self._parts.append(f"<details><summary>{html.escape(summary)}</summary><pre>{text}</pre></details>")

    def write(self, path: Path):
        page = (
            '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>MedImgAI</title>'
            f"<style>{_STYLE}</style></head><body><main>{''.join(self._parts)}</main></body></html>"
        )
        path.write_text(page, encoding="utf-8")
