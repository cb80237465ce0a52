"""Raw data of scanners: .npy or .npz arrays with the acquisition's geometry in a .json of the same name.

For k-space the JSON has ``{"type": "KSpace", "ijk_to_ras": 4×4, "shape": [K, J, I]}`` (the image's grid), or
``"spacing_mm": [i, j, k]`` instead of the matrix; for projections
``{"type": "Projections", "kind": "parallel", "angles_rad": […], "pixel_mm": [row, column], …}`` with the fields of
:class:`~...core.ScanGeometry` (``angles_deg`` is allowed too).
"""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from pathlib import Path

import numpy as np

from ...core import Geometry, InputError, KSpace, OutputError, Projections, ScanGeometry
from .atomic import Part
from .voxels import native, spacing_option, stem_of

_SCAN_FIELDS = {f.name for f in dataclasses.fields(ScanGeometry)}
_ARRAYS = ("array", "trajectory", "sampled")


def read(path: Path, spacing_mm=None, kind: str = "") -> KSpace | Projections:
    """K-space or projections.

    Parameters
    ----------
    spacing_mm : optional
        For k-space without a JSON beside it: the image's voxel size.
    kind : "KSpace", "Projections" or ""
        What is expected, if the JSON does not say.

    Raises
    ------
    InputError
        If array or geometry are missing or damaged.
    """
    arrays = _arrays(path)
    beside = path.with_name(stem_of(path) + ".json")
    if beside.is_file():
        try:
            about = json.loads(beside.read_text("utf-8"))
        except ValueError as error:
            raise InputError(f"'{beside.name}' is damaged: it is no JSON.") from error
        if not isinstance(about, dict):
            raise InputError(f"'{beside.name}' does not describe an acquisition.")
    elif spacing_mm is not None and kind != "Projections":
        about = {"spacing_mm": list(spacing_option(spacing_mm, 3))}
    else:
        raise InputError(f"'{path.name}' needs the geometry of its acquisition in a file '{beside.name}' beside it.")
    kind = about.get("type", kind)
    if kind not in ("KSpace", "Projections"):
        raise InputError(f'\'{beside.name}\' must say "type": "KSpace" or "Projections".')
    name = about.get("name") or stem_of(path)
    return _kspace(arrays, about, name) if kind == "KSpace" else _projections(arrays, about, name)


def _arrays(path: Path) -> dict:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"array": native(loaded)}
        with loaded:
            if "array" not in loaded.files:
                raise InputError(f"'{path.name}' has no array called 'array'.")
            return {name: loaded[name] for name in _ARRAYS if name in loaded.files}
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"'{path.name}' is damaged or no NumPy file.") from error


def _kspace(arrays: dict, about: dict, name: str) -> KSpace:
    array = arrays.pop("array")
    # One slice is often stored as coil, phase, readout; one coil as phase, readout.
    array = array[None] if array.ndim == 2 else array
    array = array[:, None] if array.ndim == 3 else array
    shape = tuple(about.get("shape") or array.shape[1:])
    if "ijk_to_ras" in about:
        geometry = Geometry(np.array(about["ijk_to_ras"], float), shape)
    elif "spacing_mm" in about:
        geometry = Geometry.from_spacing(shape, about["spacing_mm"], directions=np.diag([-1.0, -1.0, 1.0]))
    else:
        raise InputError(f"The description of '{name}' needs 'ijk_to_ras' or 'spacing_mm'.")
    return KSpace(array, geometry, **arrays, name=name)


def _projections(arrays: dict, about: dict, name: str) -> Projections:
    scan = {key: value for key, value in about.items() if key in _SCAN_FIELDS}
    if "angles_deg" in about:
        scan["angles_rad"] = np.deg2rad(about["angles_deg"])
    missing = {"kind", "angles_rad"} - set(scan)
    if missing:
        raise InputError(f"The description of '{name}' lacks {' and '.join(sorted(missing))}.")
    array = arrays["array"]
    return Projections(array[:, None] if array.ndim == 2 else array, ScanGeometry(**scan), name)


def parts(value: KSpace | Projections, path: Path) -> list[Part]:
    """What to write: the arrays (.npz; .npy where there is only one) and the JSON beside them."""
    about = {"type": type(value).__name__, "name": value.name}
    if isinstance(value, KSpace):
        about |= {"ijk_to_ras": value.geometry.ijk_to_ras.tolist(), "shape": list(value.geometry.shape)}
    else:
        about |= {key: _plain(getattr(value.scan, key)) for key in sorted(_SCAN_FIELDS)}
    arrays = {name: getattr(value, name, None) for name in _ARRAYS}
    arrays = {name: array for name, array in arrays.items() if array is not None}
    stream = io.BytesIO()
    if path.suffix.lower() == ".npy":
        if len(arrays) > 1:
            raise OutputError(f"'{path.name}' cannot hold a trajectory or sampling mask; choose .npz.")
        np.save(stream, value.array, allow_pickle=False)
    else:
        np.savez(stream, **arrays)
    beside = path.with_name(stem_of(path) + ".json")
    return [Part.of_bytes(path, stream.getbuffer()), Part.of_bytes(beside, json.dumps(about, indent=1).encode())]


def _plain(value):
    return value.tolist() if isinstance(value, np.ndarray) else list(value) if isinstance(value, tuple) else value
