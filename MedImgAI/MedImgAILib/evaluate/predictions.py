"""A table of predictions, read and checked."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..core import InputError, Table
from ..core.errors import listed

PREFIX = "probability"
"""Columns ``probability <class>``, or ``probability`` alone for the positive class of two."""
_TOLERANCE = 1e-3
"""How far a case's probabilities may be from summing to 1 (they come rounded)."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a classifier said about cases whose class is known.

    Parameters
    ----------
    classes : tuple of str
        The last of two is the positive one.
    truth : (n,) int ndarray
        Position in ``classes``.
    probabilities : (n, classes) ndarray
    groups : dict
        Column name → texts, for subgroups.
    patients : (n,) int ndarray or None
        Number of each case's patient.
    """

    classes: tuple[str, ...]
    truth: np.ndarray
    probabilities: np.ndarray
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    patients: np.ndarray | None = None

    @property
    def is_binary(self) -> bool:
        return len(self.classes) == 2

    @property
    def score(self) -> np.ndarray:
        """(n,) probability of the last class."""
        return self.probabilities[:, -1]

    def predicted(self, threshold: float = 0.5) -> np.ndarray:
        """(n,) int: the likeliest class; of two, the positive one where its probability is at least ``threshold``."""
        if self.is_binary:
            return (self.score >= threshold).astype(int)
        return self.probabilities.argmax(axis=1)

    def subset(self, mask: np.ndarray) -> Predictions:
        """The cases where ``mask`` is true."""
        patients = None
        if self.patients is not None:
            patients = np.unique(self.patients[mask], return_inverse=True)[1]
        return Predictions(self.classes, self.truth[mask], self.probabilities[mask], {}, patients)


def texts(table: Table, column: str) -> tuple[str, ...]:
    """A column as texts; whole numbers without a decimal point.

    Raises
    ------
    InputError
        If the table has no such column.
    """
    if column not in table.columns:
        raise InputError(f"{table.label} has no column '{column}' (it has: {listed(table.columns)}).")
    values = table.columns[column]
    if isinstance(values, tuple):
        return tuple(v.strip() for v in values)
    return tuple(map(_text, values.tolist()))


def _text(value) -> str:
    if not isinstance(value, float):
        return str(value)
    return "" if value != value else str(int(value)) if value.is_integer() else f"{value:g}"


def read_predictions(
    table: Table, truth: str = "truth", prefix: str = PREFIX, positive: str = "", groups=(), patient: str = ""
) -> Predictions:
    """Read a table with one row for each case.

    Parameters
    ----------
    table : Table
    truth : str
        Column of the true class, as text or number.
    prefix : str
        Beginning of the columns with probabilities.
    positive : str
        The positive of two classes; empty: the last by its column, or the larger by its name.
    groups : sequence of str
        Columns with subgroups.
    patient : str
        Column of the patient's id, or empty.

    Raises
    ------
    InputError
        If a column is missing, a class is unknown or a probability makes no sense.
    """
    if not table.rows:
        raise InputError(f"{table.label} has no rows.")
    actual = texts(table, truth)
    if empty := [n + 1 for n, t in enumerate(actual) if not t]:
        raise InputError(
            f"{table.label} lacks the true class in {len(empty)} rows (first: row {empty[0]}); remove them."
        )
    names = [c for c in table.columns if c == prefix or c.startswith(prefix + " ")]
    if not names:
        raise InputError(f"{table.label} has no column '{prefix}' or '{prefix} …' (it has: {listed(table.columns)}).")
    values = np.stack([_numbers(table, name) for name in names], axis=1)
    if names == [prefix]:
        classes = _two_classes(table, actual, positive)
        values = np.concatenate([1 - values, values], axis=1)
    else:
        classes, values = _named_classes(table, names, values, prefix, positive)
    known = {name: number for number, name in enumerate(classes)}
    if unknown := sorted(set(actual) - set(known)):
        raise InputError(
            f"{table.label} has the true class '{unknown[0]}', which has no probability (there are: {listed(classes)})."
        )
    patients = np.unique(texts(table, patient), return_inverse=True)[1] if patient else None
    return Predictions(
        classes, np.array([known[a] for a in actual]), values, {g: texts(table, g) for g in groups}, patients
    )  # fmt: skip


def _numbers(table: Table, name: str) -> np.ndarray:
    column = table.columns[name]
    if isinstance(column, tuple) or np.asarray(column).dtype.kind not in "fiub":
        raise InputError(f"{table.label} has text in column '{name}' where a probability is needed.")
    values = np.asarray(column, float)
    bad = ~((values >= -1e-9) & (values <= 1 + 1e-9))
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        raise InputError(
            f"{table.label} has {values[first]:g} in row {first + 1} of column '{name}'; probabilities are 0…1."
        )
    return np.clip(values, 0, 1)


def _two_classes(table: Table, actual, positive: str) -> tuple[str, str]:
    found = sorted(set(actual), key=_natural)
    if len(found) > 2:
        raise InputError(f"{table.label} has {len(found)} classes but one probability; give a column for each class.")
    if positive:
        others = [c for c in found if c != positive]
        if len(others) > 1:
            raise InputError(f"{table.label} has the classes {listed(found)}; '{positive}' is none of them.")
        return (others[0] if others else f"not {positive}", positive)
    if len(found) == 1:
        if found[0] in ("0", "1"):
            return ("0", "1")
        raise InputError(f"{table.label} holds one class only ('{found[0]}'); say which class is the positive one.")
    return tuple(found)


def _natural(text: str):
    try:
        return (0, float(text), text)
    except ValueError:
        return (1, 0.0, text)


def _named_classes(table: Table, names, values, prefix: str, positive: str):
    classes = [name[len(prefix) :].strip() for name in names]
    if "" in classes:
        raise InputError(f"{table.label} has both '{prefix}' and '{prefix} …' columns; keep one kind.")
    if len(classes) == 1:
        raise InputError(f"{table.label} has the probability of one class only; call the column '{prefix}'.")
    sums = values.sum(axis=1)
    if (np.abs(sums - 1) > _TOLERANCE * len(classes)).any():
        worst = int(np.abs(sums - 1).argmax())
        raise InputError(
            f"The probabilities in row {worst + 1} of {table.in_sentence} sum to {sums[worst]:.4g}, not 1."
        )
    values = values / sums[:, None]
    if positive and len(classes) == 2:
        if positive not in classes:
            raise InputError(f"{table.label} has the classes {listed(classes)}; '{positive}' is none of them.")
        if classes[0] == positive:
            classes, values = classes[::-1], values[:, ::-1]
    return tuple(classes), values
