"""Small pictures for a report: PNG bytes from arrays with the standard library alone."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np

from .picture import reduced
from .view import ViewResult

_COLORS = {"breast": (60, 200, 90), "muscle": (220, 60, 60), "dense": (90, 160, 255)}
_RING = (255, 220, 0)
HEIGHT = 420


def png(rgb: np.ndarray) -> bytes:
    """A (rows, columns, 3) uint8 array as a PNG file (ISO/IEC 15948)."""
    rows, columns = rgb.shape[:2]
    lines = np.concatenate([np.zeros((rows, 1), np.uint8), rgb.reshape(rows, -1)], axis=1).tobytes()

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", columns, rows, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(lines, 9)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def thumbnail_html(result: ViewResult) -> str:
    """An ``<img>`` element: the view as it hangs, outlines of the regions, rings around the findings."""
    picture = result.picture
    factor = max(1, -(-picture.array.shape[0] // HEIGHT))
    grey = reduced(picture.array, factor)
    low, high = np.percentile(grey, [1, 99.8])
    grey = np.clip((grey - low) / max(high - low, 1e-6), 0, 1) * 255
    rgb = np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)
    for name, color in _COLORS.items():
        mask = reduced(getattr(result, name).astype(np.float32), factor) > 0.5
        rgb[outline(mask)] = color
    y, x = np.ogrid[: grey.shape[0], : grey.shape[1]]
    for finding in result.findings:
        distance = np.hypot(y - finding.row / factor, x - finding.column / factor) * factor * picture.pixel_mm
        rgb[np.abs(distance - finding.radius_mm) < 0.6 * factor * picture.pixel_mm] = _RING
    if picture.wall_was_right:
        rgb = np.ascontiguousarray(rgb[:, ::-1])
    content = base64.b64encode(png(rgb)).decode()
    return f'<img alt="{result.name}" src="data:image/png;base64,{content}">'


def outline(mask: np.ndarray) -> np.ndarray:
    """The pixels of a mask that have a neighbour outside."""
    inner = mask.copy()
    for axis in (0, 1):
        for shift in (-1, 1):
            inner &= np.roll(mask, shift, axis)
    return mask & ~inner
