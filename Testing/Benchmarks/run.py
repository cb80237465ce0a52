"""``python -m Benchmarks.run NAME``: measure, print the table and write ``bench-output/NAME.json``."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
from pathlib import Path

import Benchmarks

_COLUMNS = ("figure", "ours", "peer", "value", "goal", "unit", "met")


def names() -> list[str]:
    """The benchmarks that can be run."""
    return sorted(m.name for m in pkgutil.iter_modules(Benchmarks.__path__) if m.name not in ("run", "measuring"))


def table(rows: list[dict]) -> str:
    """The rows as text in aligned columns."""
    cells = [[_text(row[column]) for column in _COLUMNS] for row in rows]
    widths = [max(map(len, column)) for column in zip(_COLUMNS, *cells)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in [_COLUMNS, *cells]]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def _text(value) -> str:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return "" if value is None else str(value)


def write(rows: list[dict], path: Path):
    """Store the rows; the file is complete or the old one stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(draft, path)


def main(arguments: list[str] | None = None):
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m Benchmarks.run", description=__doc__)
    parser.add_argument("name", choices=names())
    parser.add_argument("--output", type=Path, default=Path("bench-output"), help="folder for NAME.json")
    options = parser.parse_args(arguments)
    rows = importlib.import_module(f"Benchmarks.{options.name}").rows()
    write(rows, options.output / f"{options.name}.json")
    print(table(rows))
    print(f"{sum(row['met'] for row in rows)} of {len(rows)} goals met")


if __name__ == "__main__":
    main()
