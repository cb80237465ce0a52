"""The linear registration itself: starts from everywhere, refines the best, coarse to fine."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from MedImgAILib.core import Context, InputError

from . import metric as metrics
from . import pyramid
from .poses import MODELS, Pose, alike, rotations
from .search import search_everywhere

_FEW = 4000
"""Points at which the starts are compared."""
_KEPT = (4, 2, 1)
"""How many poses go through the coarsest level at full length, the next, and every further one."""


@dataclass
class Result:
    """What :func:`register` found.

    ``matrix`` is (4, 4), fixed RAS to moving RAS. ``history`` has one (level, value) for each evaluation.
    ``rival`` is the best coarse value of a start that ended clearly elsewhere, ``coarse`` that of the winner.
    ``contrast`` is how many standard deviations the value lies above that of poses that are certainly wrong.
    """

    matrix: np.ndarray
    value: float
    start_value: float = 0.0
    overlap: float = 0.0
    coarse: float = 0.0
    rival: float = 0.0
    contrast: float = 0.0
    history: list = field(default_factory=list)


class _Comparison:
    """The metric on one level as a function of the pose."""

    def __init__(self, fixed, moving, number, options, center, points):
        level = fixed.levels[min(number, len(fixed.levels) - 1)]
        source = moving.levels[min(number, len(moving.levels) - 1)]
        inside, values, _ = metrics.Sampler(level.array)(level.indices(points))
        points = points[:, inside]
        self._relative = np.ascontiguousarray(points - center[:, None], np.float32)
        self._sampler = metrics.Sampler(source.array, source.mask)
        to_kji = source.geometry.ras_to_ijk[2::-1]
        self._to_kji, self._offset = to_kji[:, :3], to_kji[:, 3]
        kind = metrics.METRICS[options.metric]
        self._metric = kind(values, (fixed.low, fixed.high), (moving.low, moving.high), options.bins)
        self._count = points.shape[1]
        self._least = max(64, int(options.least_overlap * self._count))

    def __call__(self, pose: Pose):
        """Value, derivative by matrix and translation, and the share of points inside the moving image."""
        linear = (self._to_kji @ pose.linear).astype(np.float32)
        offset = (self._to_kji @ (pose.center + pose.shift) + self._offset).astype(np.float32)
        inside, values, gradients = self._sampler(metrics.placed(linear, offset, self._relative))
        share = len(values) / self._count
        if len(values) < self._least:
            return 0.0, np.zeros((3, 3)), np.zeros(3), share
        value, slopes = self._metric(inside, values)
        by_linear, by_shift = metrics.moments(gradients, slopes, self._relative, inside)
        back = self._to_kji.T
        return value, back @ by_linear, back @ by_shift, share


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
    frame = pyramid.frame_of(fixed_volume)
    spacings = pyramid.level_spacings(fixed_volume)
    context.progress(0.0, "Preparing the images")
    with ThreadPoolExecutor(2) as pool:
        pairs = zip((fixed_volume, moving_volume), masks, strict=True)
        jobs = [pool.submit(pyramid.build, volume, mask, frame, spacings) for volume, mask in pairs]
        fixed, moving = (job.result() for job in jobs)
    rng = np.random.default_rng(context.seed)
    coarsest, finest = fixed.levels[0], fixed.levels[-1]
    center = pyramid.center_of_edges(coarsest)
    extent = np.array(coarsest.array.shape[::-1]) * coarsest.geometry.spacing
    radius = float(np.linalg.norm(extent) / 4)
    given = np.eye(4) if start is None else np.round(frame @ start @ np.linalg.inv(frame), 9)
    begin = Pose.from_matrix(given, center)
    count = max(len(fixed.levels), len(moving.levels))
    samples = min(options.samples, 2 * finest.array.size)
    result = Result(np.eye(4), 0.0)

    few = pyramid.sample_points(coarsest, finest, min(_FEW, samples), rng)
    quick = _Comparison(fixed, moving, 0, options, center, few)
    with context.part(0.15, 0.45):
        starts = _starts(options.search, fixed, moving, begin, few, context)
        if len(starts) == 1 and quick(begin)[3] < options.least_overlap:
            raise InputError(
                f"{moving_volume.label} and {fixed_volume.in_sentence} do not overlap where their headers put them; "
                "use the global search or give a start transform."
            )
        best = []
        for n, pose in enumerate(starts):
            context.progress(0.4 + 0.6 * n / len(starts), "Comparing orientations")
            best.append(_climb(quick, "rigid", pose, radius, 15, 1e-4, context))
    best = _distinct(sorted(best, key=lambda item: -item[0]), radius)
    result.coarse = best[0][0]
    winner = best[0][1]
    result.rival = max((v for v, p in best[1:] if not alike(p, winner, 20, 0.2 * radius)), default=0.0)
    for number in range(count):
        points = pyramid.sample_points(coarsest, finest, max(min(_FEW, samples), samples >> (count - 1 - number)), rng)
        comparison = _Comparison(fixed, moving, number, options, center, points)
        kept = best[: max(1, _KEPT[min(number, len(_KEPT) - 1)])]
        refined = []
        with context.part(0.45 + 0.5 * number / count, 0.45 + 0.5 * (number + 1) / count):
            for n, (_, pose) in enumerate(kept):
                context.progress(n / len(kept), f"Level {number + 1} of {count}")
                course = []
                value, pose = _climb(comparison, options.model, pose, radius, options.iterations, 1e-7, context, course)
                refined.append((value, pose, course))
        value, pose, course = max(refined, key=lambda item: item[0])
        result.history += [(number, v) for v in course]
        best = _distinct(sorted((item[:2] for item in refined), key=lambda item: -item[0]), radius)
    result.value, pose = best[0]
    result.overlap = comparison(pose)[3]
    result.start_value = comparison(begin)[0]
    result.contrast = _contrast(comparison, pose, result.value, radius)
    result.matrix = np.linalg.inv(frame) @ pose.matrix @ frame
    return result


def _starts(search, fixed, moving, begin, points, context):
    """The poses to begin from."""
    if search == "header":
        return [begin]
    if search == "center":
        shift = pyramid.center_of_edges(moving.levels[0]) - begin.center
        return [begin, Pose(begin.linear, shift, begin.center)]
    with context.part(0.0, 0.4):
        return search_everywhere(fixed, moving, begin, points, context)


def _climb(comparison, kind, pose, radius, iterations, tolerance, context, course=None):
    """Maximise by L-BFGS from ``pose``; returns the value and pose reached, and appends to the course."""
    from scipy.optimize import minimize

    model = MODELS[kind](pose, radius)

    def objective(parameters):
        context.check()
        value, by_linear, by_shift, _ = comparison(model.pose(parameters))
        if course is not None:
            course.append(value)
        return -value, -model.chain(parameters, by_linear, by_shift)

    found = minimize(
        objective, np.zeros(model.size), jac=True, method="L-BFGS-B",
        options={"maxiter": iterations, "ftol": tolerance, "gtol": 1e-7, "maxls": 12},
    )  # fmt: skip
    return -float(found.fun), model.pose(found.x)


def _contrast(comparison, pose, value, radius, count=24):
    """How far the value stands out from that at poses turned by at least 30° and shifted by about half the radius."""
    wrong = [turn for turn in rotations(2 * count) if np.trace(turn) < 1 + 2 * np.cos(np.radians(30))][:count]
    shifts = np.stack([turn[0] for turn in wrong]) * (radius / 2)
    values = np.array(
        [
            comparison(Pose(turn @ pose.linear, pose.shift + shift, pose.center))[0]
            for turn, shift in zip(wrong, shifts, strict=True)
        ]
    )
    return float((value - values.mean()) / max(values.std(), 1e-12))


def _distinct(best, radius):
    """Without those that ended where a better one did."""
    kept = []
    for value, pose in best:
        if not any(alike(pose, other, 5, 0.1 * radius) for _, other in kept):
            kept.append((value, pose))
    return kept
