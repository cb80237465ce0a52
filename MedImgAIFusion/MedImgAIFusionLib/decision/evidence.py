"""Evidence theory: masses on sets of classes, combined by Dempster's or Yager's rule."""

from __future__ import annotations

import numpy as np


def combine(first: dict, second: dict) -> tuple[dict, np.ndarray]:
    """Conjunctive combination of two bodies of evidence.

    Parameters
    ----------
    first, second : dict
        Non-empty frozenset of classes to (N,) mass; the masses of a case add to 1.

    Returns
    -------
    masses : dict
        Not normalised.
    conflict : (N,)
        Mass of the pairs that have no class in common.
    """
    result: dict[frozenset, np.ndarray] = {}
    conflict = 0.0
    for one, mass in first.items():
        for other, weight in second.items():
            product = mass * weight
            if both := one & other:
                result[both] = result.get(both, 0.0) + product
            else:
                conflict = conflict + product
    return result, np.broadcast_to(conflict, next(iter(first.values())).shape)


def dempster_shafer(bodies: list[dict], classes: int, said: np.ndarray, reliability=None, rule: str = "dempster"):
    """Combine what R classifiers said.

    Parameters
    ----------
    bodies : R dicts
        Frozenset of class positions to (N,) mass; what is missing to 1 belongs to all classes.
    classes : int
    said : (R, N) bool
        Where a classifier takes part.
    reliability : (R,) in 0…1, optional
        The rest of a classifier's mass goes to all classes (Shafer's discounting).
    rule : "dempster" or "yager"
        What becomes of the conflict: it is divided out, or goes to all classes.

    Returns
    -------
    masses : dict
        Frozenset to (N,) mass; NaN where the classifiers contradict each other wholly (Dempster's rule).
    conflict : (N,)
        Mass of all contradictions, 0…1.

    Notes
    -----
    Dempster 1967, Ann Math Stat 38:325; Shafer 1976; Yager 1987, Inf Sci 41:93.
    """
    everything = frozenset(range(classes))
    count = said.shape[1]
    total = {everything: np.ones(count)}
    reliability = np.ones(len(bodies)) if reliability is None else reliability
    for body, here, trust in zip(bodies, said, reliability, strict=True):
        own = {members: np.where(here, trust * mass, 0.0) for members, mass in body.items()}
        known = sum(mass for members, mass in own.items() if members != everything)
        own[everything] = 1 - known
        total, _ = combine(total, own)
    # What has been lost on the way is the mass of the empty set, whatever the order.
    agreed = sum(total.values())
    conflict = np.clip(1 - agreed, 0, 1)
    if rule == "yager":
        total[everything] = total.get(everything, 0.0) + conflict
        return total, conflict
    # Below rounding there is nothing in common.
    divisor = np.where(agreed > 1e-12, agreed, np.nan)
    return {members: mass / divisor for members, mass in total.items()}, conflict


def belief(masses: dict, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """(N, C) belief and plausibility of every single class."""
    count = len(next(iter(masses.values())))
    low, high = np.zeros((2, count, classes))
    for members, mass in masses.items():
        if len(members) == 1:
            low[:, next(iter(members))] += mass
        high[:, sorted(members)] += mass[:, None]
    return low, high
