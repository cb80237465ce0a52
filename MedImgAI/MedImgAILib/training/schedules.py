"""Learning rates over a training, each as a factor of the highest one."""

from __future__ import annotations

import math

SCHEDULES = ("poly", "cosine", "one_cycle", "constant")
_POLY_EXPONENT = 0.9
_RISE, _FIRST, _LAST = 0.3, 1 / 25, 1e-4
"""Of the one-cycle schedule: share of the steps in which the rate rises, first and last factor."""


def rate_factor(schedule: str, step: int, steps: int, warmup: int = 0) -> float:
    """The learning rate of step ``step`` (0 … ``steps`` − 1) relative to the highest.

    Parameters
    ----------
    schedule : str
        poly       (1 − t)^0.9 (Chen et al. 2018, IEEE TPAMI 40:834; nnU-Net's)
        cosine     half a cosine down to 0 (Loshchilov & Hutter 2017, ICLR)
        one_cycle  up by a cosine in the first 30 % of the steps, then down (Smith & Topin 2019, Proc SPIE 11006)
        constant
    warmup : int
        Steps over which the rate first rises linearly; not for one_cycle, which rises itself.
    """
    if schedule == "one_cycle":
        rise = max(_RISE * steps - 1, 1e-9)
        if step <= rise:
            return _between(_FIRST, 1.0, step / rise)
        return _between(1.0, _LAST, (step - rise) / max(steps - 1 - rise, 1e-9))
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(steps - warmup, 1)
    if schedule == "poly":
        return (1 - done) ** _POLY_EXPONENT
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done))
    if schedule == "constant":
        return 1.0
    raise ValueError(f"there is no schedule '{schedule}'")


def _between(start: float, end: float, share: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
