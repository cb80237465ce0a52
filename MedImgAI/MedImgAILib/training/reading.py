"""Images and label images from files, each failure named by its file."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..core import InputError, Segment, Segmentation, Volume
from .integrity import check_whole

IMAGE_SUFFIXES = (
    ".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".dcm",
)  # fmt: skip
_LUMINANCE = np.array([0.299, 0.587, 0.114])
"""ITU-R BT.601."""


def is_image(path: Path) -> bool:
    """Whether a file's name is that of an image."""
    return path.name.lower().endswith(IMAGE_SUFFIXES) and not path.name.startswith(".")


def stem(path: Path) -> str:
    """The name without its image suffix ("a.nii.gz" → "a")."""
    name = path.name
    for suffix in sorted((".seg.nrrd", *IMAGE_SUFFIXES), key=len, reverse=True):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def is_dicom_folder(folder: Path) -> bool:
    """Whether a folder directly holds DICOM files (by the mark at byte 128 of the first file)."""
    if not folder.is_dir():
        return False
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.name.startswith("."):
            with open(path, "rb") as file:
                file.seek(128)
                return file.read(4) == b"DICM"
    return False


def read_image(source: Path | Volume, name: str = "") -> Volume:
    """The image; a colour image keeps its channels, without transparency.

    Parameters
    ----------
    source : Path or Volume
        A file, or a folder with one DICOM series. A Volume is only checked.
    name : str
        For messages, where the source is a Volume.

    Raises
    ------
    InputError
        If it is missing, damaged, empty, not finite or has other than three dimensions; its name is in the sentence.
    """
    if isinstance(source, Volume):
        volume, label = source, name or source.label
    else:
        volume, label = _from_file(Path(source)), f"The image {source}"
    if volume.components == 4:
        volume = replace(volume, array=volume.array[..., :3])
    if volume.array.dtype.kind not in "iufb":
        raise InputError(f"{label} has {volume.array.dtype} voxels; real numbers are needed.")
    if not volume.is_finite:
        raise InputError(f"{label} contains NaN or infinite voxels; repair it or leave it out.")
    return volume


def in_channels(volume: Volume, channels: int) -> Volume:
    """With the wanted number of components: colour as luminance where one is wanted, grey three times where three are.

    Raises
    ------
    InputError
        If it can be neither.
    """
    if volume.components == channels:
        return volume
    if channels == 1 and volume.components == 3:
        return replace(volume, array=(volume.array @ _LUMINANCE).astype(np.float32))
    if channels == 3 and volume.components == 1:
        array = volume.array if volume.is_vector else volume.array[..., None]
        return replace(volume, array=np.repeat(array, 3, axis=3))
    raise InputError(f"{volume.label} has {volume.components} components per voxel where {channels} are needed.")


def read_segmentation(source: Path | Segmentation) -> Segmentation:
    """The label image; segment names come from the file where it has them (.seg.nrrd), else "Segment 1", ….

    Raises
    ------
    InputError
        If it cannot be read or its voxels are no labels.
    """
    if isinstance(source, Segmentation):
        return source
    source = Path(source)
    image = _itk_image(source)
    volume = _volume(image, source)
    array = volume.array
    if array.dtype.kind == "f":
        if not np.array_equal(array, np.rint(array)):
            raise InputError(f"The label image {source} has voxels that are not whole numbers, so they are no labels.")
        array = array.astype(np.int32)
    if array.size and (array.min() < 0 or array.max() > 32767):
        raise InputError(
            f"The label image {source} has values from {array.min()} to {array.max()}; labels are 0…32767."
        )
    layers = [array] if array.ndim == 3 else [np.ascontiguousarray(array[..., c]) for c in range(array.shape[3])]
    layers = [layer.astype(np.uint8 if layer.max(initial=0) < 256 else np.int16) for layer in layers]
    segments = _named_segments(image)
    if not segments:
        labels = [int(n) for n in np.unique(layers[0]) if n > 0]
        segments = tuple(Segment(f"Segment {n}", n) for n in labels)
    return Segmentation(tuple(layers), volume.geometry, segments, stem(source))


def renamed(truth: Segmentation, segments) -> Segmentation:
    """With the names that the user gave to labels, where the file has none of its own.

    Raises
    ------
    InputError
        If there is a label without a name.
    """
    given = {s.label: s.name for s in segments}
    if not given or any(not s.name.startswith("Segment ") for s in truth.segments):
        return truth
    beyond = [s.label for s in truth.segments if s.label not in given]
    if beyond:
        raise InputError(
            f"{truth.label} has the label {beyond[0]}, but only {len(given)} segments are named; name all of them."
        )
    return replace(truth, segments=tuple(replace(s, name=given[s.label], id="") for s in truth.segments))


def dicom_patient(path: Path) -> str:
    """PatientID of a DICOM file or folder, "" where there is none."""
    import pydicom
    from pydicom.errors import InvalidDicomError

    if path.is_dir():
        path = next((p for p in sorted(path.iterdir()) if p.is_file() and not p.name.startswith(".")), path)
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["PatientID"])
    except (InvalidDicomError, OSError) as error:
        raise InputError(f"The file {path} cannot be read as DICOM ({error}).") from error
    return str(header.get("PatientID", "") or "")


def _from_file(path: Path) -> Volume:
    return _volume(_itk_image(path), path)


def _volume(image, path: Path) -> Volume:
    from ..core.itk import volume_from_itk

    if image.GetDimension() == 2:
        import SimpleITK as sitk

        image = sitk.JoinSeries(image)
    if image.GetDimension() != 3:
        raise InputError(f"The image {path} has {image.GetDimension()} dimensions; 2 or 3 are needed.")
    return volume_from_itk(image, name=stem(path))


def _itk_image(path: Path):
    import SimpleITK as sitk

    if not path.exists():
        raise InputError(f"There is no image {path}.")
    try:
        if path.is_dir():
            return _dicom_series(path)
        if path.stat().st_size == 0:
            raise InputError(f"The image {path} is empty.")
        check_whole(path)
        return sitk.ReadImage(str(path))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].removeprefix("sitk::ERROR: ").strip().rstrip(".")[:120]
        raise InputError(f"The image {path} is damaged or is no image ({reason}).") from error


def _dicom_series(folder: Path):
    import SimpleITK as sitk

    series = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    if len(series) != 1:
        raise InputError(f"The folder {folder} holds {len(series)} DICOM series; a case's folder holds exactly one.")
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series[0])
    return sitk.ReadImage(names[0]) if len(names) == 1 else sitk.ReadImage(names)


def _named_segments(image) -> tuple[Segment, ...]:
    """From the header of a .seg.nrrd (Slicer's ``Segment0_Name``, ``Segment0_LabelValue``, ``Segment0_Layer``)."""
    segments = []
    for key in image.GetMetaDataKeys():
        if match := re.fullmatch(r"(Segment\d+)_Name", key):
            entries = {
                part: image.GetMetaData(f"{match[1]}_{part}")
                for part in ("LabelValue", "Layer", "Color")
                if image.HasMetaDataKey(f"{match[1]}_{part}")
            }
            color = tuple(float(c) for c in entries.get("Color", "0.5 0.68 0.5").split())
            label, layer = int(entries.get("LabelValue", 1)), int(entries.get("Layer", 0))
            segments.append(Segment(image.GetMetaData(key), label, color, layer=layer))
    return tuple(sorted(segments, key=lambda s: (s.layer, s.label)))
