"""Pixels of DICOM images: decompression, colour, rescale to physical values."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from ...core import InputError, MissingPackageError
from .dicom_index import Frame
from .quiet import silence
from .voxels import native, rescale

_PACKAGES = {
    "1.2.840.10008.1.2.4.50": ("JPEG", "pillow"),
    "1.2.840.10008.1.2.4.51": ("JPEG of 12 bits", "python-gdcm"),
    "1.2.840.10008.1.2.4.57": ("lossless JPEG", "python-gdcm"),
    "1.2.840.10008.1.2.4.70": ("lossless JPEG", "python-gdcm"),
    "1.2.840.10008.1.2.4.80": ("JPEG-LS", "pyjpegls"),
    "1.2.840.10008.1.2.4.81": ("JPEG-LS", "pyjpegls"),
    "1.2.840.10008.1.2.4.90": ("JPEG 2000", "pylibjpeg-openjpeg"),
    "1.2.840.10008.1.2.4.91": ("JPEG 2000", "pylibjpeg-openjpeg"),
    "1.2.840.10008.1.2.4.201": ("HTJ2K", "pylibjpeg-openjpeg"),
    "1.2.840.10008.1.2.4.202": ("HTJ2K", "pylibjpeg-openjpeg"),
    "1.2.840.10008.1.2.4.203": ("HTJ2K", "pylibjpeg-openjpeg"),
}


def decode(path: Path) -> tuple[np.ndarray, bool]:
    """(frames, rows, columns[, 3]) stored values of a file, and whether they are rescaled already.

    Raises
    ------
    InputError
        If the pixel data are damaged or absent.
    MissingPackageError
        If they are compressed and nothing installed can decompress them.
    """
    from pydicom import dcmread

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = dcmread(path)
        if "PixelData" not in dataset and "FloatPixelData" not in dataset:
            raise InputError(f"'{path.name}' is a DICOM file without an image.")
        syntax = dataset.file_meta.TransferSyntaxUID
        # Pillow decodes JPEG of 8 bits only; GDCM decodes 12 too.
        deep_jpeg = syntax == "1.2.840.10008.1.2.4.51" and int(dataset.get("BitsStored") or 8) > 8
        if syntax.is_compressed and (deep_jpeg or not _has_decoder(syntax)):
            return _decode_with_itk(path, dataset, syntax)
        try:
            array = _colored(dataset.pixel_array, dataset)
        except (ValueError, RuntimeError, AttributeError, KeyError, OSError, EOFError, IndexError) as error:
            raise InputError(f"'{path.name}' has damaged or truncated pixel data.") from error
    frames = int(dataset.get("NumberOfFrames") or 1)
    return native(array if frames > 1 else array[None]), False


def _colored(array: np.ndarray, dataset) -> np.ndarray:
    if dataset.PhotometricInterpretation != "PALETTE COLOR":
        return array
    from pydicom.pixels import apply_color_lut

    colors = apply_color_lut(array, dataset)
    return (colors >> 8).astype(np.uint8) if colors.dtype == np.uint16 else colors


def _has_decoder(syntax) -> bool:
    from pydicom.pixels import get_decoder

    try:
        return get_decoder(syntax).is_available
    except NotImplementedError:
        return False


def _decode_with_itk(path: Path, dataset, syntax) -> tuple[np.ndarray, bool]:
    """Decompress with the GDCM inside SimpleITK, which is always there but cannot tell the frames' rescale."""
    import SimpleITK as sitk

    if int(dataset.get("NumberOfFrames") or 1) == 1:
        try:
            with silence():
                image = sitk.ReadImage(str(path), imageIO="GDCMImageIO")
            return native(sitk.GetArrayFromImage(image)), True
        except RuntimeError as error:
            cause = error
    else:
        cause = None
    kind, package = _PACKAGES.get(str(syntax), (syntax.name, "pylibjpeg[all]"))
    raise MissingPackageError(
        f"'{path.name}' is compressed as {kind}, which needs the package {package}; install it or decompress the file.",
        (package,),
    ) from cause


def stack(volumes: list[list[Frame]]) -> list[np.ndarray]:
    """(K, rows, columns[, 3]) physical values of each volume's sorted frames; every file is decoded once."""
    decoded: dict[Path, tuple[np.ndarray, bool]] = {}
    for volume in volumes:
        for frame in volume:
            if frame.path not in decoded:
                decoded[frame.path] = decode(frame.path)
    return [_one(volume, decoded) for volume in volumes]


def _one(volume: list[Frame], decoded: dict) -> np.ndarray:
    planes, scales = [], set()
    for frame in volume:
        array, is_scaled = decoded[frame.path]
        if frame.index >= len(array):
            raise InputError(f"'{frame.path.name}' has fewer frames than its header says.")
        planes.append(array[frame.index])
        scales.add((1.0, 0.0) if is_scaled or array.ndim == 4 else (frame.slope, frame.intercept))
    if len({plane.shape for plane in planes}) > 1:
        raise InputError(f"The images beside '{volume[0].path.name}' differ in size or colour.")
    if len(scales) == 1:
        return rescale(np.stack(planes), *scales.pop())
    result = np.empty((len(planes), *planes[0].shape), np.float32)
    for number, (frame, plane) in enumerate(zip(volume, planes)):
        scaled = decoded[frame.path][1]
        result[number] = plane if scaled else plane * np.float64(frame.slope) + frame.intercept
    return result
