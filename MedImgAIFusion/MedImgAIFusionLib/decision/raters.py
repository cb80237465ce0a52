"""Several segmentations as one table of what the raters said.

Voxels where all raters said the same things are alike, and there are few such combinations ("patterns"). Deciding
per pattern instead of per voxel makes every vote, and every iteration of an estimate, all but free.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from MedImgAILib.core import (
    ChoiceParameter,
    Geometry,
    InputError,
    Segment,
    Segmentation,
    SegmentationPort,
    Table,
    Volume,
    VolumePort,
)
from MedImgAILib.core.errors import listed
from MedImgAILib.core.resampling import resample_segmentation

from .patterns import encode, in_chunks
from .segments import MATCHES, common_labels, common_table

SEGMENTATIONS = SegmentationPort(
    "segmentations", "Segmentations", "One per rater; as many as there are.", multiple=True, minimum_count=2
)
REFERENCE = VolumePort(
    "reference", "Reference", "The grid of the result; the first rater's if none.",
    components=(), optional=True, allow_nan=True,
)  # fmt: skip
MATCH = ChoiceParameter(
    "match", "Match segments by", "auto", "How segments of different raters are recognised as the same structure.",
    choices=MATCHES, advanced=True,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Ratings:
    """What R raters said about every voxel.

    Parameters
    ----------
    segments : tuple of Segment
        The common table, labels 1…L in order.
    patterns : (P, R) array of labels 0…L
        The distinct combinations of answers that occur.
    counts : (P,) int64
        In how many voxels each occurs.
    codes : (P,) int
        The number that stands for each pattern in ``image``.
    image : (K, J, I) unsigned integers
        The code of every voxel's pattern.
    known : (R, L) bool
        Whether a rater has a segment at all.
    """

    segments: tuple[Segment, ...]
    names: tuple[str, ...]
    patterns: np.ndarray
    counts: np.ndarray
    codes: np.ndarray
    image: np.ndarray
    geometry: Geometry
    known: np.ndarray

    def spread(self, per_pattern: np.ndarray) -> np.ndarray:
        """(K, J, I) image of a (P,) value per pattern."""
        lookup = np.zeros(int(self.codes.max()) + 1, per_pattern.dtype)
        lookup[self.codes] = per_pattern
        result = np.empty(self.image.shape, per_pattern.dtype)
        source, target = self.image.reshape(-1), result.reshape(-1)
        in_chunks(lambda part: np.take(lookup, source[part], out=target[part], mode="clip"), target.size)
        return result

    def segmentation(self, decided: np.ndarray, name: str) -> Segmentation:
        """The segmentation of decided labels, (P,) or (K, J, I); every segment of the table stays, even if empty."""
        decided = decided.astype(np.uint8 if len(self.segments) < 256 else np.int16)
        labels = decided if decided.ndim == 3 else self.spread(decided)
        return Segmentation.from_labels(labels, self.geometry, self.segments, name)

    def box(self, margin: int = 0) -> tuple[slice, slice, slice]:
        """The part of the grid where anyone saw anything, and ``margin`` voxels around; one voxel if nobody did."""
        anything = self.spread((self.patterns > 0).any(axis=1))
        slices = []
        for axis in range(3):
            found = np.flatnonzero(anything.any(axis=tuple(a for a in range(3) if a != axis)))
            first, last = (found[0], found[-1]) if found.size else (0, 0)
            slices.append(slice(max(0, int(first) - margin), min(self.geometry.shape[axis], int(last) + margin + 1)))
        return tuple(slices)

    def voters(self, place: int, absent: str) -> np.ndarray:
        """(R,) bool: who decides about the segment at ``place`` of the table, by the parameter ``absent``."""
        return self.known[:, place] if absent == "abstain" else np.ones(len(self.names), bool)

    def labels(self, rater: int) -> np.ndarray:
        """(K, J, I) what one rater said."""
        return self.spread(self.patterns[:, rater])

    def pairwise_dice(self) -> np.ndarray:
        """(L, R, R) Dice of every two raters for every segment; NaN where one lacks it or both are empty."""
        result = np.full((len(self.segments), len(self.names), len(self.names)), np.nan)
        for number, segment in enumerate(self.segments):
            said = (self.patterns == segment.label).astype(np.float64)
            both = (said * self.counts[:, None]).T @ said
            sizes = np.diag(both)[:, None] + np.diag(both)
            known = self.known[:, number, None] & self.known[:, number]
            np.divide(2 * both, sizes, out=result[number], where=known & (sizes > 0))
        return result

    def agreement(self) -> np.ndarray:
        """(L, R) mean Dice of every rater with the others; NaN without another to compare with."""
        pairs = self.pairwise_dice()
        pairs[:, np.arange(len(self.names)), np.arange(len(self.names))] = np.nan
        count = np.isfinite(pairs).sum(axis=2)
        return np.divide(np.nansum(pairs, axis=2), count, out=np.full(count.shape, np.nan), where=count > 0)

    def table(self, decided: np.ndarray, **columns) -> Table:
        """What every rater is worth, judged by the decided labels; a row per rater and segment.

        Parameters
        ----------
        decided : (P,) or (K, J, I) labels
        **columns : (L, R) arrays
            Further columns, put first; one that is always there is replaced.

        Returns
        -------
        Table
            Dice and sensitivity are NaN where rater and result, or the result, are empty; everything is NaN for a
            segment that the rater lacks.
        """
        names = ("rater", "segment", *columns, "dice", "sensitivity", "specificity", "agreement", "volume_ml")
        rows = {name: [] for name in dict.fromkeys(names)}
        agreement = self.agreement()
        joint = self._joint(decided)
        total, millilitre = int(self.counts.sum()), self.geometry.voxel_volume_mm3 / 1000
        for number, rater in enumerate(self.names):
            for place, segment in enumerate(self.segments):
                said = self.patterns[:, number] == segment.label
                both, given = int(joint[said, segment.label].sum()), int(self.counts[said].sum())
                wanted = int(joint[:, segment.label].sum())
                found = {
                    "dice": _share(2 * both, given + wanted),
                    "sensitivity": _share(both, wanted),
                    "specificity": _share(total - given - wanted + both, total - wanted),
                    "volume_ml": given * millilitre,
                }
                found |= {"agreement": agreement[place, number]} | {n: v[place, number] for n, v in columns.items()}
                if not self.known[number, place]:
                    found = dict.fromkeys(found, float("nan"))
                for name, value in (found | {"rater": rater, "segment": segment.name}).items():
                    rows[name].append(value)
        return Table(rows, name="Raters", units={"volume_ml": "ml"})

    def _joint(self, decided) -> np.ndarray:
        """(P, L + 1) number of voxels of each pattern that were decided for each label."""
        count = len(self.segments) + 1
        joint = np.zeros((len(self.counts), count), np.int64)
        if decided.ndim == 1:
            joint[np.arange(len(self.counts)), decided] = self.counts
            return joint
        place = self.spread(np.arange(len(self.counts), dtype=np.int64)).reshape(-1)
        return np.bincount(place * count + decided.reshape(-1), minlength=joint.size).reshape(joint.shape)


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


def collect(segmentations: list[Segmentation], reference: Volume | None, context, match: str = "auto") -> Ratings:
    """Bring all raters to one grid and one table of segments.

    The grid is the reference's, or else the first rater's. A segment that a rater lacks counts as background there;
    :attr:`Ratings.known` tells where that is so.

    Parameters
    ----------
    segmentations : list of Segmentation
    reference : Volume, optional
    context : Context
    match : one of :data:`.segments.MATCHES`

    Raises
    ------
    InputError
        If no segment occurs with two raters, or a rater's segments do not reach the grid at all.
    """
    geometry = (reference or segmentations[0]).geometry
    names = _unique_names(segmentations)
    segments, own = common_table(segmentations, names, match)
    layers = []
    for number, rater in enumerate(segmentations):
        if not rater.geometry.same_grid(geometry):
            if not boxes_meet(geometry, rater.geometry):
                raise InputError(f"Rater '{names[number]}' lies entirely outside the reference grid.")
            rater = resample_segmentation(rater, geometry)
        layers.append(common_labels(rater, own[number], len(segments), names[number], context))
        context.progress(0.4 * (number + 1) / len(segmentations), "Reading the raters")
    known = np.array([[label in one for label in range(1, len(segments) + 1)] for one in own])
    encoded = encode(layers, len(segments) + 1)
    context.progress(0.8, "Comparing the raters")
    ratings = Ratings(segments, names, *encoded, geometry, known)
    _warn_of_gaps(ratings, context)
    return ratings


def _warn_of_gaps(ratings: Ratings, context):
    """Tell of raters without any voxel, and of segments that some raters lack."""
    said = (ratings.counts[:, None] * (ratings.patterns > 0)).sum(axis=0)
    empty = [name for name, size in zip(ratings.names, said, strict=True) if not size]
    if empty:
        context.warn(f"Without a single voxel in any segment: {listed(empty)}.")
    for segment, known in zip(ratings.segments, ratings.known.T, strict=True):
        missing = [name for name, has in zip(ratings.names, known, strict=True) if not has]
        if missing:
            context.warn(f"Segment '{segment.name}' is missing with {listed(missing)}.")


def boxes_meet(first: Geometry, second: Geometry) -> bool:
    """Whether the boxes around two grids, along the patient's axes, have space in common."""
    boxes = [g.corners_ras() for g in (first, second)]
    return bool((boxes[0].max(0) > boxes[1].min(0)).all() and (boxes[1].max(0) > boxes[0].min(0)).all())


def _unique_names(segmentations):
    names = []
    for number, rater in enumerate(segmentations, start=1):
        name = rater.name or f"rater {number}"
        names.append(name if name not in names else f"{name} ({number})")
    return tuple(names)
