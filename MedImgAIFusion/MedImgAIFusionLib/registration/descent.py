"""Quasi-Newton descent in a few parameters.

SciPy's L-BFGS-B hands its small matrices to threads of the linear algebra library, which cost more than they save:
three quarters of the processor time of a registration with six or twelve parameters.
"""

from __future__ import annotations

import numpy as np

_SUFFICIENT, _FLATTENED = 1e-4, 0.9
"""Weak Wolfe conditions: least share of the decrease promised, greatest share of the slope left."""


def minimize(objective, size: int, iterations: int, tolerance: float, reach: float, most: int = 12):
    """Minimise by BFGS from zero, the first step of length 1.

    Nocedal & Wright 2006, Numerical Optimization, chapter 6; line search by bracketing (Lewis & Overton 2013, Math
    Program 141:135).

    Parameters
    ----------
    objective : callable
        Value and (size,) derivative at (size,) parameters.
    size : int
    iterations : int
        At most.
    tolerance : float
        Ends where an iteration lowers the value by less than this part of it (of 1 if it is smaller).
    reach : float
        Longest step, so that none leaps over a hill into another valley.
    most : int
        Evaluations along one direction.

    Returns
    -------
    (size,) ndarray, float
        The best parameters and their value.
    """
    x = np.zeros(size)
    value, slope = objective(x)
    curvature = None
    for _ in range(iterations):
        steepness = np.sqrt(slope @ slope)
        if steepness < 1e-7:
            break
        direction = -slope / steepness if curvature is None else -(curvature * slope).sum(axis=1)
        if direction @ slope >= 0:
            curvature, direction = None, -slope / steepness
        direction *= min(1.0, reach / np.sqrt(direction @ direction))
        found = _along(objective, x, value, slope, direction, reach, most)
        if found is None:
            if curvature is None:
                break
            curvature = None
            continue
        step, new_value, new_slope = found
        moved, bent = step * direction, new_slope - slope
        curvature = _updated(curvature, moved, bent)
        gained = value - new_value
        x, value, slope = x + moved, new_value, new_slope
        if gained <= tolerance * max(abs(value), abs(value + gained), 1.0):
            break
    return x, value


def _along(objective, x, value, slope, direction, reach, most):
    """Step, value and derivative of a point low and flat enough, else of the lowest seen; None if none is lower."""
    promised, longest = direction @ slope, reach / np.sqrt(direction @ direction)
    low, high, step, best = 0.0, np.inf, 1.0, None
    for _ in range(most):
        new_value, new_slope = objective(x + step * direction)
        if new_value < value and (best is None or new_value < best[1]):
            best = step, new_value, new_slope
        if new_value > value + _SUFFICIENT * step * promised:
            high = step
        elif direction @ new_slope < _FLATTENED * promised:
            low = step
        else:
            return step, new_value, new_slope
        if low >= longest:
            return best
        if np.isinf(high):
            step = min(2 * step, longest)
        elif low == 0:
            # The parabola through the start, its slope and this value.
            bent = 2 * (new_value - value - step * promised)
            step = np.clip(-promised * step**2 / bent if bent > 0 else 0.5 * step, 0.1 * step, 0.5 * step)
        else:
            step = 0.5 * (low + high)
    return best


def _updated(curvature, moved, bent):
    """The inverse curvature after a step; unchanged where the step saw none."""
    along = moved @ bent
    if along <= 1e-12 * np.sqrt((moved @ moved) * (bent @ bent)):
        return curvature
    if curvature is None:
        curvature = np.eye(len(moved)) * (along / (bent @ bent))
    turned = (curvature * bent).sum(axis=1)
    both = np.outer(turned, moved)
    return curvature + (1 + bent @ turned / along) * np.outer(moved, moved) / along - (both + both.T) / along
