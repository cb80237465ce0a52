"""Projection stacks from files: NRRD, MetaImage, NIfTI, TIFF, NumPy, Data-Exchange HDF5."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from MedImgAILib.core import InputError, MissingPackageError, ScanGeometry

from .geometry_files import scan_from_json, scan_from_rtk

IMAGES = (".nrrd", ".nhdr", ".mha", ".mhd", ".nii", ".nii.gz", ".tif", ".tiff")
SUFFIXES = (*IMAGES, ".npy", ".npz", ".h5", ".hdf5", ".hdf")
LAYOUTS = {"view,row,column": (0, 1, 2), "row,view,column": (1, 0, 2), "row,column,view": (2, 0, 1)}


@dataclass(frozen=True)
class RawScan:
    """What a file holds.

    Parameters
    ----------
    array : (views, rows, columns) ndarray
    scan : ScanGeometry
    flat, dark : (frames, rows, columns) ndarray, optional
        Open-beam and no-beam frames.
    kind : "line_integrals", "counts" or "transmission"
    name : str
    """

    array: np.ndarray
    scan: ScanGeometry
    flat: np.ndarray | None
    dark: np.ndarray | None
    kind: str
    name: str


def read_scan(path: Path, geometry: Path | None = None) -> RawScan:
    """A projection stack with its geometry.

    Parameters
    ----------
    path : Path
        A file, or a folder of TIFF files, one a view.
    geometry : Path, optional
        JSON or RTK XML; without it the file of the same name with one of these endings.

    Raises
    ------
    InputError
        If anything is missing, damaged or does not fit.
    MissingPackageError
        For HDF5 without h5py.
    """
    if not path.exists():
        raise InputError(f"There is no file '{path}'.")
    name = path.name
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        name = name.removesuffix(suffix)
    if path.suffix.lower() in (".h5", ".hdf5", ".hdf"):
        return _data_exchange(path, name, geometry)
    array, spacing, origin = _stack(path)
    beside = geometry or next(
        (p for p in (path.parent / f"{name}.json", path.parent / f"{name}.xml") if p.exists()), None
    )
    if beside is None:
        raise InputError(f"'{path.name}' needs its scan geometry in '{name}.json' or an RTK '{name}.xml' beside it.")
    if not beside.exists():
        raise InputError(f"There is no geometry file '{beside}'.")
    flat = dark = None
    kind = "line_integrals"
    if beside.suffix.lower() == ".xml":
        extent = np.array(array.shape[1:]) - 1
        pixel = (spacing[1], spacing[2])
        middle = np.array(origin[1:]) + extent / 2 * pixel
        scan = scan_from_rtk(beside, pixel, middle)
    else:
        scan, rest = scan_from_json(beside)
        layout = rest.get("axes", "view,row,column")
        if layout not in LAYOUTS:
            raise InputError(f"'{beside.name}': axes must be one of {'; '.join(LAYOUTS)}.")
        array = array.transpose(LAYOUTS[layout])
        kind = rest.get("values", kind)
        if kind not in ("line_integrals", "counts", "transmission"):
            raise InputError(f"'{beside.name}': values must be line_integrals, counts or transmission.")
        flat, dark = (_frames(path.parent, rest.get(key), array) for key in ("flat", "dark"))
    return _checked(RawScan(array, scan, flat, dark, kind, name), path)


def _checked(raw: RawScan, path: Path) -> RawScan:
    views = len(raw.scan.angles_rad)
    if len(raw.array) != views:
        raise InputError(f"'{path.name}' has {len(raw.array)} views but its geometry {views} angles.")
    for what, frames in (("flat", raw.flat), ("dark", raw.dark)):
        if frames is not None and frames.shape[1:] != raw.array.shape[1:]:
            raise InputError(
                f"'{path.name}' has {raw.array.shape[1:]} detector pixels but its {what} frames {frames.shape[1:]}."
            )
    return raw


def _stack(path: Path):
    """(array (3 axes), spacing and origin in array order)."""
    suffix = path.suffix.lower()
    if suffix in (".npy", ".npz"):
        return _numpy(path), (1.0,) * 3, (0.0,) * 3
    if not path.is_dir() and not path.name.lower().endswith(IMAGES):
        raise InputError(f"'{path.name}' is of no known kind; use {', '.join(SUFFIXES)} or a folder of TIFF files.")
    import SimpleITK

    try:
        if path.is_dir():
            files = sorted(str(p) for p in path.iterdir() if p.suffix.lower() in (".tif", ".tiff"))
            if not files:
                raise InputError(f"The folder '{path.name}' has no TIFF files.")
            image = SimpleITK.ReadImage(files)
        else:
            image = SimpleITK.ReadImage(str(path))
    except RuntimeError as error:
        raise InputError(f"'{path.name}' is damaged or truncated and cannot be read.") from error
    array = SimpleITK.GetArrayFromImage(image)
    if array.ndim == 2:
        array = array[:, None, :]
        return array, (1.0, 1.0, image.GetSpacing()[0]), (0.0, 0.0, image.GetOrigin()[0])
    if array.ndim != 3:
        raise InputError(f"'{path.name}' has {array.ndim} axes; a projection stack has view, row and column.")
    return array, image.GetSpacing()[::-1], image.GetOrigin()[::-1]


def _numpy(path: Path) -> np.ndarray:
    import zipfile

    try:
        loaded = np.load(path, allow_pickle=False, mmap_mode="r" if path.suffix == ".npy" else None)
        array = loaded if isinstance(loaded, np.ndarray) else loaded["array"]
    except (ValueError, EOFError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise InputError(f"'{path.name}' is damaged, truncated or has no array called 'array'.") from error
    if array.ndim == 2:
        array = array[:, None, :]
    if array.ndim != 3 or array.dtype.kind not in "iuf":
        raise InputError(f"'{path.name}' holds no projection stack of real numbers (view, row, column).")
    return array


def _frames(folder: Path, entry, array):
    """Flat or dark frames given as a number or a file name."""
    if entry is None:
        return None
    if isinstance(entry, (int, float)):
        return np.full((1, *array.shape[1:]), float(entry), np.float32)
    frames, _, _ = _stack(folder / str(entry))
    return frames


def _data_exchange(path: Path, name: str, geometry: Path | None) -> RawScan:
    """Data Exchange (De Carlo et al., J Synchrotron Rad 21:1224, 2014): counts, flats, darks, angles in degrees."""
    try:
        import h5py
    except ImportError as error:
        raise MissingPackageError("HDF5 files need the Python package h5py.", ("h5py>=3.8",)) from error
    try:
        with h5py.File(path) as file:
            group = file.get("exchange")
            if group is None or "data" not in group:
                raise InputError(f"'{path.name}' has no exchange/data; it is no Data-Exchange file.")
            array = group["data"][()]
            flat, dark = (group[key][()] if key in group else None for key in ("data_white", "data_dark"))
            angles = group["theta"][()] if "theta" in group else None
            unit = str(group["theta"].attrs.get("units", "degrees")) if "theta" in group else ""
    except OSError as error:
        raise InputError(f"'{path.name}' is damaged or truncated and cannot be read.") from error
    if geometry is not None:
        scan, _ = scan_from_json(geometry)
    elif angles is None:
        raise InputError(f"'{path.name}' has no exchange/theta: the view angles are missing; give a geometry file.")
    else:
        scan = ScanGeometry("parallel", angles if unit.startswith("rad") else np.deg2rad(angles))
    kind = "counts" if flat is not None else "transmission"
    return _checked(RawScan(array, scan, flat, dark, kind, name), path)
