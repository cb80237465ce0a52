"""Training and classification: the loop and the hippocampus model, evaluation, explanation and two data sets."""

from __future__ import annotations

from . import training_classification, training_loop

PARTS = (*training_loop.PARTS, *training_classification.PARTS)
