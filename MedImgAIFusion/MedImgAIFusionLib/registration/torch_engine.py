"""The steps of the deformable registration by PyTorch, on a GPU where there is one: the same algorithm on tensors."""

from __future__ import annotations

import numpy as np

from . import fields, forces


class TorchEngine:
    """As :class:`.diffeomorphic.HostEngine`, with tensors of shape (3, K, J, I) and (K, J, I) on a device.

    Parameters
    ----------
    device : str
        "cpu", "cuda" or "mps".
    """

    def __init__(self, device: str):
        import torch

        self._torch, self._device = torch, torch.device(device)
        self.forces = {
            "local_correlation": self._local_correlation,
            "mean_squares": forces.mean_squares,
            "mutual_information": self._mutual_information,
            "normalized_gradients": self._normalized_gradients,
        }

    def put(self, array):
        """A tensor on the device."""
        return self._torch.as_tensor(np.array(array, np.float32), device=self._device)

    def get(self, tensor):
        """A NumPy array."""
        return tensor.cpu().numpy()

    def warp(self, array, field):
        """As :func:`.fields.warp`."""
        torch = self._torch
        axes = []
        # grid_sample counts from −1 to 1 between the outermost centres, the last axis first.
        for axis in (2, 1, 0):
            count = array.shape[axis]
            index = torch.arange(count, dtype=torch.float32, device=self._device)
            place = field[axis] + index.reshape([-1 if n == axis else 1 for n in range(3)])
            axes.append(place * (2 / max(count - 1, 1)) - 1)
        grid = torch.stack(axes, dim=-1)[None]
        sampled = torch.nn.functional.grid_sample(
            array[None, None], grid, mode="bilinear", padding_mode="border", align_corners=True
        )
        return sampled[0, 0]

    def smooth(self, field, sigma_voxels):
        """As :func:`.fields.smooth`."""
        for axis, sigma in enumerate(sigma_voxels):
            if sigma > 0.2 and field.shape[axis + 1] > 1:
                field = self._convolve(field, fields.gaussian(sigma), axis)
        return field

    def pull(self, image, slopes, scale):
        """As :func:`.fields.pull`."""
        parts = [self._difference(image, axis) * slopes * float(scale[axis]) for axis in range(3)]
        return self._torch.stack(parts)

    def advance(self, field, step):
        """As :func:`.fields.advance`."""
        result = field + step
        for axis in range(3):
            if field.shape[axis + 1] > 1:
                result += self._difference(field, axis + 1) * step[axis]
        return result

    def _convolve(self, stack, half, axis):
        """(C, K, J, I) convolved along an axis with symmetric weights, centre first; the border goes on."""
        torch = self._torch
        weights = torch.as_tensor(np.concatenate([half[:0:-1], half]), device=self._device)
        reach = len(half) - 1
        moved = stack.movedim(axis + 1, -1)
        lines = moved.reshape(-1, 1, moved.shape[-1])
        lines = torch.nn.functional.pad(lines, (reach, reach), mode="replicate")
        return torch.nn.functional.conv1d(lines, weights[None, None]).reshape(moved.shape).movedim(-1, axis + 1)

    def _difference(self, array, axis):
        """As :func:`.fields.difference`."""
        if array.shape[axis] == 1:
            return self._torch.zeros_like(array)
        return self._torch.gradient(array, dim=axis)[0]

    def _local_correlation(self, first, second, weights, radius, relative=None):
        stack = self._torch.stack([first, second, first * first, second * second, first * second])
        for axis, reach in enumerate(radius):
            if stack.shape[axis + 1] > 1:
                box = np.full(int(reach) + 1, 1 / (2 * int(reach) + 1), np.float32)
                stack = self._convolve(stack, box, axis)
        a, b, aa, bb, ab = stack
        aa, bb = (aa - a * a).clamp(min=0), (bb - b * b).clamp(min=0)
        ab = ab - a * b
        flat = float(forces.FLAT)
        shared = ab / ((aa + flat) * (bb + flat))
        value = float((ab * shared * weights).sum() / weights.sum().clamp(min=1e-6))
        first, second, shared = first - a, second - b, shared * weights
        return value, shared * (second - ab / (aa + flat) * first), shared * (first - ab / (bb + flat) * second)

    def _mutual_information(self, first, second, weights, radius, relative=None):
        images = (self.get(image) for image in (first, second, weights))
        value, *slopes = forces.mutual_information(*images, radius)
        return value, *(self.put(slope) for slope in slopes)

    def _normalized_gradients(self, first, second, weights, radius, relative):
        edges, scales = [], []
        for image in (first, second):
            edge = self._torch.stack([self._difference(image, axis) * float(relative[axis]) for axis in range(3)])
            scales.append(1 / max(float((edge**2).sum(dim=0).sqrt().mean()), 1e-12))
            edges.append(edge * scales[-1])
        sizes = [(edge**2).sum(dim=0) + 1 for edge in edges]
        along = (edges[0] * edges[1]).sum(dim=0)
        common = weights * along / (sizes[0] * sizes[1])
        slopes = []
        for own, other in ((0, 1), (1, 0)):
            by_edge = common * (edges[other] - along / sizes[own] * edges[own])
            slope = -sum(self._difference(by_edge[axis], axis) * float(relative[axis]) for axis in range(3))
            slopes.append(2 * scales[own] * slope)
        return float((common * along).sum() / weights.sum().clamp(min=1e-6)), *slopes
