"""Denoising learnt from the scan itself: no training data, no weights from elsewhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from MedImgAILib.core import InputError, IntegerParameter, TextParameter
from MedImgAILib.core.model_card import ModelCard, ModelInput, ModelOutput
from MedImgAILib.core.model_inference import Inference
from MedImgAILib.core.model_networks import build
from MedImgAILib.core.model_package import ModelPackage

from .base import CTTask
from .fbp import CUTOFF, FILTER, FilteredBackProjection
from .iterative_tasks import COMMON

ARCHITECTURE = "monai.UNet"
ARGUMENTS = {
    "spatial_dims": 2, "in_channels": 1, "out_channels": 1, "channels": [24, 48, 96], "strides": [2, 2],
    "num_res_units": 1, "norm": None,
}  # fmt: skip
CURVE_EVERY = 10
"""Steps whose mean loss is one point of the live curve."""
MULTIPLE = 4
"""Slices are padded to a multiple of this for the network."""


class Noise2Inverse(CTTask):
    """Reconstructions from disjoint views have the same image but independent noise: one is the other's target."""

    id = "reconstruct.noise2inverse"
    title = "Noise2Inverse"
    summary = "Filtered back-projection denoised by a network that learns from this scan alone; for low doses."
    references = ("Hendriksen, Pelt & Batenburg, IEEE Trans Comput Imaging 6:1320, 2020",)
    keywords = ("ct", "low dose", "denoise", "self-supervised", "deep learning")
    parameters = (
        FILTER, CUTOFF,
        IntegerParameter("splits", "Splits", 4, "Groups of views that check each other.", minimum=2, maximum=16),
        IntegerParameter("steps", "Training steps", 600, "More learn more, up to a point.", minimum=1, maximum=1000000),
        IntegerParameter("batch", "Batch", 8, "Patches a step.", minimum=1, maximum=512, advanced=True),
        IntegerParameter(
            "patch", "Patch", 96, "Side of training patches in pixels.", minimum=16, maximum=512, advanced=True,
        ),
        TextParameter(
            "model_folder", "Model package", "", "New folder to keep the network in; empty keeps none.", kind="save",
            advanced=True,
        ),
        *COMMON,
    )  # fmt: skip
    requirements = ("torch>=2.2", "monai>=1.4", "safetensors>=0.4")
    orientation_tolerance = 1e-3
    can_finish_early = True

    def working_bytes(self, projections, grid):
        return 4 * int(np.prod(grid.shape)) * 8 + 2**29

    def reconstruct(self, projections, grid, parameters, context):
        views = len(projections.array)
        needed = 8 * parameters.splits
        if views < needed:
            raise InputError(
                f"{projections.label} has {views} views; {parameters.splits} splits need {needed} or more."
            )
        parts = np.stack([self._part(projections, grid, n, parameters, context) for n in range(parameters.splits)])
        scale = float(parts.mean(0).std()) or 1.0
        parts /= np.float32(scale)
        with context.part(0.2, 0.9):
            network = train(parts, parameters, context)
        if parameters.model_folder:
            card = card_of(projections.name)
            package = ModelPackage.create(parameters.model_folder, card, network.state_dict())
            context.used_model(card.id, package.card.weights_sha256)
        with context.part(0.9, 1.0):
            return apply(network, parts, context) * np.float32(scale)

    def _part(self, projections, grid, number, parameters, context):
        chosen = slice(number, None, parameters.splits)
        scan = replace(projections.scan, angles_rad=projections.scan.angles_rad[chosen])
        part = replace(projections, array=projections.array[chosen], scan=scan)
        start = 0.2 * number / parameters.splits
        with context.part(start, start + 0.2 / parameters.splits):
            values = type("Values", (), vars(parameters) | {"method": "auto"})
            return FilteredBackProjection().reconstruct(part, grid, values, context)

    def example(self):
        inputs, _ = super().example()
        return inputs, {"splits": 2, "steps": 3, "batch": 2, "patch": 16}


def train(parts: np.ndarray, parameters, context):
    """The network that predicts each of ``parts`` (splits, nz, ny, nx) from the mean of the others."""
    import torch

    device = context.device
    torch.manual_seed(context.seed)
    network = build(ARCHITECTURE, ARGUMENTS).to(device).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, parameters.steps)
    splits, slices, ny, nx = parts.shape
    total = parts.sum(0)
    size = [max(MULTIPLE, min(parameters.patch, n) // MULTIPLE * MULTIPLE) for n in (ny, nx)]
    rng = np.random.default_rng(context.seed)
    losses: list[float] = []
    for step in range(parameters.steps):
        inputs, targets = [], []
        for _ in range(parameters.batch):
            n, k = rng.integers(splits), rng.integers(slices)
            y, x = (rng.integers(count - side + 1) for count, side in zip((ny, nx), size))
            at = (k, slice(y, y + size[0]), slice(x, x + size[1]))
            target = parts[n][at]
            inputs.append((total[at] - target) / (splits - 1))
            targets.append(target)
        given, wanted = (
            torch.as_tensor(np.stack(patches)[:, None], dtype=torch.float32, device=device)
            for patches in (inputs, targets)
        )
        # The network learns the correction, so that it starts from the plain reconstruction.
        loss = torch.nn.functional.mse_loss(given + network(given), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        context.progress((step + 1) / parameters.steps, f"Training step {step + 1}, loss {losses[-1]:.4g}")
        if (step + 1) % CURVE_EVERY == 0:
            context.curve("Training loss", step + 1, float(np.mean(losses[-CURVE_EVERY:])))
        if context.finish_early:
            context.log(f"Training ended after {step + 1} of {parameters.steps} steps.")
            break
    return network.eval()


def apply(network, parts: np.ndarray, context) -> np.ndarray:
    """Mean over the splits of what the network makes of the others' mean; (nz, ny, nx) float32."""
    import torch

    splits, slices, ny, nx = parts.shape
    device = next(network.parameters()).device
    total = parts.sum(0)
    pad = [(-n) % MULTIPLE for n in (ny, nx)]
    result = np.zeros(total.shape, np.float32)
    with torch.inference_mode():
        for k in range(slices):
            stack = (total[k][None] - parts[:, k]) / np.float32(splits - 1)
            stack = np.pad(stack, ((0, 0), (0, pad[0]), (0, pad[1])), mode="edge")
            given = torch.as_tensor(stack[:, None], device=device)
            output = (given + network(given)).mean(0)[0]
            result[k] = output.cpu().numpy()[:ny, :nx]
            context.progress((k + 1) / slices, "Applying the network")
    return result


def card_of(name: str) -> ModelCard:
    """The card of a network trained on one scan."""
    return ModelCard(
        id="noise2inverse",
        version="1.0.0",
        title=f"Noise2Inverse {name}".strip(),
        task="reconstruction",
        inputs=(ModelInput("reconstruction", "CT"),),
        outputs=(ModelOutput("correction", "volume"),),
        architecture=ARCHITECTURE,
        arguments=ARGUMENTS,
        license="Apache-2.0",
        citation="Hendriksen, Pelt & Batenburg, IEEE Trans Comput Imaging 6:1320, 2020",
        training_data=f"The projections '{name}' alone, split by views.",
        intended_use="Gives what to add to slices of its own scan, divided by their volume's standard deviation.",
        limits="Knows one scan, one dose and one filter; research use.",
        inference=Inference(dimensions=2),
    )
