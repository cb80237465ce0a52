"""Majority vote of segmentations."""

from __future__ import annotations

import numpy as np
from MedImgAILib.core import (
    ChoiceParameter,
    ParameterError,
    SegmentationPort,
    TablePort,
    Task,
    TextParameter,
    Volume,
    VolumePort,
)

from . import raters


def vote(patterns: np.ndarray, labels: int, ties: str = "background", weights=None) -> tuple[np.ndarray, np.ndarray]:
    """The label with most votes for every pattern of answers.

    Parameters
    ----------
    patterns : (P, R) labels 0 … ``labels`` − 1
    labels : int
    ties : "background", "foreground" or "first_rater"
        Which label wins if several have most votes: 0; the lowest that is not 0; that of the first rater who gave
        one of them.
    weights : (R,) positive floats, optional

    Returns
    -------
    decided : (P,) labels
    share : (P,) float64
        Part of the votes, 0…1, that the most voted label has.
    """
    weights = np.ones(patterns.shape[1]) if weights is None else np.asarray(weights, float)
    votes = np.stack([(patterns == label) @ weights for label in range(labels)], axis=1)
    most = votes.max(axis=1)
    winners = votes >= most[:, None] * (1 - 1e-12)
    decided = winners.argmax(axis=1)
    tied = winners.sum(axis=1) > 1
    if ties == "background":
        decided[tied] = 0
    elif ties == "foreground":
        decided[tied] = winners[tied, 1:].argmax(axis=1) + 1
    else:
        given = patterns[tied]
        allowed = np.take_along_axis(winners[tied], given.astype(np.intp), axis=1)
        decided[tied] = np.take_along_axis(given, allowed.argmax(axis=1)[:, None], axis=1)[:, 0]
    return decided, most / weights.sum()


class MajorityVote(Task):
    """The simplest consensus, and often hard to beat."""

    id = "fusion.majority_vote"
    title = "Majority vote"
    group = "Decision fusion"
    summary = "Gives every voxel the segment that most raters or models chose, and shows where they agree."
    references = (
        "Kittler J, Hatef M, Duin RPW, Matas J. On combining classifiers. IEEE Trans Pattern Anal Mach Intell "
        "1998;20:226-239. doi:10.1109/34.667881",
    )
    keywords = ("consensus", "label fusion", "raters", "ensemble", "agreement", "voting")

    inputs = (
        SegmentationPort(
            "segmentations", "Segmentations", "One per rater; segments are matched by name.",
            multiple=True, minimum_count=2,
        ),
        VolumePort("reference", "Reference", "The grid of the result; the first rater's if none.",
                   components=(), optional=True, allow_nan=True),
    )  # fmt: skip
    parameters = (
        ChoiceParameter(
            "ties", "Ties", "background", "What a voxel becomes if several answers have equally many votes.",
            choices={
                "background": "Background",
                "foreground": "The first of the tied segments",
                "first_rater": "What the first rater among the tied ones said",
            },
        ),
        TextParameter(
            "weights", "Weights", "", "Votes of each rater, such as '1, 1, 2'; empty for one each.", advanced=True
        ),
    )  # fmt: skip
    outputs = (
        SegmentationPort("consensus", "Consensus", "The winning segments."),
        VolumePort("agreement", "Agreement", "Share of the votes for the most voted answer, 0…1.", optional=True),
        TablePort("raters", "Raters", "Dice coefficient of every rater with the consensus.", optional=True),
    )

    def validate(self, inputs, parameters):
        _weights(parameters.weights, len(inputs.segmentations))

    def run(self, inputs, parameters, context):
        with context.part(0.0, 0.8) as part:
            ratings = raters.collect(inputs.segmentations, inputs.reference, part)
        weights = _weights(parameters.weights, len(inputs.segmentations))
        decided, share = vote(ratings.patterns, len(ratings.segments) + 1, parameters.ties, weights)
        consensus = ratings.segmentation(decided, "Consensus")
        context.progress(0.9, "Writing the results")
        agreement = Volume(ratings.spread(share.astype(np.float32)), ratings.geometry, name="Agreement")
        return {"consensus": consensus, "agreement": agreement, "raters": ratings.dice(decided)}


def _weights(text: str, count: int):
    """One positive number per rater, or None for an empty text; raises ParameterError."""
    if not text.strip():
        return None
    try:
        weights = [float(word) for word in text.replace(",", " ").split()]
    except ValueError:
        raise ParameterError(f"Weights must be numbers separated by commas, not '{text}'.") from None
    if len(weights) != count or not all(0 < w < float("inf") for w in weights):
        raise ParameterError(f"Weights must be {count} positive numbers, one for each segmentation, not '{text}'.")
    return weights
