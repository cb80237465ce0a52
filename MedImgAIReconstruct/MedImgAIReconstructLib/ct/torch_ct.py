"""Back-projection and projectors by torch, on any of its devices; the arithmetic of the CPU in float32.

Results agree with the CPU's to 1e-3 of the largest value (positions are rounded in single precision).
"""

from __future__ import annotations

import numpy as np

from .filters import padded_length
from .grid import Grid, detector_coordinates
from .taps import ViewTaps

ELEMENTS_AT_ONCE = 1 << 25


def _positions(work_scan, grid: Grid, torch, device):
    """x (1, nx), y (ny, 1), z (nz,) voxel centres in mm as float32 tensors."""
    z, y, x = (torch.as_tensor(grid.axis(n), dtype=torch.float32, device=device) for n in range(3))
    return x[None, :], y[:, None], z


def _line_taps(torch, position, count: int):
    """Lower index, its neighbour, fraction and whether seen, for linear interpolation that holds the border."""
    seen = (position >= -0.5) & (position < count - 0.5)
    position = position.clamp(0, count - 1)
    low = position.floor().clamp(max=max(count - 2, 0))
    fraction = position - low
    low = low.long()
    return low, (low + 1).clamp(max=count - 1), fraction, seen


def back_project_diverging(work, grid: Grid, device: str, context) -> np.ndarray:
    """Weighted back-projection of the views of a :class:`.cone.ConeFilter`; (nz, ny, nx) float32."""
    import torch

    scan = work.scan
    x, y, z = _positions(scan, grid, torch, device)
    out = torch.zeros(grid.shape, dtype=torch.float32, device=device)
    v, u = detector_coordinates(scan, work.rows, work.columns)
    distance = scan.source_to_detector_mm
    slab = max(1, ELEMENTS_AT_ONCE // (grid.shape[1] * grid.shape[2]))
    for number, angle in enumerate(scan.angles_rad):
        image = torch.as_tensor(np.ascontiguousarray(work.view(number)), device=device).ravel()
        cos, sin = float(np.cos(angle)), float(np.sin(angle))
        s = x * cos + y * sin + scan.axis_shift_mm
        t = scan.source_to_isocenter_mm - x * sin + y * cos
        if scan.curved:
            square = s * s + t * t
            position, scale, weight = distance * torch.atan2(s, t), distance / square.sqrt(), 1 / square
        else:
            position, scale, weight = distance * s / t, distance / t, distance / (t * t)
        left, right, across, seen = _line_taps(torch, (position - u[0]) / scan.pixel_mm[1], work.columns)
        weight = weight * float(work.steps[number] / 2) * (seen & (t > 0))
        for first in range(0, len(z), slab):
            part = z[first : first + slab, None, None]
            low, high, along, seen = _line_taps(torch, (part * scale - v[0]) / scan.pixel_mm[0], work.rows)
            low, high = low * work.columns, high * work.columns
            lower = image[low + left] * (1 - across) + image[low + right] * across
            upper = image[high + left] * (1 - across) + image[high + right] * across
            out[first : first + slab] += (lower + along * (upper - lower)) * (weight * seen)
        context.progress((number + 1) / len(scan.angles_rad), "Back-projecting")
    return out.cpu().numpy()


def back_project_parallel(array, scan, grid: Grid, response, steps, column_weights, added, device, context):
    """Filtered back-projection of parallel beams with linear interpolation; as :func:`interpolate_back`."""
    import torch

    views, rows, columns = array.shape
    left, right = added
    whole = columns + left + right
    length = padded_length(whole)
    weights = torch.as_tensor(np.asarray(column_weights, np.float32), device=device)
    spectrum = torch.as_tensor(np.asarray(response, np.float32), device=device)
    first = detector_coordinates(scan, 1, columns)[1][0] - left * scan.pixel_mm[1]
    x, y, _ = _positions(scan, grid, torch, device)
    out = torch.zeros((rows, grid.shape[1] * grid.shape[2]), dtype=torch.float32, device=device)
    slab = max(1, ELEMENTS_AT_ONCE // out.shape[1])
    for view in range(views):
        lines = torch.zeros((rows, whole), dtype=torch.float32, device=device)
        lines[:, left : left + columns] = torch.as_tensor(np.asarray(array[view], np.float32), device=device) * weights
        lines = torch.fft.irfft(torch.fft.rfft(lines, length) * spectrum, length)[:, :whole] * float(steps[view])
        angle = scan.angles_rad[view]
        place = x * float(np.cos(angle)) + y * float(np.sin(angle)) + (scan.axis_shift_mm - first)
        low, high, fraction, _ = _line_taps(torch, (place / scan.pixel_mm[1]).ravel(), whole)
        inside = ((place >= 0) & (place <= (whole - 1) * scan.pixel_mm[1])).ravel()
        for n in range(0, rows, slab):
            part = lines[n : n + slab]
            value = part[:, low] * (1 - fraction) + part[:, high] * fraction
            out[n : n + slab] += value * inside
        context.progress((view + 1) / views, "Back-projecting")
    return out.reshape(rows, *grid.shape[1:]).cpu().numpy()


class TorchEngine:
    """The projector's weights as gathers and scatters."""

    def __init__(self, projector):
        import torch

        self.torch, self.projector = torch, projector
        self.taps = ViewTaps(torch, projector, self._tensor)

    def _tensor(self, array):
        return self.torch.as_tensor(array, device=self.projector.device)

    def _pieces(self, view):
        """Yield (rows, rays, index, weight) with flat voxel indices and weights, (rows, rays, planes) each."""
        projector = self.projector
        _, ny, nx = projector.volume_shape
        for rays, in_plane, planes in self.taps.in_plane(view):
            for rows in self.taps.row_chunks(rays, planes, ELEMENTS_AT_ONCE):
                length = projector.row_lengths_of(view, rows, rays).astype(np.float32)
                length = self._tensor(length)[..., None]
                if projector.is_stack:
                    offset = self._tensor(rows)[:, None, None] * (ny * nx)
                    for index, weight in in_plane:
                        yield rows, rays, index[None] + offset, weight[None] * length
                    continue
                for k, height in self.taps.heights(view, rays, planes, rows):
                    for index, weight in in_plane:
                        yield rows, rays, k * (ny * nx) + index[None], height * weight[None] * length

    def forward(self, volume):
        torch, projector = self.torch, self.projector
        flat = self._tensor(np.ascontiguousarray(volume)).reshape(-1)
        result = np.zeros(projector.projection_shape, np.float32)
        for view in range(len(result)):
            projector.stop_if_cancelled()
            image = torch.zeros(projector.projection_shape[1:], dtype=torch.float32, device=projector.device)
            for rows, rays, index, weight in self._pieces(view):
                image[rows[0] : rows[-1] + 1, self._tensor(rays)] += (flat[index] * weight).sum(-1)
            result[view] = image.cpu().numpy()
        return result

    def adjoint(self, projections):
        torch, projector = self.torch, self.projector
        flat = torch.zeros(int(np.prod(projector.volume_shape)), dtype=torch.float32, device=projector.device)
        for view, image in enumerate(projections):
            projector.stop_if_cancelled()
            image = self._tensor(np.ascontiguousarray(image))
            for rows, rays, index, weight in self._pieces(view):
                value = image[rows[0] : rows[-1] + 1, self._tensor(rays)][..., None] * weight
                flat.index_add_(0, index.broadcast_to(value.shape).reshape(-1), value.reshape(-1))
        return flat.reshape(projector.volume_shape).cpu().numpy()
