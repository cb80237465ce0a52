"""Splits of a data set by patient, balanced over the classes.

All cases of a patient go to the same side, always: what a network has seen of a patient makes it look better on the
rest of him (Roberts et al. 2021, Nat Mach Intell 3:199).
"""

from __future__ import annotations

import numpy as np

from ..core import InputError
from ..core.errors import listed


def folds(patients, classes, count: int, seed: int = 0) -> list[np.ndarray]:
    """Disjoint validation parts that together are everything.

    Patients are dealt out one by one, those with the most cases first, each to the fold where it disturbs the balance
    of the classes least.

    Parameters
    ----------
    patients : sequence of N str
    classes : sequence of N hashable
        What to balance; any constant where there is nothing to balance.
    count : int
        At least 2.
    seed : int

    Returns
    -------
    list of (n,) int ndarray
        Positions of the cases in each fold, rising.

    Raises
    ------
    InputError
        If there are fewer patients than folds.
    """
    patients = np.asarray([str(p) for p in patients])
    names, of_case = np.unique(patients, return_inverse=True)
    if count < 2 or len(names) < count:
        raise InputError(f"{count} folds need at least {max(count, 2)} patients, but there are {len(names)}.")
    kinds = {kind: n for n, kind in enumerate(sorted(set(classes), key=str))}
    table = np.zeros((len(names), len(kinds)))
    np.add.at(table, (of_case, [kinds[c] for c in classes]), 1)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(names))
    order = order[np.argsort(-table[order].sum(axis=1), kind="stable")]
    wanted = table.sum(axis=0) / count
    held, cases = np.zeros((count, len(kinds))), np.zeros(count)
    home = np.zeros(len(names), np.int64)
    scale = np.maximum(wanted, 1e-9)
    for patient in order:
        excess = ((held + table[patient]) / scale) ** 2 - (held / scale) ** 2
        cost = excess[:, table[patient] > 0].sum(axis=1)
        # Equal costs go to the fold with the fewest cases, then by lot.
        best = min(range(count), key=lambda f: (round(cost[f], 9), cases[f], rng.random()))
        held[best] += table[patient]
        cases[best] += table[patient].sum()
        home[patient] = best
    return [np.flatnonzero(home[of_case] == fold) for fold in range(count)]


def holdout(patients, classes, share: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """``(kept, held out)`` positions; about ``share`` (0…0.5) of the cases are held out, whole patients only.

    Raises
    ------
    InputError
        If there are fewer than two patients.
    """
    count = len({str(p) for p in patients})
    parts = min(max(2, round(1 / share)), count)
    if count < 2:
        raise InputError("A part can be held out only where there are at least two patients.")
    out = folds(patients, classes, parts, seed)[0]
    return np.setdiff1d(np.arange(len(patients)), out), out


def check_apart(*parts) -> None:
    """Refuse parts that share a patient.

    Parameters
    ----------
    *parts : iterable of str
        The patients of each part.

    Raises
    ------
    InputError
        That names the patients on both sides.
    """
    seen: set[str] = set()
    for part in parts:
        part = {str(p) for p in part}
        if both := sorted(seen & part):
            who = "Patient" if len(both) == 1 else "Patients"
            stand = "stands" if len(both) == 1 else "stand"
            raise InputError(f"{who} {listed(both, 4)} {stand} on both sides of the split; move all cases to one side.")
        seen |= part


def given_parts(cases) -> dict[str, np.ndarray]:
    """``{split: positions}`` as the data set itself says, checked for patients on both sides; empty if it says nothing.

    Cases without a word join the training part.

    Raises
    ------
    InputError
        If a patient stands in two parts.
    """
    words = np.array([case.split for case in cases])
    if not any(words):
        return {}
    words[words == ""] = "train"
    parts = {word: np.flatnonzero(words == word) for word in ("train", "validation", "test") if (words == word).any()}
    check_apart(*([cases[n].patient for n in places] for places in parts.values()))
    return parts
