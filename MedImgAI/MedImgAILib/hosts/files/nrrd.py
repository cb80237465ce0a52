"""NRRD files (.nrrd, .nhdr), read and written directly so that any affine geometry survives.

Follows the format's definition (http://teem.sourceforge.net/nrrd/format.html) as Slicer and ITK use it.
"""

from __future__ import annotations

import bz2
import gzip
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...core import InputError, OutputError, Sequence, Volume
from .atomic import Part
from .voxels import RAS_FROM_LPS, native, ras_geometry, stem_of

_TYPES = {
    "int8": ("signed char", "int8", "int8_t", "char"),
    "uint8": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "int16": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "uint16": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "int32": ("int", "signed int", "int32", "int32_t"),
    "uint32": ("uint", "unsigned int", "uint32", "uint32_t"),
    "int64": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "uint64": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "float32": ("float",),
    "float64": ("double",),
}
_DTYPES = {word: dtype for dtype, words in _TYPES.items() for word in words}
_WORDS = {
    "int8": "signed char", "uint8": "unsigned char", "int16": "short", "uint16": "unsigned short", "int32": "int",
    "uint32": "unsigned int", "int64": "long long int", "uint64": "unsigned long long int", "float32": "float",
    "float64": "double",
}  # fmt: skip
_SPACES = {
    "right-anterior-superior": (1, 1, 1), "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1), "las": (-1, 1, 1),
    "left-posterior-superior": (-1, -1, 1), "lps": (-1, -1, 1),
}  # fmt: skip
_SEQUENCE_KINDS = ("list", "time")
_GREATEST_RATIO = 1100
"""No deflate stream expands more than about 1032-fold, so a header that claims more is damaged."""


@dataclass
class Header:
    """The fields of a NRRD header, its key/value pairs, and where the data begins."""

    fields: dict
    pairs: dict = field(default_factory=dict)
    data_start: int = 0


@dataclass
class Image:
    """A NRRD as stored: the list or component axis (if any) moved last."""

    array: np.ndarray
    matrix: np.ndarray
    kind: str
    pairs: dict


def parse_header(content: bytes, name: str) -> Header:
    """Read the text header at the start of ``content``.

    Raises
    ------
    InputError
        If it is no NRRD header or ends within it.
    """
    if not content.startswith(b"NRRD000"):
        raise InputError(f"'{name}' is no NRRD file: it does not begin with 'NRRD'.")
    header = Header({})
    position = content.find(b"\n") + 1
    while position > 0:
        end = content.find(b"\n", position)
        line = content[position : len(content) if end < 0 else end].rstrip(b"\r").decode("utf-8", "replace")
        position = end + 1
        header.data_start = position if end >= 0 else len(content)
        if not line:
            return header
        if line.startswith("#"):
            continue
        if ":=" in line and (": " not in line or line.index(":=") < line.index(": ")):
            key, _, value = line.partition(":=")
            header.pairs[key] = value.replace("\\n", "\n").replace("\\\\", "\\")
        elif ":" in line:
            key, _, value = line.partition(":")
            header.fields[key.strip().lower()] = value.strip()
            if key.strip().lower() == "data file" and value.strip().upper().startswith("LIST"):
                header.fields["data file list"] = content[header.data_start :].decode("utf-8", "replace").split("\n")
                return header
        else:
            raise InputError(f"'{name}' has a damaged NRRD header: '{line[:40]}' is no field.")
    if "data file" in header.fields or "datafile" in header.fields:
        return header
    raise InputError(f"'{name}' ends within its NRRD header; it is truncated.")


def read_image(path: Path) -> Image:
    """The array of a NRRD with its geometry; see :class:`Image`.

    Raises
    ------
    InputError
        If header or data are damaged or of a kind that is not an image.
    """
    content = path.read_bytes()
    header = parse_header(content, path.name)
    fields = header.fields
    word = fields.get("type", "").lower()
    if word not in _DTYPES:
        raise InputError(f"'{path.name}' has voxels of the type '{word}', which cannot be read.")
    sizes = [int(n) for n in fields["sizes"].split()]
    if len(sizes) != int(fields["dimension"]) or not 1 <= len(sizes) <= 6 or min(sizes) < 1:
        raise InputError(f"'{path.name}' has a damaged NRRD header: its sizes are {fields['sizes'][:40]}.")
    dtype = np.dtype(_DTYPES[word])
    if dtype.itemsize > 1 and fields.get("endian", "little").lower() == "big":
        dtype = dtype.newbyteorder(">")
    flat = _data(path, header, content, dtype, int(np.prod(sizes, dtype=object)))
    return _arrange(flat.reshape(sizes[::-1]), fields, header.pairs, path.name)


def _data(path: Path, header: Header, content: bytes, dtype: np.dtype, count: int) -> np.ndarray:
    fields = header.fields
    attached = fields.get("data file", fields.get("datafile"))
    encoding = fields.get("encoding", "raw").lower()
    if attached is None:
        blocks = [content[header.data_start :] if header.data_start else content]
    else:
        blocks = [_attached(path, name) for name in _data_files(attached, fields, path.name)]
    skip_lines = int(fields.get("line skip", fields.get("lineskip", 0)))
    skip_bytes = int(fields.get("byte skip", fields.get("byteskip", 0)))
    size = count * dtype.itemsize
    pieces = []
    for block in blocks:
        if len(block) * _GREATEST_RATIO < size // len(blocks) and encoding not in ("bz2", "bzip2"):
            raise _truncated(path.name)
        for _ in range(skip_lines):
            block = block[block.index(b"\n") + 1 :]
        if encoding in ("gzip", "gz"):
            block = _gunzip(block)
        elif encoding in ("bzip2", "bz2"):
            block = bz2.decompress(block)
        elif encoding in ("text", "txt", "ascii"):
            pieces.append(np.array(block.split(), dtype=dtype.newbyteorder("=")))
            continue
        elif encoding != "raw":
            raise InputError(f"'{path.name}' is encoded as '{encoding}'; raw, gzip, bzip2 and text can be read.")
        wanted = size // len(blocks)
        start = len(block) - wanted if skip_bytes == -1 else skip_bytes
        if start < 0 or len(block) - start < wanted:
            raise _truncated(path.name)
        pieces.append(np.frombuffer(block, dtype, wanted // dtype.itemsize, start))
    flat = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
    if flat.size < count:
        raise _truncated(path.name)
    return native(flat[:count])


def _gunzip(block: bytes) -> bytes:
    # Some writers (teem) call a bare zlib stream gzip too.
    return gzip.decompress(block) if block[:2] == b"\x1f\x8b" else zlib.decompress(block)


def _truncated(name: str) -> InputError:
    return InputError(f"'{name}' is truncated: it holds fewer voxels than its header says.")


def _data_files(text: str, fields: dict, name: str) -> list[str]:
    words = text.split()
    if words and words[0].upper() == "LIST":
        return [line.strip() for line in fields.get("data file list", []) if line.strip()]
    if "%" in text and len(words) >= 4:
        first, last, step = (int(w) for w in words[1:4])
        if step == 0 or abs(last - first) > 100000:
            raise InputError(f"'{name}' names its data files in a way that cannot be read.")
        return [words[0] % n for n in range(first, last + (1 if step > 0 else -1), step)]
    return [text]


def _attached(path: Path, name: str) -> bytes:
    target = path.parent / name
    if path.parent.resolve() not in target.resolve().parents:
        raise InputError(f"'{path.name}' refers to '{name}' outside its folder; put the data beside the header.")
    if not target.is_file():
        raise InputError(f"'{path.name}' refers to the data file '{name}', which is not beside it.")
    return target.read_bytes()


def _vector(text: str) -> list[float] | None:
    text = text.strip()
    return None if text.lower() == "none" else [float(v) for v in text.strip("() ").split(",")]


def _directions(text: str) -> list:
    """The entries of "space directions": vectors in parentheses or "none"."""
    entries, rest = [], text.strip()
    while rest:
        if rest.lower().startswith("none"):
            entries.append(None)
            rest = rest[4:].strip()
            continue
        end = rest.index(")")
        entries.append(_vector(rest[: end + 1]))
        rest = rest[end + 1 :].strip()
    return entries


def _arrange(array: np.ndarray, fields: dict, pairs: dict, name: str) -> Image:
    dimension = array.ndim
    kinds = [k.lower() for k in fields.get("kinds", "").split()] or ["domain"] * dimension
    signs, directions = _frame(fields, dimension, kinds, name)
    domain = [axis for axis, vector in enumerate(directions) if vector is not None and np.any(vector[:3])]
    extra = [axis for axis in range(dimension) if axis not in domain]
    if len(domain) not in (2, 3) or len(extra) > 1:
        raise InputError(f"'{name}' has {len(domain)} spatial and {len(extra)} other axes, which is no image.")
    matrix = np.eye(4)
    for column, axis in enumerate(domain):
        matrix[:3, column] = directions[axis][:3]
    if len(domain) == 2:
        cross = np.cross(matrix[:3, 0], matrix[:3, 1])
        matrix[:3, 2] = cross / np.linalg.norm(cross)
    if "space origin" in fields:
        matrix[:3, 3] = (_vector(fields["space origin"]) + [0.0])[:3]
    # File axes run fastest first, numpy's slowest first.
    array = array.transpose([dimension - 1 - a for a in domain[::-1]] + [dimension - 1 - a for a in extra])
    if len(domain) == 2:
        array = array[None]
    return Image(array, np.diag([*signs, 1.0]) @ matrix, kinds[extra[0]] if extra else "", pairs)


def _frame(fields: dict, dimension: int, kinds: list[str], name: str):
    space = fields.get("space", "").lower()
    with_time = space.endswith("-time")
    signs = _SPACES.get(space.removesuffix("-time").replace('"', ""), (-1, -1, 1))
    if "space directions" in fields:
        directions = _directions(fields["space directions"])
        if len(directions) != dimension:
            raise InputError(f"'{name}' has {len(directions)} space directions for {dimension} axes.")
        sizes = {len(v) for v in directions if v is not None}
        if sizes == {2}:
            directions = [None if v is None else [*v, 0.0] for v in directions]
        elif not sizes or sizes > {3, 4} or (4 in sizes and not with_time):
            raise InputError(f"'{name}' does not lie in three-dimensional space.")
        return signs, directions
    text = fields.get("spacings", "").split()
    spacings = [float(s) for s in text] if text else [1.0] * dimension
    spacings = [s if np.isfinite(s) and s != 0 else 1.0 for s in spacings]
    spatial = [a for a in range(dimension) if kinds[a] in ("domain", "space", "???", "none")]
    if len(spatial) > 3:
        spatial = spatial[:3]
    directions = [None] * dimension
    for row, axis in enumerate(spatial):
        directions[axis] = [spacings[axis] if r == row else 0.0 for r in range(3)]
    return signs, directions


def read(path: Path) -> Volume | Sequence:
    """A volume, or a sequence if an axis is a list or time."""
    image = read_image(path)
    array, name = image.array, stem_of(path)
    geometry = ras_geometry(RAS_FROM_LPS @ image.matrix, array.shape[:3])
    units = image.pairs.get("MedImgAI_units", "")
    if array.ndim == 3:
        return Volume(array, geometry, name, units)
    if image.kind == "complex" and array.shape[3] == 2:
        pair = np.ascontiguousarray(array)
        pair = pair if pair.dtype in (np.float32, np.float64) else pair.astype(np.float64)
        return Volume(pair.view(np.complex64 if pair.dtype == np.float32 else np.complex128)[..., 0], geometry, name)
    if image.kind in _SEQUENCE_KINDS or array.shape[3] > 4 and image.kind in ("", "none", "???", "domain"):
        items = [Volume(np.ascontiguousarray(array[..., n]), geometry, name, units) for n in range(array.shape[3])]
        return Sequence(items, *_index(image.pairs, len(items)), name=name)
    return Volume(array, geometry, name, units)


def _index(pairs: dict, count: int):
    """Values, name and unit of the list axis, from the keys that Slicer's sequences have."""
    try:
        values = [float(v) for v in pairs.get("axis 0 index values", "").split()]
    except ValueError:
        values = []
    name = pairs.get("MedImgAI_index_name", "time" if values else "index")
    unit = pairs.get("MedImgAI_index_unit", "")
    return (values if len(values) == count else np.arange(count), name, unit)


def parts(value: Volume | Sequence, path: Path) -> list[Part]:
    """What to write for a volume or a sequence (as Slicer's .seq.nrrd)."""
    if isinstance(value, Sequence):
        array = np.stack([item.array for item in value.items], axis=-1)
        if array.ndim != 4:
            raise OutputError("A sequence of colour volumes cannot be stored as NRRD; store its volumes one by one.")
        values = " ".join(f"{v:.17g}" for v in value.values)
        pairs = {"axis 0 index type": "numeric", "axis 0 index values": values}
        pairs |= {"MedImgAI_index_name": value.index_name, "MedImgAI_index_unit": value.index_unit}
        return encode(array, value.geometry, path, "list", pairs)
    array, kind = value.array, ""
    if np.iscomplexobj(array):
        array = np.ascontiguousarray(array)
        array, kind = array.view(array.real.dtype).reshape(*array.shape, 2), "complex"
    elif array.ndim == 4:
        kind = {3: "RGB-color", 4: "RGBA-color"}.get(array.shape[3], "vector") if array.dtype == np.uint8 else "vector"
    return encode(array, value.geometry, path, kind, {"MedImgAI_units": value.units} if value.units else {})


def encode(array: np.ndarray, geometry, path: Path, kind: str, pairs: dict) -> list[Part]:
    """Header and gzip-compressed data of a (K, J, I) or (K, J, I, N) array; N becomes the first axis, of ``kind``."""
    array = native(np.ascontiguousarray(array))
    if array.dtype.name not in _WORDS:
        raise OutputError(f"NRRD files cannot hold {array.dtype} voxels.")
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    lps = RAS_FROM_LPS @ geometry.ijk_to_ras
    vectors = [f"({','.join(_number(v) for v in lps[:3, column])})" for column in range(3)]
    extra = array.ndim == 4
    lines = [
        "NRRD0005",
        f"type: {_WORDS[array.dtype.name]}",
        f"dimension: {array.ndim}",
        "space: left-posterior-superior",
        f"sizes: {' '.join(str(n) for n in array.shape[3:] + array.shape[2::-1])}",
        f"space directions: {' '.join(['none'] * extra + vectors)}",
        f"kinds: {' '.join([kind] * extra + ['domain'] * 3)}",
        "encoding: gzip",
        *(["endian: little"] if array.dtype.itemsize > 1 else []),
        f"space origin: ({','.join(_number(v) for v in lps[:3, 3])})",
    ]
    attached = path.with_name(f"{stem_of(path)}.raw.gz") if path.suffix.lower() == ".nhdr" else None
    if attached is not None:
        lines.append(f"data file: {attached.name}")
    escaped = {k: str(v).replace("\\", "\\\\").replace("\n", "\\n") for k, v in pairs.items()}
    lines += [f"{key}:={value}" for key, value in escaped.items()]
    head = ("\n".join(lines) + "\n\n").encode("utf-8")
    # Level 1 is several times faster than the default and hardly larger on images.
    data = gzip.compress(little.data, compresslevel=1, mtime=0)
    if attached is None:
        return [Part.of_bytes(path, head, data)]
    return [Part.of_bytes(attached, data), Part.of_bytes(path, head)]


def _number(value: float) -> str:
    return repr(float(value) + 0.0)
