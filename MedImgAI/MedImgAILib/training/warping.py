"""Turning, scaling, moving and bending of samples in one interpolation; labels move with the images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_MOST_SMOOTH_LABELS = 16
"""Up to this many labels each is interpolated as a share of the voxel; of more, the nearest is taken."""


@dataclass(frozen=True)
class Warp:
    """Ranges of a random change of place.

    Parameters
    ----------
    share : float
        Share of the samples that are changed.
    degrees : float
        Largest angle, about every axis, or with ``in_slices`` about the first one only.
    scale : float
        Natural logarithm of the largest factor; half as much again differs from axis to axis.
    shift : float
        Largest way along each axis, in voxels.
    bend : float
        Standard deviation, in voxels, of the way that knots go, between which a smooth field is spanned; 0 for none.
    knot_distance : float
        In voxels.
    in_slices : bool
        Whether three-dimensional images are turned within their slices only.
    """

    share: float
    degrees: float
    scale: float
    shift: float = 3.0
    bend: float = 0.0
    knot_distance: float = 12.0
    in_slices: bool = False

    def __call__(self, image, labels, rng: np.random.Generator):
        """Change a sample, or leave it.

        Parameters
        ----------
        image : (C, …) float32 tensor
        labels : (…) uint8 tensor, optional
        rng : numpy Generator

        Returns
        -------
        Tensors of the same shapes; 0 where they show what lies outside.
        """
        if rng.random() >= self.share:
            return image, labels
        return _at(image, labels, self._grid(tuple(image.shape[1:]), rng))

    def _grid(self, shape, rng):
        """(1, …, d) places in the coordinates of ``grid_sample``."""
        import torch
        from torch.nn import functional

        half = np.array([max((n - 1) / 2, 0.5) for n in shape])  # voxels to -1 … 1
        matrix = self._matrix(len(shape), rng) * half / half[:, None]
        shift = rng.uniform(-self.shift, self.shift, len(shape)) / half
        theta = np.concatenate([matrix[::-1, ::-1], shift[::-1, None]], axis=1)  # the last axis comes first
        theta = torch.from_numpy(theta.astype(np.float32))[None]
        grid = functional.affine_grid(theta, (1, 1, *shape), align_corners=True)
        return grid + self._field(shape, half, rng) if self.bend else grid

    def _matrix(self, count: int, rng) -> np.ndarray:
        matrix = np.eye(count)
        planes = [(0, 1)] if count == 2 else [(1, 2)] if self.in_slices else [(1, 2), (0, 2), (0, 1)]
        for a, b in planes:
            angle = np.deg2rad(rng.uniform(-self.degrees, self.degrees))
            turn = np.eye(count)
            turn[a, a] = turn[b, b] = np.cos(angle)
            turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
            matrix = matrix @ turn
        factors = rng.uniform(-self.scale, self.scale) + 0.5 * rng.uniform(-self.scale, self.scale, count)
        return matrix * np.exp(factors)

    def _field(self, shape, half, rng):
        """(…, d) ways in the coordinates of ``grid_sample``."""
        import torch
        from torch.nn import functional

        knots = [max(2, int(round(n / self.knot_distance)) + 1) if n > 1 else 1 for n in shape]
        ways = rng.normal(0, self.bend, (1, len(shape), *knots))
        ways = (ways / half.reshape(-1, *[1] * len(shape)))[:, ::-1].astype(np.float32)
        mode = "trilinear" if len(shape) == 3 else "bilinear"
        spanned = functional.interpolate(torch.from_numpy(ways), tuple(shape), mode=mode, align_corners=True)
        return spanned[0].movedim(0, -1)


def _at(image, labels, grid):
    """Image and labels at the places of the grid, by one interpolation."""
    import torch

    most = 0 if labels is None else int(labels.max())
    if not 0 < most <= _MOST_SMOOTH_LABELS:
        return _sampled(image, grid), _nearest(labels, grid) if most else labels
    each = [(labels == n).float() for n in range(1, most + 1)]
    sampled = _sampled(torch.cat([image, torch.stack(each)]), grid)
    image, shares = sampled[: len(image)], sampled[len(image) :]
    # The label with the largest share at each place, the background being what no label has.
    largest, which = shares.max(dim=0)
    return image, torch.where(largest >= 1 - shares.sum(dim=0), which + 1, 0).to(labels.dtype)


def _sampled(values, grid, mode: str = "bilinear"):
    from torch.nn import functional

    return functional.grid_sample(values[None], grid, mode=mode, align_corners=True)[0]


def _nearest(labels, grid):
    return _sampled(labels[None].float(), grid, "nearest")[0].to(labels.dtype)
