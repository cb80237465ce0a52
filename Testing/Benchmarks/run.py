"""``python -m Benchmarks.run NAME``: measure, print the table and write ``bench-output/NAME.json``.

A benchmark is a module with ``PARTS``, functions that each give rows, or with one such function ``rows``. What a part
gave is written at once; a part that fails is a row of its own, and the others go on.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import sys
import time
import traceback
from pathlib import Path

from .measuring import row

_COLUMNS = ("figure", "ours", "peer", "value", "goal", "unit", "met")


def names() -> list[str]:
    """The benchmarks that can be run: those with a list of peers to install."""
    folder = Path(__file__).resolve().parents[1] / "requirements"
    return sorted(path.stem.removeprefix("bench-") for path in folder.glob("bench-*.txt"))


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


def measured(module):
    """Yield the rows of one part after the other."""
    for part in getattr(module, "PARTS", None) or (module.rows,):
        started = time.monotonic()
        name = f"{part.__module__.rpartition('.')[2]}.{part.__name__}"
        print(f"{name} …", file=sys.stderr, flush=True)
        try:
            rows = part()
        except Exception as error:
            traceback.print_exc()
            rows = [row(f"{name} failed ({type(error).__name__}: {error})", math.nan, "= 0", "")]
        print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        yield rows


def write(rows: list[dict], path: Path):
    """Store the rows; the file is complete or the old one stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    plain = [{key: None if value != value else value for key, value in entry.items()} for entry in rows]
    draft.write_text(json.dumps(plain, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(draft, path)


def main(arguments: list[str] | None = None):
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m Benchmarks.run", description=__doc__)
    parser.add_argument("name", choices=names())
    parser.add_argument("--output", type=Path, default=Path("bench-output"), help="folder for NAME.json")
    options = parser.parse_args(arguments)
    rows = []
    for part in measured(importlib.import_module(f"Benchmarks.{options.name}")):
        rows.extend(part)
        write(rows, options.output / f"{options.name}.json")
    print(table(rows))
    print(f"{sum(row['met'] for row in rows)} of {len(rows)} goals met")


if __name__ == "__main__":
    main()
