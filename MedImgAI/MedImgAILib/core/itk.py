"""Bridge to SimpleITK: images with their place in the patient, filters with progress and cancel.

ITK keeps positions in LPS, we in RAS; both conversions are here and nowhere else.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager

import numpy as np

from .data import Volume
from .errors import InputError, ResourceError
from .geometry import LPS_FROM_RAS, Geometry


def itk_image(volume: Volume, dtype=None):
    """``SimpleITK.Image`` of a volume (a copy); vector components become ITK's.

    Parameters
    ----------
    volume : Volume
    dtype : numpy dtype, optional
        Voxel type of the image; the volume's own if not given (bool becomes uint8, float16 float32).

    Raises
    ------
    InputError
        If the volume's axes are sheared, which ITK cannot express.
    """
    import SimpleITK as sitk

    array = volume.array
    if dtype is None:
        dtype = {"?": np.uint8, "e": np.float32}.get(array.dtype.char, array.dtype)
    image = sitk.GetImageFromArray(np.ascontiguousarray(array, dtype=dtype), isVector=volume.is_vector)
    set_itk_geometry(image, volume.geometry, volume.label)
    return image


def set_itk_geometry(image, geometry: Geometry, label: str = "The volume"):
    """Give ``image`` the spacing, origin and direction of ``geometry``; see :func:`itk_image`."""
    if not geometry.is_orthogonal:
        raise InputError(f"{label} has sheared axes, which ITK cannot process; resample it to right angles first.")
    lps = LPS_FROM_RAS @ geometry.ijk_to_ras
    spacing = geometry.spacing
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())


def geometry_from_itk(image) -> Geometry:
    """The grid of a three-dimensional ``SimpleITK.Image``."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.asarray(image.GetSpacing())
    matrix[:3, 3] = image.GetOrigin()
    return Geometry(LPS_FROM_RAS @ matrix, image.GetSize()[::-1])


def volume_from_itk(image, **changes) -> Volume:
    """The volume of a three-dimensional ``SimpleITK.Image`` (a copy); ``changes`` are a Volume's name, units, …"""
    import SimpleITK as sitk

    return Volume(sitk.GetArrayFromImage(image), geometry_from_itk(image), **changes)


class _Stop(Exception):
    """Leaves a filter from inside its callback."""


@contextmanager
def _quiet_stop():
    """SimpleITK prints what a callback raises; keep :class:`_Stop`, which is expected, out of the log."""
    outer = sys.excepthook
    sys.excepthook = lambda kind, value, trace: None if issubclass(kind, _Stop) else outer(kind, value, trace)
    try:
        yield
    finally:
        sys.excepthook = outer


def run_filter(itk_filter, *images, context, fraction=None):
    """``itk_filter.Execute(*images)``, reporting to ``context`` and stopping when it is cancelled.

    Parameters
    ----------
    itk_filter : SimpleITK.ProcessObject
    context : Context
    fraction : callable, optional
        Gives the true fraction done, for filters that report iterations instead of progress.

    Raises
    ------
    Cancelled
    ResourceError
        If ITK fails, with the last line of its message.
    """
    import SimpleITK as sitk

    interruption, done = None, 0.0

    def report():
        nonlocal interruption, done
        try:
            # Some filters take their progress back when a new stage begins.
            done = max(done, float(fraction() if fraction else itk_filter.GetProgress()))
            context.progress(done)
        except BaseException as reason:
            interruption = reason
            raise _Stop from None

    itk_filter.AddCommand(sitk.sitkIterationEvent if fraction else sitk.sitkProgressEvent, report)
    try:
        with _quiet_stop():
            return itk_filter.Execute(*images)
    except RuntimeError as error:
        if interruption is not None:
            raise interruption from None
        reason = str(error).strip().splitlines()[-1].removeprefix("sitk::ERROR: ").rstrip(".")
        raise ResourceError(f"{itk_filter.GetName()} of ITK failed: {reason}.") from error
    finally:
        itk_filter.RemoveAllCommands()
