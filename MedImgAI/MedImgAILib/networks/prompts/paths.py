"""How far everything is from what was pointed at, along the best way through the image.

Two measures for each voxel: the tolerance at which region growing from the points reaches it (the largest deviation
from their intensity that the best way must cross; Carvalho et al. 1999, Comput Methods Programs Biomed 57:149, fuzzy
connectedness), and the length of the shortest way where edges are long (geodesic distance; Criminisi, Sharp and Blake
2008, ECCV). Both are found by sweeping the planes of the image back and forth along each axis, all voxels of a plane at
once, so that the time does not depend on the image.
"""

from __future__ import annotations

SWEEPS = 2
"""Rounds of the six directions; ways that wind more often are found too long."""
FAR = 4.0
"""What a voxel has that no way leads to."""


def from_points(image, seeds):
    """Tolerance and geodesic distance of each voxel from the points.

    Parameters
    ----------
    image : (B, 1, K, J, I) tensor
        With most values between 0 and 1.
    seeds : (B, S, K, J, I) bool tensor
        S sets of points.

    Returns
    -------
    tolerance, distance : (B, S, K, J, I) float32 tensors
        In units of the image, the distance with 0.02 for each voxel on the way; at most :data:`FAR`, which is also
        what images without points have.
    """
    import torch
    from torch.nn.functional import avg_pool3d, pad

    image = image.float()
    smooth = avg_pool3d(pad(image, (1,) * 6, mode="replicate"), 3, 1)
    weight = seeds.float()
    count = weight.sum((2, 3, 4), keepdim=True).clamp(min=1)
    mean = (smooth * weight).sum((2, 3, 4), keepdim=True) / count
    spread = ((smooth - mean) ** 2 * weight).sum((2, 3, 4), keepdim=True).div(count).sqrt()
    off = ((smooth - mean).abs() - spread).clamp(min=0)
    steep = sum(torch.diff(smooth, dim=d, append=smooth.narrow(d, -1, 1)).abs() for d in (2, 3, 4))
    cost = (0.02 + steep).expand_as(off)
    nothing = torch.zeros_like(off)
    start = torch.where(seeds, 0.0, FAR)
    # On the way to the next voxel the greater of the two is kept, and the second added.
    least, added = torch.stack([off, nothing]), torch.stack([nothing, cost])
    return tuple(_swept(torch.stack([start, start]), least, added))


def _swept(values, least, added):
    """The least that any way brings to each voxel of (2, B, S, K, J, I): max(before, ``least``) + ``added``."""
    for _ in range(SWEEPS):
        for axis in (3, 4, 5):
            planes, lower, further = (x.movedim(axis, 0).contiguous() for x in (values, least, added))
            last = len(planes) - 1
            for before, at in [(n, n + 1) for n in range(last)] + [(n, n - 1) for n in range(last, 0, -1)]:
                near = _least_near(planes[before]).maximum(lower[at]).add_(further[at])
                planes[at].copy_(planes[at].minimum(near))
            values = planes.movedim(0, axis)
    return values


def _least_near(plane):
    """The least of each pixel and its eight neighbours; in place of a pooling, which takes three times as long."""
    rows = plane.clone()
    rows[..., 1:, :] = rows[..., 1:, :].minimum(plane[..., :-1, :])
    rows[..., :-1, :] = rows[..., :-1, :].minimum(plane[..., 1:, :])
    near = rows.clone()
    near[..., 1:] = near[..., 1:].minimum(rows[..., :-1])
    near[..., :-1] = near[..., :-1].minimum(rows[..., 1:])
    return near
