"""CSV and TSV tables, point lists (CSV, TSV, Slicer's .mrk.json) and texts."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import numpy as np

from ...core import InputError, Plot, Points, Table, Text
from .atomic import Part
from .voxels import stem_of

_UNIT = re.compile(r"^(.*\S)\s*\[([^\[\]]*)\]$")
_SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    "markups-schema-v1.0.3.json#"
)


def _decoded(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"'{path.name}' is no text in UTF-8.") from error


def _rows(path: Path) -> list[list[str]]:
    text = _decoded(path)
    if "\0" in text:
        raise InputError(f"'{path.name}' is no table: it has binary content.")
    first = text.partition("\n")[0]
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ";" if ";" in first and "," not in first else ","
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row]
    except csv.Error as error:
        raise InputError(f"'{path.name}' is a damaged table ({error}).") from error
    if not rows:
        raise InputError(f"'{path.name}' is empty; a table needs a header row.")
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(rows[0]):
            raise InputError(f"'{path.name}' has {len(row)} fields in row {number} but {len(rows[0])} columns.")
    return rows


def read_table(path: Path) -> Table:
    """A table; the first row names the columns, ``volume [mm3]`` names a unit. Empty numeric fields become NaN."""
    rows = _rows(path)
    columns, units = {}, {}
    for number, head in enumerate(rows[0]):
        match = _UNIT.match(head.strip())
        name = match.group(1) if match else head.strip()
        if name in columns:
            raise InputError(f"'{path.name}' has two columns called '{name}'.")
        columns[name] = _column([row[number] for row in rows[1:]])
        if match:
            units[name] = match.group(2)
    return Table(columns, stem_of(path), units)


def _column(texts: list[str]):
    for kind in (int, float):
        try:
            filled = [t if t.strip() or kind is int else "nan" for t in texts]
            values = np.array([kind(t) for t in filled], dtype=np.int64 if kind is int else np.float64)
        except (ValueError, OverflowError):
            continue
        if any(t.strip() for t in texts):
            return values
    return tuple(texts)


def delimited(table: Table, delimiter: str = ",") -> str:
    """The table as text, as :func:`read_table` reads it."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
    writer.writerow([f"{n} [{table.units[n]}]" if table.units.get(n) else n for n in table.columns])
    writer.writerows(zip(*(_texts(column) for column in table.columns.values())))
    return stream.getvalue()


def _texts(column) -> list[str]:
    values = column.tolist() if isinstance(column, np.ndarray) else column
    return [repr(v) if isinstance(v, float) else str(v) for v in values]


def table_parts(value: Table | Plot, path: Path) -> list[Part]:
    """What to write for a table, or for the table of a plot."""
    table = value.table if isinstance(value, Plot) else value
    return [Part.of_bytes(path, delimited(table, "\t" if path.suffix.lower() == ".tsv" else ",").encode())]


def read_points(path: Path) -> Points:
    """Points in RAS from a .mrk.json, or a table with the columns ``label`` and ``r,a,s`` or ``l,p,s`` in mm."""
    if path.suffix.lower() == ".json":
        return _read_markups(path)
    rows = _rows(path)
    heads = [head.strip().lower() for head in rows[0]]
    axes = next((axes for axes in ("ras", "lps") if set(axes) <= set(heads)), None)
    if axes is None:
        raise InputError(f"'{path.name}' has no columns 'r', 'a', 's' or 'l', 'p', 's' with positions in mm.")
    signs = (1, 1, 1) if axes == "ras" else (-1, -1, 1)
    where = [heads.index(axis) for axis in axes]
    try:
        positions = [[float(row[n]) * sign for n, sign in zip(where, signs)] for row in rows[1:]]
    except ValueError as error:
        raise InputError(f"'{path.name}' has a position that is no number.") from error
    labels = [row[heads.index("label")] for row in rows[1:]] if "label" in heads else ()
    return Points(positions, tuple(labels), stem_of(path))


def _json(path: Path):
    try:
        return json.loads(_decoded(path))
    except ValueError as error:
        raise InputError(f"'{path.name}' is damaged: it is no JSON.") from error


def _read_markups(path: Path) -> Points:
    content = _json(path)
    markups = content.get("markups") if isinstance(content, dict) else None
    if not markups:
        raise InputError(f"'{path.name}' is no markups file of Slicer.")
    markup = markups[0]
    signs = np.array([1, 1, 1] if str(markup.get("coordinateSystem", "LPS")).upper() in ("RAS", "0") else [-1, -1, 1])
    points = [p for p in markup.get("controlPoints", []) if p.get("positionStatus", "defined") == "defined"]
    positions = [np.array(p["position"], float) * signs for p in points]
    labels = tuple(str(p.get("label") or n + 1) for n, p in enumerate(points))
    return Points(positions, labels, markup.get("name") or stem_of(path))


def points_parts(value: Points, path: Path) -> list[Part]:
    """What to write for points."""
    if path.suffix.lower() != ".json":
        axes = {axis: value.positions[:, n] for n, axis in enumerate("ras")}
        return table_parts(Table({"label": value.labels, **axes}), path)
    controls = [
        {
            "id": str(number),
            "label": label,
            "position": [-position[0], -position[1], position[2]],
            "orientation": [-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0],
            "selected": True,
            "locked": False,
            "visibility": True,
            "positionStatus": "defined",
        }
        for number, (label, position) in enumerate(zip(value.labels, value.positions.tolist()), start=1)
    ]
    markup = {"type": "Fiducial", "coordinateSystem": "LPS", "coordinateUnits": "mm", "controlPoints": controls}
    content = {"@schema": _SCHEMA, "markups": [markup]}
    return [Part.of_bytes(path, json.dumps(content, indent=1).encode())]


def read_text(path: Path) -> Text:
    """A text file as it is."""
    return Text(_decoded(path), stem_of(path))


def text_parts(value: Text, path: Path) -> list[Part]:
    """What to write for a text."""
    return [Part.of_bytes(path, value.text.encode())]
