"""The networks of the package ``deepbet``, applied as Fisch et al. 2024 describe; only in the worker process."""

from __future__ import annotations

import hashlib
import io

import numpy as np

from ..core import Context, InputError, ModelError
from .cleanup import largest_component

HASHES = {
    "bbox_model.pt": "39a7b2b5f799faa1391ea97bfcdc0b9299f20d84f2316a4ff8918dc4685e40aa",
    "model.pt": "de8ee7c69654d0dd3935dc4a5d84571d8ecf4637a6bfc01df399c4c2bc86e0fd",
}
"""SHA-256 of the files of version 1.0.2."""

COARSE, FINE = (128, 128, 128), (256, 256, 256)
"""Extents, in voxels, that the two networks take."""
MARGIN = 0.1
"""By how much of its size the brain's box is grown on either side."""
MINIMUM_SHARE = 0.02
"""A plane belongs to the box if more than this share of the coarse image's plane is brain."""


def brain_probability(array: np.ndarray, context: Context) -> tuple[np.ndarray, tuple[slice, ...]]:
    """The network's probability of brain.

    Parameters
    ----------
    array : (R, A, S) ndarray
        A T1-weighted head, finite, its axes running to the right, to the front and upwards.
    context : Context
        Gives the device; told of the progress.

    Returns
    -------
    probability : (x, y, z) float32 ndarray
        0…1 inside the box.
    box : three slices
        Where the box lies in ``array``.

    Raises
    ------
    InputError
        If no brain is found.
    ModelError
        If the package's files are not those of the published version.
    """
    import torch

    device = context.device
    # Operations that the networks need are missing on Apple's MPS in TorchScript.
    device = "cpu" if device == "mps" else device
    context.progress(0.0, "Loading the networks")
    finder, outliner = (_load(name, device, context) for name in HASHES)
    image = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).to(device)
    with torch.inference_mode():
        coarse = _resized(image, COARSE)
        limits = torch.quantile(coarse, torch.tensor([0.005, 0.995], device=device))
        if limits[0] == limits[1]:
            raise InputError("The T1 image has nearly the same value everywhere; choose an image of a head.")
        context.progress(0.1, "Finding the brain")
        found = finder(_normalised(coarse, *limits)[None, None])[0, 1] > 0.5
        box = brain_box(largest_component(found.cpu().numpy()), array.shape)
        context.progress(0.25, "Outlining the brain")
        fine = outliner(_normalised(_resized(image[box], FINE), *limits)[None, None])[0, 1]
        probability = _resized(fine, image[box].shape).cpu().numpy()
    context.progress(1.0)
    return probability, box


def brain_box(mask: np.ndarray, shape) -> tuple[slice, ...]:
    """The box of the coarse ``mask``, with margin, in voxels of an array of ``shape``.

    Raises
    ------
    InputError
        If the mask is nearly empty.
    """
    slices = []
    for axis, extent in enumerate(shape):
        share = mask.mean(axis=tuple(a for a in range(3) if a != axis))
        planes = np.flatnonzero(share > MINIMUM_SHARE)
        if not len(planes):
            raise InputError("No brain was found; choose a T1-weighted image of the whole head.")
        low, high = planes[0], planes[-1] + 1
        scale = extent / mask.shape[axis]
        center = np.rint(scale * (low + high) / 2)
        half = np.rint(scale * (high - low) * (1 + 2 * MARGIN)) / 2
        slices.append(slice(max(0, int(center - half)), min(extent, int(center + half))))
    return tuple(slices)


def _load(name: str, device: str, context: Context):
    """One network from the installed package's files, which are read once, so that what was checked is what runs."""
    from importlib import metadata

    import torch

    wanted = f"data/models/{name}"
    files = metadata.distribution("deepbet").files or ()
    path = next((f.locate() for f in files if f.as_posix() == wanted), None)
    if path is None or not path.exists():
        raise ModelError(f"The package deepbet lacks its file {wanted}; install it again.")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != HASHES[name]:
        raise ModelError(f"The file {wanted} of the package deepbet is not the published one; install version 1.0.2.")
    context.used_model(f"deepbet {name}", HASHES[name])
    return torch.jit.load(io.BytesIO(content), map_location=device).eval()


def _resized(image, shape):
    """A 3-D tensor by nearest neighbour on ``shape`` voxels in the same box."""
    from torch.nn.functional import interpolate

    return interpolate(image[None, None], tuple(shape), mode="nearest-exact")[0, 0]


def _normalised(image, low, high):
    """Clipped to ``low``…``high``, then to the mean 0.449 and standard deviation 0.226 of the training images."""
    image = ((image - low) / (high - low)).clamp(0, 1)
    return (image - image.mean()) / image.std() * 0.226 + 0.449
