"""A small sound model package for tests of what is done to packages."""

from pathlib import Path

from MedImgAILib.core.data import Segment
from MedImgAILib.core.model_card import ModelCard, ModelInput, ModelOutput
from MedImgAILib.core.model_intensity import Intensity
from MedImgAILib.core.model_package import ModelPackage
from MedImgAILib.core.terminology import BRAIN

CARD_VALUES = ModelCard(
    id="edge_filter",
    version="1.0.0",
    title="Edge filter",
    task="segmentation",
    inputs=(ModelInput("image", "CT", 1, (1.0, 1.0, 2.5), "RAS", Intensity("range", lower=-1000, upper=400)),),
    outputs=(ModelOutput("mask", "segmentation", (Segment("Brain", 1, (1.0, 0.5, 0.0), BRAIN),)),),
    architecture="torch.Conv3d",
    arguments={"in_channels": 1, "out_channels": 2, "kernel_size": 3},
    license="Apache-2.0",
    citation="Nobody 2024",
    training_data="Random numbers.",
    metrics={"dice": 0.5},
    intended_use="Tests.",
    limits="Everything.",
)


def random_state() -> dict:
    """The weights of the network that the card names."""
    import torch

    torch.manual_seed(1)
    return torch.nn.Conv3d(1, 2, 3).state_dict()


def edge_filter(parent: Path) -> Path:
    """The folder of a new package within ``parent``."""
    return ModelPackage.create(parent / "edge_filter", CARD_VALUES, random_state()).folder
