"""The surface of a mask as marching cubes draws it: its volume, its area and its vertices.

A mask has no values between its voxels, so that every vertex lies half-way between two of them and each of the 256
cases of a cube has one area and one volume for a given voxel size. The cases are traced here instead of listed: on
each face of a cube the surface separates what is inside from what is outside, and the pieces close to polygons.
Lorensen WE, Cline HE. Marching cubes. SIGGRAPH 1987; 21:163-169.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np

_CORNERS = tuple(product((0, 1), repeat=3))
_FACES = tuple(
    tuple(np.insert(pair, axis, side) for pair in (((0, 0), (1, 0), (1, 1), (0, 1))[:: 1 if turn else -1]))
    for axis in range(3)
    for side in (0, 1)
    # As seen from outside the corners run anticlockwise; about the middle axis the other two are left-handed.
    for turn in [(side == 1) != (axis == 1)]
)


@dataclass(frozen=True)
class Mesh:
    """A closed surface.

    Parameters
    ----------
    volume_mm3, area_mm2 : float
    vertices : (N, 3) ndarray
        Positions (k, j, i) times the spacing, in mm.
    """

    volume_mm3: float
    area_mm2: float
    vertices: np.ndarray


def mesh(mask: np.ndarray, spacing_kji) -> Mesh:
    """The surface half-way between the voxels of a mask and the others.

    Parameters
    ----------
    mask : (K, J, I) bool
        With at least one voxel; beyond the array is outside.
    spacing_kji : (3,) array_like
        Voxel size in mm.
    """
    spacing = np.asarray(spacing_kji, float)
    padded = np.pad(mask, 1).astype(np.uint8)
    code = np.zeros(np.array(padded.shape) - 1, np.uint8)
    for bit, corner in enumerate(_CORNERS):
        code |= padded[tuple(slice(c, n - 1 + c) for c, n in zip(corner, padded.shape))] << bit
    places = np.argwhere((code > 0) & (code < 255))
    cases = code[tuple(places.T)]
    areas, flows, volumes = _measures(tuple(spacing))
    # Of each triangle a, b, c the signed volume a·(b×c)/6, with the cube's place taken out of the case's own sum.
    volume = (volumes[cases].sum() + np.einsum("nc,nc->", places * spacing, flows[cases])) / 3
    halves = []
    for axis in range(3):
        step = np.argwhere(np.diff(padded, axis=axis))
        halves.append((step + 0.5 * (np.arange(3) == axis)) * spacing)
    return Mesh(abs(float(volume)), float(areas[cases].sum()), np.concatenate(halves))


@cache
def _measures(spacing: tuple):
    """(256,) areas, (256, 3) sums of area vectors and (256,) sums of (position · area vector) of the cases."""
    areas, flows, volumes = np.zeros(256), np.zeros((256, 3)), np.zeros(256)
    spacing_volume = float(np.prod(spacing))
    for case in range(256):
        for polygon in _polygons(case):
            points = polygon * spacing
            # Of the fans from each corner the one that holds most (the mean of several): a rule that does not depend
            # on how the mask is stored, and the one that the manual's reference values agree with.
            fans = []
            for start in range(len(points)):
                first, *others = np.roll(points, -start, axis=0)
                vectors = np.cross(others[:-1] - first, others[1:] - first) / 2
                fans.append((float((vectors @ first).sum()), float(np.linalg.norm(vectors, axis=1).sum())))
            flows[case] += vectors.sum(axis=0)
            most = max(held for held, _ in fans)
            best = [fan for fan in fans if fan[0] > most - 1e-9 * spacing_volume]
            volumes[case] += most
            areas[case] += sum(area for _, area in best) / len(best)
    return areas, flows, volumes


def _polygons(case: int) -> list[np.ndarray]:
    """The closed polygons of one case: (M, 3) positions in a cube of size 1."""
    inside = {corner: bool(case >> bit & 1) for bit, corner in enumerate(_CORNERS)}
    follows = {}
    for face in _FACES:
        corners = [tuple(int(c) for c in corner) for corner in face]
        state = [inside[c] for c in corners]
        edges = [tuple((np.add(corners[n], corners[(n + 1) % 4]) / 2).tolist()) for n in range(4)]
        for n in range(4):
            if state[n - 1] or not state[n]:
                continue
            # The surface enters the face before corner n and leaves it where the last corner outside began, so that
            # two corners that meet in an edge of the face only are joined.
            first = n - 1
            while not state[(first - 1) % 4]:
                first -= 1
            follows[edges[n - 1]] = edges[(first - 1) % 4]
    polygons = []
    while follows:
        start, following = follows.popitem()
        loop = [start]
        while following != start:
            loop.append(following)
            following = follows.pop(following)
        polygons.append(np.array(loop))
    return polygons
