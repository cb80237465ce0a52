"""The training loop's figures: hippocampi in five-fold cross-validation, and how well loading is hidden."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from MedImgAILib.core import Context, registry

from .measuring import interleaved, row

STEPS = 900
"""Of each of the five networks, as the documented command has it."""
_TURN = 40


def hippocampus_rows() -> list[dict]:
    """The documented command: forty cases, five folds; Dice on each label image's own grid."""
    from testing_data import data_path

    with tempfile.TemporaryDirectory() as folder:
        parameters = {
            "data": str(data_path("hippocampus")), "folder": str(Path(folder) / "run"),
            "segments": "Anterior, Posterior", "modality": "MR", "folds": 5, "size": "medium", "steps": STEPS,
            "rate": 0.006, "augmentation": "strong", "name": "Hippocampus",
        }  # fmt: skip
        started = time.perf_counter()
        found = registry()["train.segmentation"].execute({}, parameters, Context("cpu", 0))["metrics"].columns
        minutes = (time.perf_counter() - started) / 60
    names = ("Anterior", "Posterior")
    means = [float(np.mean(found[f"Dice {name}"])) for name in names]
    both = np.mean([found[f"Dice {name}"] for name in names], axis=0)
    folds = ", ".join(f"{both[found['fold'] == fold].mean():.3f}" for fold in range(1, 6))
    what = f"hippocampus, 40 cases, 5-fold cross-validation, {STEPS} steps each"
    return [
        row(f"{what}: mean Dice of unseen cases (by fold {folds})", float(np.mean(means)), "≥ 0.87", "Dice"),
        row(f"{what}: time", minutes, "≤ 60", "min"),
    ]


def throughput_rows() -> list[dict]:
    """Steps of the whole loop against forward, loss, backward and update alone on one batch that is there already."""
    import torch
    from MedImgAILib.core.model_networks import build
    from MedImgAILib.training.augmentation import Augmentation
    from MedImgAILib.training.batches import PatchBatches
    from MedImgAILib.training.cache import PreparedCase
    from MedImgAILib.training.cases import Case
    from MedImgAILib.training.loop import Settings, train
    from MedImgAILib.training.losses import segmentation_loss
    from MedImgAILib.training.networks import segmentation_network
    from MedImgAILib.training.optimization import half_precision, optimizer_for
    from MedImgAILib.training.planning import ImageFacts, plan_patches
    from MedImgAILib.training.sampling import Sampler

    rng = np.random.default_rng(0)
    fact = ImageFacts((36, 50, 35), (1.0, 1.0, 1.0), np.arange(9.0), 0.0, 9.0)
    plan = plan_patches([[fact]] * 40, ["T1"], ["MR"])
    cases = []
    for n in range(8):
        labels = (rng.random(fact.shape) > 0.95).astype(np.uint8)
        image = rng.normal(size=(1, *fact.shape)).astype(np.float32)
        places = {1: np.argwhere(labels).astype(np.int32)}
        cases.append(PreparedCase(Case(str(n), ()), "", image, labels, places, None))
    make = PatchBatches(cases, plan.patch, Sampler(np.zeros(8)), Augmentation(3, "full", (False, False, True), True))
    network = build(*segmentation_network("dynunet", plan, 1, 3))
    loss = segmentation_loss()
    settings = Settings(steps=_TURN, batch=plan.batch, validate_every=_TURN)
    half, _ = half_precision("auto", "cpu")
    one = make(list(range(plan.batch)))

    def bare():
        optimizer = optimizer_for(network, settings)
        network.train()
        for _ in range(_TURN):
            with torch.autocast("cpu", half, enabled=half is not None):
                output = network(one.inputs)
            loss(output, one.targets).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def whole(workers=1):
        train(network, make, loss, replace(settings, workers=workers), None, None, Context("cpu"))

    ours, peer = interleaved(whole, bare, repeats=3)
    size = "×".join(str(n) for n in plan.patch[::-1])
    return [
        row(f"training throughput relative to the bare loop, patches of {size} with full augmentation", peer / ours,
            "≥ 0.95", "×", ours, peer),
    ]  # fmt: skip


PARTS = (throughput_rows, hippocampus_rows)
