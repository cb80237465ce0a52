"""Symmetric diffeomorphic registration of two images: both are brought to a common middle.

Avants et al. 2008, Med Image Anal 12:26 (symmetric normalisation) in its greedy form: at every step both images are
warped to the middle, the likeness there pulls each, and the smoothed pull is composed with the map so far.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from MedImgAILib.core import Context, Geometry, InputError

from . import fields, pyramid
from .forces import FORCES, NAMES

_COARSEST = 20
"""The longest side of the coarsest level has at least this many voxels."""
_MOST_VOXELS = 1_500_000
"""Of the finest level, unless its spacing is given."""


class HostEngine:
    """Where the images and maps of the levels lie and are worked on: NumPy arrays."""

    forces = FORCES
    put = get = staticmethod(np.asarray)
    warp, smooth = staticmethod(fields.warp), staticmethod(fields.smooth)
    pull, advance = staticmethod(fields.pull), staticmethod(fields.advance)


@dataclass(frozen=True)
class Options:
    """How to register; see the task's parameters. Lengths of 0 follow the level's spacing."""

    metric: str = "local_correlation"
    iterations: int = 40
    step: float = 0.6
    radius_mm: float = 0.0
    update_sigma_mm: float = 0.0
    total_sigma_mm: float = 0.0
    finest_mm: float = 0.0


@dataclass
class Result:
    """What :func:`register` found.

    ``to_moving`` and ``to_fixed`` are fields (see :mod:`.fields`) on ``geometry`` after the linear start: from the
    fixed image's space to the moved moving image's and back. ``inside`` marks the voxels of the fixed image proper,
    without the margin. ``history`` has one (level, value) for each step.
    """

    geometry: Geometry
    to_moving: np.ndarray
    to_fixed: np.ndarray
    inside: tuple[slice, slice, slice]
    history: list = field(default_factory=list)


def level_grids(geometry: Geometry, finest_mm: float = 0.0) -> list[tuple[float, Geometry]]:
    """Spacing in mm and grid of each level, coarse to fine; an axis never gets finer than its voxels."""
    spacing, extent = geometry.spacing, np.array(geometry.shape[::-1]) * geometry.spacing
    finest = finest_mm or float(np.sort(spacing)[0])
    while not finest_mm and np.prod(np.maximum(1, extent / np.maximum(finest, spacing))) > _MOST_VOXELS:
        finest *= 1.05
    count = int(np.clip(np.floor(np.log2(extent.max() / finest / _COARSEST)) + 1, 1, 4))
    steps = [finest * 2**n for n in reversed(range(count))]
    return [(step, geometry.with_spacing(np.maximum(step, spacing))) for step in steps]


def register(
    fixed, moving, to_moving: np.ndarray, options: Options, context: Context, masks=(None, None), engine=HostEngine
) -> Result:
    """Find the smooth invertible map under which the images are most alike.

    Parameters
    ----------
    fixed, moving : scalar Volume
    to_moving : (4, 4)
        Linear start, fixed RAS to moving RAS.
    options : Options
    context : Context
    masks : pair of Segmentation or None
        Outside nothing pulls.
    engine : optional
        As :class:`HostEngine`; computes the steps elsewhere.

    Returns
    -------
    Result

    Raises
    ------
    InputError
        If an image is constant or they do not overlap.
    """
    base = fixed.canonical().geometry
    levels = level_grids(base, options.finest_mm)
    spacings = [step for step, _ in levels]
    context.progress(0.0, "Preparing the images")
    sides = pyramid.build_after(fixed, moving, masks, to_moving, spacings)
    with ThreadPoolExecutor(2) as pool:
        maps = [np.zeros((3, *levels[0][1].shape), np.float32) for _ in sides]
        history = []
        costs = np.array([np.prod(grid.shape) for _, grid in levels], float)
        ends = np.concatenate([[0.0], np.cumsum(costs) / costs.sum()]) * 0.9 + 0.05
        for number, (step_mm, grid) in enumerate(levels):
            images = list(pool.map(lambda side: _on_grid(side, number, grid), sides))  # noqa: B023
            if number == 0 and (images[0][1] * images[1][1]).mean() < 0.05:
                raise InputError(
                    f"{moving.label} and {fixed.in_sentence} do not overlap where the start puts them; "
                    "align them linearly first or give a start transform."
                )
            maps = [engine.put(fields.on_grid(m, grid.shape)) for m in maps]
            with context.part(ends[number], ends[number + 1]):
                level = _Level(images, grid.spacing_kji, step_mm, options, pool, engine)
                # The finest level only adds detail, at the greatest cost.
                last = number == len(levels) - 1 > 0
                steps = -(-options.iterations // 3) if last else options.iterations
                for n in range(steps):
                    context.progress(n / steps, f"Level {number + 1} of {len(levels)}")
                    value, maps = level.step(maps)
                    history.append((number, value))
                    context.curve(f"{NAMES[options.metric]}/level {number + 1}", len(history), value)
                    if _settled([v for at, v in history if at == number]) or context.finish_early:
                        break
            maps = [engine.get(m) for m in maps]
        context.progress(0.95, "Inverting")
        backs = list(pool.map(fields.inverse, maps))
        forth, back = pool.map(fields.compose, (maps[1], maps[0]), (backs[0], backs[1]))
        context.check()
        return run_out(forth, grid, history, back)


def run_out(forth, grid: Geometry, history: list, back=None) -> Result:
    """The result of a field to the moving image, continued beyond the grid until it is zero, and inverted there.

    Parameters
    ----------
    forth : (3, K, J, I) field
    grid : Geometry
    history : list
    back : (3, K, J, I) field, optional
        About the inverse; found anew if None.
    """
    rims = (forth,) if back is None else (forth, back)
    margin = [0 if n == 1 else max(_margin(f, axis) for f in rims) for axis, n in enumerate(grid.shape)]
    forth = fields.faded(forth, margin)
    back = fields.inverse(forth, guess=None if back is None else fields.faded(back, margin))
    shape = tuple(n + 2 * m for n, m in zip(grid.shape, margin, strict=True))
    inside = tuple(slice(m, m + n) for m, n in zip(margin, grid.shape, strict=True))
    return Result(grid.cropped(tuple(-m for m in margin), shape), forth, back, inside, history)


def _margin(field, axis):
    """Voxels in which the displacement at the border can run out without folding."""
    return int(np.ceil(2 * np.abs(field.take((0, -1), axis=axis + 1)).max())) + 2


def _settled(values, window=8, tolerance=5e-4):
    """Whether the likeness rose by less than a part of what it rose in all, over the last steps."""
    if len(values) < window + 2:
        return False
    risen = max(values) - values[0]
    return max(values[-window:]) - max(values[:-window]) < max(tolerance * abs(values[-1]), 0.005 * risen)


def _on_grid(side, number, grid):
    """The image of a level on the grid, intensities 0…1, and the weight of each voxel."""
    level = side.levels[number]
    matrix = level.geometry.ras_to_ijk @ grid.ijk_to_ras
    kji, offset = matrix[2::-1, 2::-1], matrix[2::-1, 3]
    axes = np.ogrid[tuple(slice(n) for n in grid.shape)]
    where = np.empty((3, *grid.shape), np.float32)
    for axis in range(3):
        where[axis] = sum(kji[axis, n] * axes[n] for n in range(3)) + offset[axis]
    last = np.array(level.array.shape).reshape(3, 1, 1, 1) - 0.499
    weight = ((where >= -0.501) & (where <= last)).all(axis=0).astype(np.float32)
    if level.mask is not None:
        weight *= fields.sample(level.mask.astype(np.float32), where) > 0.5
    image = (fields.sample(level.array, where) - np.float32(side.low)) / np.float32(side.high - side.low)
    return image, weight


class _Level:
    """One resolution: :meth:`step` brings the two maps a step closer."""

    def __init__(self, images, spacing_kji, step_mm, options, pool, engine):
        self._pool, self._options, self._engine = pool, options, engine
        self._full = [bool((w == 1).all()) for _, w in images]
        self._images = [tuple(engine.put(part) for part in image) for image in images]
        spacing_kji = np.asarray(spacing_kji)
        self._relative = (step_mm / spacing_kji).astype(np.float32)
        self._update_sigma = (options.update_sigma_mm or 1.7 * step_mm) / spacing_kji
        self._total_sigma = (options.total_sigma_mm or 0.8 * step_mm) / spacing_kji
        self._radius = np.maximum(1, np.rint((options.radius_mm or 2 * step_mm) / spacing_kji)).astype(int)

    def step(self, maps):
        """The likeness before the step, and the two maps after it."""
        (first, first_weight), (second, second_weight) = self._pool.map(self._warp, self._images, self._full, maps)
        weights = first_weight * second_weight
        force = self._engine.forces[self._options.metric]
        value, by_first, by_second = force(first, second, weights, self._radius, self._relative)
        pulls = self._pool.map(self._pull, (first, second), (by_first, by_second))
        return value, list(self._pool.map(self._move, maps, pulls))

    def _warp(self, image, full, field):
        values, weight = image
        return self._engine.warp(values, field), weight if full else self._engine.warp(weight, field)

    def _pull(self, image, slopes):
        """The smoothed force in voxels, its longest vector one step."""
        # The gradient per mm, and the force back in voxels: twice by the spacing.
        force = self._engine.smooth(self._engine.pull(image, slopes, self._relative**2), self._update_sigma)
        lengths = sum((part * float(1 / r)) ** 2 for part, r in zip(force, self._relative, strict=True))
        longest = float(lengths.max()) ** 0.5
        return force * float(self._options.step / longest) if longest > 1e-12 else force * 0

    def _move(self, field, step):
        field = self._engine.advance(field, step)
        return self._engine.smooth(field, self._total_sigma)
