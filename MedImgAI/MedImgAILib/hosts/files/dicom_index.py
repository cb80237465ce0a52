"""Finds DICOM images in a folder, by series, and lists their frames with what places each in the patient."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ...core import InputError

SEGMENTATION_CLASS = "1.2.840.10008.5.1.4.1.1.66.4"
LABEL_MAP_CLASS = "1.2.840.10008.5.1.4.1.1.66.7"
_TAGS = [
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "SeriesDescription", "SeriesNumber",
    "FrameOfReferenceUID", "Modality", "Rows", "Columns", "NumberOfFrames", "InstanceNumber", "ImagePositionPatient",
    "ImageOrientationPatient", "PixelSpacing", "ImagerPixelSpacing", "SliceThickness", "SpacingBetweenSlices",
    "RescaleSlope", "RescaleIntercept", "RescaleType", "Units", "WindowCenter", "WindowWidth", "FrameTime",
    "TemporalPositionIdentifier", "TriggerTime", "EchoTime", "DiffusionBValue", "AcquisitionNumber",
    "GridFrameOffsetVector", "DoseGridScaling", "DoseUnits", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence", "ImageLaterality", "Laterality", "ViewPosition", "PresentationIntentType",
    "BreastImplantPresent",
]  # fmt: skip
TEMPORAL = {
    "TemporalPositionIdentifier": ("time point", ""),
    "TriggerTime": ("trigger time", "ms"),
    "EchoTime": ("echo time", "ms"),
    "DiffusionBValue": ("b-value", "s/mm2"),
    "AcquisitionNumber": ("acquisition", ""),
}
"""What may tell images at one position apart, with the index name and unit of the sequence they make."""


@dataclass
class Frame:
    """One slice image: where it is stored and where it lies (LPS, mm)."""

    path: Path
    index: int
    header: object
    position: np.ndarray | None = None
    orientation: np.ndarray | None = None
    spacing: tuple[float, float] | None = None
    """(between rows, between columns) in mm, as DICOM's Pixel Spacing."""
    thickness: float = 0.0
    slope: float = 1.0
    intercept: float = 0.0
    times: dict = field(default_factory=dict)


def header_of(path: Path):
    """The header of a DICOM image, or None for any other file."""
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            header = dcmread(path, stop_before_pixels=True, specific_tags=_TAGS)
        except InvalidDicomError:
            return None
        except OSError:
            raise
        except Exception as error:
            raise InputError(f"'{path.name}' is a damaged DICOM file.") from error
    return header if "Rows" in header and "SeriesInstanceUID" in header else None


def series_in(folder: Path) -> dict[str, list[tuple[Path, object]]]:
    """Every DICOM image below ``folder`` as (path, header), grouped by Series Instance UID."""
    found: dict[str, list] = {}
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(parent) / name
            header = None if name.upper() == "DICOMDIR" or not path.is_file() else header_of(path)
            if header is not None:
                found.setdefault(str(header.SeriesInstanceUID), []).append((path, header))
    return found


def choose_series(path: Path, series_uid: str | None, prefer_segmentation: bool = False) -> list[tuple[Path, object]]:
    """The images of one series: those of a folder, or those beside a file that belong with it.

    Where a folder holds one series of images and one of segmentations, ``prefer_segmentation`` decides.

    Raises
    ------
    InputError
        If there is no image, or a folder holds several series and none was chosen.
    """
    if path.is_dir():
        found = series_in(path)
        if not found:
            raise InputError(f"'{path}' holds no DICOM images.")
        if series_uid is None and len(found) > 1:
            preferred = {uid: i for uid, i in found.items() if is_segmentation(i[0][1]) == prefer_segmentation}
            found = preferred if len(preferred) == 1 else found
        if series_uid is None and len(found) > 1:
            listed = "; ".join(_describe(uid, images) for uid, images in found.items())
            raise InputError(
                f"'{path}' holds {len(found)} DICOM series; choose one by its series UID (--series-uid): {listed}."
            )
        if series_uid is not None and series_uid not in found:
            raise InputError(f"'{path}' holds no DICOM series {series_uid}.")
        return found[series_uid or next(iter(found))]
    header = header_of(path)
    if header is None:
        raise InputError(f"'{path.name}' is no DICOM image.")
    if "PerFrameFunctionalGroupsSequence" in header or int(header.get("NumberOfFrames") or 1) > 1:
        return [(path, header)]
    if "ImagePositionPatient" not in header:
        return [(path, header)]
    beside = ((other, header_of(other)) for other in sorted(path.parent.iterdir()) if other.is_file())
    return [(p, h) for p, h in beside if h is not None and _belongs(h, header)]


def _belongs(header, chosen) -> bool:
    """Whether an image is of the chosen one's series and orientation (scouts may share a series)."""
    if header.SeriesInstanceUID != chosen.SeriesInstanceUID or "ImageOrientationPatient" not in header:
        return False
    axes = [np.array(h.ImageOrientationPatient, float) for h in (header, chosen)]
    return axes[0].shape == axes[1].shape and np.abs(axes[0] - axes[1]).max() < 1e-3


def is_segmentation(header) -> bool:
    """Whether the object is a DICOM Segmentation."""
    return header.get("SOPClassUID") in (SEGMENTATION_CLASS, LABEL_MAP_CLASS)


def _describe(uid: str, images: list) -> str:
    header = images[0][1]
    text = " ".join(str(header.get(tag) or "") for tag in ("Modality", "SeriesDescription")).strip()
    return f"{text or 'unnamed'} ({len(images)} files) {uid}"


def frames_of(path: Path, header) -> list[Frame]:
    """The frames of one file, from its functional groups if it is an enhanced multi-frame image."""
    count = int(header.get("NumberOfFrames") or 1)
    groups = header.get("PerFrameFunctionalGroupsSequence")
    if groups is None:
        frame = Frame(path, 0, header)
        _place(frame, header)
        if header.get("GridFrameOffsetVector") and frame.position is not None:
            return _dose_frames(frame, [float(v) for v in header.GridFrameOffsetVector])
        return [frame] + [Frame(path, n, header, spacing=frame.spacing) for n in range(1, count)]
    if len(groups) != count:
        raise InputError(f"'{path.name}' is damaged: it describes {len(groups)} of its {count} frames.")
    shared = (header.get("SharedFunctionalGroupsSequence") or [None])[0]
    frames = []
    for number, own in enumerate(groups):
        frame = Frame(path, number, header)
        _place(frame, _Functional(own, shared))
        frames.append(frame)
    return frames


def _dose_frames(first: Frame, offsets: list[float]) -> list[Frame]:
    """The planes of an RT Dose (PS3.3 C.8.8.3.2), with offsets from the first along the normal in mm, scaled to Gy."""
    normal = np.cross(first.orientation[:3], first.orientation[3:])
    first.slope = float(first.header.get("DoseGridScaling") or 1.0)
    # Offsets are relative to the first plane where that is 0, else they are positions along the normal.
    return [replace(first, index=n, position=first.position + (v - offsets[0]) * normal) for n, v in enumerate(offsets)]


class _Functional:
    """Looks attributes up in a frame's functional groups, then in the shared ones."""

    _GROUPS = {
        "ImagePositionPatient": "PlanePositionSequence",
        "ImageOrientationPatient": "PlaneOrientationSequence",
        "PixelSpacing": "PixelMeasuresSequence",
        "SliceThickness": "PixelMeasuresSequence",
        "SpacingBetweenSlices": "PixelMeasuresSequence",
        "RescaleSlope": "PixelValueTransformationSequence",
        "RescaleIntercept": "PixelValueTransformationSequence",
        "TemporalPositionIdentifier": "FrameContentSequence",
        "AcquisitionNumber": "FrameContentSequence",
        "TriggerTime": "CardiacSynchronizationSequence",
        "EchoTime": "MREchoSequence",
        "DiffusionBValue": "MRDiffusionSequence",
    }
    _NAMES = {
        "TemporalPositionIdentifier": "TemporalPositionIndex",
        "AcquisitionNumber": "FrameAcquisitionNumber",
        "TriggerTime": "NominalCardiacTriggerDelayTime",
        "EchoTime": "EffectiveEchoTime",
    }

    def __init__(self, own, shared):
        self._sources = [source for source in (own, shared) if source is not None]

    def get(self, name: str):
        group = self._GROUPS.get(name)
        for source in self._sources:
            items = source.get(group) if group else None
            if items:
                value = items[0].get(self._NAMES.get(name, name))
                if value is not None:
                    return value
        return None


def _place(frame: Frame, source):
    position, orientation = source.get("ImagePositionPatient"), source.get("ImageOrientationPatient")
    if position is not None and orientation is not None and len(position) == 3 and len(orientation) == 6:
        frame.position = np.array([float(v) for v in position])
        frame.orientation = np.array([float(v) for v in orientation])
    spacing = source.get("PixelSpacing") or source.get("ImagerPixelSpacing")
    if spacing is not None and len(spacing) == 2:
        frame.spacing = (float(spacing[0]), float(spacing[1]))
    frame.thickness = float(source.get("SpacingBetweenSlices") or source.get("SliceThickness") or 0.0)
    slope, intercept = source.get("RescaleSlope"), source.get("RescaleIntercept")
    frame.slope = 1.0 if slope is None else float(slope)
    frame.intercept = 0.0 if intercept is None else float(intercept)
    frame.times = {name: float(v) for name in TEMPORAL if (v := source.get(name)) not in (None, "")}
