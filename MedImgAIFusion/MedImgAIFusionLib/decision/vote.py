"""Majority and weighted vote of segmentations."""

from __future__ import annotations

import numpy as np
from MedImgAILib.core import (
    ChoiceParameter,
    InputError,
    ParameterError,
    SegmentationPort,
    TablePort,
    Task,
    TextParameter,
    Volume,
    VolumePort,
)

from . import raters

TIES = ChoiceParameter(
    "ties", "Ties", "background", "What a voxel becomes if several answers have equally many votes.",
    choices={
        "background": "Background",
        "foreground": "The first of the tied segments",
        "first_rater": "What the first rater among the tied ones said",
    },
)  # fmt: skip
ABSENT = ChoiceParameter(
    "absent", "Raters without a segment", "background",
    "What a rater who does not have a segment at all says where others see it.",
    choices={"background": "Vote for background", "abstain": "Do not vote"},
)  # fmt: skip


def vote(patterns: np.ndarray, labels: int, ties: str = "background", weights=None, known=None):
    """The label with most votes for every pattern of answers.

    Parameters
    ----------
    patterns : (P, R) labels 0 … ``labels`` − 1
    labels : int
    ties : "background", "foreground" or "first_rater"
        Which label wins if several have most votes: 0; the lowest that is not 0; that of the first rater who gave
        one of them.
    weights : (R,) or (labels, R) floats ≥ 0, optional
        Votes of each rater, for all labels or for each.
    known : (R, labels − 1) bool, optional
        Which segments a rater has. Given, a rater's 0 does not count where others say a label that they lack.

    Returns
    -------
    decided : (P,) labels
    share : (P,) float64
        Part of the votes, 0…1, that the most voted label has.
    """
    count = patterns.shape[1]
    weights = np.broadcast_to(np.ones(count) if weights is None else np.asarray(weights, float), (labels, count))
    said = [patterns == label for label in range(labels)]
    votes = np.stack([answer @ own for answer, own in zip(said, weights, strict=True)], axis=1)
    if known is not None and not known.all():
        seen = np.stack([answer.any(axis=1) for answer in said[1:]], axis=1)
        has_no_say = said[0] & (seen.astype(float) @ ~known.T > 0)
        votes[:, 0] -= has_no_say @ weights[0]
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
    total = votes.sum(axis=1)
    return decided, np.divide(most, total, out=np.ones_like(most), where=total > 0)


class MajorityVote(Task):
    """The simplest consensus, and often hard to beat."""

    id = "fusion.majority_vote"
    title = "Majority vote"
    group = "Decision fusion"
    summary = (
        "Gives every voxel the segment that most raters or models chose, all alike or weighted, and shows where they "
        "agree."
    )
    references = (
        "Kittler J, Hatef M, Duin RPW, Matas J. On combining classifiers. IEEE Trans Pattern Anal Mach Intell "
        "1998;20:226-239. doi:10.1109/34.667881",
        "Artaechevarria X, Muñoz-Barrutia A, Ortiz-de-Solórzano C. Combination strategies in multi-atlas image "
        "segmentation. IEEE Trans Med Imaging 2009;28:1266-1277. doi:10.1109/TMI.2009.2014372",
    )
    keywords = ("consensus", "label fusion", "raters", "ensemble", "agreement", "voting", "weighted vote")

    inputs = (
        raters.SEGMENTATIONS,
        raters.REFERENCE,
        TablePort(
            "performance", "Performance", "Columns 'rater' and 'dice' (or 'weight'), and 'segment' if it differs; "
            "such as the table of raters of an earlier run.", optional=True,
        ),
    )  # fmt: skip
    parameters = (
        ChoiceParameter(
            "weighting", "Weights", "equal", "How many votes a rater has.",
            choices={
                "equal": "One vote each",
                "given": "As typed below",
                "agreement": "By agreement with the other raters",
                "performance": "By the performance table",
            },
        ),
        TextParameter(
            "weights", "Votes", "", "Of each rater in order, such as '1, 1, 2'.", enabled_when=("weighting", ("given",))
        ),
        TIES,
        ABSENT,
        raters.MATCH,
    )  # fmt: skip
    outputs = (
        SegmentationPort("consensus", "Consensus", "The winning segments."),
        VolumePort("agreement", "Agreement", "Share of the votes for the most voted answer, 0…1.", optional=True),
        TablePort(
            "raters", "Raters", "Of every rater and segment: votes, Dice, sensitivity and specificity against the "
            "consensus, mean Dice with the other raters, volume.", optional=True,
        ),
    )  # fmt: skip

    def validate(self, inputs, parameters):
        if parameters.weighting == "given":
            _typed(parameters.weights, len(inputs.segmentations))
        if parameters.weighting == "performance" and inputs.performance is None:
            raise InputError("Performance: weights by performance need a table; choose one.")

    def run(self, inputs, parameters, context):
        with context.part(0.0, 0.8) as part:
            ratings = raters.collect(inputs.segmentations, inputs.reference, part, parameters.match)
        weights = rater_weights(ratings, parameters, inputs.performance)
        known = ratings.known if parameters.absent == "abstain" else None
        # A rater's vote for background weighs as much as their votes on average.
        every = np.concatenate([weights.mean(axis=0, keepdims=True), weights])
        decided, share = vote(ratings.patterns, len(ratings.segments) + 1, parameters.ties, every, known)
        consensus = ratings.segmentation(decided, "Consensus")
        context.progress(0.9, "Writing the results")
        agreement = Volume(ratings.spread(share.astype(np.float32)), ratings.geometry, name="Agreement")
        return {"consensus": consensus, "agreement": agreement, "raters": ratings.table(decided, weight=weights)}


def rater_weights(ratings, parameters, performance) -> np.ndarray:
    """(L, R) votes of every rater for every segment, by the parameters of the task."""
    shape = (len(ratings.segments), len(ratings.names))
    if parameters.weighting == "given":
        return np.broadcast_to(_typed(parameters.weights, shape[1]), shape)
    if parameters.weighting == "agreement":
        weights = ratings.agreement()
        # Where there is nothing to compare, a rater counts as much as the others do.
        usual = np.nanmean(weights) if np.isfinite(weights).any() else 1.0
        weights = np.where(np.isfinite(weights), weights, usual)
    elif parameters.weighting == "performance":
        weights = _from_table(performance, ratings)
    else:
        weights = np.ones(shape)
    if not (weights.sum(axis=1) > 0).all():
        raise InputError("All raters have the weight 0 for a segment; weigh them in another way.")
    return weights


def _typed(text: str, count: int) -> np.ndarray:
    """One positive number per rater; raises ParameterError."""
    try:
        weights = [float(word) for word in text.replace(",", " ").split()]
    except ValueError:
        raise ParameterError(f"Votes must be numbers separated by commas, not '{text}'.") from None
    if len(weights) != count or not all(0 < w < float("inf") for w in weights):
        raise ParameterError(f"Votes must be {count} positive numbers, one for each segmentation, not '{text}'.")
    return np.array(weights)


def _from_table(table, ratings) -> np.ndarray:
    """(L, R) weights by the names of raters, and of segments if the table has them."""
    columns = {name.casefold(): column for name, column in table.columns.items()}
    value = next((columns[name] for name in ("weight", "dice") if name in columns), None)
    if "rater" not in columns or value is None or isinstance(value, tuple):
        raise InputError(f"{table.label} needs a column 'rater' and a numeric column 'dice' or 'weight'.")
    weights = np.full((len(ratings.segments), len(ratings.names)), np.nan)
    for row, (rater, number) in enumerate(zip(columns["rater"], value, strict=True)):
        if str(rater) not in ratings.names:
            continue
        places = [
            place for place, segment in enumerate(ratings.segments)
            if "segment" not in columns or str(columns["segment"][row]).casefold() == segment.name.casefold()
        ]  # fmt: skip
        weights[places, ratings.names.index(str(rater))] = number
    if not np.isfinite(weights).any(axis=0).all():
        missing = [name for name, w in zip(ratings.names, weights.T, strict=True) if not np.isfinite(w).any()]
        raise InputError(f"{table.label} has no value for the rater '{missing[0]}'; give every rater a row.")
    weights = np.where(np.isfinite(weights), weights, np.nanmean(weights, axis=0))
    if (weights < 0).any():
        raise InputError(f"{table.label} has a negative value; weights are 0 or more.")
    return weights
