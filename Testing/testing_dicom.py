"""Writes small DICOM series for tests, with pydicom alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedMRImageStorage, ExplicitVRLittleEndian, generate_uid

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def new_dataset(sop_class=CTImageStorage, **values) -> FileDataset:
    """A data set with what every image needs; ``values`` override."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    defaults = {
        "SOPClassUID": sop_class, "SOPInstanceUID": meta.MediaStorageSOPInstanceUID, "Modality": "CT",
        "PatientName": "Made^Up", "PatientID": "1", "StudyInstanceUID": "1.2.3.4", "SeriesInstanceUID": "1.2.3.4.5",
        "FrameOfReferenceUID": "1.2.3.4.6", "SeriesDescription": "Chest", "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": 16, "BitsStored": 16, "HighBit": 15,
        "PixelRepresentation": 1,
    }  # fmt: skip
    for tag, value in (defaults | values).items():
        setattr(dataset, tag, value)
    return dataset


def set_pixels(dataset, plane: np.ndarray):
    """Store (rows, columns), (frames, rows, columns) or (rows, columns, 3) pixels."""
    color = plane.ndim == 3 and plane.shape[-1] == 3
    dataset.Rows, dataset.Columns = plane.shape[:2] if plane.ndim == 2 or color else plane.shape[1:]
    dataset.BitsAllocated = dataset.BitsStored = 8 * plane.dtype.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(plane.dtype.kind == "i")
    if color:
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    dataset.PixelData = np.ascontiguousarray(plane).tobytes()


def write_series(
    folder: Path,
    array: np.ndarray,
    origin=(0.0, 0.0, 0.0),
    step=(0.0, 0.0, 3.0),
    spacing=(0.8, 0.5),
    orientation=AXIAL,
    names=None,
    skip=(),
    per_slice=None,
    **values,
) -> list[Path]:
    """One file for each slice of a (K, J, I) array, the first at ``origin`` (LPS), each ``step`` further.

    ``names(k)`` gives the file name, ``per_slice(k)`` further attributes; slices in ``skip`` are left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for k, plane in enumerate(array):
        if k in skip:
            continue
        position = np.asarray(origin) + k * np.asarray(step)
        dataset = new_dataset(
            **{
                "ImagePositionPatient": [round(float(v), 6) for v in position],
                "ImageOrientationPatient": [round(float(v), 8) for v in orientation],
                "PixelSpacing": list(spacing),
                "SliceThickness": 3.0,
                "InstanceNumber": k + 1,
            }
            | values
            | (per_slice(k) if per_slice else {})
        )
        set_pixels(dataset, plane)
        paths.append(folder / (names(k) if names else f"{k:03d}.dcm"))
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


def write_enhanced(path: Path, array: np.ndarray, times: int = 1, step=(0.0, 0.0, 2.0), spacing=(1.5, 1.25)):
    """An enhanced MR of (T*K, J, I) frames stored in reverse order, with a rescale that differs from frame to frame."""
    dataset = new_dataset(EnhancedMRImageStorage, Modality="MR", SeriesDescription="Enhanced")
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = list(spacing), 2.0
    orientation.ImageOrientationPatient = list(AXIAL)
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    dataset.SharedFunctionalGroupsSequence = [shared]
    frames = []
    slices = len(array) // times
    order = list(range(len(array)))[::-1]
    for number in order:
        own, plane, content, scale = Dataset(), Dataset(), Dataset(), Dataset()
        plane.ImagePositionPatient = [float(v) for v in (number % slices) * np.asarray(step)]
        content.TemporalPositionIndex = number // slices + 1
        scale.RescaleSlope, scale.RescaleIntercept, scale.RescaleType = float(number + 1) / 2, float(number), "US"
        own.PlanePositionSequence, own.FrameContentSequence = [plane], [content]
        own.PixelValueTransformationSequence = [scale]
        frames.append(own)
    dataset.PerFrameFunctionalGroupsSequence = frames
    dataset.NumberOfFrames = len(array)
    set_pixels(dataset, array[order])
    dataset.save_as(path, enforce_file_format=True)
