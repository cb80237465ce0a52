"""Data sets of many small images in one .npz file, as MedMNIST publishes them (Yang et al. 2023, Sci Data 10:41)."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from ..core import Geometry, InputError, Volume
from .cases import Case, split_name


def cases_of_arrays(path: Path) -> list[Case]:
    """The cases of ``train_images``/``train_labels``, ``val_…`` and ``test_…``, or of ``images`` and ``labels``.

    Images are (N, J, I), (N, J, I, 3) or (N, K, J, I); labels (N,) or (N, 1). ``patients`` (N,) says whose they are.

    Raises
    ------
    InputError
        If the arrays are missing, do not fit each other or hold several labels for an image.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"The file {path} cannot be read as .npz ({str(error)[:120].rstrip('.')}).") from error
    cases = []
    for name in arrays:
        if name != "images" and not name.endswith("_images"):
            continue
        part = name.removesuffix("images").rstrip("_")
        labels = arrays.get(f"{part}_labels" if part else "labels")
        if labels is None:
            raise InputError(f"The file {path} has '{name}' but no labels for it.")
        patients = arrays.get(f"{part}_patients" if part else "patients")
        cases += _part(path, name, arrays[name], labels, patients, part)
    if not cases:
        raise InputError(
            f"The file {path} has no array 'train_images' or 'images' (it has: {', '.join(arrays)[:120]})."
        )
    return cases


def _part(path, name, images, labels, patients, part) -> list[Case]:
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.ndim != 1 or labels.dtype.kind not in "iubUS":
        raise InputError(
            f"The labels of '{name}' in {path} have the shape {labels.shape}; one for each image is needed."
        )
    if len(labels) != len(images) or (patients is not None and len(patients) != len(images)):
        raise InputError(f"'{name}' in {path} has {len(images)} images but {len(labels)} labels.")
    color = images.ndim == 4 and images.shape[3] in (3, 4)
    if images.ndim not in (3, 4) or images.dtype.kind not in "iufb":
        raise InputError(f"'{name}' in {path} has the shape {images.shape}; (N, J, I), (N, J, I, 3) or (N, K, J, I).")
    flat = images.ndim == 3 or color
    shape = (1, *images.shape[1:3]) if flat else images.shape[1:]
    place = Geometry.from_spacing(shape, directions=np.diag([-1.0, -1.0, 1.0]))
    split = split_name(part)
    result = []
    for number, (image, label) in enumerate(zip(images, labels)):
        array = image[None] if flat else image
        case = f"{part or 'image'} {number}"
        whose = str(patients[number]) if patients is not None else ""
        result.append(Case(case, (Volume(array, place, case),), str(label), whose, split))
    return result
