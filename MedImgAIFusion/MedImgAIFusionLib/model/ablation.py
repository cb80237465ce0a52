"""What a joint network achieves with every combination of its modalities."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from MedImgAILib.core import Context, Table

from .cases import Case
from .training import infer

_MOST_MODALITIES = 5
"""With more, only single modalities, all and all but one are tried: 2ⁿ − 1 are too many."""


def subsets(count: int) -> list[tuple[int, ...]]:
    """The combinations of modalities to try, the largest first."""
    sizes = range(count, 0, -1) if count <= _MOST_MODALITIES else sorted({count, count - 1, 1}, reverse=True)
    return [subset for size in sizes for subset in combinations(range(count), size)]


def dice(found: np.ndarray, truth: np.ndarray, label: int) -> float:
    """Dice of one label; NaN where neither has it."""
    one, other = found == label, truth == label
    size = np.count_nonzero(one) + np.count_nonzero(other)
    return 2 * np.count_nonzero(one & other) / size if size else float("nan")


def with_only(case: Case, subset) -> np.ndarray:
    """The case's array with all modalities missing but those of ``subset``."""
    array = case.array.copy()
    array[[m for m in range(len(array)) if m not in subset]] = np.nan
    return array


def measure(network, cases: list[Case], count: int, context: Context) -> list[dict]:
    """Dice of each of the ``count`` labels, for each case and each combination of modalities that it has.

    Returns
    -------
    list of dict
        With the keys "case", "subset" and "dice" (a list over the labels).
    """
    jobs = [(c, s) for c in cases for s in subsets(len(c.array)) if all(c.present[m] for m in s)]
    rows = []
    for done, (case, subset) in enumerate(jobs):
        with context.part(done / len(jobs), (done + 1) / len(jobs)) as part:
            labels = infer(network, with_only(case, subset), part).argmax(axis=0)
        scores = [dice(labels, case.labels, n) for n in range(1, count + 1)]
        rows.append({"case": case.name, "subset": subset, "dice": scores})
    return rows


def ablation_table(rows, modalities, segments, seen: bool) -> Table:
    """One row for each combination: mean Dice of each segment over the cases, their mean and what is lost against all.

    Parameters
    ----------
    rows : list of dict
        As :func:`measure` gives them.
    modalities, segments : sequences of str
    seen : bool
        Whether the network was trained on the cases; the column "cases" then says so.
    """
    tried = list(dict.fromkeys(row["subset"] for row in rows))
    tried.sort(key=lambda s: (-len(s), s))
    means = np.array([_mean([row["dice"] for row in rows if row["subset"] == s]) for s in tried])
    total = np.array([_mean(m[:, None])[0] for m in means])
    columns = {
        "modalities": [", ".join(modalities[m] for m in subset) for subset in tried],
        "missing": [", ".join(m for n, m in enumerate(modalities) if n not in s) or "none" for s in tried],
        "cases": [
            f"{sum(row['subset'] == s for row in rows)} {'seen in training' if seen else 'not seen'}" for s in tried
        ],
    }
    columns |= {f"Dice {name}": means[:, n] for n, name in enumerate(segments)}
    columns |= {"Dice mean": total, "lost": total[0] - total}
    return Table(columns, "Ablation")


def _mean(values) -> np.ndarray:
    """Column means over what is not NaN; NaN where nothing is left."""
    values = np.asarray(values, float)
    known = np.isfinite(values)
    counts = known.sum(axis=0)
    sums = np.where(known, values, 0).sum(axis=0)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
