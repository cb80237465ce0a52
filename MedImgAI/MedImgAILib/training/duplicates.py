"""Images that are (nearly) the same: by a perceptual hash, confirmed by a small picture."""

from __future__ import annotations

import numpy as np

_SIDE = 16
_LOW = 8
_MOST_BITS = 8
"""Hamming distance of two 63-bit hashes up to which pictures are compared."""
_LEAST_CORRELATION = 0.99
_MOST_PAIRS = 1000


def fingerprint(array: np.ndarray) -> tuple[int, np.ndarray]:
    """Hash and small picture of an image.

    Parameters
    ----------
    array : (K, J, I) or (K, J, I, C) ndarray

    Returns
    -------
    int
        A bit for each of 63 low frequencies of a 32×32 picture: whether it is above their median (Zauner 2010,
        Implementation and benchmarking of perceptual image hash functions).
    (256,) float32 ndarray
        A 16×16 picture of mean 0 and length 1; all 0 without contrast.
    """
    from scipy.fft import dctn

    flat = array.mean(axis=3) if array.ndim == 4 else array
    plane = flat[len(flat) // 2] if len(flat) < 3 else _three(flat)
    small = _shrunk(plane.astype(np.float32), 32)
    frequencies = dctn(small, norm="ortho")[:_LOW, :_LOW].reshape(-1)[1:]
    bits = frequencies > np.median(frequencies)
    picture = _shrunk(small, _SIDE).reshape(-1)
    picture = picture - picture.mean()
    length = float(np.linalg.norm(picture))
    picture = picture / length if length > 1e-6 * max(1.0, float(np.abs(small).max())) else picture * 0
    return int("".join("1" if b else "0" for b in bits), 2), picture.astype(np.float32)


def near_duplicates(fingerprints) -> list[tuple[int, int, float]]:
    """Pairs of positions whose images look the same, with their correlation; the likest first, at most a thousand."""
    if not fingerprints:
        return []
    hashes = np.array([f[0] for f in fingerprints], np.uint64)
    pictures = np.stack([f[1] for f in fingerprints])
    pairs = []
    for first in range(len(hashes) - 1):
        differing = np.bitwise_count(hashes[first + 1 :] ^ hashes[first])
        for other in np.flatnonzero(differing <= _MOST_BITS) + first + 1:
            likeness = float(pictures[first] @ pictures[other])
            if likeness >= _LEAST_CORRELATION:
                pairs.append((first, int(other), likeness))
    return sorted(pairs, key=lambda p: -p[2])[:_MOST_PAIRS]


def _three(volume: np.ndarray) -> np.ndarray:
    """Middle planes of the three directions beside each other, each shrunk to a square."""
    k, j, i = (n // 2 for n in volume.shape)
    planes = (volume[k], volume[:, j], volume[:, :, i])
    return np.concatenate([_shrunk(p.astype(np.float32), 32) for p in planes], axis=1)


def _shrunk(plane: np.ndarray, side: int) -> np.ndarray:
    """Means over ``side`` × ``side`` equal boxes, exact for any size of the plane."""
    for axis in (0, 1):
        plane = np.moveaxis(plane, axis, 0)
        count = len(plane)
        total = np.concatenate([np.zeros_like(plane[:1], dtype=np.float64), np.cumsum(plane, axis=0, dtype=np.float64)])
        edges = np.linspace(0, count, side + 1)
        whole = np.minimum(edges.astype(int), count - 1)
        at = total[whole] + (edges - whole)[:, None] * (total[whole + 1] - total[whole])
        plane = np.moveaxis(np.diff(at, axis=0) * (side / count), 0, axis)
    return plane.astype(np.float32)
