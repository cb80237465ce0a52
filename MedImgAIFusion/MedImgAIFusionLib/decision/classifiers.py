"""What several classifiers said about the same cases, read from their tables."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from MedImgAILib.core import InputError, Table
from MedImgAILib.core.errors import listed
from MedImgAILib.evaluate.predictions import texts

_TOLERANCE = 1e-3
SET = "|"
"""Between the classes of a set in the name of a column, as in ``mass benign|uncertain``."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What R classifiers said about N cases of C classes.

    Parameters
    ----------
    cases, classes, names : tuples of str
        Of the cases, the classes and the classifiers.
    probabilities : (R, N, C) float64
        NaN where a classifier said nothing about a case.
    masses : R dicts
        Set of classes (as a frozenset of positions) to (N,) mass; what is missing to 1 is ignorance.
    truth : (N,) int
        Position of the true class, -1 where it is not known.
    patients : tuple of N str
        The case itself where no patients are given.
    """

    cases: tuple[str, ...]
    classes: tuple[str, ...]
    names: tuple[str, ...]
    probabilities: np.ndarray
    masses: tuple[dict, ...]
    truth: np.ndarray
    patients: tuple[str, ...]

    @property
    def said(self) -> np.ndarray:
        """(R, N) bool: whether a classifier said anything about a case."""
        return np.isfinite(self.probabilities).all(axis=2)

    def called(self) -> np.ndarray:
        """(R, N) int: the likeliest class, the first of several; -1 where nothing was said."""
        return np.where(self.said, np.nan_to_num(self.probabilities, nan=-1.0).argmax(axis=2), -1)

    def accuracy(self) -> np.ndarray:
        """(R,) share of right answers among the cases with a known truth; NaN without any."""
        judged = self.said & (self.truth >= 0)
        right = (self.called() == self.truth) & judged
        count = judged.sum(axis=1)
        return np.divide(right.sum(axis=1), count, out=np.full(len(count), np.nan), where=count > 0)


@dataclass(frozen=True)
class Columns:
    """Names of the columns that are looked for."""

    case: str = "case"
    probability: str = "probability"
    decision: str = "decision"
    truth: str = "truth"
    patient: str = ""


def read_answers(tables: list[Table], truth: Table | None, columns: Columns, positive: str = "") -> Answers:
    """Bring the tables of all classifiers to one list of cases and classes.

    A table has a row per case and either ``probability <class>`` columns, or one column ``probability`` of the
    positive class of two, or ``mass <class>`` and ``mass <class>|<class>`` columns (Dempster-Shafer), or a column
    with the decision. Cases are matched by the case column, or by their order where no table has it. A row without
    numbers, and a case that is not in a table, are cases that the classifier said nothing about.

    Parameters
    ----------
    tables : R tables
    truth : Table, optional
        With the case and truth columns; else the truth is looked for in the classifiers' tables.
    columns : Columns
    positive : str
        Name of the positive class where a table has one column ``probability``.

    Raises
    ------
    InputError
        If cases cannot be matched, or a table says nothing or nonsense.
    """
    empty = next((table for table in tables if not table.rows), None)
    if empty is not None:
        raise InputError(f"{empty.label} has no rows.")
    names = _names(tables)
    every = [*tables, *([truth] if truth is not None else [])]
    keys = _case_keys(every, columns.case)
    cases = tuple(dict.fromkeys(case for own in keys for case in own))
    row_of = {case: n for n, case in enumerate(cases)}
    rows = [np.array([row_of[case] for case in own], int) for own in keys]
    known = _texts_of(every, keys, columns.truth, "true class")
    patient = _texts_of(every, keys, columns.patient, "patient") if columns.patient else {}
    read = [_read(table, columns) for table in tables]
    classes = _classes(read, known, positive)
    place = {name: n for n, name in enumerate(classes)}
    if any(value not in place for value in known.values()):
        strange = next(value for value in known.values() if value not in place)
        raise InputError(f"The true class '{strange}' is none that a classifier knows ({listed(classes)}).")
    probabilities = np.full((len(tables), len(cases), len(classes)), np.nan)
    masses = []
    for number, (own, where) in enumerate(zip(read, rows[: len(tables)], strict=True)):
        focal = {}
        for names_of, values in own.items():
            members = frozenset(place[n] for n in (names_of or (classes[-1],)))
            spread = np.zeros(len(cases))
            spread[where] = np.nan_to_num(values)
            focal[members] = focal.get(members, 0) + spread
        if () in own:
            rest = np.zeros(len(cases))
            rest[where] = np.nan_to_num(1 - own[()])
            focal[frozenset([0])] = rest
        masses.append(focal)
        silent = np.isnan(np.stack(list(own.values()))).any(axis=0)
        probabilities[number, where[~silent]] = betting(focal, len(classes))[where[~silent]]
    return Answers(
        cases, classes, names, probabilities, tuple(masses),
        np.array([place[known[c]] if c in known else -1 for c in cases], int),
        tuple(patient.get(c, c) for c in cases),
    )  # fmt: skip


def betting(masses: dict, classes: int) -> np.ndarray:
    """(N, C) pignistic probabilities (Smets & Kennes 1994): the mass of a set is shared by its classes alike.

    Parameters
    ----------
    masses : dict
        Set of class positions to (N,) mass; what is missing to 1 belongs to all classes.
    """
    first = next(iter(masses.values()))
    result = np.zeros((len(first), classes))
    for members, values in masses.items():
        result[:, sorted(members)] += (values / len(members))[:, None]
    return result + ((1 - result.sum(axis=1)) / classes)[:, None]


def _names(tables):
    names = []
    for number, table in enumerate(tables, start=1):
        name = table.name or f"classifier {number}"
        names.append(name if name not in names else f"{name} ({number})")
    return tuple(names)


def _case_keys(tables, column):
    having = [column in table.columns for table in tables]
    if all(having):
        keys = [texts(table, column) for table in tables]
        for table, own in zip(tables, keys, strict=True):
            twice = [case for case in dict.fromkeys(own) if own.count(case) > 1] if len(set(own)) < len(own) else []
            if twice:
                raise InputError(f"{table.label} has the case '{twice[0]}' twice; keep one row for each case.")
        return keys
    if any(having):
        lacking = tables[having.index(False)]
        raise InputError(f"{lacking.label} has no column '{column}' though others have; name the cases everywhere.")
    counts = {table.rows for table in tables}
    if len(counts) > 1:
        rows = listed(sorted(map(str, counts)))
        raise InputError(f"The tables have {rows} rows and no column '{column}' to match them by; add it.")
    return [tuple(str(n + 1) for n in range(tables[0].rows))] * len(tables)


def _texts_of(tables, keys, column, what) -> dict[str, str]:
    """Case to text, from all tables that have the column."""
    found: dict[str, str] = {}
    for table, own in zip(tables, keys, strict=True):
        if column not in table.columns:
            continue
        for case, value in zip(own, texts(table, column), strict=True):
            if value and found.setdefault(case, value) != value:
                raise InputError(
                    f"The {what} of case '{case}' is '{found[case]}' in one table and '{value}' in another."
                )
    return found


def _read(table: Table, columns: Columns) -> dict[tuple[str, ...], np.ndarray]:
    """Set of classes to (n,) mass; the empty set stands for the positive of two classes; NaN where nothing was said."""
    for prefix, exact in ((columns.probability, True), ("mass", False)):
        names = [c for c in table.columns if c.startswith(prefix + " ")]
        if names:
            sets = [tuple(sorted(p.strip() for p in name[len(prefix) :].split(SET) if p.strip())) for name in names]
            values = np.stack([_numbers(table, name) for name in names])
            total = values.sum(axis=0)
            wrong = np.abs(total - 1) > _TOLERANCE * len(names) if exact else total > 1 + _TOLERANCE
            if wrong.any():
                row = int(np.flatnonzero(wrong)[0])
                raise InputError(f"Row {row + 1} of {table.in_sentence} sums to {total[row]:.4g}, not 1.")
            values = values / np.where(exact | (total > 1), total, 1.0) if total.size else values
            return {own: sum(v for s, v in zip(sets, values, strict=True) if s == own) for own in dict.fromkeys(sets)}
    if columns.probability in table.columns:
        return {(): _numbers(table, columns.probability)}
    if columns.decision in table.columns:
        said = texts(table, columns.decision)
        nothing = np.array([not s for s in said])
        return {
            (own,): np.where(nothing, np.nan, [float(s == own) for s in said])
            for own in dict.fromkeys(filter(None, said))
        }
    wanted = f"'{columns.probability} …' nor '{columns.decision}'"
    raise InputError(f"{table.label} has neither {wanted} (it has: {listed(table.columns)}).")


def _numbers(table: Table, name: str) -> np.ndarray:
    column = table.columns[name]
    if isinstance(column, tuple):
        try:
            column = [float(value) if value.strip() else np.nan for value in column]
        except ValueError:
            raise InputError(f"{table.label} has text in column '{name}' where numbers are needed.") from None
    values = np.asarray(column, float)
    bad = (values < -1e-9) | (values > 1 + 1e-9)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise InputError(f"{table.label} has {values[row]:g} in row {row + 1} of column '{name}'; it must be 0…1.")
    return np.clip(values, 0, 1)


def _classes(read, known, positive) -> tuple[str, ...]:
    named = list(dict.fromkeys(name for own in read for names in own for name in names))
    if not any(() in own for own in read):
        return tuple(dict.fromkeys([*named, *known.values()])) if len(named) < 2 else tuple(named)
    found = named or sorted(set(known.values())) or ["0", "1"]
    if positive:
        found = [name for name in found if name != positive][:2] + [positive]
    if len(found) != 2:
        raise InputError(
            f"A table has the probability of one class, but there are the classes {listed(found)}; give every class a "
            "column, or name the positive class."
        )
    return tuple(found)
