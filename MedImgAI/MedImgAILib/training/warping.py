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
        grid = self._grid(tuple(image.shape[1:]), rng)
        return _image_at(image, grid), None if labels is None else _labels_at(labels, grid)

    def _grid(self, shape, rng):
        """(1, …, d) places in the coordinates of ``grid_sample``."""
        import torch

        axes = [torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in shape]
        places = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
        places = places @ torch.from_numpy(self._matrix(len(shape), rng).T)
        places = places + torch.from_numpy(rng.uniform(-self.shift, self.shift, len(shape)).astype(np.float32))
        if self.bend:
            places = places + self._field(shape, rng)
        half = torch.tensor([max((n - 1) / 2, 0.5) for n in shape])
        return (places / half).flip(-1)[None]

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
        return (matrix * np.exp(factors)).astype(np.float32)

    def _field(self, shape, rng):
        """(…, d) ways in voxels."""
        import torch
        from torch.nn import functional

        knots = [max(2, int(round(n / self.knot_distance)) + 1) if n > 1 else 1 for n in shape]
        ways = rng.normal(0, self.bend, (1, len(shape), *knots)).astype(np.float32)
        mode = "trilinear" if len(shape) == 3 else "bilinear"
        spanned = functional.interpolate(torch.from_numpy(ways), tuple(shape), mode=mode, align_corners=True)
        return spanned[0].movedim(0, -1)


def _image_at(image, grid):
    from torch.nn import functional

    return functional.grid_sample(image[None], grid, mode="bilinear", align_corners=True)[0]


def _labels_at(labels, grid):
    """The label with the largest share at each place, the background being what no label has."""
    import torch
    from torch.nn import functional

    most = int(labels.max())
    if most > _MOST_SMOOTH_LABELS:
        return functional.grid_sample(labels[None, None].float(), grid, mode="nearest", align_corners=True)[0, 0].to(
            labels.dtype
        )
    if most == 0:
        return torch.zeros_like(labels)
    each = torch.stack([(labels == n).float() for n in range(1, most + 1)])
    shares = functional.grid_sample(each[None], grid, mode="bilinear", align_corners=True)[0]
    largest, which = shares.max(dim=0)
    return torch.where(largest >= 1 - shares.sum(dim=0), which + 1, 0).to(labels.dtype)
