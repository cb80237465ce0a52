"""Transforms as ITK and Slicer store them: LPS, from the fixed (parent) to the moving (local) space."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...core import (
    BSplineTransform,
    CompositeTransform,
    DisplacementTransform,
    Geometry,
    InputError,
    LinearTransform,
    OutputError,
    Transform,
    Volume,
)
from .atomic import Part
from .quiet import silence
from .voxels import RAS_FROM_LPS, ras_geometry, stem_of

_HDF5 = b"\x89HDF\r\n\x1a\n"
_FLIP = np.array([-1.0, -1.0, 1.0])


def read(path: Path) -> Transform:
    """A transform from .h5, .tfm or .txt; linear, B-spline, displacement field, or several composed.

    Raises
    ------
    InputError
        If the file is damaged or holds a transform of another kind.
    """
    import SimpleITK as sitk

    with path.open("rb") as stream:
        start = stream.read(64)
    if path.suffix.lower() == ".h5":
        if not start.startswith(_HDF5):
            raise InputError(f"'{path.name}' is no transform: it is no HDF5 file.")
    elif not start.startswith(b"#Insight Transform File"):
        raise InputError(f"'{path.name}' is no transform: it does not begin with '#Insight Transform File'.")
    try:
        with silence():
            transform = sitk.ReadTransform(str(path))
    except RuntimeError as error:
        raise InputError(f"'{path.name}' is damaged, or holds a transform that ITK does not know.") from error
    return replace(_from_itk(transform, path.name), name=stem_of(path))


def _from_itk(transform, name: str) -> Transform:
    import SimpleITK as sitk

    kind = transform.GetName()
    transform = transform.Downcast()
    if transform.GetDimension() != 3:
        raise InputError(f"'{name}' is a transform of {transform.GetDimension()} dimensions; three are needed.")
    if kind == "CompositeTransform":
        transform = sitk.CompositeTransform(transform)
        count = transform.GetNumberOfTransforms()
        if count == 0:
            raise InputError(f"'{name}' is a composite transform without parts.")
        parts = tuple(_from_itk(transform.GetNthTransform(n), name) for n in range(count))
        return parts[0] if count == 1 else CompositeTransform(parts)
    if kind == "BSplineTransform":
        images = transform.GetCoefficientImages()
        vectors = np.stack([sitk.GetArrayFromImage(image) for image in images], axis=-1) * _FLIP
        return BSplineTransform(vectors, _geometry(images[0]))
    if kind == "DisplacementFieldTransform":
        field = transform.GetDisplacementField()
        return DisplacementTransform(sitk.GetArrayFromImage(field) * _FLIP, _geometry(field))
    if not transform.IsLinear():
        raise InputError(f"'{name}' holds a {kind}, which is not supported; convert it to a displacement field.")
    lps = np.eye(4)
    lps[:3, 3] = transform.TransformPoint((0.0, 0.0, 0.0))
    for axis in range(3):
        # Differences over 1 m keep the rounding of the translation out of the matrix.
        far = transform.TransformPoint(tuple(1000.0 * (n == axis) for n in range(3)))
        lps[:3, axis] = (np.array(far) - lps[:3, 3]) / 1000.0
    return LinearTransform(np.linalg.inv(RAS_FROM_LPS @ lps @ RAS_FROM_LPS))


def _geometry(image) -> Geometry:
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    matrix[:3, 3] = image.GetOrigin()
    return ras_geometry(matrix, image.GetSize()[::-1])


def parts(value: Transform, path: Path) -> list[Part]:
    """What to write for a transform (.h5, .tfm or .txt)."""
    import SimpleITK as sitk

    transform = _to_itk(value)

    def write(temporary: Path):
        with silence():
            sitk.WriteTransform(transform, str(temporary))
            # ITK's text writer does not notice a full disk, so what arrived is compared with what was sent.
            if not _same(transform, sitk.ReadTransform(str(temporary))):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return [Part(path, write)]


def _same(first, second) -> bool:
    """Whether two SimpleITK transforms have the same parameters."""
    import SimpleITK as sitk

    first, second = first.Downcast(), second.Downcast()
    if first.GetName() != second.GetName():
        return False
    if isinstance(first, sitk.CompositeTransform):
        count = first.GetNumberOfTransforms()
        pairs = ((first.GetNthTransform(n), second.GetNthTransform(n)) for n in range(count))
        return count == second.GetNumberOfTransforms() and all(_same(a, b) for a, b in pairs)
    values = [np.array(t.GetParameters() + t.GetFixedParameters()) for t in (first, second)]
    return values[0].shape == values[1].shape and np.allclose(*values, rtol=1e-6, atol=1e-9)


def _to_itk(value: Transform):
    import SimpleITK as sitk

    if isinstance(value, CompositeTransform):
        # ITK applies the last part first, and from parent: the same order as ours to parent.
        result = sitk.CompositeTransform(3)
        for part in value.parts:
            result.AddTransform(_to_itk(part))
        return result
    if isinstance(value, LinearTransform):
        lps = RAS_FROM_LPS @ np.linalg.inv(value.matrix) @ RAS_FROM_LPS
        return sitk.AffineTransform(lps[:3, :3].ravel().tolist(), lps[:3, 3].tolist())
    if not value.geometry.is_orthogonal:
        raise OutputError(f"{value.label} lies on a sheared grid, which transform files cannot hold.")
    if value.inverted:
        value = _from_parent(value)
    direction, spacing, origin = _itk_grid(value.geometry)
    vectors = np.asarray(value.vectors, float) * _FLIP
    if isinstance(value, BSplineTransform):
        transform = sitk.BSplineTransform(3, 3)
        size = [float(n) for n in value.geometry.shape[::-1]]
        transform.SetFixedParameters([*size, *origin, *spacing, *direction])
        transform.SetParameters(np.moveaxis(vectors, -1, 0).ravel().tolist())
        return transform
    field = sitk.GetImageFromArray(vectors, isVector=True)
    field.SetDirection(direction)
    field.SetSpacing(spacing)
    field.SetOrigin(origin)
    return sitk.DisplacementFieldTransform(field)


def _itk_grid(geometry: Geometry):
    lps = RAS_FROM_LPS @ geometry.ijk_to_ras
    directions = (lps[:3, :3] / geometry.spacing).ravel().tolist()
    return directions, geometry.spacing.tolist(), lps[:3, 3].tolist()


def _from_parent(value) -> DisplacementTransform:
    """A transform stored to parent, sampled as the displacement field from parent on its own grid."""
    k, j, i = np.meshgrid(*(np.arange(n) for n in value.geometry.shape), indexing="ij")
    points = value.geometry.ras(np.stack([i, j, k], axis=-1))
    return DisplacementTransform(value.map_points_inverse(points) - points, value.geometry)


def from_field(volume: Volume, path: Path) -> DisplacementTransform:
    """A displacement field stored as an image with three components in LPS, mm (ITK, ANTs, elastix).

    Raises
    ------
    InputError
        If the voxels do not have three components.
    """
    if volume.components != 3:
        raise InputError(f"'{path.name}' is no displacement field: its voxels have {volume.components} components.")
    return DisplacementTransform(volume.array * _FLIP, volume.geometry, name=volume.name)
