"""Free-form deformation: cubic B-splines on a lattice, moved until sampled points of the images are alike.

Rueckert et al. 1999, IEEE Trans Med Imaging 18:712. The points of a level stay where they are, so their spline weights
are one sparse matrix, and displacements and derivatives are products with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from MedImgAILib.core import Context, Geometry, InputError

from . import metric as metrics
from . import pyramid


@dataclass(frozen=True)
class Options:
    """How to register; see the task's parameters."""

    metric: str = "mutual_information"
    spacing_mm: float = 0.0
    stiffness: float = 1.0
    bins: int = 32
    samples: int = 60000
    iterations: int = 60


@dataclass
class Result:
    """What :func:`register` found.

    ``coefficients`` is (3, K, J, I) in mm along the axes of ``lattice``, whose nodes reach beyond the fixed image; the
    map carries x of the fixed image to x + u(x), after the linear start. ``history`` has one (level, value) for each
    evaluation.
    """

    lattice: Geometry
    coefficients: np.ndarray
    history: list = field(default_factory=list)


def lattice_of(geometry: Geometry, spacing_mm: float) -> Geometry:
    """Nodes about ``spacing_mm`` apart along the image's axes, two more beyond each end; one on a flat axis."""
    extent = np.array(geometry.shape[::-1]) * geometry.spacing
    cells = np.where(np.array(geometry.shape[::-1]) > 1, np.maximum(1, np.rint(extent / spacing_mm)), 0).astype(int)
    step = np.where(cells > 0, extent / np.maximum(cells, 1), geometry.spacing)
    matrix = geometry.ijk_to_ras.copy()
    matrix[:3, :3] = matrix[:3, :3] / geometry.spacing * step
    first = np.where(cells > 0, -0.5 - 2 * step / geometry.spacing, 0.0)
    matrix[:3, 3] = geometry.ras(first)
    return Geometry(matrix, tuple(np.where(cells > 0, cells + 5, 1)[::-1]))


def register(fixed, moving, to_moving: np.ndarray, options: Options, context: Context, masks=(None, None)) -> Result:
    """Find the lattice's coefficients under which the images are most alike and the map is smooth.

    Parameters
    ----------
    fixed, moving : scalar Volume
    to_moving : (4, 4)
        Linear start, fixed RAS to moving RAS.
    options : Options
    context : Context
    masks : pair of Segmentation or None

    Returns
    -------
    Result

    Raises
    ------
    InputError
        If an image is constant or they do not overlap.
    """
    context.progress(0.0, "Preparing the images")
    spacings = pyramid.level_spacings(fixed)
    first, second = pyramid.build_after(fixed, moving, masks, to_moving, spacings)
    base = fixed.canonical().geometry
    extent = np.array(base.shape[::-1]) * base.spacing
    finest_mm = options.spacing_mm or max(extent.max() / 14, 4 * float(np.sort(base.spacing)[0]))
    rng = np.random.default_rng(context.seed)
    levels = len(spacings)
    result = None
    for number in range(levels):
        wanted = max(5000, options.samples >> (levels - 1 - number))
        points = pyramid.sample_points(first.levels[0], first.levels[-1], wanted, rng)
        lattice = lattice_of(base, finest_mm * 2 ** min(levels - 1 - number, 2))
        if result is None:
            result = Result(lattice, np.zeros((3, *lattice.shape)))
        else:
            result.coefficients = _refined(result, lattice)
            result.lattice = lattice
        with context.part(number / levels, (number + 1) / levels):
            _level(number, levels, first, second, points, result, options, context)
        if number == 0 and not result.history:
            raise InputError(
                f"{moving.label} and {fixed.in_sentence} do not overlap where the start puts them; "
                "align them linearly first or give a start transform."
            )
    return result


def _level(number, levels, first, second, points, result, options, context):
    """Improve the result's coefficients on one level by L-BFGS."""
    from scipy.optimize import minimize

    level = first.levels[number]
    source = second.levels[min(number, len(second.levels) - 1)]
    inside, values, _ = metrics.Sampler(level.array)(level.indices(points))
    points = points[:, inside]
    kind = metrics.METRICS[options.metric]
    metric = kind(values, (first.low, first.high), (second.low, second.high), options.bins)
    sampler = metrics.Sampler(source.array, source.mask)
    matrix = source.geometry.ras_to_ijk[2::-1]
    base = matrix[:, :3] @ points + matrix[:, 3:]
    # From mm along the lattice's axes to the moving image's voxels.
    axes = result.lattice.ijk_to_ras[:3, :3] / result.lattice.spacing
    turn = matrix[:, :3] @ axes
    weights = spline_weights(result.lattice, points)
    count = weights.shape[1]
    bend = _Bending(result.lattice)
    least = 0.1 * points.shape[1]
    course = []

    def objective(parameters):
        context.check()
        coefficients = parameters.reshape(3, count)
        places = base + turn @ (weights @ coefficients.T).T
        seen, read, gradients = sampler(places.astype(np.float32))
        if len(read) < max(least, 64):
            return 0.0, np.zeros_like(parameters)
        value, slopes = metric(seen, read)
        pulls = np.zeros((3, points.shape[1]))
        pulls[:, seen] = turn.T @ (gradients * slopes)
        energy, by_energy = bend(coefficients)
        course.append(value)
        if len(course) % 4 == 1:
            context.progress(
                min(len(course) / (1.5 * options.iterations), 0.99), f"Level {number + 1} of {levels}"
            )  # fmt: skip
        stiffness = options.stiffness * _BENDING
        return stiffness * energy - value, stiffness * by_energy.ravel() - (weights.T @ pulls.T).T.ravel()

    def reached(intermediate_result):
        context.curve(f"{metric.name}/level {number + 1}", len(result.history) + len(course), course[-1])
        if context.finish_early:
            raise StopIteration

    start = result.coefficients.ravel()
    found = minimize(
        objective, start, jac=True, method="L-BFGS-B", callback=reached,
        options={"maxiter": options.iterations, "ftol": 1e-7, "gtol": 1e-9, "maxls": 12},
    )  # fmt: skip
    result.coefficients = found.x.reshape(result.coefficients.shape)
    result.history += [(number, value) for value in course]


_BENDING = 0.3
"""Weight of the bending energy, in the metric's unit, at stiffness 1; chosen on brains and hippocampi."""


def spline_weights(lattice: Geometry, points: np.ndarray):
    """Sparse (N, nodes) matrix: cubic B-spline weight of each node, k slowest, at (3, N) positions.

    Along an axis of one node the weight is 1.
    """
    from scipy.sparse import csr_array

    kji = lattice.ijk(points.T)[:, ::-1]
    columns = np.zeros((len(kji), 1), np.int32)
    values = np.ones((len(kji), 1))
    for axis, size in enumerate(lattice.shape):
        if size == 1:
            continue
        whole = np.clip(np.floor(kji[:, axis]).astype(np.int32), 1, size - 3)
        u = kji[:, axis] - whole
        own = np.stack(metrics.cubic_weights(u), axis=1)
        nodes = whole[:, None] + np.arange(-1, 3, dtype=np.int32)
        columns = (columns[:, :, None] * size + nodes[:, None, :]).reshape(len(kji), -1)
        values = (values[:, :, None] * own[:, None, :]).reshape(len(kji), -1)
    ends = np.arange(len(kji) + 1) * columns.shape[1]
    return csr_array((values.ravel(), columns.ravel(), ends), shape=(len(kji), int(np.prod(lattice.shape))))


def on_grid(result: Result, grid: Geometry) -> np.ndarray:
    """(3, K, J, I) float32 displacements in voxels of ``grid``, whose axes are the lattice's."""
    field = result.coefficients
    places = result.lattice.ras_to_ijk @ grid.ijk_to_ras
    for axis, size in enumerate(result.lattice.shape):
        at = places[2 - axis, 2 - axis] * np.arange(grid.shape[axis]) + places[2 - axis, 3]
        field = np.moveaxis(np.tensordot(_line_weights(at, size), field, (1, axis + 1)), 0, axis + 1)
    # The components are in mm along i, j, k.
    return np.ascontiguousarray(field[::-1] / grid.spacing_kji[:, None, None, None], np.float32)


def _line_weights(at, size):
    """(N, size) spline weights at positions along one axis."""
    if size == 1:
        return np.ones((len(at), 1))
    whole = np.clip(np.floor(at).astype(int), 1, size - 3)
    weights = np.zeros((len(at), size))
    for n, own in enumerate(metrics.cubic_weights(at - whole)):
        weights[np.arange(len(at)), whole + n - 1] = own
    return weights


class _Bending:
    """Mean squared second difference of the coefficients over the spacing: a bending energy without unit."""

    def __init__(self, lattice: Geometry):
        self._shape = lattice.shape
        self._spacing = lattice.spacing_kji
        self._axes = [axis for axis, size in enumerate(lattice.shape) if size > 2]

    def __call__(self, coefficients):
        """Energy and its derivative at (3, nodes)."""
        field = coefficients.reshape(3, *self._shape)
        energy, slope = 0.0, np.zeros_like(field)
        for axis in self._axes:
            for other in self._axes:
                if other < axis:
                    continue
                share = 1.0 if other == axis else 2.0
                scale = np.sqrt(share) / np.sqrt(self._spacing[axis] * self._spacing[other])
                bent = scale * _twice(field, axis + 1, other + 1)
                energy += (bent**2).sum()
                _twice_back(2 * scale * bent, axis + 1, other + 1, slope)
        count = coefficients.shape[1]
        return energy / count, slope.reshape(3, -1) / count


def _twice(field, axis, other):
    return np.diff(field, n=2, axis=axis) if axis == other else np.diff(np.diff(field, axis=axis), axis=other)


def _twice_back(slope, axis, other, into):
    """Adds the adjoint of :func:`_twice`."""
    steps = ((axis, 2),) if axis == other else ((axis, 1), (other, 1))
    for which, times in steps:
        for _ in range(times):
            pad = [(0, 0)] * slope.ndim
            pad[which] = (1, 1)
            slope = -np.diff(np.pad(slope, pad), axis=which)
    into += slope


def _refined(result: Result, lattice: Geometry) -> np.ndarray:
    """The coefficients of the same displacement on a finer lattice, by interpolation at its nodes."""
    from scipy.ndimage import spline_filter

    k, j, i = np.meshgrid(*(np.arange(n) for n in lattice.shape), indexing="ij")
    nodes = lattice.ras(np.stack([i, j, k], axis=-1)).reshape(-1, 3).T
    values = (spline_weights(result.lattice, nodes) @ result.coefficients.reshape(3, -1).T).T
    return np.stack([_filtered(part.reshape(lattice.shape), spline_filter) for part in values])


def _filtered(values, spline_filter):
    """Coefficients of the spline through the values; an axis of one node is left as it is."""
    squeezed = np.squeeze(values)
    return spline_filter(squeezed, order=3, mode="nearest").reshape(values.shape)
