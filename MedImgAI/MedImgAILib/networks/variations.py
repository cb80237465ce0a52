"""Ways to ask a network again: mirrored, turned or with other intensities, or with its dropout at work."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product


@dataclass(frozen=True)
class Variation:
    """One way to look at a window.

    Parameters
    ----------
    flips : tuple of int
        Spatial axes (0 = k, 1 = j, 2 = i) that are mirrored, and mirrored back in the answer.
    turns : int
        Quarter turns in the plane of rows and columns; only where both have the same extent.
    scale, shift : float
        The window's values are multiplied and raised by so much; the shift is in units of the image's standard
        deviation.
    dropout : int, optional
        Seed of the network's dropout, which is at work if given; all windows of one pass drop the same.
    member : int
        Which network of an ensemble.
    """

    flips: tuple[int, ...] = ()
    turns: int = 0
    scale: float = 1.0
    shift: float = 0.0
    dropout: int | None = None
    member: int = 0

    def forth(self, windows, spread: float = 1.0):
        """(B, C, …) windows, varied; ``spread`` is the image's standard deviation."""
        import torch

        axes = [a - 3 for a in self.flips]
        result = torch.flip(windows, axes) if axes else windows
        if self.turns:
            result = torch.rot90(result, self.turns, (-2, -1))
        if self.scale != 1 or self.shift:
            result = result * self.scale + self.shift * spread
        return result

    def back(self, values):
        """(B, C, …) answers, brought back."""
        import torch

        if self.turns:
            values = torch.rot90(values, -self.turns, (-2, -1))
        axes = [a - 3 for a in self.flips]
        return torch.flip(values, axes) if axes else values


def mirrored(axes) -> tuple[Variation, ...]:
    """The plain variation and those of all combinations of mirrored axes ("i", "j", "k")."""
    places = sorted("kji".index(a) for a in axes)
    picked = product((False, True), repeat=len(places))
    return tuple(Variation(tuple(a for a, on in zip(places, which) if on)) for which in picked)


def variations(kind: str, count: int, window, dimensions: int = 3, seed: int = 0) -> list[Variation]:
    """Up to ``count`` variations, the plain one first.

    Parameters
    ----------
    kind : "none", "flips", "flips_turns", "intensity", "all" or "dropout"
    count : int
    window : (K, J, I)
        Turns need a square one.
    dimensions : 2 or 3
        With 2, slices are not mirrored across.
    seed : int
        Of the random intensities and of dropout.
    """
    import numpy as np

    if kind == "dropout":
        return [Variation(dropout=seed + n) for n in range(count)]
    axes = (1, 2) if dimensions == 2 else (0, 1, 2)
    choices = [tuple(a for a, on in zip(axes, picked) if on) for picked in product((0, 1), repeat=len(axes))]
    # First those that mirror one axis, so that a few already look from all sides.
    choices.sort(key=len)
    turned = (0, 1) if kind in ("flips_turns", "all") and window[1] == window[2] else (0,)
    result = [Variation()]
    if kind in ("flips", "flips_turns", "all"):
        result = [Variation(flips, turns) for turns in turned for flips in choices]
    if kind in ("intensity", "all"):
        rng = np.random.default_rng(seed)
        plain = result if kind == "all" else result * count
        result = [plain[0]] + [
            Variation(v.flips, v.turns, float(rng.uniform(0.9, 1.1)), float(rng.uniform(-0.1, 0.1))) for v in plain[1:]
        ]
    return result[:count]


def has_dropout(network) -> bool:
    """Whether a network has a dropout layer that would do something."""
    return any(m.p > 0 for m in _dropouts(network))


def _dropouts(network):
    import torch

    if not isinstance(network, torch.nn.Module):
        return []
    return [m for m in network.modules() if isinstance(m, torch.nn.modules.dropout._DropoutNd)]


@contextmanager
def dropping(network, seed: int | None):
    """Within the block the network's dropout is at work, drawn from ``seed``; the generator is left as it was."""
    import torch

    layers = _dropouts(network) if seed is not None else []
    if not layers:
        yield
        return
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        for layer in layers:
            layer.train()
        try:
            yield
        finally:
            for layer in layers:
                layer.eval()
