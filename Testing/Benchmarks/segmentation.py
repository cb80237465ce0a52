"""Segmentation: inference beside MONAI's, public weights on labelled images, the pixel classifier beside its parts."""

from __future__ import annotations

from . import pixel_classifier, segmentation_classical, segmentation_inference, segmentation_models

EXTRAS = ("monai",)
"""Packages of peers, installed for the benchmark only."""

PARTS = (
    segmentation_inference.trivial_rows,
    segmentation_inference.real_network_rows,
    segmentation_inference.prompt_rows,
    *segmentation_models.PARTS,
    pixel_classifier.rows,
    *segmentation_classical.PARTS,
)
