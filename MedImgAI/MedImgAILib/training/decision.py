"""How much the background must be favoured so that unseen cases are found best.

Trained by the Dice of few cases, a network finds its segments a little too large or too small on others. One number,
added to the background's score, corrects that; it is chosen on cases that the network has not seen, as nnU-Net chooses
its post-processing (Isensee et al. 2021), and is stored in the bias of the network's last layer.
"""

from __future__ import annotations

import numpy as np

SHIFTS = np.arange(-4, 7) * 0.25
"""What may be added to the background's score: −1 … 1.5 (natural logarithm of a factor of its probability)."""


def overlaps_by_shift(probabilities: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Dice of each segment for each of :data:`SHIFTS`.

    Parameters
    ----------
    probabilities : (C, K, J, I) ndarray
        Of the background and the segments.
    truth : (K, J, I) int ndarray
        0 … C − 1.

    Returns
    -------
    (shifts, C − 1) ndarray
        NaN where neither side has the segment.
    """
    segments = len(probabilities) - 1
    which, most = probabilities[1:].argmax(0) + 1, probabilities[1:].max(0)
    sizes = np.bincount(truth.ravel(), minlength=segments + 1)[1:]
    result = np.full((len(SHIFTS), segments), np.nan)
    for number, shift in enumerate(SHIFTS):
        found = np.where(most > probabilities[0] * np.exp(shift), which, 0)
        total = np.bincount(found.ravel(), minlength=segments + 1)[1:] + sizes
        common = np.bincount(found[found == truth].ravel(), minlength=segments + 1)[1:]
        np.divide(2 * common, total, out=result[number], where=total > 0)
    return result


def best_shift(overlaps, mean) -> float:
    """The shift with the best mean Dice; of equal ones the smallest.

    Parameters
    ----------
    overlaps : (cases, shifts, segments) ndarray
        As :func:`overlaps_by_shift` gives them.
    mean : callable
        Of (cases, segments) Dice.
    """
    scores = np.array([mean(overlaps[:, n]) for n in range(len(SHIFTS))])
    good = np.flatnonzero(scores >= np.nanmax(scores) - 1e-9) if np.isfinite(scores).any() else [4]
    return float(min(SHIFTS[good], key=abs))


def background_bias(network, example) -> str | None:
    """Name, in the state, of the bias that is added to the scores last.

    Parameters
    ----------
    network : torch.nn.Module
        In evaluation mode.
    example : (1, channels, …) tensor

    Returns
    -------
    str or None
        None if the network does not end with a layer that has one.
    """
    import torch

    seen, kinds = {}, (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)
    layers = {name: m for name, m in network.named_modules() if isinstance(m, kinds) and m.bias is not None}
    hooks = [
        m.register_forward_hook(lambda _, __, out, name=name: seen.__setitem__(name, out)) for name, m in layers.items()
    ]
    try:
        with torch.inference_mode():
            result = network(example)
    finally:
        for hook in hooks:
            hook.remove()
    return next((f"{name}.bias" for name, out in seen.items() if out is result), None)


def shifted(state: dict, bias: str | None, shift: float) -> dict:
    """The state with ``shift`` added to the background's score."""
    if bias is None or not shift:
        return state
    changed = state[bias].clone()
    changed[0] += shift
    return {**state, bias: changed}
