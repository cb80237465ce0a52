"""A joint network as a model package, and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from MedImgAILib.core import Display, ModelError, Segment, Segmentation, Volume
from MedImgAILib.core.model_card import ModelCard, ModelInput, ModelOutput
from MedImgAILib.core.model_inference import Inference
from MedImgAILib.core.model_intensity import Intensity
from MedImgAILib.core.model_package import ModelPackage
from MedImgAILib.core.resampling import resample_volume

ARCHITECTURE = "medimgai.MultimodalUNet"
_DICOM_MODALITY = {"HU": "CT", "SUV": "PT"}


def new_card(modalities, units, segments, spacing_mm, settings, data: str, metrics: dict) -> ModelCard:
    """The card of a network trained here.

    Parameters
    ----------
    modalities, units : sequences of str
    segments : sequence of Segment
        Labels 1, 2, ….
    spacing_mm : float
    settings : .training.Settings
    data : str
        What it was trained on.
    metrics : {name: float}
    """
    spacing = (spacing_mm,) * 3 if spacing_mm > 0 else None
    inputs = tuple(
        ModelInput(
            name, _DICOM_MODALITY.get(unit, "MR"), 1, spacing, "RAS", Intensity("z_score", nonzero=True),
            intensity_first=True,
        )
        for name, unit in zip(modalities, units)
    )  # fmt: skip
    return ModelCard(
        id="joint-network",
        version="1.0.0",
        title="Joint network of " + ", ".join(modalities),
        task="segmentation",
        inputs=inputs,
        outputs=(ModelOutput("segmentation", "segmentation", tuple(segments)),),
        architecture=ARCHITECTURE,
        arguments={"modalities": len(modalities), "classes": len(segments) + 1, "channels": list(settings.channels)},
        inference=Inference(window=(96, 96, 96), overlap=0.25),
        license="of the training data's owner",
        citation="Trained with MedImgAI; Havaei M et al. HeMIS: hetero-modal image segmentation. MICCAI 2016.",
        training_data=data,
        metrics=metrics,
        intended_use="Research on images like those it was trained on; any part of its inputs may be missing.",
        limits="Images must be registered. Outside the tissue they must be constant, or the tissue fill the image.",
    )


def load_joint(folder: Path | str) -> ModelPackage:
    """The package of a joint network.

    Raises
    ------
    ModelError
        If it is another network's.
    """
    package = ModelPackage.load(folder)
    if package.card.architecture != ARCHITECTURE or package.card.arguments.get("modalities") != len(
        package.card.inputs
    ):
        raise ModelError(f"The model '{package.card.title}' is not a joint network; apply it with 'segment.network'.")
    return package


def on_source(probabilities: np.ndarray, geometry, source: Volume, segments: tuple[Segment, ...], name: str):
    """Segments and uncertainty on the grid of an image, from class probabilities on another grid.

    Parameters
    ----------
    probabilities : (C, K, J, I) ndarray
    geometry : Geometry
        Of the probabilities.
    source : Volume
    segments : tuple of Segment
        Of the classes 1 … C − 1, with these labels.
    name : str

    Returns
    -------
    segmentation : Segmentation
    uncertainty : Volume
        Entropy relative to that of chance, 0…1.
    """
    shape = source.geometry.shape
    best, labels = np.full(shape, -1.0, np.float32), np.zeros(shape, np.uint8)
    entropy = np.zeros(shape, np.float32)
    for number, values in enumerate(probabilities):
        # Interpolating probabilities instead of labels draws edges between the coarser voxels; outside is background.
        part = resample_volume(
            Volume(np.asarray(values, np.float32), geometry), source.geometry, "linear", outside=float(number == 0)
        ).array  # fmt: skip
        wins = part > best
        labels[wins] = number
        np.maximum(best, part, out=best)
        entropy -= part * np.log(np.maximum(part, 1e-12))
    entropy = np.clip(entropy / np.float32(np.log(len(probabilities))), 0, 1)
    segmentation = Segmentation.from_labels(labels, source.geometry, segments, name)
    return segmentation, source.with_array(entropy, name=f"{name} uncertainty", display=Display(1.0, 0.5))
