"""Writes segmentations as DICOM Segmentation objects (PS3.3 A.51), binary.

If the segmentation was computed from a DICOM series that is still there, the object belongs to the same patient,
study and frame of reference and refers to the images; else it stands in a study of its own.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np

from ... import __version__
from ...core import Code, InputError, OutputError, Segmentation
from .atomic import Part
from .dicom_color import lab_from_rgb
from .dicom_index import SEGMENTATION_CLASS, choose_series, frames_of
from .voxels import RAS_FROM_LPS

_PATIENT_AND_STUDY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyID", "StudyDate",
    "StudyTime", "AccessionNumber", "ReferringPhysicianName", "FrameOfReferenceUID", "PositionReferenceIndicator",
)  # fmt: skip
_SAME_MM = 0.01


def parts(value: Segmentation, path: Path) -> list[Part]:
    """What to write for a segmentation.

    Raises
    ------
    OutputError
        If rows and columns are not at right angles, or no segment has a name that DICOM can hold.
    """
    geometry = value.geometry
    lps = RAS_FROM_LPS @ geometry.ijk_to_ras
    directions = lps[:3, :3] / geometry.spacing
    if abs(directions[:, 0] @ directions[:, 1]) > 1e-4:
        raise OutputError(f"'{path.name}' cannot be written: DICOM needs rows and columns at right angles.")
    if not value.segments:
        raise OutputError(f"'{path.name}' cannot be written: {value.label} has no segments.")
    positions = [lps[:3, 3] + k * lps[:3, 2] for k in range(geometry.shape[0])]
    placed = [(number, k, plane) for number, k, plane in _planes(value)]
    dataset = _dataset(value, path)
    sources = _refer_to_source(dataset, value, positions)
    _describe_segments(dataset, value)
    _describe_frames(dataset, placed, positions, directions, geometry, sources)
    dataset.PixelData = _packed(np.stack([plane for _, _, plane in placed]))
    return [Part(path, lambda temporary: dataset.save_as(temporary, enforce_file_format=True))]


def _planes(value: Segmentation):
    """(segment number, slice, mask) of what is not empty, and of the first and last slice so that the grid is kept."""
    for number, segment in enumerate(value.segments, start=1):
        mask = value.mask(segment)
        last = len(mask) - 1
        for k, plane in enumerate(mask):
            if plane.any() or (number == 1 and k in (0, last)):
                yield number, k, plane


def _packed(planes: np.ndarray) -> bytes:
    """Bits of all frames one after the other, the first in the lowest bit (PS3.5 section 8.1.1), to an even length."""
    data = np.packbits(planes.ravel(), bitorder="little").tobytes()
    return data + b"\0" * (len(data) % 2)


def _uid() -> str:
    from pydicom.uid import generate_uid

    return generate_uid()


def _dataset(value: Segmentation, path: Path):
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = SEGMENTATION_CLASS, _uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    now = datetime.now()
    date, time = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    name = value.name or "Segmentation"
    values = {
        "SOPClassUID": SEGMENTATION_CLASS, "SOPInstanceUID": meta.MediaStorageSOPInstanceUID, "Modality": "SEG",
        "SpecificCharacterSet": "ISO_IR 192", "ImageType": ["DERIVED", "PRIMARY"], "InstanceNumber": 1,
        "PatientName": "", "PatientID": "", "PatientBirthDate": "", "PatientSex": "", "StudyID": "",
        "StudyDate": date, "StudyTime": time, "AccessionNumber": "", "ReferringPhysicianName": "",
        "StudyInstanceUID": _uid(), "FrameOfReferenceUID": _uid(), "PositionReferenceIndicator": "",
        "SeriesInstanceUID": _uid(), "SeriesNumber": 1000, "SeriesDescription": name[:64], "SeriesDate": date,
        "SeriesTime": time, "ContentDate": date, "ContentTime": time, "Manufacturer": "MedImgAI",
        "ManufacturerModelName": "MedImgAI", "DeviceSerialNumber": "0", "SoftwareVersions": __version__,
        "ContentLabel": "SEGMENTATION", "ContentDescription": name[:64], "ContentCreatorName": "",
        "SegmentationType": "BINARY", "LossyImageCompression": "00", "SamplesPerPixel": 1, "BitsAllocated": 1,
        "PhotometricInterpretation": "MONOCHROME2", "PixelRepresentation": 0, "BitsStored": 1, "HighBit": 0,
        "Rows": value.geometry.shape[1], "Columns": value.geometry.shape[2],
    }  # fmt: skip
    for tag, text in values.items():
        setattr(dataset, tag, text)
    return dataset


def _code_item(code: Code):
    from pydicom.dataset import Dataset

    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme, code.meaning[:64]
    return item


def _describe_segments(dataset, value: Segmentation):
    from pydicom.dataset import Dataset

    dataset.SegmentSequence = []
    for number, segment in enumerate(value.segments, start=1):
        terms = segment.terminology
        item = Dataset()
        item.SegmentNumber = number
        item.SegmentLabel = segment.name[:64]
        item.SegmentAlgorithmType = "AUTOMATIC"
        item.SegmentAlgorithmName = str(value.provenance.get("task", "MedImgAI"))[:64]
        item.SegmentedPropertyCategoryCodeSequence = [_code_item(terms.category)]
        item.SegmentedPropertyTypeCodeSequence = [_code_item(terms.type)]
        if terms.modifier:
            kind = item.SegmentedPropertyTypeCodeSequence[0]
            kind.SegmentedPropertyTypeModifierCodeSequence = [_code_item(terms.modifier)]
        if terms.region:
            item.AnatomicRegionSequence = [_code_item(terms.region)]
            if terms.region_modifier:
                item.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [_code_item(terms.region_modifier)]
        item.RecommendedDisplayCIELabValue = lab_from_rgb(segment.color)
        item.TrackingID, item.TrackingUID = segment.id[:64], _uid()
        dataset.SegmentSequence.append(item)


def _describe_frames(dataset, placed, positions, directions, geometry, sources):
    from pydicom.dataset import Dataset

    organization = Dataset()
    organization.DimensionOrganizationUID = _uid()
    dataset.DimensionOrganizationSequence = [organization]
    dataset.DimensionIndexSequence = []
    for pointer, group in ((0x0062000B, 0x0062000A), (0x00200032, 0x00209113)):
        index = Dataset()
        index.DimensionOrganizationUID = organization.DimensionOrganizationUID
        index.DimensionIndexPointer, index.FunctionalGroupPointer = pointer, group
        dataset.DimensionIndexSequence.append(index)
    shared, orientation, measures = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = [_decimal(v) for v in directions[:, :2].T.ravel()]
    across = np.cross(directions[:, 0], directions[:, 1])
    distance = abs(float(across @ directions[:, 2])) * geometry.spacing[2]
    measures.PixelSpacing = [_decimal(geometry.spacing[1]), _decimal(geometry.spacing[0])]
    measures.SliceThickness = measures.SpacingBetweenSlices = _decimal(distance)
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.NumberOfFrames = len(placed)
    dataset.PerFrameFunctionalGroupsSequence = [_frame_item(n, k, positions[k], sources) for n, k, _ in placed]


def _frame_item(number: int, k: int, position: np.ndarray, sources: dict):
    from pydicom.dataset import Dataset

    own, plane, content, identification = Dataset(), Dataset(), Dataset(), Dataset()
    plane.ImagePositionPatient = [_decimal(v) for v in position]
    content.DimensionIndexValues = [number, k + 1]
    identification.ReferencedSegmentNumber = number
    own.PlanePositionSequence, own.FrameContentSequence = [plane], [content]
    own.SegmentIdentificationSequence = [identification]
    own.DerivationImageSequence = [_derivation(*sources[k])] if k in sources else []
    return own


def _decimal(value: float) -> str:
    """A number in the 16 characters of DICOM's decimal strings."""
    from pydicom.valuerep import format_number_as_ds

    return format_number_as_ds(float(value) + 0.0)


def _derivation(frame_class: str, instance: str):
    from pydicom.dataset import Dataset

    source, derivation = Dataset(), Dataset()
    source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID = frame_class, instance
    source.PurposeOfReferenceCodeSequence = [
        _code_item(Code("DCM", "121322", "Source image for image processing operation"))
    ]
    derivation.SourceImageSequence = [source]
    derivation.DerivationCodeSequence = [_code_item(Code("DCM", "113076", "Segmentation"))]
    return derivation


def _refer_to_source(dataset, value: Segmentation, positions: list) -> dict[int, tuple[str, str]]:
    """Take patient and study from the DICOM series that it was made from; (class, instance) of the image of a slice."""
    from pydicom import dcmread
    from pydicom.dataset import Dataset

    found = {}
    for source in _source_paths(value.provenance):
        if not source.exists():
            continue
        try:
            images = choose_series(source, None)
        except InputError:
            # Not DICOM, or not one series any more: then there is nothing to refer to.
            continue
        whole = dcmread(images[0][0], stop_before_pixels=True)
        for tag in _PATIENT_AND_STUDY:
            if tag in whole:
                setattr(dataset, tag, whole.get(tag))
        frames = [f for file, header in images for f in frames_of(file, header) if f.position is not None]
        for frame in frames:
            k = int(np.argmin([np.linalg.norm(frame.position - p) for p in positions]))
            if np.linalg.norm(frame.position - positions[k]) < _SAME_MM and int(frame.header.Rows) == dataset.Rows:
                found[k] = (str(frame.header.SOPClassUID), str(frame.header.SOPInstanceUID))
        if found:
            series, references = Dataset(), []
            for kind, instance in dict.fromkeys(found.values()):
                reference = Dataset()
                reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = kind, instance
                references.append(reference)
            series.SeriesInstanceUID = images[0][1].SeriesInstanceUID
            series.ReferencedInstanceSequence = references
            dataset.ReferencedSeriesSequence = [series]
        break
    return found


def _source_paths(provenance: dict) -> list[Path]:
    inputs = provenance.get("inputs", {}).values() if isinstance(provenance.get("inputs"), dict) else ()
    flat = [entry for value in inputs for entry in (value if isinstance(value, list) else [value])]
    return [Path(entry["source"]) for entry in flat if isinstance(entry, dict) and entry.get("source")]
