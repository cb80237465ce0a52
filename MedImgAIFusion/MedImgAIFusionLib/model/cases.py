"""Patients with several modalities, some of which may be missing, on one grid each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from MedImgAILib.core import Geometry, InputError, Segmentation, Volume
from MedImgAILib.core.model_intensity import Intensity
from MedImgAILib.core.resampling import resample_labels, resample_volume

_BACKGROUND_SHARE = 0.1
"""A value that fills a corner of the image and so many of its voxels is no tissue."""
_MOST_VOXELS = 1 << 27
_COVERED = 0.02
"""Share of the reference's box that an image must reach."""


@dataclass(frozen=True, eq=False)
class Patient:
    """The images of one patient as they came.

    Parameters
    ----------
    name : str
    images : {modality: Volume}
        Without those that are missing.
    segmentation : Segmentation, optional
    """

    name: str
    images: dict[str, Volume]
    segmentation: Segmentation | None = None


@dataclass(frozen=True, eq=False)
class Case:
    """A patient as a network takes it.

    Parameters
    ----------
    name : str
    array : (M, K, J, I) float32 ndarray
        Mean 0 and deviation 1 over the tissue, background 0; a missing modality is NaN.
    labels : (K, J, I) uint8 ndarray or None
    geometry : Geometry
        Of both.
    source : Volume
        The image whose grid the result is brought to.
    """

    name: str
    array: np.ndarray
    labels: np.ndarray | None
    geometry: Geometry
    source: Volume

    @property
    def present(self) -> np.ndarray:
        """(M,) bool: which modalities there are."""
        return ~np.isnan(self.array[:, 0, 0, 0])


def foreground(array: np.ndarray) -> np.ndarray:
    """(K, J, I) bool: the voxels that are not the constant background of an image, such as around a stripped brain."""
    corners = array[:: max(1, array.shape[0] - 1), :: max(1, array.shape[1] - 1), :: max(1, array.shape[2] - 1)]
    values, counts = np.unique(corners, return_counts=True)
    tissue = array != values[counts.argmax()]
    share = 1 - np.count_nonzero(tissue) / tissue.size
    return tissue if _BACKGROUND_SHARE <= share < 1 else np.ones(array.shape, bool)


def normalized(volume: Volume) -> tuple[Volume, np.ndarray]:
    """The image with mean 0 and deviation 1 over its foreground and 0 elsewhere, as float32, and the foreground.

    The unit is divided out, so that HU, SUV and arbitrary units serve alike; an image without contrast becomes 0.
    """
    tissue = foreground(volume.array)
    values = volume.array.astype(np.float32)
    inside = values[tissue]
    # An image's own zeros must not be taken for background by the rule of the model card.
    prepared = Intensity("z_score").apply(inside)
    values[...] = 0
    values[tissue] = prepared
    return volume.with_array(values, name=volume.name, units=volume.units), tissue


def prepare(patient: Patient, modalities, spacing_mm: float, segments=None) -> Case:
    """Bring a patient's images to one grid about the tissue of the first image that is there.

    Parameters
    ----------
    patient : Patient
    modalities : sequence of str
        In the order of the network's inputs.
    spacing_mm : float
        Of the grid; 0 keeps the first image's voxels.
    segments : sequence of str, optional
        Names of the segments that become the labels 1, 2, …; where they overlap the later one counts.

    Raises
    ------
    InputError
        If there is no image, or one lies elsewhere.
    """
    there = [m for m in modalities if m in patient.images]
    if not there:
        raise InputError(f"Case '{patient.name}' has none of the images {', '.join(modalities)}.")
    ready = {m: normalized(patient.images[m].canonical()) for m in there}
    first, tissue = ready[there[0]]
    grid = _grid(first.geometry, tissue, spacing_mm)
    if np.prod(grid.shape) > _MOST_VOXELS:
        raise InputError(f"Case '{patient.name}' has {np.prod(grid.shape):,} voxels; choose a larger spacing.")
    array = np.full((len(modalities), *grid.shape), np.nan, np.float32)
    for number, modality in enumerate(modalities):
        if modality in ready:
            _check_overlap(patient.images[modality], grid, first)
            array[number] = _on_grid(ready[modality][0], grid)
    labels = None
    if patient.segmentation is not None and segments:
        own = patient.segmentation.canonical()
        labels = np.zeros(grid.shape, np.uint8)
        for label, name in enumerate(segments, start=1):
            labels[resample_labels(own.mask(name), own.geometry, grid)] = label
    return Case(patient.name, array, labels, grid, patient.images[there[0]])


def _grid(geometry: Geometry, tissue: np.ndarray, spacing_mm: float) -> Geometry:
    """The box of the tissue with the wanted voxel size; a single slice stays one."""
    spans = [np.flatnonzero(tissue.any(axis=tuple(a for a in range(3) if a != n)))[[0, -1]] for n in range(3)]
    box = geometry.cropped(tuple(int(s[0]) for s in spans), tuple(int(s[1] - s[0]) + 1 for s in spans))
    if spacing_mm <= 0:
        return box
    wanted = [s if n == 1 else spacing_mm for s, n in zip(box.spacing, geometry.shape[::-1])]
    return box.with_spacing(wanted)


def _on_grid(volume: Volume, grid: Geometry) -> np.ndarray:
    """The voxels on a grid: cut out where it is a part of the volume's own, else interpolated."""
    start = np.rint(volume.geometry.ijk(grid.origin)[::-1]).astype(int)
    inside = (start >= 0).all() and (start + grid.shape <= volume.geometry.shape).all()
    if inside and volume.geometry.cropped(tuple(int(s) for s in start), grid.shape).same_grid(grid):
        return volume.array[tuple(slice(s, s + n) for s, n in zip(start, grid.shape))]
    return resample_volume(volume, grid, "linear").array


def _check_overlap(image: Volume, grid: Geometry, first: Volume):
    k, j, i = np.meshgrid(*(np.linspace(0, n - 1, min(n, 12)) for n in grid.shape), indexing="ij")
    if image.geometry.contains(grid.ras(np.stack([i, j, k], axis=-1))).mean() < _COVERED:
        raise InputError(f"{image.label} does not overlap {first.in_sentence}; register the images first.")


def match_images(images, modalities) -> dict[str, Volume]:
    """The images by modality: by the names that contain a modality's, else in order where there are as many.

    Of several modalities whose name an image's contains the longest counts ("T1POST" before "T1").

    Raises
    ------
    InputError
        If an image fits none, or two fit one.
    """
    found: dict[str, Volume] = {}
    for image in images:
        fits = sorted((m for m in modalities if m.casefold() in image.name.casefold()), key=len)
        if not fits:
            if len(images) == len(modalities) and not any(
                m.casefold() in i.name.casefold() for i in images for m in modalities
            ):
                return dict(zip(modalities, images))
            raise InputError(
                f"{image.label} fits none of the model's inputs ({', '.join(modalities)}); give it a name that "
                "contains one of them."
            )
        if fits[-1] in found:
            raise InputError(
                f"{image.label} and {found[fits[-1]].in_sentence} are both '{fits[-1]}'; give one image of each kind."
            )
        found[fits[-1]] = image
    return found
