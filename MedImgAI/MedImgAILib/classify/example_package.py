"""A tiny model package for the examples of the tasks: a network of chosen numbers, calibrated on made-up cases."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from ..core.data import Segment
from ..core.model_card import ModelCard, ModelInput, ModelOutput
from ..core.model_inference import Inference
from ..core.model_intensity import Intensity
from ..core.model_package import DIAGNOSIS, ModelPackage

_folders: list[tempfile.TemporaryDirectory] = []


def example_package() -> Path:
    """Folder of a package that tells "bright" from "dark" volumes; made once in a process."""
    if not _folders:
        folder = tempfile.TemporaryDirectory(prefix="medimgai-example-")
        _make(Path(folder.name) / "model")
        _folders.append(folder)
    return Path(_folders[0].name) / "model"


def _make(folder: Path):
    import torch

    from .architectures import CompactResNet
    from .diagnosis import Diagnosis

    torch_state = torch.random.get_rng_state()
    torch.manual_seed(1)
    arguments = {"dimensions": 3, "channels": 1, "classes": 2, "width": 4, "stages": 2}
    network = CompactResNet(**arguments).eval()
    torch.random.set_rng_state(torch_state)
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 200)
    scores = np.stack([np.zeros(200), 2.0 * (2 * truth - 1) + rng.normal(0, 2, 200)], axis=1)
    diagnosis = Diagnosis.fitted(scores, truth, ("dark", "bright"), "temperature", 0.9)
    known = rng.normal(0, 1, (12, network.features)).astype(np.float32)
    diagnosis = Diagnosis(
        **{
            **vars(diagnosis), "embeddings": known / np.linalg.norm(known, axis=1, keepdims=True),
            "known": np.arange(12) % 2, "names": tuple(f"case {n}" for n in range(12)),
        }
    )  # fmt: skip
    card = ModelCard(
        id="example-classification",
        version="1.0.0",
        title="Example classification",
        task="classification",
        inputs=(
            ModelInput("image", "MR", 1, None, "LPS", Intensity("percentiles", lower=1, upper=99), None, (16, 16, 12),
                       "stretch"),
        ),
        outputs=(ModelOutput("class", "classes", (Segment("dark", 1), Segment("bright", 2))),),
        architecture="medimgai.CompactResNet",
        arguments=arguments,
        inference=Inference(mode="whole"),
        license="Apache-2.0",
        citation="None.",
        training_data="None; its numbers are random.",
        intended_use="Tests.",
        limits="It knows nothing.",
    )  # fmt: skip
    ModelPackage.create(folder, card, network.state_dict(), {DIAGNOSIS: diagnosis.to_bytes()})
