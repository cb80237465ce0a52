"""PNG, JPEG and TIFF pictures; they carry no reliable voxel size, so the user must say it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...core import InputError, OutputError, Sequence, Volume
from .atomic import Part
from .quiet import silence
from .voxels import native, ras_geometry, spacing_option, stem_of

_SIGNATURES = {
    ".png": (b"\x89PNG\r\n\x1a\n",),
    ".jpg": (b"\xff\xd8\xff",),
    ".jpeg": (b"\xff\xd8\xff",),
    ".tif": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    ".tiff": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
}


def read(path: Path, spacing_mm=None) -> Volume:
    """A single slice, or a stack for a multi-page TIFF; colours become components, grey saved as colour is grey.

    As Slicer loads pictures: columns run to the left, rows to posterior, pages to superior, from the origin.

    Parameters
    ----------
    spacing_mm : float, text or sequence
        Size of a pixel in mm: one number for all axes, or column, row (and page).

    Raises
    ------
    InputError
        If the spacing is missing or the file is damaged.
    """
    suffix = path.suffix.lower()
    with path.open("rb") as stream:
        if not stream.read(8).startswith(_SIGNATURES[suffix]):
            raise InputError(f"'{path.name}' is no {suffix[1:].upper()} picture: it does not begin as one.")
    if spacing_mm is None:
        raise InputError(
            f"'{path.name}' is a picture without a voxel size; give the size of a pixel in mm (--spacing-mm 0.2)."
        )
    array = _plain(_pixels(path))
    spacing = spacing_option(spacing_mm, 3 if len(array) > 1 else 2)
    spacing = (*spacing, 1.0)[:3]
    return Volume(array, ras_geometry(np.diag([*spacing, 1.0]), array.shape[:3]), stem_of(path))


def _pixels(path: Path) -> np.ndarray:
    """(K, J, I) or (K, J, I, C) pixels."""
    import SimpleITK as sitk

    try:
        with silence():
            image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise InputError(f"'{path.name}' is a damaged or unsupported picture.") from error
    array = native(sitk.GetArrayFromImage(image))
    return array if image.GetDimension() == 3 else array[None]


def _plain(array: np.ndarray) -> np.ndarray:
    """Pixels without an alpha channel that hides nothing and with one channel where all colours are equal.

    Radiographs are often saved so; what is grey to the eye must be grey to a task.
    """
    if array.ndim < 4:
        return array
    if array.shape[-1] in (2, 4) and array[..., -1].min() == array[..., -1].max():
        array = array[..., :-1]
    if array.shape[-1] in (1, 3) and all(np.array_equal(array[..., 0], array[..., c]) for c in range(array.shape[-1])):
        array = array[..., 0]
    return np.ascontiguousarray(array)


def parts(value: Volume, path: Path) -> list[Part]:
    """What to write for a single slice (or, as TIFF, a stack)."""
    import SimpleITK as sitk

    if isinstance(value, Sequence):
        raise OutputError(f"'{path.name}' cannot hold a sequence; choose .nrrd or .nii.gz.")
    array, suffix = native(value.array), path.suffix.lower()
    stack = suffix in (".tif", ".tiff")
    if not stack and len(array) > 1:
        raise OutputError(f"'{path.name}' cannot hold {len(array)} slices; choose .nrrd or .nii.gz.")
    allowed = ("uint8", "uint16") + (("float32",) if stack else ())
    allowed = allowed[:1] if suffix in (".jpg", ".jpeg") else allowed
    if array.dtype.name not in allowed:
        raise OutputError(f"'{path.name}' cannot hold {array.dtype} voxels; choose .nrrd or .nii.gz.")
    if value.components not in (1, 3, 4):
        raise OutputError(f"'{path.name}' cannot hold {value.components} components per voxel; choose .nrrd.")
    image = sitk.GetImageFromArray(array if len(array) > 1 else array[0], isVector=value.is_vector)
    image.SetSpacing([float(s) for s in value.geometry.spacing[: image.GetDimension()]])

    def write(temporary: Path):
        with silence():
            sitk.WriteImage(image, str(temporary))

    return [Part(path, write)]
