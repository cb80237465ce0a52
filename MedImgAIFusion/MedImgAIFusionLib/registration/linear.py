"""The linear registration itself: starts from everywhere, refines the best, coarse to fine."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from MedImgAILib.core import Context, InputError

from . import pyramid
from .comparison import LEAST_POINTS, NAMES, comparison
from .descent import minimize
from .poses import MODELS, Pose, alike, rotations
from .search import search_everywhere

_FEW = 4000
"""Points at which the starts are compared."""
_SMALLER = 0.5
"""A moving image whose field of view is smaller than this share of the fixed image's changes places with it."""
_BACK = 10000
"""Points at which the registration back is compared."""
_KEPT = (4, 2, 1)
"""How many poses go through the coarsest level at full length, the next, and every further one."""


@dataclass
class Result:
    """What :func:`register` found.

    ``matrix`` is (4, 4), fixed RAS to moving RAS. ``history`` has one (level, value) for each evaluation.
    ``rival`` is the best coarse value of a start that ended clearly elsewhere, as a share of the winner's; both count
    from the mean at poses that are certainly wrong. ``contrast`` is how many standard deviations the value lies above
    that of such poses. ``consistency_mm`` is by how much the registration back misses, on average over the fixed image,
    and ``size_mm`` the size of that image to compare it with.
    """

    matrix: np.ndarray
    value: float
    start_value: float = 0.0
    overlap: float = 0.0
    rival: float = 0.0
    contrast: float = 0.0
    consistency_mm: float = float("nan")
    size_mm: float = 0.0
    history: list = field(default_factory=list)


@dataclass(frozen=True)
class Options:
    """How to register; see the task's parameters."""

    model: str = "rigid"
    metric: str = "mutual_information"
    search: str = "global"
    bins: int = 32
    samples: int = 40000
    least_overlap: float = 0.2
    iterations: int = 60


def register(fixed_volume, moving_volume, options: Options, context: Context, masks=(None, None), start=None) -> Result:
    """Find the linear map under which the two images are most alike.

    Parameters
    ----------
    fixed_volume, moving_volume : scalar Volume
    options : Options
    context : Context
    masks : pair of Segmentation or None
    start : (4, 4) fixed RAS to moving RAS, optional
        Where to begin; the header positions if None.

    Returns
    -------
    Result

    Raises
    ------
    InputError
        If an image is constant, or the images do not overlap and no search was allowed.
    """
    work, swapped = _prepared(fixed_volume, moving_volume, options, context, masks, start)
    with context.part(0.15, 0.45):
        best = work.search()
    with context.part(0.45, 0.93):
        best = work.refine(best)
    context.progress(0.93, "Registering back")
    return _unswapped(work.judge(best), swapped)


def judge(fixed_volume, moving_volume, matrix, options: Options, context, masks=(None, None), start=None) -> Result:
    """What :func:`register` would say of a (4, 4) fixed-to-moving RAS matrix that was found otherwise."""
    work, swapped = _prepared(fixed_volume, moving_volume, options, context, masks, start)
    return _unswapped(work.judge(work.pose(np.linalg.inv(matrix) if swapped else matrix)), swapped)


def _prepared(fixed, moving, options, context, masks, start):
    """The registration, and whether the two images change places in it: points are compared in the smaller one."""
    swapped = _SMALLER * _extent(fixed) > _extent(moving)
    if swapped:
        fixed, moving, masks = moving, fixed, masks[::-1]
        start = None if start is None else np.linalg.inv(start)
    return _Registration(fixed, moving, options, context, masks, start), swapped


def _extent(volume) -> float:
    """Volume of the field of view in mm³."""
    return abs(float(np.linalg.det(volume.geometry.ijk_to_ras))) * volume.array.size


def _unswapped(result: Result, swapped: bool) -> Result:
    if swapped:
        result.matrix = np.linalg.inv(result.matrix)
    return result


class _Registration:
    """The prepared images of one registration, and its stages."""

    def __init__(self, fixed_volume, moving_volume, options, context, masks, start):
        self._options, self._context = options, context
        self._labels = moving_volume.label, fixed_volume.in_sentence
        self._frame = pyramid.frame_of(fixed_volume)
        spacings = pyramid.level_spacings(fixed_volume)
        context.progress(0.0, "Preparing the images")
        self._fixed, self._moving = pyramid.build_both((fixed_volume, moving_volume), masks, self._frame, spacings)
        self._rng = np.random.default_rng(context.seed)
        self._coarsest, self._finest = self._fixed.levels[0], self._fixed.levels[-1]
        self._center = pyramid.center_of_edges(self._coarsest)
        extent = np.array(self._coarsest.array.shape[::-1]) * self._coarsest.geometry.spacing
        self._radius = float(np.linalg.norm(extent) / 4)
        self._begin = self.pose(np.eye(4) if start is None else start)
        self._levels = max(len(self._fixed.levels), len(self._moving.levels))
        self._samples = min(options.samples, 2 * self._finest.array.size)
        self._result = Result(np.eye(4), 0.0)

    def pose(self, matrix) -> Pose:
        """The pose of a (4, 4) fixed-to-moving RAS matrix."""
        return Pose.from_matrix(np.round(self._frame @ matrix @ np.linalg.inv(self._frame), 9), self._center)

    def search(self) -> list:
        """(value, pose) of the starts after a short climb on the coarsest level, the best first, no two alike."""
        context, options = self._context, self._options
        few = pyramid.sample_points(self._coarsest, self._finest, min(_FEW, self._samples), self._rng)
        quick = self._comparison(0, few)
        starts = _starts(options.search, self._fixed, self._moving, self._begin, few, context)
        if len(starts) == 1 and quick(self._begin)[3] < options.least_overlap:
            raise InputError(
                f"{self._labels[0]} and {self._labels[1]} do not overlap where their headers put them; "
                "use the global search or give a start transform."
            )
        best = []
        for n, pose in enumerate(starts):
            context.progress(0.4 + 0.6 * n / len(starts), "Comparing orientations")
            best.append(_climb(quick, "rigid", pose, self._radius, 15, 1e-4, context))
        best = _distinct(sorted(best, key=lambda item: -item[0]), self._radius)
        self._note_rival(best, quick)
        return best

    def _note_rival(self, best, likeness):
        """Take down how good the best of those is that ended clearly elsewhere than the first, if there is one."""
        top, winner = best[0]
        rivals = [value for value, pose in best[1:] if not alike(pose, winner, 20, 0.2 * self._radius)]
        if rivals:
            base = _wrong_values(likeness, winner, self._radius).mean()
            self._result.rival = max(0.0, (max(rivals) - base) / max(top - base, 1e-12))

    def refine(self, best: list) -> Pose:
        """The best pose after all levels."""
        context, options = self._context, self._options
        for number in range(self._levels):
            likeness = self._comparison(number)
            kept = best[: max(1, _KEPT[min(number, len(_KEPT) - 1)])]
            refined = []
            with context.part(number / self._levels, (number + 1) / self._levels):
                for n, (_, pose) in enumerate(kept):
                    context.progress(n / len(kept), f"Level {number + 1} of {self._levels}")
                    course = []
                    limits = self._radius, options.iterations, 1e-7
                    refined.append((*_climb(likeness, options.model, pose, *limits, context, course), course))
            history = self._result.history
            for value in max(refined, key=lambda item: item[0])[2]:
                history.append((number, value))
                context.curve(f"{NAMES[options.metric]}/level {number + 1}", len(history), value)
            best = _distinct(sorted((item[:2] for item in refined), key=lambda item: -item[0]), self._radius)
            self._note_rival(best, likeness)
        return best[0][1]

    def judge(self, pose: Pose) -> Result:
        """The result with its figures."""
        result, likeness = self._result, self._comparison(self._levels - 1)
        result.value, _, _, result.overlap = likeness(pose)
        result.start_value = likeness(self._begin)[0]
        wrong = _wrong_values(likeness, pose, self._radius)
        result.contrast = float((result.value - wrong.mean()) / max(wrong.std(), 1e-12))
        result.matrix = np.linalg.inv(self._frame) @ pose.matrix @ self._frame
        result.consistency_mm, result.size_mm = self._consistency(pose), 4 * self._radius
        return result

    def _comparison(self, number, points=None):
        """The likeness on a level, at so many points as befit it where none are given."""
        if points is None:
            wanted = max(min(_FEW, self._samples), self._samples >> (self._levels - 1 - number))
            points = pyramid.sample_points(self._coarsest, self._finest, wanted, self._rng)
        return comparison(self._fixed, self._moving, number, self._options, self._center, points)

    def _consistency(self, pose) -> float:
        """Mean distance in mm by which a registration of the fixed to the moving image, from the result, misses it."""
        fixed, moving = self._fixed, self._moving
        center = pose.map(pose.center[None])[0]
        count = min(self._samples, _BACK)
        points = pyramid.sample_points(moving.levels[0], moving.levels[-1], 2 * count, self._rng)
        # Only those that the result puts into the fixed image, which may be much smaller.
        back = Pose.from_matrix(np.linalg.inv(pose.matrix), center)
        kji = fixed.levels[0].indices(back.map(points.T).T)
        limits = np.array(fixed.levels[0].array.shape)[:, None] - 0.5
        points = points[:, ((kji >= -0.5) & (kji <= limits)).all(axis=0)]
        if points.shape[1] < LEAST_POINTS:
            return float("nan")
        likeness = comparison(moving, fixed, self._levels - 1, self._options, center, points)
        _, found = _climb(likeness, self._options.model, back, self._radius, 30, 1e-6, self._context)
        level = fixed.levels[0]
        at = level.geometry.ras(np.indices(level.array.shape)[::-1].reshape(3, -1).T[::7])
        return float(np.linalg.norm(found.map(pose.map(at)) - at, axis=1).mean())


def _starts(search, fixed, moving, begin, points, context):
    """The poses to begin from."""
    if search == "header":
        return [begin]
    if search == "center":
        shift = pyramid.center_of_edges(moving.levels[0]) - begin.center
        return [begin, Pose(begin.linear, shift, begin.center)]
    with context.part(0.0, 0.4):
        return search_everywhere(fixed, moving, begin, points, context)


def _climb(likeness, kind, pose, radius, iterations, tolerance, context, course=None):
    """Maximise from ``pose``; returns the value and pose reached, and appends to the course."""
    model = MODELS[kind](pose, radius)

    def objective(parameters):
        context.check()
        value, by_linear, by_shift, _ = likeness(model.pose(parameters))
        if course is not None:
            course.append(value)
        return -value, -model.chain(parameters, by_linear, by_shift)

    parameters, value = minimize(objective, model.size, iterations, tolerance, radius / 8)
    return -value, model.pose(parameters)


def _wrong_values(likeness, pose, radius, count=24):
    """The values at poses turned by at least 30° and shifted by about half the radius."""
    wrong = [turn for turn in rotations(2 * count) if np.trace(turn) < 1 + 2 * np.cos(np.radians(30))][:count]
    poses = [Pose(turn @ pose.linear, pose.shift + turn[0] * (radius / 2), pose.center) for turn in wrong]
    return np.array([likeness(other)[0] for other in poses])


def _distinct(best, radius):
    """Without those that ended where a better one did."""
    kept = []
    for value, pose in best:
        if not any(alike(pose, other, 5, 0.1 * radius) for _, other in kept):
            kept.append((value, pose))
    return kept
