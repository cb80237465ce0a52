"""Losses of segmentation and classification, with remedies for rare classes.

All are means over the samples, so that portions and processes may be averaged.
"""

from __future__ import annotations

import numpy as np

CLASSIFICATION = ("cross_entropy", "class_balanced", "focal")
_SMOOTH = 1e-5


def effective_number_weights(counts, beta: float = 0.999) -> np.ndarray:
    """Class-balanced weights (Cui et al. 2019, CVPR): (1 − β) / (1 − βⁿ), scaled to a mean of 1.

    Parameters
    ----------
    counts : (C,) array_like of int
        Cases of each class; a class without a case gets the weight 0.
    beta : float
        0 ≤ β < 1; 0 weighs all classes alike, towards 1 by the inverse of their number.
    """
    counts = np.asarray(counts, np.float64)
    weights = np.where(counts > 0, (1 - beta) / np.maximum(1 - beta ** np.maximum(counts, 1), 1e-300), 0.0)
    return weights * (counts > 0).sum() / weights.sum()


def classification_loss(
    kind: str = "cross_entropy", counts=None, smoothing: float = 0.0, gamma: float = 2.0, beta=0.999
):
    """A loss of (B, C) scores and (B, C) shares of the classes (one-hot, or mixed by MixUp).

    Parameters
    ----------
    kind : str
        cross_entropy   of the shares
        class_balanced  the same, weighted by :func:`effective_number_weights`
        focal           (1 − p)^γ times the cross-entropy of each class (Lin et al. 2017, ICCV)
    counts : (C,) array_like, optional
        Cases of each class in training; needed for class_balanced, used as weights by focal where given.
    smoothing : float
        Share that is spread over all classes (Szegedy et al. 2016, CVPR).
    """
    if kind not in CLASSIFICATION:
        raise ValueError(f"there is no loss '{kind}'")
    if kind == "class_balanced" and counts is None:
        raise ValueError("class_balanced needs the counts of the classes")
    weights = None if counts is None or kind == "cross_entropy" else effective_number_weights(counts, beta)

    def loss(scores, shares):
        import torch

        scores = scores.float()
        if smoothing:
            shares = shares * (1 - smoothing) + smoothing / shares.shape[1]
        log_p = torch.log_softmax(scores, dim=1)
        terms = -shares * log_p
        if kind == "focal":
            terms = terms * (1 - log_p.exp()) ** gamma
        if weights is not None:
            terms = terms * torch.as_tensor(weights, dtype=terms.dtype, device=terms.device)
        return terms.sum(dim=1).mean()

    return loss


def segmentation_loss(kind: str = "dice_ce", gamma: float = 2.0, class_weights=None):
    """A loss of (B, C, …) scores and (B, …) labels, C including the background 0.

    The scores may be those of deep supervision, (B, S, C, …) as MONAI's DynUNet gives them in training: S stages whose
    weights halve from one to the next.

    Parameters
    ----------
    kind : "dice_ce", "dice_focal" or "cross_entropy"
        The sum of soft Dice loss (Milletari et al. 2016, 3DV; without the background, a mean over samples and classes
        that the sample or its prediction has) and cross-entropy or focal loss.
    class_weights : (C,) array_like, optional
        Of the cross-entropy, as :func:`effective_number_weights` gives them.
    """

    def loss(scores, labels):
        if scores.ndim == labels.ndim + 2:
            weights = [0.5**n for n in range(scores.shape[1])]
            return sum(w * one(scores[:, n], labels) for n, w in enumerate(weights)) / sum(weights)
        return one(scores, labels)

    def one(scores, labels):
        import torch
        from torch.nn import functional

        scores, labels = scores.float(), labels.long()
        weight = None if class_weights is None else torch.as_tensor(class_weights, dtype=scores.dtype).to(scores.device)
        pixels = functional.cross_entropy(scores, labels, weight, reduction="none")
        if kind == "dice_focal":
            p = torch.softmax(scores, 1).gather(1, labels[:, None])[:, 0]
            pixels = pixels * (1 - p) ** gamma
        total = pixels.mean()
        return total if kind == "cross_entropy" else total + soft_dice_loss(scores, labels)

    return loss


def soft_dice_loss(scores, labels):
    """1 − soft Dice of each foreground class and sample, their mean."""
    import torch
    from torch.nn import functional

    p = torch.softmax(scores, dim=1)[:, 1:].flatten(2)
    truth = functional.one_hot(labels, scores.shape[1]).movedim(-1, 1)[:, 1:].flatten(2).to(p.dtype)
    overlap = (p * truth).sum(-1)
    dice = (2 * overlap + _SMOOTH) / (p.sum(-1) + truth.sum(-1) + _SMOOTH)
    return 1 - dice.mean()
