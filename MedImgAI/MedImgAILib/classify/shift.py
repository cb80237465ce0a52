"""Simulated shift between scanners: folds by what images look like as a whole, and images as others would take them.

A model that is judged on cases drawn like those it learnt from looks better than it is elsewhere. Exposure, collimation
and patient size often predict the class in a data set, so the folds hold out the cases where they would mislead.
"""

from __future__ import annotations

import numpy as np


def appearance(images: np.ndarray) -> np.ndarray:
    """(n, F) global statistics of (n, J, I) images: grey values, borders, edges; nothing of what they show."""
    flat = images.reshape(len(images), -1)
    rows, columns = images.shape[1:]
    edge, corner = max(1, rows // 9), max(1, rows // 5)
    parts = [
        flat.mean(axis=1), flat.std(axis=1), *np.percentile(flat, (1, 5, 25, 50, 75, 95, 99), axis=1),
        images[:, :edge].mean(axis=(1, 2)), images[:, -edge:].mean(axis=(1, 2)),
        images[:, :, :edge].mean(axis=(1, 2)), images[:, :, -edge:].mean(axis=(1, 2)),
        images[:, :corner, :corner].mean(axis=(1, 2)), images[:, :corner, -corner:].mean(axis=(1, 2)),
        np.abs(np.diff(images, axis=1)).mean(axis=(1, 2)), np.abs(np.diff(images, axis=2)).mean(axis=(1, 2)),
    ]  # fmt: skip
    return np.stack(parts, axis=1).astype(np.float64)


def misleading(images: np.ndarray, truth: np.ndarray, classes: int, seed: int = 0, whose=None) -> np.ndarray:
    """(n,) how much each image's appearance alone speaks against its class: 1 − cross-validated probability.

    Parameters
    ----------
    images : (n, J, I)
    truth : (n,) int
    whose : (n,) int, optional
        The patient of each image, who is not divided; without, each image is of another one.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    smallest = int(np.bincount(truth, minlength=classes).min())
    model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=2000))
    patients = len(truth) if whose is None else len(np.unique(whose))
    whose, kind = (None, StratifiedKFold) if patients == len(truth) else (whose, StratifiedGroupKFold)
    folds = kind(max(2, min(5, smallest, patients)), shuffle=True, random_state=seed)
    believed = cross_val_predict(model, appearance(images), truth, cv=folds, method="predict_proba", groups=whose)
    return 1.0 - believed[np.arange(len(truth)), truth]


def shifted_folds(
    images: np.ndarray, truth: np.ndarray, classes: int, count: int, seed: int = 0, shifted: tuple[int, ...] = (0,),
    whose=None,
) -> list[np.ndarray]:  # fmt: skip
    """Positions held out by each of ``count`` folds; all images of a patient lie in one.

    Parameters
    ----------
    images : (n, J, I)
    truth : (n,) int
    shifted : tuple of int
        Classes that are divided by :func:`misleading`, the last fold holding those that mislead most; the others are
        divided at random. With the negative class alone, false alarms on unusual normals are simulated.
    whose : (n,) int, optional
        The patient of each image, from 0, who counts for the class that most of his images have; without, each image
        is of another one.
    """
    rng = np.random.default_rng(seed)
    whose = np.arange(len(truth)) if whose is None else np.asarray(whose)
    votes = np.zeros((whose.max() + 1, classes), int)
    np.add.at(votes, (whose, truth), 1)
    score = np.bincount(whose, misleading(images, truth, classes, seed, whose)) / votes.sum(axis=1)
    folds: list[list] = [[] for _ in range(count)]
    for c in range(classes):
        own = np.flatnonzero(votes.argmax(axis=1) == c)
        own = own[np.argsort(score[own], kind="stable")] if c in shifted else rng.permutation(own)
        for number, part in enumerate(np.array_split(own, count)):
            folds[number].append(part)
    return [np.flatnonzero(np.isin(whose, np.concatenate(parts))) for parts in folds]


def disturbed(images, generator, strength: float = 1.0):
    """Images as another device, exposure, collimation and patient would give them.

    Parameters
    ----------
    images : (B, C, J, I) tensor
    generator : torch.Generator
    strength : float
        1: turns to ±17°, sizes 0.7…1.4, aspect ±20 %, shifts to 15 %, gamma 0.5…2, uneven exposure to 25 %, blurring or
        sharpening, noise to 5 %.

    Returns
    -------
    (B, C, J, I) tensor
    """
    import torch
    from torch.nn import functional

    count, device = len(images), images.device

    def uniform(low, high):
        return (torch.rand(count, generator=generator) * (high - low) + low).to(device)

    s = float(strength)
    angle, scale, aspect, shear = (
        uniform(-0.3 * s, 0.3 * s),
        uniform(-0.35 * s, 0.3 * s),
        uniform(-0.2 * s, 0.2 * s),
        (uniform(-0.1 * s, 0.1 * s)),
    )
    wide, high = torch.exp(scale + aspect), torch.exp(scale - aspect)
    mirrored = torch.where(torch.rand(count, generator=generator).to(device) < 0.5, -1.0, 1.0)
    cosine, sine = torch.cos(angle), torch.sin(angle)
    rows = torch.stack(
        [
            torch.stack([mirrored * cosine * wide, shear - sine * high, uniform(-0.15 * s, 0.15 * s)], 1),
            torch.stack([mirrored * sine * wide, cosine * high, uniform(-0.15 * s, 0.15 * s)], 1),
        ],
        1,
    )
    grid = functional.affine_grid(rows, images.shape, align_corners=False)
    x = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    low, top = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
    x = (x - low) / (top - low + 1e-3)

    def each(values):
        return values.reshape(-1, 1, 1, 1)

    gamma = each(torch.exp(uniform(-0.7 * s, 0.7 * s)))
    x = torch.where(each(torch.rand(count, generator=generator).to(device)) < 0.5, x**gamma, 1 - (1 - x) ** gamma)
    coarse = torch.randn(count, 1, 3, 3, generator=generator).to(device) * each(uniform(0, 0.25 * s))
    x = x * (1 + functional.interpolate(coarse, size=x.shape[2:], mode="bicubic", align_corners=True))
    blurred = functional.avg_pool2d(functional.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    x = x + each(uniform(-0.8 * s, 1.0 * s)) * (blurred - x)
    return x + torch.randn(x.shape, generator=generator).to(device) * each(uniform(0, 0.05 * s))
