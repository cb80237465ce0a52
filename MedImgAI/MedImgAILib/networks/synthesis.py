"""Images of no particular contrast from label maps, for networks that shall not depend on a scanner or sequence.

After Billot et al. 2023, Med Image Anal 86:102789 (SynthSeg): every label gets a random mean and spread, then come
blur, thick slices, shading, noise and a random window. Nothing of a real image's values remains, so that what a
network learns is shape.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Synthesis:
    """How much an image may vary.

    Parameters
    ----------
    like_reference, unlike_reference : float
        Shares of images whose labels' means follow, or oppose, the reference values; the means of the others are
        drawn freely.
    jitter : float
        Standard deviation about the reference values, which are 0…1.
    spread : float
        Largest standard deviation within a label.
    thick : float
        Largest slice thickness, in voxels, that is imitated.
    shading : float
        Standard deviation of the logarithm of the shading, at knots.
    noise : float
        Largest standard deviation of noise that is not smoothed.
    """

    like_reference: float = 0.35
    unlike_reference: float = 0.25
    jitter: float = 0.08
    spread: float = 0.1
    thick: float = 4.0
    shading: float = 0.3
    noise: float = 0.08


def synthetic_image(labels, reference, rng, plan: Synthesis = Synthesis()):
    """An image of a label map.

    Parameters
    ----------
    labels : (K, J, I) int64 tensor
        0 is air.
    reference : (L,) tensor
        A typical value, 0…1, of each label, those without one being below 0: they are always drawn freely.
    rng : torch.Generator
    plan : Synthesis

    Returns
    -------
    (K, J, I) float32 tensor
        Of about 0…1.
    """
    import torch

    means = _means(reference, rng, plan)
    spreads = plan.spread * torch.rand(len(reference), generator=rng) ** 2
    image = means[labels] + spreads[labels] * torch.randn(labels.shape, generator=rng)
    image = _blurred(image, [0.3 + 0.6 * _one(rng)] * 3)
    if _one(rng) < 0.5:
        image = _thick_slices(image, rng, plan.thick)
    image = image.clamp(min=0) ** float(torch.exp(0.25 * torch.randn((), generator=rng)))
    image = image * _shading(image.shape, rng, plan.shading)
    return image + plan.noise * _one(rng) ** 2 * torch.randn(labels.shape, generator=rng)


def shells(distance, rng, first: int):
    """Labels of layers about a brain in the place of a head that is not known.

    Parameters
    ----------
    distance : (K, J, I) tensor
        From the brain in voxels, 0 within it.
    rng : torch.Generator
    first : int
        Label of the innermost of four layers: fluid, bone, marrow or muscle, fat.

    Returns
    -------
    (K, J, I) int64 tensor
        0 in the brain and beyond the layers.
    """
    import torch
    from torch.nn import functional

    knots = torch.randn((1, 1, 6, 6, 6), generator=rng)
    waves = functional.interpolate(knots, size=distance.shape, mode="trilinear", align_corners=True)[0, 0]
    depth = distance * torch.exp(0.25 * waves)
    borders = torch.cumsum(torch.tensor([0.2, 0.8, 0.8, 1.5]) + torch.tensor([1.2, 2.0, 2.0, 5.0])
                           * torch.rand(4, generator=rng), dim=0)  # fmt: skip
    layer = torch.bucketize(depth, borders)
    return torch.where((distance > 0) & (layer < 4), layer + first, 0)


def _means(reference, rng, plan: Synthesis):
    import torch

    free = torch.rand(len(reference), generator=rng)
    kind = _one(rng)
    jitter = plan.jitter * torch.randn(len(reference), generator=rng)
    if kind < plan.like_reference:
        means = torch.where(reference >= 0, reference + jitter, free)
    elif kind < plan.like_reference + plan.unlike_reference:
        means = torch.where(reference >= 0, 1 - reference + jitter, free)
        # What is dark in one sequence is often bone or air and dark in all.
        means = torch.where((reference >= 0) & (reference < 0.12), reference + jitter, means)
    else:
        means = free
    means[0] = 0.0 if _one(rng) < 0.7 else 0.2 * _one(rng)
    return means.clamp(0, 1.2)


def _thick_slices(image, rng, thick: float):
    """Smoothed and sampled coarsely along one axis, and brought back by linear interpolation."""
    from torch.nn import functional

    axis = int(3 * _one(rng))
    factor = 1 + (thick - 1) * _one(rng)
    sigmas = [0.0] * 3
    sigmas[axis] = 0.4 * factor
    size = list(image.shape)
    size[axis] = max(2, round(size[axis] / factor))
    coarse = functional.interpolate(_blurred(image, sigmas)[None, None], size=size, mode="trilinear")
    return functional.interpolate(coarse, size=image.shape, mode="trilinear")[0, 0]


def _shading(shape, rng, strength: float):
    import torch
    from torch.nn import functional

    knots = strength * _one(rng) * torch.randn((1, 1, 4, 4, 4), generator=rng)
    return torch.exp(functional.interpolate(knots, size=tuple(shape), mode="trilinear", align_corners=True)[0, 0])


def _blurred(image, sigmas):
    import torch
    from torch.nn import functional

    result = image[None, None]
    for axis, sigma in enumerate(sigmas):
        if sigma < 0.05:
            continue
        half = max(1, int(np.ceil(2.5 * sigma)))
        kernel = torch.exp(-0.5 * (torch.arange(-half, half + 1) / sigma) ** 2)
        shape = [1] * 5
        shape[axis + 2] = len(kernel)
        padding = [0] * 6
        padding[4 - 2 * axis] = padding[5 - 2 * axis] = half
        padded = functional.pad(result, padding, mode="replicate")
        result = functional.conv3d(padded, (kernel / kernel.sum()).reshape(shape))
    return result[0, 0]


def _one(rng) -> float:
    import torch

    return float(torch.rand((), generator=rng))
