"""MetaImage files (.mha, .mhd), read and written directly so that any affine geometry survives.

Follows https://itk.org/Wiki/ITK/MetaIO/Documentation; positions are LPS, as ITK writes them.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

from ...core import InputError, OutputError, Sequence, Volume
from .atomic import Part
from .voxels import RAS_FROM_LPS, native, ras_geometry, stem_of

_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}  # fmt: skip
_WORDS = {np.dtype(t).name: word for word, t in reversed(_TYPES.items())}
_GREATEST_RATIO = 1100


def parse_header(content: bytes, name: str) -> tuple[dict, int]:
    """The fields up to ElementDataFile, and where the data begins.

    Raises
    ------
    InputError
        If it is no MetaImage header or ends within it.
    """
    fields, position = {}, 0
    while position < len(content):
        end = content.find(b"\n", position)
        end = len(content) if end < 0 else end
        key, equals, value = content[position:end].decode("latin-1").partition("=")
        position = end + 1
        if not equals:
            break
        fields[key.strip().lower()] = value.strip()
        if key.strip().lower() == "elementdatafile":
            return fields, position
    raise InputError(f"'{name}' is no MetaImage: its header has no ElementDataFile.")


def read(path: Path) -> Volume | Sequence:
    """A volume, or a sequence for a 4-D file."""
    content = path.read_bytes()
    fields, start = parse_header(content, path.name)
    word = fields.get("elementtype", "").upper().removesuffix("_ARRAY")
    if word not in _TYPES:
        raise InputError(f"'{path.name}' has voxels of the type '{word}', which cannot be read.")
    big = fields.get("binarydatabyteordermsb", fields.get("elementbyteordermsb", "False")).lower() in ("true", "1")
    dtype = np.dtype((">" if big else "<") + _TYPES[word])
    sizes = [int(n) for n in fields["dimsize"].split()]
    if len(sizes) != int(fields["ndims"]) or not 2 <= len(sizes) <= 4 or min(sizes) < 1:
        raise InputError(f"'{path.name}' has a damaged header: its DimSize is {fields['dimsize'][:40]}.")
    channels = int(fields.get("elementnumberofchannels", 1))
    if channels < 1:
        raise InputError(f"'{path.name}' has a damaged header: it has {channels} components per voxel.")
    count = int(np.prod(sizes, dtype=object)) * channels
    array = _data(path, fields, content[start:], dtype, count)
    shape = (*sizes[::-1], channels) if channels > 1 else tuple(sizes[::-1])
    return _assemble(array.reshape(shape), fields, len(sizes), path)


def _data(path: Path, fields: dict, own: bytes, dtype: np.dtype, count: int) -> np.ndarray:
    block = own
    target = fields["elementdatafile"]
    if target.upper() != "LOCAL":
        if target.upper().startswith("LIST") or "%" in target:
            raise InputError(f"'{path.name}' is spread over several data files, which cannot be read.")
        attached = path.parent / target
        if path.parent.resolve() not in attached.resolve().parents:
            raise InputError(f"'{path.name}' refers to '{target}' outside its folder; put the data beside the header.")
        if not attached.is_file():
            raise InputError(f"'{path.name}' refers to the data file '{target}', which is not beside it.")
        block = attached.read_bytes()
    size = count * dtype.itemsize
    if fields.get("binarydata", "True").lower() in ("false", "0"):
        flat = np.array(block.split(), dtype=dtype.newbyteorder("="))
    else:
        skip = int(fields.get("headersize", 0))
        block = block[len(block) - size :] if skip == -1 and len(block) >= size else block[max(skip, 0) :]
        if fields.get("compresseddata", "False").lower() in ("true", "1"):
            if len(block) * _GREATEST_RATIO < size:
                raise _truncated(path.name)
            block = zlib.decompress(block)
        if len(block) < size:
            raise _truncated(path.name)
        flat = np.frombuffer(block, dtype, count)
    if flat.size < count:
        raise _truncated(path.name)
    return native(flat[:count])


def _truncated(name: str) -> InputError:
    return InputError(f"'{name}' is truncated: it holds fewer voxels than its header says.")


def _numbers(fields: dict, names: tuple[str, ...], count: int) -> np.ndarray | None:
    for name in names:
        if name in fields:
            values = np.array([float(v) for v in fields[name].split()])
            if len(values) == count:
                return values
    return None


def _assemble(array: np.ndarray, fields: dict, dimension: int, path: Path) -> Volume | Sequence:
    spacing = _numbers(fields, ("elementspacing", "elementsize"), dimension)
    origin = _numbers(fields, ("offset", "origin", "position"), dimension)
    rows = _numbers(fields, ("transformmatrix", "rotation", "orientation"), dimension**2)
    spacing = np.ones(dimension) if spacing is None else spacing
    origin = np.zeros(dimension) if origin is None else origin
    # Each row of the file's matrix is the direction of one axis.
    rows = np.eye(dimension) if rows is None else rows.reshape(dimension, dimension)
    spatial = min(dimension, 3)
    matrix = np.eye(4)
    matrix[:spatial, :spatial] = rows.T[:spatial, :spatial] * spacing[:spatial]
    matrix[:spatial, 3] = origin[:spatial]
    if dimension == 2:
        array = array[None]
    name = stem_of(path)
    shape = array.shape[:3] if dimension < 4 else array.shape[1:4]
    geometry = ras_geometry(matrix, shape)
    if dimension < 4:
        return Volume(array, geometry, name)
    items = [Volume(frame, geometry, name) for frame in array]
    return Sequence(items, origin[3] + spacing[3] * np.arange(len(items)), "index", "", name=name)


def parts(value: Volume | Sequence, path: Path) -> list[Part]:
    """What to write for a volume or a sequence."""
    items = value.items if isinstance(value, Sequence) else (value,)
    array = native(np.stack([i.array for i in items]) if isinstance(value, Sequence) else items[0].array)
    if array.dtype.name not in _WORDS:
        raise OutputError(f"MetaImage files cannot hold {array.dtype} voxels; choose .nrrd or .nii.gz.")
    geometry, channels = items[0].geometry, items[0].components
    extra = isinstance(value, Sequence)
    lps = RAS_FROM_LPS @ geometry.ijk_to_ras
    rows = np.eye(3 + extra)
    rows[:3, :3] = (lps[:3, :3] / geometry.spacing).T
    step = float(np.diff(value.values).mean()) if extra and len(items) > 1 else 1.0
    spacing = [*geometry.spacing] + [step] * extra
    origin = [*lps[:3, 3]] + ([float(value.values[0])] if extra else [])
    little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
    data = zlib.compress(little.data, 1)
    attached = path.with_suffix(".zraw") if path.suffix.lower() == ".mhd" else None
    lines = {
        "ObjectType": "Image",
        "NDims": 3 + extra,
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "True",
        "CompressedDataSize": len(data),
        "TransformMatrix": " ".join(repr(float(v) + 0.0) for v in rows.ravel()),
        "Offset": " ".join(repr(float(v) + 0.0) for v in origin),
        "ElementSpacing": " ".join(repr(float(v)) for v in spacing),
        "DimSize": " ".join(str(n) for n in [*geometry.shape[::-1]] + [len(items)] * extra),
        **({"ElementNumberOfChannels": channels} if channels > 1 else {}),
        "ElementType": _WORDS[array.dtype.name],
        "ElementDataFile": attached.name if attached else "LOCAL",
    }
    head = "".join(f"{key} = {value}\n" for key, value in lines.items()).encode()
    if attached is None:
        return [Part.of_bytes(path, head, data)]
    return [Part.of_bytes(attached, data), Part.of_bytes(path, head)]
