"""NIfTI-1 and NIfTI-2 files (.nii, .nii.gz), read and written directly.

ITK refuses or changes headers whose sform is sheared or slightly non-orthonormal, which are common; here the header
is taken as the standard says (https://nifti.nimh.nih.gov/nifti-1): the sform if its code is positive, else the
qform. Where both codes are 0 the axes are taken as Slicer and ITK take them: +L, +P, +S with the origin at 0.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np

from ...core import Geometry, InputError, OutputError, Sequence, Volume
from .atomic import Part
from .voxels import native, rescale, stem_of

HEADER1 = np.dtype([
    ("sizeof_hdr", "<i4"), ("unused1", "S35"), ("dim_info", "u1"), ("dim", "<i2", 8), ("intent_p", "<f4", 3),
    ("intent_code", "<i2"), ("datatype", "<i2"), ("bitpix", "<i2"), ("slice_start", "<i2"), ("pixdim", "<f4", 8),
    ("vox_offset", "<f4"), ("scl_slope", "<f4"), ("scl_inter", "<f4"), ("slice_end", "<i2"), ("slice_code", "u1"),
    ("xyzt_units", "u1"), ("cal_max", "<f4"), ("cal_min", "<f4"), ("slice_duration", "<f4"), ("toffset", "<f4"),
    ("unused2", "<i4", 2), ("descrip", "S80"), ("aux_file", "S24"), ("qform_code", "<i2"), ("sform_code", "<i2"),
    ("quatern", "<f4", 3), ("qoffset", "<f4", 3), ("srow", "<f4", (3, 4)), ("intent_name", "S16"), ("magic", "S4"),
])  # fmt: skip
HEADER2 = np.dtype([
    ("sizeof_hdr", "<i4"), ("magic", "S8"), ("datatype", "<i2"), ("bitpix", "<i2"), ("dim", "<i8", 8),
    ("intent_p", "<f8", 3), ("pixdim", "<f8", 8), ("vox_offset", "<i8"), ("scl_slope", "<f8"), ("scl_inter", "<f8"),
    ("cal_max", "<f8"), ("cal_min", "<f8"), ("slice_duration", "<f8"), ("toffset", "<f8"), ("slice_start", "<i8"),
    ("slice_end", "<i8"), ("descrip", "S80"), ("aux_file", "S24"), ("qform_code", "<i4"), ("sform_code", "<i4"),
    ("quatern", "<f8", 3), ("qoffset", "<f8", 3), ("srow", "<f8", (3, 4)), ("slice_code", "<i4"),
    ("xyzt_units", "<i4"), ("intent_code", "<i4"), ("intent_name", "S16"), ("dim_info", "u1"), ("unused", "S15"),
])  # fmt: skip
_TYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 32: "c8", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8",
    1792: "c16",
}  # fmt: skip
_COLORS = {128: 3, 2304: 4}
_CODES = {np.dtype(name).name: code for code, name in _TYPES.items()}
_LENGTH_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
_TIME_MS = {8: 1000.0, 16: 1.0, 24: 0.001}
_VECTOR_INTENT = 1007
_GREATEST_RATIO = 1100


def parse_header(block: bytes, name: str) -> np.void:
    """The header record (fields of :data:`HEADER1` or :data:`HEADER2`) from the first 348 or 540 bytes.

    Raises
    ------
    InputError
        If it is no NIfTI header or is cut short.
    """
    if len(block) < 4:
        raise InputError(f"'{name}' is truncated: it ends within its NIfTI header.")
    for layout in (HEADER1, HEADER2):
        for order in ("<", ">"):
            if int(np.frombuffer(block, f"{order}i4", 1)[0]) != layout.itemsize:
                continue
            if len(block) < layout.itemsize:
                raise InputError(f"'{name}' is truncated: it ends within its NIfTI header.")
            header = np.frombuffer(block, layout.newbyteorder(order), 1)[0]
            if not bytes(header["magic"]).startswith((b"n+1", b"n+2")):
                raise InputError(f"'{name}' is no single-file NIfTI image (Analyze and .hdr/.img pairs are not read).")
            return header
    raise InputError(f"'{name}' is no NIfTI image: its header does not begin as one.")


def affine(header: np.void, name: str) -> np.ndarray:
    """(4, 4) index-to-RAS matrix in mm.

    Raises
    ------
    InputError
        If neither sform nor qform gives an invertible matrix.
    """
    candidates = []
    if header["sform_code"] > 0:
        candidates.append(np.vstack([header["srow"].astype(float), [0, 0, 0, 1]]))
    if header["qform_code"] > 0:
        candidates.append(_qform(header))
    if not candidates:
        spacing = np.abs(header["pixdim"][1:4].astype(float))
        candidates.append(np.diag([*np.where(spacing > 0, spacing, 1.0) * (-1, -1, 1), 1.0]))
    scale = _LENGTH_MM.get(int(header["xyzt_units"]) & 7, 1.0)
    flat = [a for a in range(3) if a >= int(header["dim"][0]) or header["dim"][1 + a] <= 1]
    for matrix in candidates:
        matrix[:3] *= scale
        _complete(matrix, flat)
        try:
            return Geometry(matrix, (1, 1, 1)).ijk_to_ras
        except InputError:
            continue
    raise InputError(f"'{name}' has a damaged header: its voxel-to-patient matrix is not finite or singular.")


def _complete(matrix: np.ndarray, flat: list[int]):
    """Give a zero column of an axis that has one voxel only a length of 1 mm at right angles to the others."""
    for axis in flat:
        if not matrix[:3, axis].any():
            others = [matrix[:3, a] for a in range(3) if a != axis]
            cross = np.cross(*others)
            length = np.linalg.norm(cross)
            if length > 0:
                matrix[:3, axis] = cross / length


def _qform(header: np.void) -> np.ndarray:
    b, c, d = header["quatern"].astype(float)
    a = 1.0 - (b * b + c * c + d * d)
    if a < 1e-7:
        # As the standard's reference code: a rotation by 180 degrees, stored with rounding.
        norm = np.sqrt(b * b + c * c + d * d)
        a, b, c, d = 0.0, b / norm, c / norm, d / norm
    else:
        a = np.sqrt(a)
    rotation = np.array([
        [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
        [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
        [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - c * c - b * b],
    ])  # fmt: skip
    spacing = np.abs(header["pixdim"][1:4].astype(float))
    spacing = np.where(spacing > 0, spacing, 1.0)
    if header["pixdim"][0] < 0:
        spacing[2] = -spacing[2]
    matrix = np.eye(4)
    matrix[:3, :3] = rotation * spacing
    matrix[:3, 3] = header["qoffset"]
    return matrix


def _extents(header: np.void, name: str) -> tuple[int, ...]:
    """The seven extents (i, j, k, t, vector, …), 1 where the header has no such axis."""
    count = int(header["dim"][0])
    dims = [int(n) for n in header["dim"][1 : count + 1]] if 1 <= count <= 7 else [0]
    if min(dims) < 1:
        raise InputError(f"'{name}' has a damaged header: its extents are {header['dim'].tolist()}.")
    return tuple(dims + [1] * (7 - count))


def read(path: Path) -> Volume | Sequence:
    """A volume, or a sequence for a 4-D file; a fifth axis or RGB voxels give a volume with components."""
    with np.errstate(all="ignore"):
        return _read(path)


def _read(path: Path) -> Volume | Sequence:
    name = path.name
    with path.open("rb") as stream:
        compressed = stream.read(2) == b"\x1f\x8b"
    with gzip.open(path) if compressed else path.open("rb") as stream:
        try:
            block = stream.read(HEADER2.itemsize)
            header = parse_header(block, name)
            extents = _extents(header, name)
            dtype, colors = _voxel_type(header, name)
            count = int(np.prod(extents, dtype=object)) * colors
            offset = float(header["vox_offset"])
            offset = int(offset) if np.isfinite(offset) and offset >= header.dtype.itemsize else header.dtype.itemsize
            available = path.stat().st_size * (_GREATEST_RATIO if compressed else 1)
            if offset + count * dtype.itemsize > available:
                raise _truncated(name)
            stream.seek(offset)
            data = stream.read(count * dtype.itemsize)
        except (EOFError, zlib.error) as error:
            raise _truncated(name) from error
    if len(data) < count * dtype.itemsize:
        raise _truncated(name)
    array = native(np.frombuffer(data, dtype)).reshape(*extents[::-1], colors)
    return _assemble(array, header, extents, colors, path)


def _truncated(name: str) -> InputError:
    return InputError(f"'{name}' is truncated or damaged: it holds fewer voxels than its header says.")


def _voxel_type(header: np.void, name: str) -> tuple[np.dtype, int]:
    code = int(header["datatype"])
    if code in _COLORS:
        return np.dtype("u1"), _COLORS[code]
    if code not in _TYPES:
        raise InputError(f"'{name}' has voxels of the NIfTI type {code}, which cannot be read.")
    order = ">" if header.dtype["dim"].base.byteorder == ">" else "<"
    return np.dtype(order + _TYPES[code]), 1


def _assemble(array: np.ndarray, header: np.void, extents, colors: int, path: Path):
    times, vector, others = extents[3], extents[4], extents[5] * extents[6]
    if others > 1 or (vector > 1 and (times > 1 or colors > 1)):
        raise InputError(f"'{path.name}' has {sum(n > 1 for n in extents)} dimensions; up to four can be read.")
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if colors == 1 and np.isfinite(slope) and slope != 0:
        array = rescale(array, slope, intercept if np.isfinite(intercept) else 0.0)
    shape = extents[2::-1]
    geometry = Geometry(affine(header, path.name), shape)
    name = stem_of(path)
    if vector > 1:
        # Vector components are the slowest axis of the file.
        return Volume(np.ascontiguousarray(np.moveaxis(array.reshape(vector, *shape), 0, -1)), geometry, name)
    frames = array.reshape(times, *shape, colors) if colors > 1 else array.reshape(times, *shape)
    if times == 1:
        return Volume(frames[0], geometry, name)
    step = float(header["pixdim"][4])
    unit = int(header["xyzt_units"]) & 56
    scale = _TIME_MS.get(unit, 1.0)
    start = float(header["toffset"])
    index = np.arange(times) * step * scale + start * scale
    if not np.isfinite(index).all() or step == 0:
        index = np.arange(times)
    items = [Volume(frame, geometry, name) for frame in frames]
    kind = ("time", "ms") if unit in _TIME_MS else ("index", "")
    return Sequence(items, index, *kind, name=name)


def parts(value: Volume | Sequence, path: Path) -> list[Part]:
    """What to write for a volume or a sequence: NIfTI-1 with a sform, and a qform if there is no shear."""
    items = value.items if isinstance(value, Sequence) else (value,)
    header = np.zeros((), HEADER1)
    array, colors = items[0].array, 0
    if array.ndim == 4:
        if len(items) > 1:
            raise OutputError("A sequence of colour volumes cannot be stored as NIfTI; store its volumes one by one.")
        colors = array.shape[3] if array.dtype == np.uint8 and array.shape[3] in (3, 4) else 0
        array = array if colors else np.moveaxis(array, -1, 0)
    array = np.stack([item.array for item in items]) if len(items) > 1 else np.ascontiguousarray(array)
    array = native(array)
    if array.dtype.name not in _CODES:
        raise OutputError(f"NIfTI files cannot hold {array.dtype} voxels.")
    code = {3: 128, 4: 2304}[colors] if colors else _CODES[array.dtype.name]
    _fill(header, value, items[0], array, code, colors)
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    head = header.tobytes() + bytes(4)
    if path.name.lower().endswith(".gz"):
        return [Part.of_bytes(path, gzip.compress(b"".join([head, little.data]), compresslevel=1, mtime=0))]
    return [Part.of_bytes(path, head, little.data)]


def _fill(header: np.ndarray, value, volume: Volume, array: np.ndarray, code: int, colors: int):
    geometry = volume.geometry
    if max(array.shape) > 32767:
        raise OutputError("NIfTI files cannot hold more than 32767 voxels along an axis; choose .nrrd.")
    dims = list(geometry.shape[::-1])
    if volume.is_vector and not colors:
        dims += [1, volume.components]
        header["intent_code"] = _VECTOR_INTENT
    elif isinstance(value, Sequence):
        dims.append(len(value.items))
    header["sizeof_hdr"] = HEADER1.itemsize
    header["dim"] = [len(dims), *dims, *[1] * (7 - len(dims))]
    header["datatype"], header["bitpix"] = code, array.dtype.itemsize * 8 * max(colors, 1)
    header["vox_offset"], header["scl_slope"] = HEADER1.itemsize + 4, 1.0
    header["pixdim"] = [1.0, *geometry.spacing, 1.0, 1.0, 1.0, 1.0]
    header["xyzt_units"] = 2
    if isinstance(value, Sequence) and value.index_unit == "ms":
        header["xyzt_units"] = 2 | 16
        header["pixdim"][4] = np.diff(value.values).mean() if len(value.values) > 1 else 1.0
        header["toffset"] = value.values[0]
    header["srow"], header["sform_code"] = geometry.ijk_to_ras[:3], 1
    if geometry.is_orthogonal:
        rotation = geometry.directions.copy()
        if np.linalg.det(rotation) < 0:
            rotation[:, 2] *= -1
            header["pixdim"][0] = -1.0
        header["quatern"] = _quaternion(rotation)
        header["qoffset"], header["qform_code"] = geometry.origin, 1
    header["descrip"], header["magic"] = b"MedImgAI", b"n+1"


def _quaternion(rotation: np.ndarray) -> np.ndarray:
    """(b, c, d) of the unit quaternion with a ≥ 0 nearest to a rotation matrix (Bar-Itzhack 2000)."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = rotation
    symmetric = np.array([
        [xx + yy + zz, zy - yz, xz - zx, yx - xy],
        [zy - yz, xx - yy - zz, xy + yx, xz + zx],
        [xz - zx, xy + yx, yy - xx - zz, yz + zy],
        [yx - xy, xz + zx, yz + zy, zz - xx - yy],
    ])  # fmt: skip
    quaternion = np.linalg.eigh(symmetric)[1][:, -1]
    return quaternion[1:] * (1.0 if quaternion[0] >= 0 else -1.0)
