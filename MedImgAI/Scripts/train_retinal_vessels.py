"""Train the retinal vessel model that the extension ships: five networks, each on four fifths of the patients.

    python train_retinal_vessels.py --data FOLDER --work FOLDER

FOLDER holds the photographs and first observer's masks of CHASE_DB1 (Fraz et al. 2012, IEEE Trans Biomed Eng 59:2538):
``Image_01L.jpg``, ``Image_01L_1stHO.png``, …, the number being the patient's. With ``--fold`` only that network is
trained; without, those that are missing, and the package is written at the end.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import train_tools as tools
from train_folds import Ensemble

FOLDS = 5
STEPS = 700
BATCH = 4
PATCH = (192, 192)
CHANNELS = [12, 24, 36, 48]
SIZE = 768
"""Pixels along the field of view's longer side."""
EVENED_OVER = 61
NAME = "retinal_vessels"
METRICS = {"Dice": 0.786, "HD95 in pixels": 35.7, "NSD at 2 pixels": 0.718}
"""Each photograph judged by the network that has not seen its patient; `make bench NAME=segmentation` computes them."""


def model_input():
    from MedImgAILib.core.model_card import ModelInput
    from MedImgAILib.core.model_intensity import Intensity

    return ModelInput(
        "fundus", "OP", 3, None, "LPS", Intensity("range", lower=0, upper=255), crop_above=15, size=(SIZE, SIZE, 1),
        fit="within",
    )  # fmt: skip


def folds(names: list[str]) -> list[list[str]]:
    """Photographs that network n does not see: both eyes of every fifth patient."""
    patients = sorted({name[:8] for name in names})
    return [[name for name in sorted(names) if name[:8] in patients[n::FOLDS]] for n in range(FOLDS)]


def read(path: Path):
    """(photograph, mask) volumes, the mask 0…1."""
    from MedImgAILib.hosts.files import read_file

    photograph = read_file(path, spacing_mm=1.0)
    mask = read_file(path.with_name(f"{path.stem}_1stHO.png"), spacing_mm=1.0)
    return photograph, mask.with_array((mask.array > 0).astype(np.float32))


def load(data: Path) -> dict:
    """``{name: (evened photograph and its inside (4, J, I), mask (J, I))}`` prepared as for inference."""
    import torch
    from MedImgAILib.core import Context
    from MedImgAILib.core.resampling import resample_volume
    from MedImgAILib.networks.preparation import prepare
    from MedImgAILib.networks.residual_unet import evened

    cases = {}
    for path in sorted(data.glob("*.jpg")):
        photograph, mask = read(path)
        ready = prepare(photograph, model_input(), Context("cpu"))
        truth = resample_volume(mask.reordered(*ready.order), ready.geometry, "linear").array[0] > 0.5
        picture = torch.from_numpy(ready.array[:, 0])
        even = evened(picture[None], EVENED_OVER)[0]
        inside = (even != 0).any(dim=0, keepdim=True).to(even)
        cases[path.stem] = torch.cat([even, inside]), torch.from_numpy(truth.astype(np.int64))
    return cases


def recoloured(picture, rng):
    """An evened photograph (3, J, I) as another camera might have taken it; 0 stays 0."""
    import torch

    outside = picture == 0
    if tools.chance(rng, 0.2):
        picture = picture[[1, 1, 1]]
    elif tools.chance(rng, 0.5):
        mixing = torch.eye(3) + 0.25 * torch.randn((3, 3), generator=rng)
        picture = torch.einsum("ab,bji->aji", mixing / mixing.sum(dim=1, keepdim=True).clamp(min=0.5), picture)
    picture = picture * torch.exp(0.2 * torch.randn((3, 1, 1), generator=rng))
    picture = picture + 0.15 * torch.randn((3, 1, 1), generator=rng)
    if tools.chance(rng, 0.3):
        picture = tools.blurred(picture, tools.uniform(rng, 0.3, 1.2))
    if tools.chance(rng, 0.5):
        picture = picture + tools.uniform(rng, 0, 0.35) * torch.randn(picture.shape, generator=rng)
    return torch.where(outside, torch.zeros(()), picture)


def sample(case, rng):
    """A patch about a random point of the field of view; thinner vessels, as of wider fields of view, more often."""
    picture, mask = case
    middle = [tools.uniform(rng, 0.12, 0.88) * n for n in mask.shape]
    half = [int(1.1 * n) for n in PATCH]
    part = tuple(slice(max(0, int(m) - h), int(m) + h) for m, h in zip(middle, half))
    picture, mask = picture[(slice(None), *part)], mask[part]
    grid = tools.random_grid(PATCH, mask.shape, rng, degrees=180, scale=0.2, shift=8, bend=3,
                             enlarged=tools.uniform(rng, -0.35, 0.5))  # fmt: skip
    picture, mask = tools.taken(picture, mask, grid, 2)
    return recoloured(picture[:3] * (picture[3] > 0.5), rng), mask


def network():
    from MedImgAILib.networks.residual_unet import ResidualUNet

    return ResidualUNet(CHANNELS, 2, 3, 2, "batch")


def card():
    from MedImgAILib.core.model_card import ModelCard, ModelOutput
    from MedImgAILib.core.model_inference import Inference
    from MedImgAILib.networks.anatomy import segments

    arguments = {
        "channels": CHANNELS, "classes": 2, "in_channels": 3, "dimensions": 2, "norm": "batch",
        "evened_over": EVENED_OVER,
    }  # fmt: skip
    return ModelCard(
        id=NAME, version="1.0.0", title="Retinal vessels (U-Nets)", task="segmentation",
        inputs=(model_input(),), outputs=(ModelOutput("segmentation", "segmentation", segments("Retinal vessels")),),
        architecture="medimgai.ResidualUNet", arguments=arguments, inference=Inference(mode="whole", dimensions=2),
        license="CC-BY-4.0",
        citation="Images: Fraz MM, Remagnino P, Hoppe A, et al. An ensemble classification-based approach applied to "
        "retinal blood vessel segmentation. IEEE Trans Biomed Eng 2012; 59:2538-2548.",
        training_data="20 photographs of ten children (CHASE_DB1, CC BY 4.0), 30 degrees, first observer; each "
        "network without two of the children (folds.txt); Scripts/train_retinal_vessels.py.",
        metrics=METRICS,
        intended_use="Research on colour photographs of the retina with a dark surround, of any number of pixels.",
        limits="One camera and healthy children; bleedings, exudates and scars may be taken for vessels. Photographs "
        "of much wider fields than 45 degrees lose their fine vessels.",
    )  # fmt: skip


if __name__ == "__main__":
    ensemble = Ensemble(NAME, STEPS, BATCH, load, folds, sample, network, card, keep_cases=True)
    ensemble.main(__doc__, "folder of CHASE_DB1", FOLDS)
