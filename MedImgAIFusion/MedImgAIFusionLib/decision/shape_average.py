"""Shape-based averaging: the mean of the raters' outlines instead of a vote at every voxel."""

from __future__ import annotations

import numpy as np
from MedImgAILib.core import Geometry, SegmentationPort, TablePort, Task, Volume, VolumePort

from . import raters
from .vote import ABSENT


def signed_distance(mask: np.ndarray, geometry: Geometry) -> np.ndarray:
    """(K, J, I) float32 distance in mm to the nearest voxel on the other side, negative inside.

    Without another side it is the size of the grid everywhere.
    """
    import SimpleITK as sitk

    if not mask.any() or mask.all():
        size = np.linalg.norm(geometry.spacing_kji * geometry.shape)
        return np.full(mask.shape, -size if mask.any() else size, np.float32)

    def distance(inside):
        image = sitk.GetImageFromArray(np.ascontiguousarray(inside).view(np.uint8))
        image.SetSpacing([float(s) for s in geometry.spacing])
        # Zero on the border voxels of the object, positive outside.
        found = sitk.SignedMaurerDistanceMap(image, False, False, True)
        return np.maximum(sitk.GetArrayFromImage(found), 0)

    return distance(mask) - distance(~mask)


def average(labels: list[np.ndarray], count: int, geometry: Geometry, voters=None, report=None):
    """The label whose mean signed distance is least, at every voxel (Rohlfing & Maurer 2007).

    Parameters
    ----------
    labels : R arrays (K, J, I) of labels 0…count − 1
    count : int
    geometry : Geometry
        Of the arrays.
    voters : (count - 1, R) bool, optional
        Who decides about each label but 0.
    report : callable, optional
        Told of the fraction done.

    Returns
    -------
    decided : (K, J, I) uint16
    margin : (K, J, I) float32
        How much less the mean distance of the label is than that of the next one, in mm.

    Notes
    -----
    An answer without a voxel has no shape: a label is left out if it is empty with half of its voters, else those
    abstain. The background is averaged over the raters who have every label; if nobody has, it is where no label has
    a negative mean distance. Ties go to the lower label.
    """
    voters = np.ones((count - 1, len(labels)), bool) if voters is None else voters
    seen = np.array([[(layer == label).any() for layer in labels] for label in range(1, count)])
    kept = [n for n in range(count - 1) if 2 * (seen[n] & voters[n]).sum() > voters[n].sum()]
    complete = np.flatnonzero((seen & voters)[kept].all(axis=0)) if kept else []
    jobs = [(n + 1, np.flatnonzero(seen[n] & voters[n])) for n in kept]
    jobs += [(0, complete)] if len(complete) else []
    done, total = 0, sum(len(who) for _, who in jobs)
    best, second = (np.full(geometry.shape, np.inf, np.float32) for _ in range(2))
    decided = np.zeros(geometry.shape, np.uint16)
    for label, who in jobs:
        mean = np.zeros(geometry.shape, np.float32)
        for rater in who:
            mean += signed_distance(labels[rater] == label, geometry)
            done += 1
            if report is not None:
                report(done / total)
        mean /= len(who)
        best, second = _compete(mean, label, best, second, decided)
    if not len(complete):
        best, second = _compete(-best, 0, best, second, decided)
    return decided, np.where(np.isfinite(second), second - best, 0).astype(np.float32)


def _compete(mean, label, best, second, decided):
    """Enter a label's mean distance; ``decided`` is changed."""
    # Distances that are equal on paper differ by rounding; the background, entered last, wins ties.
    better = mean <= best + 1e-5 if label == 0 else mean < best - 1e-5
    decided[better] = label
    return np.where(better, mean, best), np.where(better, best, np.minimum(second, mean))


class ShapeAverage(Task):
    """Averages shapes, so that outlines stay smooth and whole with few raters."""

    id = "fusion.shape_average"
    title = "Shape-based averaging"
    group = "Decision fusion"
    summary = (
        "Averages the raters' outlines by their signed distances; with few raters the result is smoother and less "
        "fragmented than a vote."
    )
    references = (
        "Rohlfing T, Maurer CR Jr. Shape-based averaging. IEEE Trans Image Process 2007;16:153-161. "
        "doi:10.1109/TIP.2006.884936",
    )
    keywords = ("consensus", "label fusion", "raters", "distance map", "SBA")

    inputs = (raters.SEGMENTATIONS, raters.REFERENCE)
    parameters = (ABSENT, raters.MATCH)
    outputs = (
        SegmentationPort("consensus", "Consensus", "The segment with the least mean distance at each voxel."),
        VolumePort(
            "margin", "Margin", "How far the outline is from including the voxel in another segment, in mm.",
            optional=True,
        ),
        TablePort(
            "raters", "Raters", "Of every rater and segment: Dice, sensitivity and specificity against the consensus, "
            "mean Dice with the other raters, volume.", optional=True,
        ),
    )  # fmt: skip

    def run(self, inputs, parameters, context):
        with context.part(0.0, 0.3) as part:
            ratings = raters.collect(inputs.segmentations, inputs.reference, part, parameters.match)
        place = ratings.box(margin=1)
        box = ratings.geometry.cropped([s.start for s in place], [s.stop - s.start for s in place])
        labels = [ratings.labels(r)[place] for r in range(len(ratings.names))]
        voters = np.stack([ratings.voters(n, parameters.absent) for n in range(len(ratings.segments))])
        with context.part(0.3, 0.9) as part:
            decided, margin = average(labels, len(voters) + 1, box, voters, part.progress)
        consensus = np.zeros(ratings.geometry.shape, np.uint16)
        consensus[place] = decided
        margins = np.full(ratings.geometry.shape, margin.max(), np.float32)
        margins[place] = margin
        return {
            "consensus": ratings.segmentation(consensus, "Shape average"),
            "margin": Volume(margins, ratings.geometry, name="Margin", units="mm"),
            "raters": ratings.table(consensus),
        }
