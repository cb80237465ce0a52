"""Train the hippocampus model that the extension ships: five networks, each on four fifths of the cases.

    python train_hippocampus.py --data FOLDER --work FOLDER

FOLDER holds ``images`` and ``labels`` with files of the same names (Medical Segmentation Decathlon, Task04). With
``--fold`` only that network is trained; without, those that are missing, and the package is written at the end.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import train_tools as tools
from train_folds import Ensemble

FOLDS = 5
STEPS = 500
BATCH = 2
CHANNELS = [16, 32, 48]
WINDOW = (40, 56, 40)
"""Voxels of 1 mm along the axes K, J, I."""
NAME = "hippocampus"
METRICS = {"Dice": 0.860, "Dice, anterior": 0.868, "Dice, posterior": 0.851, "HD95 in mm": 1.64, "NSD at 1 mm": 0.899}
"""Each case judged by the network that has not seen it; `make bench NAME=segmentation` computes them."""


def model_input():
    from MedImgAILib.core.model_card import ModelInput
    from MedImgAILib.core.model_intensity import Intensity

    return ModelInput(
        "T1", "MR", 1, (1.0, 1.0, 1.0), "RAS", Intensity("percentiles", lower=1, upper=99), largest_mm=(55, 43, 39)
    )


def folds(names: list[str]) -> list[list[str]]:
    """Cases that network n does not see: every fifth, in the order of the names."""
    return [sorted(names)[n::FOLDS] for n in range(FOLDS)]


def load(data: Path) -> dict:
    """``{name: (image (1, K, J, I), labels (K, J, I))}`` prepared as for inference."""
    import torch
    from MedImgAILib.core import Context, Segmentation
    from MedImgAILib.hosts.files import read_file
    from MedImgAILib.networks.preparation import prepare

    cases = {}
    for path in sorted((data / "images").glob("*.nii.gz")):
        image = read_file(path)
        labels = read_file(data / "labels" / path.name)
        if isinstance(labels, Segmentation):
            labels = image.with_array(labels.labelmap())
        ready = prepare(image, model_input(), Context("cpu"))
        if ready.geometry.shape != image.array.shape:
            raise SystemExit(f"{path.name} is not on a grid of 1 mm along the patient's axes.")
        numbers = labels.reordered(*ready.order).array.astype(np.int64)
        cases[path.name.partition(".")[0]] = torch.from_numpy(ready.array), torch.from_numpy(numbers)
    return cases


def sample(case, rng):
    """A crop turned, bent and in other greys."""
    image, label = case
    grid = tools.random_grid(WINDOW, label.shape, rng, degrees=15, scale=0.15, shift=3, bend=1.5)
    image, label = tools.taken(image, label, grid, 3)
    return tools.altered(image, rng), label


def network():
    from MedImgAILib.networks.residual_unet import ResidualUNet

    return ResidualUNet(CHANNELS, 3)


def card():
    from MedImgAILib.core import Segment
    from MedImgAILib.core.model_card import ModelCard, ModelOutput
    from MedImgAILib.core.model_inference import Inference
    from MedImgAILib.core.terminology import Code, Terminology, anatomy

    hippocampus = anatomy("5366008", "Hippocampus")
    parts = (
        ("Anterior hippocampus", (0.87, 0.85, 0.1), Code("SCT", "255549009", "Anterior")),
        ("Posterior hippocampus", (0.2, 0.65, 0.85), Code("SCT", "255551008", "Posterior")),
    )
    segments = tuple(
        Segment(name, n, color, Terminology(hippocampus.category, hippocampus.type, side))
        for n, (name, color, side) in enumerate(parts, start=1)
    )
    return ModelCard(
        id=NAME, version="1.0.0", title="Hippocampus, anterior and posterior (U-Nets)", task="segmentation",
        inputs=(model_input(),), outputs=(ModelOutput("segmentation", "segmentation", segments),),
        architecture="medimgai.ResidualUNet", arguments={"channels": CHANNELS, "classes": 3},
        inference=Inference(window=WINDOW[::-1], overlap=0.5),
        license="CC-BY-SA-4.0",
        citation="Images: Simpson AL, Antonelli M, Bakas S, et al. A large annotated medical image dataset for the "
        "development and evaluation of segmentation algorithms. arXiv:1902.09063, 2019.",
        training_data="40 crops about one hippocampus, 1 mm, T1-weighted, from Task04 of the Medical Segmentation "
        "Decathlon (CC BY-SA 4.0); each network on 32 of them (folds.txt names the 8 others); "
        "Scripts/train_hippocampus.py.",
        metrics=METRICS,
        intended_use="Research on T1-weighted images cut to about 36 x 50 x 36 mm around one hippocampus.",
        limits="Knows nothing but such crops: in a whole head it finds hippocampi where there are none. Other "
        "contrasts and children were not tried.",
    )  # fmt: skip


if __name__ == "__main__":
    ensemble = Ensemble(NAME, STEPS, BATCH, load, folds, sample, network, card)
    ensemble.main(__doc__, "folder with images and labels", FOLDS)
