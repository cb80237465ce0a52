"""Spacing, patch, batch, intensity rule and depth of the network from the data, after nnU-Net (Isensee et al. 2021).

The rules are the paper's; the size of a patch and how far it is padded also depend on the device, because a processor
is much slower.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core.model_card import ModelInput
from ..core.model_intensity import Intensity

_ANISOTROPIC = 3.0
_LEAST_FEATURE_MAP = 4
_MOST_LEVELS = 6
_LEAST_LEVELS = 3
_MOST_PADDING = {"cpu": 1.25, "other": float("inf")}
"""By which factor the extents that the deepest level needs may enlarge a patch before that level is left out."""
PATCH_VOXELS = {"cpu": (48**3, 256**2), "other": (128**3, 512**2)}
"""Most voxels of a patch in three and in two dimensions."""
_BATCH_VOXELS = {"cpu": (2 * 48**3, 4 * 256**2), "other": (2 * 128**3, 12 * 512**2)}


@dataclass(frozen=True)
class ImageFacts:
    """What planning needs to know of one image of a case.

    Parameters
    ----------
    shape : (K, J, I)
        In the storage order nearest RAS; a single slice is the first axis.
    spacing : (k, j, i) in mm
    inside : (N,) ndarray
        Some values of labelled voxels, or of all where nothing is labelled.
    low, high : float
        Least and largest value.
    channels : int
    integer8 : bool
        Whether voxels are 8-bit numbers, as in pictures.
    units : str
    """

    shape: tuple
    spacing: tuple
    inside: np.ndarray
    low: float
    high: float
    channels: int = 1
    integer8: bool = False
    units: str = ""


@dataclass(frozen=True)
class Plan:
    """What a network is trained with.

    Parameters
    ----------
    inputs : tuple of ModelInput
        For the model card; what :func:`MedImgAILib.networks.preparation.prepare_all` takes.
    dimensions : 2 or 3
    patch : (K, J, I)
    batch : int
    strides, kernels : tuple of tuple
        Of each level of a U-Net, in the axes of the patch without K in two dimensions; the first stride is 1.
    isotropic : bool
        Whether the slices are not much thicker than wide.
    """

    inputs: tuple[ModelInput, ...]
    dimensions: int
    patch: tuple
    batch: int
    strides: tuple
    kernels: tuple
    isotropic: bool

    @property
    def divisor(self) -> tuple:
        """What the extents of the network's input must be multiples of, in its own axes."""
        return tuple(int(n) for n in np.prod(np.array(self.strides), axis=0))


def modality_of(facts: list[ImageFacts]) -> str:
    """CT where values reach below −500 (air in HU) in most images, OT (other) for 8-bit pictures, else MR."""
    ct = np.mean([f.units == "HU" or (f.low <= -500 and f.high > 100) for f in facts])
    if ct > 0.5:
        return "CT"
    return "OT" if np.mean([f.integer8 for f in facts]) > 0.5 else "MR"


def intensity_rule(modality: str, facts: list[ImageFacts]):
    """The rule for a kind of image.

    CT: clip to the 0.5th and 99.5th percentile of the labelled voxels of all cases, then their mean to 0 and standard
    deviation to 1. Other modalities, whose unit is arbitrary: each image's own mean and deviation. 8-bit pictures share
    a unit: the mean and deviation of all.
    """
    values = np.concatenate([f.inside for f in facts]).astype(np.float64)
    if modality == "CT" and values.size and values.std() > 0:
        low, high = (float(v) for v in np.percentile(values, (0.5, 99.5)))
        if low < high:
            clipped = values.clip(low, high)
            return (
                Intensity("clip", lower=low, upper=high),
                Intensity("fixed_z_score", mean=float(clipped.mean()), std=max(float(clipped.std()), 1e-6)),
            )
    if modality == "OT" and values.size and values.std() > 0:
        return Intensity("fixed_z_score", mean=float(values.mean()), std=float(values.std()))
    return Intensity("z_score")


def plan_patches(facts: list[list[ImageFacts]], names, modalities, device: str = "cpu") -> Plan:
    """The plan of a segmentation.

    Parameters
    ----------
    facts : list of list of ImageFacts
        For each case its images.
    names : sequence of str
        Of the inputs, for the card.
    modalities : sequence of str
        Of the inputs: a DICOM modality, or "" to tell it from the values.
    device : str
    """
    spacings = np.array([case[0].spacing for case in facts])
    shapes = np.array([case[0].shape for case in facts], float)
    dimensions = 2 if np.median(shapes[:, 0]) == 1 else 3
    target = _target_spacing(spacings, shapes)
    shape = np.median(np.maximum(1, np.rint(shapes * spacings / target)), axis=0)
    isotropic = bool(target.max() / target.min() <= _ANISOTROPIC) if dimensions == 3 else True
    place = 0 if device == "cpu" else 1
    key = ("cpu", "other")[place]
    budget = PATCH_VOXELS[key][0 if dimensions == 3 else 1]
    axes = slice(None) if dimensions == 3 else slice(1, None)
    patch, strides, kernels = _topology(shape[axes], target[axes], budget, _MOST_PADDING[key])
    whole = (1, *patch) if dimensions == 2 else tuple(patch)
    batch = int(np.clip(_BATCH_VOXELS[key][0 if dimensions == 3 else 1] // np.prod(patch), 2, 16))
    total = np.prod(shape) * len(facts)
    batch = int(max(2, min(batch, round(0.05 * total / np.prod(patch)) if len(facts) > 8 else batch)))
    spacing = [float(s) for s in target[::-1]]
    if dimensions == 2:
        # The slice axis is left as it is; pictures without a size in mm are not resampled at all.
        spacing[2] = 0.0
    same = np.ptp(np.round(spacings[:, axes], 4), axis=0).max() == 0
    inputs = []
    for number, name in enumerate(names):
        own = [case[number] for case in facts]
        kind = modalities[number] or modality_of(own)
        rule = intensity_rule(kind, own)
        keep = None if same and dimensions == 2 else tuple(round(s, 5) for s in spacing)
        inputs.append(ModelInput(name, kind, own[0].channels, keep, None, rule))
    return Plan(tuple(inputs), dimensions, whole, batch, strides, kernels, isotropic)


def plan_images(facts: list[list[ImageFacts]], names, modalities, size=(0, 0, 0), most=(224, 96), least=1) -> Plan:
    """The plan of a classification: each image as a whole, stretched to one size.

    Parameters
    ----------
    size : (i, j, k)
        Wanted size; 0 lets the data decide: the median, at most ``most`` (2-D, 3-D) along an edge.
    least : int
        What the network needs along each edge.
    """
    shapes = np.array([case[0].shape for case in facts], float)
    dimensions = 2 if np.median(shapes[:, 0]) == 1 else 3
    edge = most[dimensions - 2]
    median = np.median(shapes, axis=0)
    shrink = min(1.0, edge / median.max())
    wanted = [int(s) or max(1, int(round(m * shrink))) for s, m in zip(size[::-1], median)]
    wanted = [max(least, n) for n in wanted]
    if dimensions == 2:
        wanted[0] = 1
    inputs = []
    for number, name in enumerate(names):
        own = [case[number] for case in facts]
        kind = modalities[number] or modality_of(own)
        rule = intensity_rule(kind, own)
        fit = {"size": tuple(wanted[::-1]), "fit": "stretch"}
        inputs.append(ModelInput(name, kind, max({f.channels for f in own}), None, None, rule, **fit))
    flat = wanted[1:] if dimensions == 2 else wanted
    batch = int(np.clip(4_000_000 // np.prod(flat), 4, 64))
    one = ((1,) * dimensions,)
    return Plan(tuple(inputs), dimensions, tuple(wanted), batch, one, ((3,) * dimensions,), True)


def _target_spacing(spacings, shapes) -> np.ndarray:
    """The median; where slices are thick, their axis takes the 10th percentile so that fine cases keep their detail."""
    target = np.median(spacings, axis=0)
    worst = int(np.argmax(target))
    others = [a for a in range(3) if a != worst]
    median_shape = np.median(shapes, axis=0)
    thick = target[worst] > _ANISOTROPIC * max(target[others])
    if thick and median_shape[worst] * _ANISOTROPIC < min(median_shape[others]):
        fine = np.percentile(spacings[:, worst], 10)
        target[worst] = max(fine, max(target[others]) + 1e-5)
    return target


def _topology(shape, spacing, budget: float, most_padding: float):
    """Patch, strides and kernels of each level.

    A level halves the axes that still have at least twice the least feature map and whose spacing is less than twice
    the smallest; a kernel is 1 along an axis while its spacing is more than twice the smallest. A level for whose
    sake a patch would be padded to more than ``most_padding`` times its voxels is left out.
    """
    shape, spacing = np.array(shape, float), np.array(spacing, float)
    patch = shape.copy()
    while np.prod(patch) > budget:
        # The axis that is longest relative to a cube of equal extent in mm gives way.
        patch[int(np.argmax(patch * spacing))] *= 0.95
    size, voxel = np.maximum(1, np.rint(patch)), spacing.copy()
    strides, kernels = [tuple([1] * len(size))], []
    while True:
        kernels.append(tuple(3 if v <= 2 * voxel.min() + 1e-9 else 1 for v in voxel))
        may = (size >= 2 * _LEAST_FEATURE_MAP) & (
            voxel <= 2 * voxel[size >= 2 * _LEAST_FEATURE_MAP].min(initial=np.inf)
        )
        if not may.any() or len(kernels) == _MOST_LEVELS:
            break
        stride = np.where(may, 2, 1)
        strides.append(tuple(int(s) for s in stride))
        size, voxel = np.ceil(size / stride), voxel * stride
    patch = np.maximum(1, np.round(patch))
    while True:
        divisor = np.prod(np.array(strides), axis=0)
        padded = np.ceil(patch / divisor) * divisor
        if len(strides) <= _LEAST_LEVELS or np.prod(padded) <= most_padding * np.prod(patch):
            break
        strides.pop(), kernels.pop()
    return tuple(int(n) for n in padded), tuple(strides), tuple(kernels)
