"""Where the windows of a sliding-window inference lie and how much each of their voxels counts."""

from __future__ import annotations

import math
from itertools import product


def window_starts(extent: int, window: int, overlap: float) -> list[int]:
    """First voxels of the windows along one axis; the last window ends with the image.

    Parameters
    ----------
    extent, window : int
        Voxels of the (padded) image and of the window, ``window <= extent``.
    overlap : float
        Share of the window that its neighbour covers too, 0 ≤ overlap < 1.
    """
    step = max(1, int(window * (1 - overlap))) if window < extent else window
    count = max(1, math.ceil((extent - window) / step) + 1)
    return [min(n * step, extent - window) for n in range(count)]


def window_rows(shape, window, overlap: float) -> list[tuple[int, list[tuple[int, int]]]]:
    """Windows grouped by their first plane, in rising order: ``[(k, [(j, i), …]), …]``."""
    starts = [window_starts(n, w, overlap) for n, w in zip(shape, window, strict=True)]
    return [(k, list(product(starts[1], starts[2]))) for k in starts[0]]


def gaussian_importance(window, sigma_scale: float = 0.125):
    """(K, J, I) float32 tensor: a Gaussian about the window's middle, at least 0.001.

    The standard deviation is ``sigma_scale`` of the window's extent along each axis, as in nnU-Net (Isensee et al.
    2021, Nat Methods 18:203) and MONAI.
    """
    import torch

    weight = torch.ones((), dtype=torch.float32)
    for extent in window:
        x = torch.arange(-(extent - 1) / 2, (extent - 1) / 2 + 1, dtype=torch.float32)
        weight = weight.unsqueeze(-1) * torch.exp(x**2 / (-2 * (extent * sigma_scale) ** 2))
    return weight.clamp_(min=max(float(weight.min()), 1e-3))
