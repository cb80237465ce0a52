"""The planes of a volume to which windows still add, as a ring; finished planes leave it."""

from __future__ import annotations

import tempfile
from math import prod


class Slab:
    """Weighted sums of the windows' outputs on a few planes, for one or several passes.

    Parameters
    ----------
    channels : list of int
        Of each pass.
    depth : int
        Planes held at once: the windows' extent.
    plane : (J, I)
    device : str
    most_bytes : int, optional
        Above this the sums lie in a temporary file, which the system keeps in memory as far as it can.
    """

    def __init__(
        self, channels: list[int], depth: int, plane: tuple[int, int], device: str, most_bytes: int | None = None
    ):
        import torch

        self.depth = depth
        self.device = device
        self._file = None
        sizes = [depth * c * prod(plane) for c in channels]
        if most_bytes is not None and str(device) == "cpu" and 4 * sum(sizes) > most_bytes:
            import numpy as np

            self._file = tempfile.TemporaryFile()  # noqa: SIM115
            self._file.truncate(4 * sum(sizes))
            buffer = torch.from_numpy(np.memmap(self._file, np.float32, "r+", shape=(sum(sizes),)))
            self.sums = [s.view(depth, c, *plane) for s, c in zip(buffer.split(sizes), channels)]
        else:
            self.sums = [torch.zeros((depth, c, *plane), device=device) for c in channels]
        self.weights = torch.zeros((depth, *plane), device=device)

    @property
    def in_file(self) -> bool:
        return self._file is not None

    def add(self, values: list, importance, start: tuple[int, int, int]):
        """Add a window.

        Parameters
        ----------
        values : list of (C, K, J, I) tensors
            The network's output in each pass.
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
            for sums, value in zip(self.sums, values):
                added = value[:, part].transpose(0, 1).to(sums.device)
                sums[ring, :, rows, columns].addcmul_(added, weight[:, None])
            self.weights[ring, rows, columns].add_(weight)
            first, done = 0, done + count

    def plane(self, k: int):
        """The sums, a (C, J, I) view for each pass, and the weights (J, I) of plane ``k``."""
        return [s[k % self.depth] for s in self.sums], self.weights[k % self.depth]

    def clear(self, k: int):
        """Make room for a new plane where plane ``k`` was."""
        for tensor in (*self.sums, self.weights):
            plane = tensor[k % self.depth]
            if plane.device.type == "cpu":
                plane.numpy().fill(0)  # torch would wait for the other cores, which may be busy
            else:
                plane.zero_()

    def close(self):
        """Give back the temporary file, if there is one."""
        self.sums = []
        if self._file is not None:
            self._file.close()
