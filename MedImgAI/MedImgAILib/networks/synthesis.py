"""Images of no particular contrast from label maps, for networks that shall not depend on a scanner or sequence.

After Billot et al. 2023, Med Image Anal 86:102789 (SynthSeg): every label gets a random mean and spread, then come
blur, thick slices, shading and noise. Nothing of a real image's values remains, so that what a network learns is
shape. Beside contrasts drawn freely there are some that are near to those of known sequences, which are met most.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Synthesis:
    """How much an image may vary.

    Parameters
    ----------
    typical : float
        Share of images whose labels' means lie near those of one of the given contrasts; the means of the others
        are drawn freely.
    jitter : float
        Largest standard deviation about the typical values, which are 0…1.
    spread : float
        Largest standard deviation within a label.
    blur : float
        Largest standard deviation, in voxels, of the Gaussian that smooths the borders; the least is 0.35.
    thick : float
        Largest slice thickness, in voxels, that is imitated.
    coarse : float
        Largest voxel size, in voxels, that is imitated along all axes.
    shading : float
        Largest standard deviation of the logarithm of the shading, at knots.
    noise : float
        Largest standard deviation of noise that is not smoothed.
    gamma : float
        Standard deviation of the logarithm of the power that the values are raised to.
    """

    typical: float = 0.55
    jitter: float = 0.12
    spread: float = 0.12
    blur: float = 0.85
    thick: float = 4.0
    coarse: float = 2.2
    shading: float = 0.5
    noise: float = 0.08
    gamma: float = 0.25


def synthetic_image(labels, contrasts, rng, plan: Synthesis = Synthesis()):
    """An image of a label map.

    Parameters
    ----------
    labels : (K, J, I) int64 tensor
        0 is air.
    contrasts : (C, L) tensor
        The typical value, 0…1, of each label in C kinds of images; those without one are below 0 and are always
        drawn freely.
    rng : torch.Generator
    plan : Synthesis

    Returns
    -------
    (K, J, I) float32 tensor
        Of about 0…1.
    """
    import torch

    means = _means(contrasts, rng, plan)
    spreads = plan.spread * torch.rand(len(means), generator=rng) ** 2
    image = means[labels] + spreads[labels] * torch.randn(labels.shape, generator=rng)
    image = smoothed(image, [0.35 + (plan.blur - 0.35) * _one(rng)] * 3)
    kind = _one(rng)
    if kind < 0.4:
        factors = [1.0] * 3
        factors[int(3 * _one(rng))] = 1 + (plan.thick - 1) * _one(rng)
        image = _sampled_coarsely(image, factors)
    elif kind < 0.55:
        image = _sampled_coarsely(image, [1 + (plan.coarse - 1) * _one(rng)] * 3)
    image = image.clamp(min=0) ** float(torch.exp(plan.gamma * torch.randn((), generator=rng)))
    image = image * torch.exp(plan.shading * _one(rng) * _waves(image.shape, rng, 4))
    return image + plan.noise * _one(rng) ** 2 * torch.randn(labels.shape, generator=rng)


def patches(shape, rng, knots: int, share: float):
    """A random part of a grid, of patches with smooth outlines.

    Parameters
    ----------
    shape : (K, J, I)
    rng : torch.Generator
    knots : int
        Along each axis: the more, the smaller the patches.
    share : float
        Of the voxels, about.

    Returns
    -------
    (K, J, I) bool tensor
    """
    import torch

    waves = _waves(shape, rng, knots)
    return waves > torch.quantile(waves.flatten()[::101], 1 - share)


def smoothed(image, sigmas):
    """A (K, J, I) image after Gaussians of these standard deviations, in voxels, along its axes."""
    from torch.nn import functional

    for axis, sigma in enumerate(sigmas):
        if sigma < 0.05:
            continue
        half = max(1, int(np.ceil(2.5 * sigma)))
        kernel = np.exp(-0.5 * (np.arange(-half, half + 1) / sigma) ** 2)
        kernel /= kernel.sum()
        padding = [0] * 6
        padding[4 - 2 * axis] = padding[5 - 2 * axis] = half
        padded = functional.pad(image[None, None], padding, mode="replicate")[0, 0]
        size = image.shape[axis]
        image = padded.narrow(axis, half, size) * float(kernel[half])
        for step in range(1, half + 1):
            image.add_(padded.narrow(axis, half - step, size), alpha=float(kernel[half - step]))
            image.add_(padded.narrow(axis, half + step, size), alpha=float(kernel[half + step]))
    return image


def _means(contrasts, rng, plan: Synthesis):
    import torch

    means = torch.rand(contrasts.shape[1], generator=rng)
    if len(contrasts) and _one(rng) < plan.typical:
        wanted = contrasts[int(torch.randint(len(contrasts), (), generator=rng))]
        near = wanted + plan.jitter * _one(rng) * torch.randn(len(means), generator=rng)
        means = torch.where(wanted >= 0, near, means)
    means[0] = 0.0 if _one(rng) < 0.7 else 0.2 * _one(rng)
    return means.clamp(0, 1.2)


def _sampled_coarsely(image, factors):
    """Smoothed and sampled at so many voxels along each axis, and brought back by linear interpolation."""
    from torch.nn import functional

    size = [max(2, round(n / factor)) for n, factor in zip(image.shape, factors)]
    blurred = smoothed(image, [0.4 * factor if factor > 1 else 0.0 for factor in factors])
    coarse = functional.interpolate(blurred[None, None], size=size, mode="trilinear")
    return functional.interpolate(coarse, size=image.shape, mode="trilinear")[0, 0]


def _waves(shape, rng, knots: int):
    """A smooth random field, its values at knots being normally distributed."""
    import torch
    from torch.nn import functional

    values = torch.randn((1, 1, knots, knots, knots), generator=rng)
    return functional.interpolate(values, size=tuple(shape), mode="trilinear", align_corners=True)[0, 0]


def _one(rng) -> float:
    import torch

    return float(torch.rand((), generator=rng))
