"""Forward projection and its exact adjoint, in every geometry.

Joseph's method (IEEE Trans Med Imaging 1:192, 1982): a ray is summed over the planes of the image axis that it is
closest to, x or y, interpolated linearly in the plane, times its length between planes. The same weights serve both
directions, so ``A.H`` is the transpose of ``A`` to rounding. For parallel beams it is ASTRA's "linear" kernel.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from MedImgAILib.core import InputError, ScanGeometry

from .accelerate import has, parallel, threads
from .grid import Grid, detector_coordinates
from .joseph_kernels import LANES, kernels
from .rays import rays_at, tilted

PLANES_AT_ONCE = 24
"""Image planes that stay in the processor's cache while all views pass."""


@dataclass(frozen=True)
class RayTable:
    """The in-plane course of all rays: (views, columns) arrays.

    With d the index of an image plane (a row if ``along_y``, else a column) the ray crosses it at index
    start + slope · d of the other axis, and runs ``length`` mm from plane to plane. The ray to detector height v in mm
    is there at z = v · (lift + rise · d); its length is longer by the factor sqrt(1 + (v · steepness)²).
    """

    along_y: np.ndarray
    start: np.ndarray
    slope: np.ndarray
    length: np.ndarray
    lift: np.ndarray
    rise: np.ndarray
    steepness: np.ndarray


def ray_table(scan: ScanGeometry, columns: int, grid: Grid) -> RayTable:
    """The rays of an untilted detector through the planes of ``grid``."""
    _, u = detector_coordinates(scan, 1, columns)
    flat = np.zeros_like(u)
    origin, direction = zip(*(rays_at(scan, angle, flat, u) for angle in scan.angles_rad))
    direction = np.stack(direction)
    origin = np.broadcast_to(
        np.stack(origin)[:, None] if np.ndim(origin[0]) == 1 else np.stack(origin), direction.shape
    )
    ox, oy, dx, dy = origin[..., 0], origin[..., 1], direction[..., 0], direction[..., 1]
    along_y = np.abs(dy) * grid.spacing_mm[2] >= np.abs(dx) * grid.spacing_mm[1] * (1 - 1e-9)
    x0, y0 = grid.axis(2)[0], grid.axis(1)[0]
    step_x, step_y = grid.spacing_mm[2], grid.spacing_mm[1]
    main, cross = np.where(along_y, dy, dx), np.where(along_y, dx, dy)
    plane0, plane_step = np.where(along_y, y0, x0), np.where(along_y, step_y, step_x)
    cross0, cross_step = np.where(along_y, x0, y0), np.where(along_y, step_x, step_y)
    o_main, o_cross = np.where(along_y, oy, ox), np.where(along_y, ox, oy)
    to_first = (plane0 - o_main) / main
    start = (o_cross + to_first * cross - cross0) / cross_step
    slope = plane_step / main * cross / cross_step
    length = np.abs(plane_step / main)
    if scan.kind == "parallel":
        lift, rise, steepness = np.ones_like(start), np.zeros_like(start), np.zeros_like(start)
    else:
        distance = scan.source_to_detector_mm
        along = np.broadcast_to(np.hypot(distance, 0 * u if scan.curved else u), start.shape)
        lift, rise, steepness = to_first / along, plane_step / main / along, 1 / along
    return RayTable(along_y, *(np.ascontiguousarray(a) for a in (start, slope, length, lift, rise, steepness)))


class Projector:
    """The operator A from volumes (nz, ny, nx) in 1/mm to projections (views, rows, columns).

    ``forward(x)`` and ``adjoint(y)`` work on float32 arrays; :meth:`linear_operator` gives SciPy's interface.

    Parameters
    ----------
    scan : ScanGeometry
    rows, columns : int
        Detector size.
    grid : Grid
    device : str
        "cpu", or a torch device.
    check : callable, optional
        Called now and then; raises Cancelled to stop.

    Raises
    ------
    InputError
        If the source lies inside the grid.
    """

    def __init__(self, scan: ScanGeometry, rows: int, columns: int, grid: Grid, device: str = "cpu", check=None):
        self.scan, self.rows, self.columns, self.grid = scan, rows, columns, grid
        self.projection_shape = (len(scan.angles_rad), rows, columns)
        self.volume_shape = grid.shape
        if scan.kind != "parallel":
            reach = max(np.hypot(x, y) for x in grid.axis(2)[[0, -1]] for y in grid.axis(1)[[0, -1]])
            if np.abs(grid.axis(2)).max() ** 2 + np.abs(grid.axis(1)).max() ** 2 >= scan.source_to_isocenter_mm**2:
                raise InputError(
                    f"The grid reaches {reach:.0f} mm from the axis but the source is at "
                    f"{scan.source_to_isocenter_mm:.0f} mm; choose a smaller field of view."
                )
        self.table = ray_table(scan, columns, grid)
        v, _ = detector_coordinates(scan, rows, columns)
        z = grid.axis(0)
        self.v = np.array([v[0], scan.pixel_mm[0]])
        self.z = np.array([z[0], grid.spacing_mm[0]])
        self.is_stack = scan.kind == "fan" or (
            scan.kind == "parallel" and rows == len(z) and bool(np.abs(v - z).max() < 1e-3 * scan.pixel_mm[0])
        )
        self.device, self.check = device, check
        self.tilt = _tilt_matrix(scan, rows, columns) if scan.tilt_rad else None
        if self.tilt is not None and self.is_stack and scan.kind == "parallel" and rows > 1:
            self.is_stack = False
        self._engine = self._choose_engine()

    def _choose_engine(self):
        if self.device != "cpu":
            from .torch_ct import TorchEngine

            return TorchEngine(self)
        if not has("numba"):
            from .sparse_engine import SparseEngine

            return SparseEngine(self)
        return StackEngine(self) if self.is_stack else ConeEngine(self)

    def row_lengths_of(self, view: int, rows, rays) -> np.ndarray:
        """(rows, columns) ray length between planes in mm of some rays of one view."""
        v = (self.v[0] + self.v[1] * np.arange(self.rows))[rows]
        length, steepness = self.table.length[view, rays], self.table.steepness[view, rays]
        return length[None] * np.sqrt(1 + (v[:, None] * steepness[None]) ** 2)

    def stop_if_cancelled(self):
        """Let the caller's check raise Cancelled."""
        if self.check is not None:
            self.check()

    def forward(self, volume: np.ndarray) -> np.ndarray:
        """A x: (nz, ny, nx) to (views, rows, columns), float32."""
        result = self._engine.forward(np.asarray(volume, np.float32))
        return result if self.tilt is None else self._apply(self.tilt, result)

    def adjoint(self, projections: np.ndarray) -> np.ndarray:
        """Aᵀ y: (views, rows, columns) to (nz, ny, nx), float32."""
        projections = np.asarray(projections, np.float32)
        return self._engine.adjoint(projections if self.tilt is None else self._apply(self.tilt.T, projections))

    @staticmethod
    def _apply(matrix, projections):
        flat = projections.reshape(len(projections), -1)
        return np.ascontiguousarray((matrix @ flat.T).T, np.float32).reshape(projections.shape)

    def subset(self, views) -> Projector:
        """The operator of some of the views."""
        scan = replace(self.scan, angles_rad=self.scan.angles_rad[views])
        return Projector(scan, self.rows, self.columns, self.grid, self.device, self.check)

    def linear_operator(self):
        """SciPy's LinearOperator on flattened arrays: ``A @ x``, ``A.H @ y``."""
        from scipy.sparse.linalg import LinearOperator

        return LinearOperator(
            (int(np.prod(self.projection_shape)), int(np.prod(self.volume_shape))),
            matvec=lambda x: self.forward(x.reshape(self.volume_shape)).ravel(),
            rmatvec=lambda y: self.adjoint(y.reshape(self.projection_shape)).ravel(),
            dtype=np.float32,
        )


def _tilt_matrix(scan: ScanGeometry, rows: int, columns: int):
    """Sparse (pixels, pixels): the tilted detector's values from an untilted one's, bilinear."""
    from scipy.sparse import csr_matrix

    v, u = detector_coordinates(scan, rows, columns)
    tv, tu = tilted(scan, *np.meshgrid(v, u, indexing="ij"))
    row, column = ((tv - v[0]) / scan.pixel_mm[0]).ravel(), ((tu - u[0]) / scan.pixel_mm[1]).ravel()
    r, c = np.floor(row).astype(int), np.floor(column).astype(int)
    index, weight, pixel = [], [], []
    for dr in (0, 1):
        for dc in (0, 1):
            w = (1 - np.abs(row - r - dr)) * (1 - np.abs(column - c - dc))
            seen = (r + dr >= 0) & (r + dr < rows) & (c + dc >= 0) & (c + dc < columns) & (w > 0)
            index.append(((r + dr) * columns + c + dc)[seen])
            weight.append(w[seen])
            pixel.append(np.flatnonzero(seen))
    entries = (np.concatenate(weight).astype(np.float32), (np.concatenate(pixel), np.concatenate(index)))
    return csr_matrix(entries, shape=(rows * columns,) * 2)


class StackEngine:
    """Slices that coincide with detector rows, sixteen at once, compiled."""

    def __init__(self, projector: Projector):
        self.projector = projector
        table = projector.table
        self.chosen = (table.along_y, ~table.along_y)
        self.rays = (table.start, table.slope, table.length)

    def forward(self, volume):
        kernel = kernels().stack_forward
        views, rows, columns = self.projector.projection_shape
        result = np.empty((views, rows, columns), np.float32)
        lanes = np.zeros((views, columns, LANES), np.float32)
        spans = _spans(views, 2 * threads())
        for first in range(0, rows, LANES):
            part = volume[first : first + LANES]
            lanes[:] = 0
            for axes, chosen in zip(((1, 2, 0), (2, 1, 0)), self.chosen):
                image = _bordered(part, axes)
                parallel(
                    lambda s, image=image, chosen=chosen: kernel(
                        image, chosen, *self.rays, s[0], s[1], PLANES_AT_ONCE, lanes
                    ),
                    spans,
                    check=self.projector.check,
                )

            def unpack(span, part=part, first=first):
                low, high = span
                result[low:high, first : first + LANES] = lanes[low:high, :, : len(part)].transpose(0, 2, 1)

            parallel(unpack, spans)
        return result

    def adjoint(self, projections):
        kernel = kernels().stack_adjoint
        views, rows, columns = projections.shape
        nz, ny, nx = self.projector.volume_shape
        result = np.zeros((nz, ny, nx), np.float32)
        lanes = np.zeros((views, columns, LANES), np.float32)
        for first in range(0, rows, LANES):
            target = result[first : first + LANES]
            count = len(target)
            lanes[..., count:] = 0

            def pack(span, first=first, count=count):
                low, high = span
                lanes[low:high, :, :count] = projections[low:high, first : first + count].transpose(0, 2, 1)

            parallel(pack, _spans(views, 2 * threads()))
            for (depth, width), back, chosen in zip(((ny, nx), (nx, ny)), ((2, 0, 1), (2, 1, 0)), self.chosen):
                image = np.zeros((depth, width + 2, LANES), np.float32)
                blocks = [(d, min(d + PLANES_AT_ONCE, depth)) for d in range(0, depth, PLANES_AT_ONCE)]
                parallel(
                    lambda b, image=image, chosen=chosen: kernel(lanes, chosen, *self.rays, b[0], b[1], image),
                    blocks,
                    check=self.projector.check,
                )

                def add(span, image=image, back=back, target=target):
                    low, high = span
                    view = image[:, 1:-1, : len(target)].transpose(back)
                    target[:, low:high] += view[:, low:high]

                parallel(add, _spans(ny, 2 * threads()))
        return result


class ConeEngine:
    """Rays that leave their slice, compiled."""

    def __init__(self, projector: Projector):
        self.projector = projector
        table = projector.table
        self.chosen = (table.along_y, ~table.along_y)
        self.rays = (table.start, table.slope, table.lift, table.rise, projector.v, projector.z)

    def forward(self, volume):
        kernel = kernels().cone_forward
        views, rows, columns = self.projector.projection_shape
        result = np.zeros((views, columns, rows), np.float32)
        spans = _spans(views, 4 * threads())
        for axes, chosen in zip(((1, 2, 0), (2, 1, 0)), self.chosen):
            image = np.pad(volume.transpose(axes), ((0, 0), (1, 1), (1, 1)))
            parallel(
                lambda s, image=image, chosen=chosen: kernel(
                    image, chosen, *self.rays, s[0], s[1], PLANES_AT_ONCE, result
                ),
                spans,
                check=self.projector.check,
            )
        return self._weighted(result.transpose(0, 2, 1))

    def adjoint(self, projections):
        kernel = kernels().cone_adjoint
        nz, ny, nx = self.projector.volume_shape
        result = np.zeros((nz, ny, nx), np.float32)
        sinogram = np.ascontiguousarray(self._weighted(projections).transpose(0, 2, 1))
        for (depth, width), back, chosen in zip(((ny, nx), (nx, ny)), ((2, 0, 1), (2, 1, 0)), self.chosen):
            image = np.zeros((depth, width + 2, nz + 2), np.float32)
            size = max(1, min(PLANES_AT_ONCE, -(-depth // (4 * threads()))))
            blocks = [(d, min(d + size, depth)) for d in range(0, depth, size)]
            parallel(
                lambda b, image=image, chosen=chosen: kernel(sinogram, chosen, *self.rays, b[0], b[1], image),
                blocks,
                check=self.projector.check,
            )
            result += image[:, 1:-1, 1:-1].transpose(back)
        return result

    def _weighted(self, projections):
        result = np.empty(projections.shape, np.float32)
        for view, image in enumerate(projections):
            length = self.projector.row_lengths_of(view, slice(None), slice(None))
            np.multiply(image, length, out=result[view], casting="same_kind")
        return result


def _bordered(volume, axes):
    """(planes, crossed axis + 2, lanes) copy of up to sixteen slices with a zero border."""
    view = volume.transpose(axes)
    depth, width, count = view.shape
    image = np.zeros((depth, width + 2, LANES), np.float32)
    image[:, 1:-1, :count] = view
    return image


def _spans(count: int, parts: int):
    edges = np.linspace(0, count, min(count, parts) + 1).astype(int)
    return [(int(a), int(b)) for a, b in zip(edges[:-1], edges[1:])]
