"""Shape-based averaging: the mean of the raters' outlines instead of a vote at every voxel."""

from __future__ import annotations

import numpy as np
from MedImgAILib.core import Geometry, SegmentationPort, TablePort, Task, Volume, VolumePort

from . import raters
from .vote import ABSENT


def signed_distance(mask: np.ndarray, geometry: Geometry) -> np.ndarray | None:
    """(K, J, I) float32 distance in mm to the nearest voxel on the other side, negative inside.

    None if there is no other side: the mask is empty, or fills the grid.
    """
    import SimpleITK as sitk

    if not mask.any() or mask.all():
        return None

    def distance(inside):
        image = sitk.GetImageFromArray(np.ascontiguousarray(inside).view(np.uint8))
        image.SetSpacing([float(s) for s in geometry.spacing])
        # Zero on the border voxels of the object, positive outside.
        found = sitk.SignedMaurerDistanceMap(image, False, False, True)
        return np.maximum(sitk.GetArrayFromImage(found), 0)

    return distance(mask) - distance(~mask)


def average(labels: list[np.ndarray], count: int, geometry: Geometry, used=None, report=None):
    """The label whose mean signed distance is least, at every voxel (Rohlfing & Maurer 2007).

    Parameters
    ----------
    labels : R arrays (K, J, I) of labels 0…count − 1
    count : int
    geometry : Geometry
        Of the arrays.
    used : (count, R) bool, optional
        Who decides about a label.
    report : callable, optional
        Told of the fraction done.

    Returns
    -------
    decided : (K, J, I) uint16
    margin : (K, J, I) float32
        How much less the mean distance of the label is than that of the next one, in mm.

    Notes
    -----
    A rater without a voxel of a label lies outside it everywhere by as much as it is deep with the others at most, so
    that they count like everyone else. Ties go to the lower label.
    """
    best = second = None
    for label in range(count):
        voters = [r for r in range(len(labels)) if used is None or used[label, r]]
        total, empty, depth = np.zeros(geometry.shape, np.float32), 0, 0.0
        for rater in voters:
            distance = signed_distance(labels[rater] == label, geometry)
            if distance is None and (labels[rater] == label).any():
                total -= np.float32(np.linalg.norm(geometry.spacing * geometry.shape[::-1]))
            elif distance is None:
                empty += 1
            else:
                total += distance
                depth = max(depth, -float(distance.min()))
            if report is not None:
                report((label + (rater + 1) / len(labels)) / count)
        mean = (total + np.float32(empty * depth)) / max(1, len(voters))
        if empty == len(voters):
            mean[:] = np.inf
        if best is None:
            best, decided = mean, np.zeros(geometry.shape, np.uint16)
            second = np.full_like(mean, np.inf)
        else:
            # Distances that are equal on paper differ by rounding.
            better = mean < best - 1e-5
            second = np.where(better, best, np.minimum(second, mean))
            best = np.where(better, mean, best)
            decided[better] = label
    return decided, second - best


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
        used = [np.ones(len(ratings.names), bool)]
        used += [ratings.voters(number, parameters.absent) for number in range(len(ratings.segments))]
        with context.part(0.3, 0.9) as part:
            decided, margin = average(labels, len(used), box, np.stack(used), part.progress)
        consensus = np.zeros(ratings.geometry.shape, np.uint16)
        consensus[place] = decided
        margins = np.full(ratings.geometry.shape, margin.max(), np.float32)
        margins[place] = margin
        return {
            "consensus": ratings.segmentation(consensus, "Shape average"),
            "margin": Volume(margins, ratings.geometry, name="Margin", units="mm"),
            "raters": ratings.table(consensus),
        }
