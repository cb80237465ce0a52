"""DICOM images: a series as a volume or a sequence of volumes; segmentations are handed to :mod:`.dicom_seg_read`."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from ...core import Display, InputError, Segmentation, Sequence, Volume
from .dicom_geometry import arrange, grid
from .dicom_index import TEMPORAL, Frame, choose_series, frames_of, is_segmentation
from .dicom_pixels import stack
from .voxels import ras_geometry, spacing_option, stem_of

_UNITS = {"BQML": "Bq/mL", "GML": "SUV", "CNTS": "counts"}


def read(
    path: Path, series_uid: str | None = None, spacing_mm=None, prefer_segmentation: bool = False
) -> Volume | Sequence | Segmentation:
    """One series, sorted by position, with the rescale of each slice applied.

    Parameters
    ----------
    path : Path
        A folder (searched with its subfolders), or a file: then the images beside it of the same series are read too.
    series_uid : str, optional
        Which series of a folder with several.
    spacing_mm : optional
        Pixel size of images that have none (some radiographs).
    prefer_segmentation : bool
        Whether a folder with images and a segmentation stands for the segmentation.

    Raises
    ------
    InputError
        In one sentence; see :mod:`.dicom_index` and :mod:`.dicom_geometry`.
    MissingPackageError
        If nothing can decompress the images.
    """
    with warnings.catch_warnings():
        # pydicom warns about values that break the standard; those that matter become errors below.
        warnings.simplefilter("ignore")
        return _read(path, series_uid, spacing_mm, prefer_segmentation)


def _read(path: Path, series_uid, spacing_mm, prefer_segmentation: bool):
    images = choose_series(path, series_uid, prefer_segmentation)
    header = images[0][1]
    if is_segmentation(header):
        from .dicom_seg_read import read as read_segmentation

        if len(images) > 1:
            raise InputError(f"'{path.name}' holds {len(images)} segmentations; choose one file.")
        return read_segmentation(images[0][0])
    frames = [frame for file, head in images for frame in frames_of(file, head)]
    about = _about(header, path)
    if series_uid is not None and path.is_dir():
        # A file of the series identifies it; the folder alone does not.
        about["provenance"]["source"] = str(images[0][0])
    unplaced = [frame.path.name for frame in frames if frame.position is None]
    if len(images) > 1 and len(unplaced) == len(frames):
        raise InputError(f"'{path}' holds {len(images)} images without a position; choose one file, as {unplaced[0]}.")
    if len(images) == 1 and unplaced:
        return _unplaced(frames, about, spacing_mm)
    volumes, attribute, values = arrange(frames, path.name)
    geometry = grid(volumes[0], path.name)
    items = [Volume(array, geometry, **about) for array in stack(volumes)]
    if len(items) == 1:
        return items[0]
    index_name, unit = TEMPORAL[attribute]
    return Sequence(items, values, index_name, unit, about["name"], about["provenance"])


def _about(header, path: Path) -> dict:
    """Name, unit, window and provenance; nothing that identifies the patient."""
    modality = str(header.get("Modality") or "")
    rescale_type = str(header.get("RescaleType") or "HU")
    units = "HU" if modality == "CT" and rescale_type in ("HU", "US") else _UNITS.get(str(header.get("Units")), "")
    identity = {
        "modality": modality,
        "study_uid": str(header.get("StudyInstanceUID") or ""),
        "series_uid": str(header.SeriesInstanceUID),
        "frame_of_reference_uid": str(header.get("FrameOfReferenceUID") or ""),
    }
    if modality == "MG":
        from ...mammography.sorting import header_facts

        identity["mammography"] = header_facts(header)
    units = "Gy" if modality == "RTDOSE" and header.get("DoseUnits") == "GY" else units
    name = str(header.get("SeriesDescription") or "").strip() or stem_of(path)
    return {"name": name, "units": units, "display": _display(header), "provenance": {"dicom": identity}}


def _display(header) -> Display | None:
    window, level = header.get("WindowWidth"), header.get("WindowCenter")
    values = [v[0] if isinstance(v, (list, tuple)) or hasattr(v, "append") else v for v in (window, level)]
    if any(v in (None, "") for v in values):
        return None
    return Display(float(values[0]), float(values[1]))


def _unplaced(frames: list[Frame], about: dict, spacing_mm) -> Volume | Sequence:
    """An image without a position in the patient (radiograph, ultrasound), laid out as Slicer lays out pictures."""
    frame = frames[0]
    spacing = frame.spacing[::-1] if frame.spacing else None
    if spacing_mm is not None:
        spacing = spacing_option(spacing_mm, 2)[:2]
    if spacing is None:
        raise InputError(f"'{frame.path.name}' is an image without a pixel size; give it in mm (--spacing-mm 0.2).")
    arrays = stack([[f] for f in frames])
    geometry = ras_geometry(np.diag([*spacing, frame.thickness or 1.0, 1.0]), arrays[0].shape[:3])
    items = [Volume(array, geometry, **about) for array in arrays]
    if len(items) == 1:
        return items[0]
    step = float(frame.header.get("FrameTime") or 0)
    values = np.arange(len(items)) * (step or 1.0)
    return Sequence(
        items, values, "time" if step else "frame", "ms" if step else "", about["name"], about["provenance"]
    )
