"""The figures of :mod:`.metrics` for pictures as differentiable functions, for training on them.

Pictures are (1, 1, J, I) torch tensors on 0…255.
"""

from __future__ import annotations

import numpy as np

_BINS = 64


class Sources:
    """Two source pictures with what can be computed of them once.

    Parameters
    ----------
    first, second : (1, 1, J, I) tensors
    """

    NAMES = ("MI", "SCD", "VIF", "Qabf", "SSIM")

    def __init__(self, first, second):
        import torch

        self.pair = (first, second)
        across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], device=first.device)
        self._sobel = torch.stack([across, across.T])[:, None]
        self._windows = [_gaussian(2 ** (5 - scale) + 1, first) for scale in range(1, 5)]
        self._bins = [(s.flatten() * ((_BINS - 1) / 255)).round().long() for s in self.pair]
        self._edges = [self._sobel_of(s) for s in self.pair]
        self._local = [self._pyramid(s) for s in self.pair]

    def measure(self, fused):
        """(5,) tensor of MI, SCD, VIF, Qabf and SSIM as summed over both sources."""
        import torch

        first, second = self.pair
        return torch.stack([
            sum(self._information(fused, bins) for bins in self._bins),
            _correlation(fused - second, first) + _correlation(fused - first, second),
            sum(self._fidelity(local, fused) for local in self._local),
            self._edge_preservation(fused),
            sum(_similarity(fused, source) for source in self.pair),
        ])  # fmt: skip

    def _information(self, fused, bins):
        """Mutual information with the fused picture's grey values shared by the two bins next to them."""
        import torch

        place = (fused.flatten() * ((_BINS - 1) / 255)).clamp(0, _BINS - 1 - 1e-4)
        below = place.floor()
        share, row = place - below, below.long()
        joint = torch.zeros(_BINS * _BINS, device=fused.device)
        joint = joint.index_add(0, row * _BINS + bins, 1 - share).index_add(0, (row + 1) * _BINS + bins, share)
        joint = (joint / joint.sum()).view(_BINS, _BINS)
        expected = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
        return (joint * torch.log((joint + 1e-12) / (expected + 1e-12))).sum()

    def _pyramid(self, picture):
        """For every scale that the window fits: the picture, its local mean and variance, and its information."""
        import torch

        found = []
        for scale, window in enumerate(self._windows):
            if scale:
                picture = _shrunk(picture, window)
            if picture is None or min(picture.shape[2:]) < len(window):
                break
            mean = _filtered(picture, window)
            variance = (_filtered(picture * picture, window) - mean * mean).clamp(min=0)
            found.append((picture, mean, variance, torch.log10(1 + variance / 2).sum()))
        return found

    def _fidelity(self, local, fused):
        import torch

        gained = total = 0.0
        for scale, (source, mean, variance, information) in enumerate(local):
            window = self._windows[scale]
            if scale:
                fused = _shrunk(fused, window)
            own = _filtered(fused, window)
            own_variance = (_filtered(fused * fused, window) - own * own).clamp(min=0)
            shared = _filtered(source * fused, window) - mean * own
            gain = (shared / (variance + 1e-2)).clamp(min=0)
            rest = (own_variance - gain * shared).clamp(min=1e-6)
            gained = gained + torch.log10(1 + gain * gain * variance / (rest + 2)).sum()
            total = total + information
        return gained / (total + 1e-6)

    def _sobel_of(self, picture):
        import torch
        from torch.nn.functional import conv2d

        slopes = conv2d(picture, self._sobel)
        return slopes, torch.sqrt((slopes * slopes).sum(1, keepdim=True) + 1e-3)

    def _edge_preservation(self, fused):
        import torch

        slopes, strength = self._sobel_of(fused)
        top = bottom = 0.0
        for own_slopes, own in self._edges:
            kept = torch.minimum(strength, own) / torch.maximum(strength, own)
            cosine = ((slopes * own_slopes).sum(1, keepdim=True).abs() / (strength * own)).clamp(0, 1 - 1e-4)
            turned = 1 - torch.arccos(cosine) / (np.pi / 2)
            quality = 0.9994 * torch.sigmoid(15 * (kept - 0.5)) * 0.9879 * torch.sigmoid(22 * (turned - 0.8))
            top = top + (quality * own).sum()
            bottom = bottom + own.sum()
        return top / bottom


def _gaussian(width: int, like):
    import torch

    window = torch.exp(-0.5 * ((torch.arange(width, device=like.device) - width // 2) / (width / 5)) ** 2)
    return (window / window.sum()).to(like.dtype)


def _filtered(picture, window):
    from torch.nn.functional import conv2d

    return conv2d(conv2d(picture, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))


def _shrunk(picture, window):
    return None if min(picture.shape[2:]) < len(window) else _filtered(picture, window)[..., ::2, ::2]


def _correlation(first, second):
    import torch

    first, second = first - first.mean(), second - second.mean()
    return (first * second).sum() / torch.sqrt((first * first).sum() * (second * second).sum() + 1e-6)


def _similarity(first, second):
    """Uniform window; constants large enough to learn by."""
    from torch.nn.functional import avg_pool2d

    def mean(values):
        return avg_pool2d(values, min(7, *values.shape[2:]), 1)

    a, b = mean(first), mean(second)
    var_a, var_b = mean(first * first) - a * a, mean(second * second) - b * b
    both = mean(first * second) - a * b
    return ((2 * a * b + 1) * (2 * both + 9) / ((a * a + b * b + 1) * (var_a + var_b + 9))).mean()
