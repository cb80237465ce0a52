"""Where to begin: orientations and shifts from everywhere, scored on the coarsest level."""

from __future__ import annotations

import itertools

import numpy as np

from .metric import Sampler
from .poses import Pose, alike, rotations
from .pyramid import Pyramid, center_of_edges

_SEARCHED = 720
"""Rotations tried: neighbours are about 24° apart."""
_SHIFTED = 6
"""How many of the best of them are tried at other places, too."""
_SCORED = 2000
"""Points at which each pose is scored."""
_BINS = 16
_RETURNED = 14


def search_everywhere(fixed: Pyramid, moving: Pyramid, begin: Pose, points: np.ndarray, context) -> list[Pose]:
    """The most promising poses, no two alike; the given start and the aligned centres always come first.

    Every rotation is scored with the images' centres aligned; the best also with shifts, for images that show
    different parts of the body.

    Parameters
    ----------
    fixed, moving : Pyramid
    begin : Pose
        Where the headers or the user put the images.
    points : (3, N) positions in the frame
    context : Context
    """
    scorer = _Scorer(fixed, moving, points[:, :: max(1, points.shape[1] // _SCORED)], begin.center)
    source = moving.levels[0]
    shift = center_of_edges(source) - begin.center
    middle = source.geometry.center - begin.center
    given = [begin, Pose(begin.linear, shift, begin.center)]
    tried = [Pose(begin.linear, middle, begin.center)]
    tried += [Pose(turn, shift, begin.center) for turn in rotations(_SEARCHED)]
    scores = []
    for n, pose in enumerate(given + tried):
        scores.append(scorer(pose))
        if n % 64 == 0:
            context.progress(0.5 * n / len(tried), "Searching all orientations")
    best = [pose for _, pose in sorted(zip(scores, given + tried, strict=True), key=lambda item: -item[0])[:_SHIFTED]]
    level = fixed.levels[0]
    extent = np.maximum(*(np.ptp(image.levels[0].geometry.corners_ras(), axis=0) for image in (fixed, moving)))
    # Along the level's axes, which are the frame's.
    steps = [np.array(s) for s in itertools.product((-0.24, -0.12, 0, 0.12, 0.24), repeat=3) if any(s)]
    for n, pose in enumerate(best):
        context.progress(0.5 + 0.5 * n / len(best), "Searching shifts")
        for step in steps:
            tried.append(Pose(pose.linear, pose.shift + step * extent, begin.center))
            scores.append(scorer(tried[-1]))
    order = np.argsort(-np.array(scores[len(given) :]), kind="stable")
    chosen, apart = [], 0.15 * float((np.array(level.array.shape[::-1]) * level.geometry.spacing).max())
    for pose in (tried[n] for n in order):
        if not any(alike(pose, other, 15, apart) for other in chosen):
            chosen.append(pose)
        if len(given) + len(chosen) == _RETURNED:
            break
    return given + chosen


class _Scorer:
    """Mutual information by nearest neighbours.

    Beyond the moving image its outermost voxels go on, so that moving the images apart never pays.
    """

    def __init__(self, fixed, moving, points, center):
        level, source = fixed.levels[0], moving.levels[0]
        inside, values, _ = Sampler(level.array)(level.indices(points))
        self._relative = (points[:, inside] - center[:, None]).astype(np.float32)
        self._rows = _bin(values, fixed) * _BINS
        self._seen = _bin(source.array.ravel(), moving)
        matrix = source.geometry.ras_to_ijk[2::-1]
        self._to_kji, self._offset = matrix[:, :3], matrix[:, 3]
        self._top = np.array(source.array.shape, np.float32)[:, None] - 1
        self._strides = (source.array.shape[1] * source.array.shape[2], source.array.shape[2])

    def __call__(self, pose: Pose) -> float:
        linear = (self._to_kji @ pose.linear).astype(np.float32)
        offset = (self._to_kji @ (pose.center + pose.shift) + self._offset).astype(np.float32)
        place = np.clip(np.rint(linear @ self._relative + offset[:, None]), 0, self._top).astype(np.intp)
        seen = self._seen.take(place[0] * self._strides[0] + place[1] * self._strides[1] + place[2])
        joint = np.bincount(self._rows + seen, minlength=_BINS**2).reshape(_BINS, _BINS) / seen.size
        expected = joint.sum(1)[:, None] * joint.sum(0)
        full = joint > 0
        return float((joint[full] * np.log(joint[full] / expected[full])).sum())


def _bin(values, image) -> np.ndarray:
    return np.clip((values - image.low) * (_BINS / (image.high - image.low)), 0, _BINS - 1).astype(np.intp)
