"""The linear registration itself: starts from everywhere, refines the best, coarse to fine."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from MedImgAILib.core import Context, InputError

from . import metric as metrics
from . import pyramid
from .poses import MODELS, Pose, angle_between, rotations

_SEARCHED = 720
"""Rotations tried by a global search: neighbours are about 24° apart."""
_KEPT = (12, 4, 2)
"""How many starts are refined on the coarsest level, the next, and the one after."""


@dataclass
class Result:
    """What :func:`register` found.

    ``matrix`` is (4, 4), fixed RAS to moving RAS. ``history`` has one (level, value) for each evaluation.
    ``rival`` is the best coarse value of a start that ended elsewhere, ``coarse`` that of the winner. ``contrast`` is
    how many standard deviations the value lies above that of poses that are certainly wrong.
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

    def __init__(self, fixed, moving, number, options, edges, rng, count):
        level = fixed.levels[min(number, len(fixed.levels) - 1)]
        source = moving.levels[min(number, len(moving.levels) - 1)]
        self.points = pyramid.sample_points(level, edges(level), count, rng)
        own = metrics.Sampler(level.array, level.geometry.ras_to_ijk[2::-1])
        _, values, _ = own(self.points)
        self._sampler = metrics.Sampler(source.array, source.geometry.ras_to_ijk[2::-1], source.mask)
        kind = metrics.METRICS[options.metric]
        self._metric = kind(values, (fixed.low, fixed.high), (moving.low, moving.high), options.bins)
        self._least = max(64, int(options.least_overlap * len(self.points)))

    def __call__(self, pose: Pose):
        """Value, derivative by matrix and translation, and the share of points inside the moving image."""
        inside, values, gradients = self._sampler(pose.map(self.points))
        share = len(values) / len(self.points)
        if len(values) < self._least:
            return 0.0, np.zeros((3, 3)), np.zeros(3), share
        value, slopes = self._metric(inside, values)
        forces = gradients * slopes[:, None]
        return value, forces.T @ (self.points[inside] - pose.center), forces.sum(axis=0), share


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
    fixed = pyramid.build(fixed_volume, masks[0], frame, spacings)
    context.progress(0.08, "Preparing the images")
    moving = pyramid.build(moving_volume, masks[1], frame, spacings)
    context.progress(0.16, "Preparing the images")
    rng = np.random.default_rng(context.seed)
    coarse_edges = pyramid.edge_strength(fixed.levels[0])
    center = pyramid.center_of_edges(fixed.levels[0])
    extent = np.array(fixed.levels[0].array.shape[::-1]) * fixed.levels[0].geometry.spacing
    radius = float(np.linalg.norm(extent) / 4)

    def edges(level):
        return _on_level(coarse_edges, fixed.levels[0], level)

    given = np.eye(4) if start is None else frame @ start @ np.linalg.inv(frame)
    begin = Pose.from_matrix(given, center)
    levels = range(max(len(fixed.levels), len(moving.levels)))
    counts = [max(4000, options.samples >> (len(levels) - 1 - n)) for n in levels]
    result = Result(np.eye(4), 0.0)
    if options.search == "global":
        with context.part(0.16, 0.3):
            starts = _search(fixed, moving, begin, edges, rng, context)
    elif options.search == "center":
        shift = pyramid.center_of_edges(moving.levels[0]) - center
        starts = [begin, Pose(begin.linear, shift, center)]
    else:
        starts = [begin]
    best = [(0.0, pose) for pose in starts]
    bounds = np.linspace(0.3, 1.0, len(levels) + 1)
    for number in levels:
        comparison = _Comparison(fixed, moving, number, options, edges, rng, counts[number])
        if number == 0 and len(starts) == 1 and comparison(begin)[3] < options.least_overlap:
            raise InputError(
                f"{moving_volume.label} and {fixed_volume.label.lower()} do not overlap where their headers put them; "
                "use the global search or give a start transform."
            )
        kept = best[: _KEPT[number]] if number < len(_KEPT) else best[:1]
        refined = []
        with context.part(bounds[number], bounds[number + 1]):
            for n, (_, pose) in enumerate(kept):
                record = result.history if n == 0 else []
                context.progress(n / len(kept), f"Level {number + 1} of {len(levels)}")
                model = "rigid" if number == 0 and len(kept) > 2 else options.model
                refined.append(_climb(comparison, model, pose, radius, number, options.iterations, record, context))
        best = sorted(refined, key=lambda item: -item[0])
        if number == 0:
            result.coarse = best[0][0]
            result.rival = max((v for v, p in best[1:] if angle_between(p.linear, best[0][1].linear) > 20), default=0.0)
            best = _distinct(best)
    result.value, pose = best[0]
    result.overlap = comparison(pose)[3]
    result.start_value = comparison(begin)[0]
    result.contrast = _contrast(comparison, pose, result.value, radius)
    result.matrix = np.linalg.inv(frame) @ pose.matrix @ frame
    return result


def _climb(comparison, kind, pose, radius, number, iterations, record, context):
    """Maximise by L-BFGS from ``pose``; returns the value and pose reached."""
    from scipy.optimize import minimize

    model = MODELS[kind](pose, radius)

    def objective(parameters):
        context.check()
        value, by_linear, by_shift, _ = comparison(model.pose(parameters))
        record.append((number, value))
        return -value, -model.chain(parameters, by_linear, by_shift)

    found = minimize(
        objective, np.zeros(model.size), jac=True, method="L-BFGS-B",
        options={"maxiter": iterations, "ftol": 1e-7, "gtol": 1e-7, "maxls": 15},
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


def _distinct(best):
    """Without those that ended where a better one did."""
    kept = []
    for value, pose in best:
        near = (
            angle_between(pose.linear, other.linear) < 5 and np.linalg.norm(pose.shift - other.shift) < 10
            for _, other in kept
        )
        if not any(near):
            kept.append((value, pose))
    return kept


def _on_level(edges, coarse, level):
    """Coarse edge strengths read at the voxels of a finer level, nearest neighbour along each axis."""
    if level is coarse:
        return edges
    matrix = coarse.geometry.ras_to_ijk @ level.geometry.ijk_to_ras
    picks = []
    for axis in range(3):
        column = 2 - axis
        place = matrix[column, column] * np.arange(level.array.shape[axis]) + matrix[column, 3]
        picks.append(np.clip(np.rint(place), 0, edges.shape[axis] - 1).astype(int))
    return edges[np.ix_(*picks)]


def _search(fixed, moving, begin, edges, rng, context, points=2000, bins=16):
    """Score rotations from everywhere about the centres, and some shifts, on the coarsest level; the best first.

    Mutual information by nearest neighbours; beyond the moving image its outermost voxels go on, so that moving the
    images apart never pays.
    """
    level, source = fixed.levels[0], moving.levels[0]
    places = pyramid.sample_points(level, edges(level), points, rng)
    _, values, _ = metrics.Sampler(level.array, level.geometry.ras_to_ijk[2::-1])(places)
    fixed_bin = _bin(values, fixed, bins)
    moving_bin = _bin(source.array.ravel(), moving, bins).astype(np.int32)
    to_kji = source.geometry.ras_to_ijk[2::-1]
    top = np.array(source.array.shape)[:, None] - 1
    strides = np.array([source.array.shape[1] * source.array.shape[2], source.array.shape[2], 1])
    relative = (places - begin.center).T
    shift = pyramid.center_of_edges(source) - begin.center
    middle = source.geometry.center - begin.center
    turns = rotations(_SEARCHED)
    poses = [begin, Pose(begin.linear, shift, begin.center), Pose(begin.linear, middle, begin.center)]
    poses += [Pose(turn, shift, begin.center) for turn in turns]
    scores = np.empty(len(poses))
    for n, pose in enumerate(poses):
        linear = to_kji[:, :3] @ pose.linear
        offset = to_kji[:, :3] @ (pose.center + pose.shift) + to_kji[:, 3]
        kji = np.clip(np.rint(linear @ relative + offset[:, None]), 0, top).astype(np.intp)
        joint = np.bincount(fixed_bin * bins + moving_bin[strides @ kji], minlength=bins * bins).reshape(bins, bins)
        scores[n] = _information(joint / points)
        if n % 64 == 0:
            context.progress(n / len(poses), "Searching all orientations")
    order = np.argsort(-scores, kind="stable")
    ranked = [poses[0], poses[1], *(poses[n] for n in order if n > 1)]
    chosen = []
    for pose in ranked:
        if all(angle_between(pose.linear, c.linear) > 15 for c in chosen[2:]) or len(chosen) < 2:
            chosen.append(pose)
        if len(chosen) == _KEPT[0]:
            break
    return chosen


def _bin(values, image, bins):
    return np.clip((values - image.low) * (bins / (image.high - image.low)), 0, bins - 1).astype(np.intp)


def _information(joint) -> float:
    expected = joint.sum(1)[:, None] * joint.sum(0)
    full = joint > 0
    return float((joint[full] * np.log(joint[full] / expected[full])).sum())
