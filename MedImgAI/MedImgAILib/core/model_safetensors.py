"""Checks of a safetensors file before any library reads it.

The format (https://github.com/huggingface/safetensors): eight bytes with the header's length (little endian), the
header in JSON (``{tensor: {"dtype", "shape", "data_offsets": [begin, end]}}``), then the data without gaps.
"""

from __future__ import annotations

import hashlib
import json
import struct
from math import prod
from pathlib import Path

from .errors import ModelError

_BITS = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8,
    "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32, "U16": 16, "U8": 8, "BOOL": 8,
}  # fmt: skip
_LONGEST_HEADER = 100_000_000
_MOST_DIMENSIONS = 16


def check_safetensors(path: Path, sha256: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Check a file and return ``{tensor: (dtype, shape)}``.

    Parameters
    ----------
    path : Path
    sha256 : str
        The hash that the file must have.

    Raises
    ------
    ModelError
        If the hash differs or the header is not in keeping with the file.
    """
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256:
            raise ModelError(f"The weights in {path} are not those that the model card names; get the package again.")
        try:
            file.seek(0)
            return _check_header(file, path.stat().st_size)
        except (ValueError, RecursionError, struct.error) as error:
            raise ModelError(f"The weights in {path} are damaged ({error}).") from error


def _check_header(file, file_size: int) -> dict:
    (length,) = struct.unpack("<Q", file.read(8))
    if not 2 <= length <= min(_LONGEST_HEADER, file_size - 8):
        raise ValueError(f"the header claims {length} bytes")
    header = json.loads(file.read(length).decode("utf-8"), object_pairs_hook=_no_repeats)
    if not isinstance(header, dict):
        raise ValueError("the header is not an object")
    notes = header.pop("__metadata__", {})
    if not isinstance(notes, dict) or not all(isinstance(v, str) for v in notes.values()):
        raise ValueError("the header's notes are not texts")
    spans, tensors = [], {}
    for name, entry in header.items():
        dtype, shape, begin, end = _entry(name, entry)
        if end - begin != prod(shape) * _BITS[dtype] // 8:
            raise ValueError(f"tensor '{name[:80]}' has {end - begin} bytes, which is not its size")
        spans.append((begin, end))
        tensors[name] = (dtype, shape)
    at = 0
    for begin, end in sorted(spans):
        if begin != at:
            raise ValueError("its tensors overlap or leave gaps")
        at = end
    if at != file_size - 8 - length:
        raise ValueError(f"it has {file_size - 8 - length} bytes of data where its tensors need {at}")
    return tensors


def _entry(name: str, entry) -> tuple[str, tuple[int, ...], int, int]:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"tensor '{name[:80]}' is not described by dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise ValueError(f"tensor '{name[:80]}' has an unknown type")
    for numbers in (shape, offsets):
        if not isinstance(numbers, list) or not all(type(n) is int and 0 <= n < 1 << 63 for n in numbers):
            raise ValueError(f"tensor '{name[:80]}' has sizes that are no numbers")
    if len(offsets) != 2 or offsets[0] > offsets[1] or len(shape) > _MOST_DIMENSIONS:
        raise ValueError(f"tensor '{name[:80]}' has an impossible place or shape")
    return dtype, tuple(shape), *offsets


def _no_repeats(pairs: list) -> dict:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("a name stands twice in the header")
    return result
