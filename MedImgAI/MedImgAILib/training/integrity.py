"""Whether an image file is whole, where the reading library would fill up what is missing without a word."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np

from ..core import InputError

_FLOATS = {16: "f4", 64: "f8"}
"""NIfTI's codes of real numbers; NaN in them would be read as 0."""


def check_whole(path: Path):
    """Check a NIfTI, JPEG or BMP file; others are checked by their readers.

    Raises
    ------
    InputError
        If it ends too early, or a NIfTI file holds NaN or infinite voxels.
    """
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        _check_nifti(path)
    elif name.endswith((".jpg", ".jpeg")):
        content = path.read_bytes()
        if b"\xff\xd9" not in content[-1024:]:  # the mark of its end; some programs write a little after it
            raise _cut(path)
    elif name.endswith(".bmp"):
        with open(path, "rb") as file:
            header = file.read(6)
        if len(header) < 6 or path.stat().st_size < struct.unpack("<I", header[2:])[0]:
            raise _cut(path)


def _cut(path: Path) -> InputError:
    return InputError(f"The image {path} is damaged (it ends too early).")


def _check_nifti(path: Path):
    """Header fields by https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h and nifti2.h."""
    with open(path, "rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    try:
        content = gzip.decompress(path.read_bytes()) if zipped else path.read_bytes()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _cut(path) from error
    if len(content) < 348:
        raise _cut(path)
    order = next((o for o in "<>" if struct.unpack(o + "i", content[:4])[0] in (348, 540)), None)
    if order is None:
        raise InputError(f"The image {path} is damaged (it has no NIfTI header).")
    if struct.unpack(order + "i", content[:4])[0] == 348:
        dims = struct.unpack(order + "8h", content[40:56])
        code, bits = struct.unpack(order + "2h", content[70:74])
        offset = int(struct.unpack(order + "f", content[108:112])[0])
    else:
        code, bits = struct.unpack(order + "2h", content[12:16])
        dims = struct.unpack(order + "8q", content[16:80])
        offset = struct.unpack(order + "q", content[168:176])[0]
    count = int(np.prod([max(1, n) for n in dims[1 : 1 + max(0, min(7, dims[0]))]], dtype=np.int64))
    if len(content) < offset + count * bits // 8:
        raise _cut(path)
    if code in _FLOATS:
        values = np.frombuffer(content, order + _FLOATS[code], count, offset)
        if not np.isfinite(values).all():
            raise InputError(f"The image {path} contains NaN or infinite voxels; repair it or leave it out.")
