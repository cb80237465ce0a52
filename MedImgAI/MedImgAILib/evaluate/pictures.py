"""Small pictures for a report: PNG from arrays with the standard library alone."""

from __future__ import annotations

import base64
import struct
import zlib
from html import escape

import numpy as np


def png(rgb: np.ndarray) -> bytes:
    """A (rows, columns, 3) uint8 array as a PNG file (ISO/IEC 15948)."""
    rows, columns = rgb.shape[:2]
    lines = np.concatenate([np.zeros((rows, 1), np.uint8), rgb.reshape(rows, -1)], axis=1).tobytes()

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", columns, rows, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(lines, 9)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def picture_html(rgb: np.ndarray, description: str) -> str:
    """An ``<img>`` element that holds a (rows, columns, 3) uint8 array."""
    content = base64.b64encode(png(rgb)).decode()
    return f'<img alt="{escape(description)}" src="data:image/png;base64,{content}">'


def grey_picture(image: np.ndarray, low_percent: float = 1.0, high_percent: float = 99.5) -> np.ndarray:
    """(rows, columns, 3) uint8 from (rows, columns) values, black and white at two percentiles."""
    low, high = np.percentile(image, [low_percent, high_percent])
    grey = np.clip((image - low) / max(high - low, 1e-6), 0, 1) * 255
    return np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)


def outline(mask: np.ndarray) -> np.ndarray:
    """The pixels of a mask that have a neighbour outside."""
    inner = mask.copy()
    for axis in (0, 1):
        for shift in (-1, 1):
            inner &= np.roll(mask, shift, axis)
    return mask & ~inner
