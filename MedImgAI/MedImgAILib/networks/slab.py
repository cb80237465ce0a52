"""The planes of a volume to which windows still add, as a ring; finished planes leave it."""

from __future__ import annotations

import tempfile
from math import prod


class Slab:
    """Weighted sums of the windows' outputs on a few planes.

    Parameters
    ----------
    channels : int
    depth : int
        Planes held at once: the windows' extent.
    plane : (J, I)
    device : torch.device
    most_bytes : int, optional
        Above this, on the CPU, the sums lie in a temporary file that the system keeps in memory as far as it can.
    """

    def __init__(self, channels: int, depth: int, plane: tuple[int, int], device, most_bytes: int | None = None):
        import torch

        self.depth = depth
        shape = (depth, channels, *plane)
        self.in_file = most_bytes is not None and str(device) == "cpu" and 4 * prod(shape) > most_bytes
        self._file = None
        if self.in_file:
            import numpy as np

            self._file = tempfile.TemporaryFile()  # noqa: SIM115
            self._file.truncate(4 * prod(shape))
            self.sums = torch.from_numpy(np.memmap(self._file, np.float32, "r+", shape=shape))
        else:
            self.sums = torch.zeros(shape, device=device)
        self.weights = torch.zeros((depth, *plane), device=device)

    def add(self, values, importance, start: tuple[int, int, int]):
        """Add a window.

        Parameters
        ----------
        values : (C, K, J, I) tensor
            The network's output.
        importance : (K, J, I) tensor
        start : (k, j, i)
            The window's first voxel.
        """
        k, j, i = start
        extent = importance.shape
        rows, columns = slice(j, j + extent[1]), slice(i, i + extent[2])
        # In the ring a window may reach over the end: then it lies in two pieces.
        first, done = k % self.depth, 0
        while done < extent[0]:
            count = min(self.depth - first, extent[0] - done)
            ring, part = slice(first, first + count), slice(done, done + count)
            weight = importance[part]
            self.sums[ring, :, rows, columns].addcmul_(values[:, part].transpose(0, 1), weight[:, None])
            self.weights[ring, rows, columns].add_(weight)
            first, done = 0, done + count

    def plane(self, k: int):
        """The sums (C, J, I) and weights (J, I) of plane ``k``; views."""
        return self.sums[k % self.depth], self.weights[k % self.depth]

    def clear(self, k: int):
        """Make room for a new plane where plane ``k`` was."""
        self.sums[k % self.depth].zero_()
        self.weights[k % self.depth].zero_()

    def to(self, device) -> Slab:
        """The same sums on another device."""
        self.sums, self.weights = self.sums.to(device), self.weights.to(device)
        return self

    def close(self):
        """Give back the temporary file, if there is one."""
        self.sums = None
        if self._file is not None:
            self._file.close()
