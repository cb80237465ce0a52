"""SIMPLE: a vote from which poor raters are dropped, step by step."""

from __future__ import annotations

import numpy as np
from MedImgAILib.core import FloatParameter, IntegerParameter, SegmentationPort, TablePort, Task, Volume, VolumePort

from . import raters
from .vote import ABSENT


def select(answers: np.ndarray, counts: np.ndarray, strictness: float = 1.0, iterations: int = 20, check=None):
    """Selective and iterative estimation of one segment (Langerak et al. 2010).

    Starting from all raters alike, each step votes, weighs every rater left with the Dice coefficient with the result,
    and drops those that lie more than ``strictness`` standard deviations below the mean, until nothing changes.

    Parameters
    ----------
    answers : (P, R) bool
        Patterns of answers.
    counts : (P,) int
        Number of voxels of each pattern.
    strictness : float
    iterations : int
    check : callable, optional
        Called at every step.

    Returns
    -------
    share : (P,) float64
        Weighted part of the raters left who saw the segment.
    weights : (R,) float64
        Dice coefficient with the last estimate, 0 for the raters dropped.
    """
    counts = np.asarray(counts, float)
    weights = np.ones(answers.shape[1])
    share = answers @ weights / weights.sum()
    for _ in range(iterations):
        if check is not None:
            check()
        estimate = share >= 0.5
        inside = counts @ (answers & estimate[:, None])
        sizes = counts @ answers + counts @ estimate
        dice = np.divide(2 * inside, sizes, out=np.ones_like(inside), where=sizes > 0)
        kept = weights > 0
        # Raters who are exactly alike differ by rounding only and must stay together.
        limit = dice[kept].mean() - strictness * dice[kept].std() - 1e-12
        current = np.where(kept & (dice >= limit), dice, 0.0)
        if not current.sum() > 0:
            break
        is_stable = ((current > 0) == kept).all() and np.abs(current - weights).max() < 1e-9
        weights = current
        share = answers @ weights / weights.sum()
        if is_stable:
            break
    return share, weights


class Simple(Task):
    """Selective and iterative method for performance level estimation."""

    id = "fusion.simple"
    title = "SIMPLE"
    group = "Decision fusion"
    summary = "A weighted vote that drops, segment by segment, the raters or atlases that agree badly with the result."
    references = (
        "Langerak TR, van der Heide UA, Kotte ANTJ, et al. Label fusion in atlas-based segmentation using a selective "
        "and iterative method for performance level estimation (SIMPLE). IEEE Trans Med Imaging 2010;29:2000-2008. "
        "doi:10.1109/TMI.2010.2057442",
    )
    keywords = ("consensus", "label fusion", "raters", "atlas selection", "outlier")

    inputs = (raters.SEGMENTATIONS, raters.REFERENCE)
    parameters = (
        FloatParameter(
            "strictness", "Strictness", 1.0,
            "A rater is dropped whose Dice lies more than this many standard deviations below the mean.",
            "standard deviations", minimum=0.1, maximum=10.0, step=0.1,
        ),
        IntegerParameter(
            "iterations", "Most steps", 20, "It stops earlier when nothing changes any more.",
            minimum=1, maximum=1000, advanced=True,
        ),
        ABSENT,
        raters.MATCH,
    )  # fmt: skip
    outputs = (
        SegmentationPort("consensus", "Consensus", "Where the raters left see a segment by more than half the votes."),
        VolumePort("agreement", "Agreement", "Share of the votes for the answer given, 0…1.", optional=True),
        TablePort(
            "raters", "Raters", "Of every rater and segment: weight (0 if dropped), Dice, sensitivity and specificity "
            "against the consensus, mean Dice with the other raters, volume.", optional=True,
        ),
    )  # fmt: skip

    def run(self, inputs, parameters, context):
        with context.part(0.0, 0.7) as part:
            ratings = raters.collect(inputs.segmentations, inputs.reference, part, parameters.match)
        best = np.zeros(len(ratings.patterns))
        decided = np.zeros(len(ratings.patterns), np.intp)
        weights = np.zeros((len(ratings.segments), len(ratings.names)))
        for number, segment in enumerate(ratings.segments):
            used = ratings.voters(number, parameters.absent)
            share, weights[number, used] = select(
                (ratings.patterns == segment.label)[:, used], ratings.counts, parameters.strictness,
                parameters.iterations, context.check,
            )  # fmt: skip
            decided[(share >= 0.5) & (share > best)] = segment.label
            best = np.maximum(best, share)
            context.progress(0.7 + 0.2 * (number + 1) / len(ratings.segments), segment.name)
        share = np.where(decided > 0, best, 1 - best)
        return {
            "consensus": ratings.segmentation(decided, "SIMPLE"),
            "agreement": Volume(ratings.spread(share.astype(np.float32)), ratings.geometry, name="Agreement"),
            "raters": ratings.table(decided, weight=weights),
        }
