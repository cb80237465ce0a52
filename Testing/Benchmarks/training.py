"""Training and classification: evaluation, explanation and conformal sets against their peers, public data sets."""

from __future__ import annotations

from . import training_classification

EXTRAS = ("captum", "MLstatkit", "monai", "statsmodels", "torchmetrics")
"""Packages of peers, installed for the benchmark only."""

PARTS = (*training_classification.PARTS,)
