"""STAPLE: the consensus and every rater's performance, estimated together."""

from __future__ import annotations

import numpy as np
from MedImgAILib.core import (
    FloatParameter,
    IntegerParameter,
    SegmentationPort,
    TablePort,
    Task,
    Volume,
    VolumePort,
)

from . import raters
from .vote import ABSENT

_ESTIMATED = ("sensitivity", "specificity")
_SQUARED_STEP = 1e-14
"""Converged when no sensitivity or specificity changes by more than the root of this."""


def estimate(answers: np.ndarray, counts: np.ndarray, confidence: float = 1.0, iterations: int = 1000, check=None):
    """Expectation maximisation for one segment (Warfield, Zou & Wells 2004).

    Parameters
    ----------
    answers : (P, R) bool
        Patterns of answers.
    counts : (P,) int
        Number of voxels of each pattern.
    confidence : float
        Factor on the prior, which is the mean share of foreground.
    iterations : int
    check : callable, optional
        Called at every iteration.

    Returns
    -------
    probability : (P,) float64
        That a voxel of the pattern belongs to the segment.
    sensitivity, specificity : (R,) float64
        NaN where there is no voxel to judge by.
    steps : int
    """
    answers, counts = np.asarray(answers, bool), np.asarray(counts, np.float64)
    probability = answers.mean(axis=1)
    prior = (counts @ probability) / counts.sum() * confidence
    empty = np.full(answers.shape[1], np.nan)
    if not answers.any():
        return probability, empty, np.ones(answers.shape[1]), 0
    if answers.all():
        return probability, np.ones(answers.shape[1]), empty, 0
    last, step = None, 0
    while step < iterations:
        step += 1
        if check is not None:
            check()
        inside, outside = counts * probability, counts * (1 - probability)
        sensitivity = (inside @ answers) / inside.sum()
        specificity = (outside @ ~answers) / outside.sum()
        yes = prior * np.where(answers, sensitivity, 1 - sensitivity).prod(axis=1)
        no = (1 - prior) * np.where(answers, 1 - specificity, specificity).prod(axis=1)
        total = yes + no
        probability = np.divide(yes, total, out=np.full_like(yes, 0.5), where=total > 0)
        current = np.concatenate([sensitivity, specificity])
        if last is not None and ((current - last) ** 2).max() <= _SQUARED_STEP:
            break
        last = current
    return probability, sensitivity, specificity, step


class Staple(Task):
    """Simultaneous truth and performance level estimation."""

    id = "fusion.staple"
    title = "STAPLE"
    group = "Decision fusion"
    summary = (
        "Estimates the most probable segmentation and each rater's sensitivity and specificity together; raters who "
        "agree with the others weigh more."
    )
    references = (
        "Warfield SK, Zou KH, Wells WM. Simultaneous truth and performance level estimation (STAPLE). IEEE Trans Med "
        "Imaging 2004;23:903-921. doi:10.1109/TMI.2004.828354",
    )
    keywords = ("consensus", "label fusion", "raters", "sensitivity", "specificity", "ground truth")

    inputs = (raters.SEGMENTATIONS, raters.REFERENCE)
    parameters = (
        FloatParameter(
            "threshold", "Least probability", 0.5, "A voxel joins a segment from this probability on.",
            minimum=0.01, maximum=1.0, step=0.05,
        ),
        FloatParameter(
            "confidence", "Confidence weight", 1.0,
            "Factor on the prior probability of a segment, which is its mean share of the voxels.",
            minimum=0.01, maximum=100.0, advanced=True,
        ),
        IntegerParameter(
            "iterations", "Most iterations", 1000, "The estimate stops earlier when it no longer changes.",
            minimum=1, maximum=100000, advanced=True,
        ),
        ABSENT,
        raters.MATCH,
    )  # fmt: skip
    outputs = (
        SegmentationPort("consensus", "Consensus", "The most probable segments."),
        VolumePort("probability", "Probability", "That of the most probable segment at each voxel, 0…1.",
                   optional=True),
        TablePort(
            "raters", "Raters", "Of every rater and segment: sensitivity and specificity as estimated, Dice with the "
            "consensus, mean Dice with the other raters, volume.", optional=True,
        ),
    )  # fmt: skip

    def run(self, inputs, parameters, context):
        with context.part(0.0, 0.7) as part:
            ratings = raters.collect(inputs.segmentations, inputs.reference, part, parameters.match)
        best = np.zeros(len(ratings.patterns))
        decided = np.zeros(len(ratings.patterns), np.intp)
        found = {name: np.full((len(ratings.segments), len(ratings.names)), np.nan) for name in _ESTIMATED}
        for number, segment in enumerate(ratings.segments):
            used = ratings.voters(number, parameters.absent)
            probability, *values, steps = estimate(
                (ratings.patterns == segment.label)[:, used], ratings.counts, parameters.confidence,
                parameters.iterations, context.check,
            )  # fmt: skip
            if steps == parameters.iterations:
                context.warn(f"Segment '{segment.name}' had not converged after {steps} iterations.")
            decided[(probability >= parameters.threshold) & (probability > best)] = segment.label
            best = np.maximum(best, probability)
            for name, value in zip(_ESTIMATED, values, strict=True):
                found[name][number, used] = value
            context.progress(0.7 + 0.2 * (number + 1) / len(ratings.segments), segment.name)
        return {
            "consensus": ratings.segmentation(decided, "STAPLE"),
            "probability": Volume(ratings.spread(best.astype(np.float32)), ratings.geometry, name="STAPLE probability"),
            "raters": ratings.table(decided, **found),
        }
