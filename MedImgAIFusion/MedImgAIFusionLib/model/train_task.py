"""Training of a joint network over modalities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from MedImgAILib.core import (
    ChoiceParameter,
    FloatParameter,
    IntegerParameter,
    SegmentationPort,
    Table,
    TablePort,
    Task,
    TextParameter,
)
from MedImgAILib.core.model_package import ModelPackage, check_new

from . import ablation
from .data import PATIENT_PARAMETERS, PATIENT_PORTS, check_patients, collect
from .package import new_card, on_source
from .training import Settings, infer, train

REFERENCES = (
    "Havaei M, Guizard N, Chapados N, Bengio Y. HeMIS: hetero-modal image segmentation. MICCAI 2016: 469-477.",
    "Neverova N, Wolf C, Taylor G, Nebout F. ModDrop: adaptive multi-modal gesture recognition. IEEE Trans Pattern "
    "Anal Mach Intell 2016; 38:1692-1706.",
)
KEYWORDS = (
    "multi-modal",
    "missing modality",
    "modality dropout",
    "deep learning",
    "HeMIS",
    "attention",
    "joint network",
)
REQUIREMENTS = ("torch>=2.2", "safetensors>=0.4")
WIDTHS = {"small": (8, 16, 32), "medium": (16, 32, 64), "large": (24, 48, 96, 192)}


class TrainJointNetwork(Task):
    """One network for all modalities that also works with some of them.

    Patients come from the scene (the images of the first patient in order, then those of the second, …, with one
    segmentation each) or from a folder or table of paths. All images of a patient must be registered.
    """

    id = "fusion.joint_network_train"
    title = "Train joint network"
    group = "Model fusion"
    summary = "Trains a network over several modalities that survives a missing one, and tells what each is worth."
    references = REFERENCES
    keywords = KEYWORDS
    requirements = REQUIREMENTS
    uses_device = True
    can_finish_early = True
    orientation_tolerance = 5e-2
    """Training amplifies the last digits in which another storage order differs."""

    inputs = PATIENT_PORTS
    parameters = (
        *PATIENT_PARAMETERS,
        TextParameter(
            "model", "Model package", "", "New folder for the trained network; empty keeps none.", kind="save"
        ),
        ChoiceParameter(
            "evaluation", "Evaluation", "leave_out",
            "Which patients the table is about: a fifth that is left out of training, each in turn by five further "
            "trainings, or those of the training.",
            choices={"leave_out": "A fifth left out", "cross_validation": "Cross-validation", "training": "Training"},
        ),
        IntegerParameter(
            "steps", "Steps", 400, "Updates of the network; more are better and slower.", minimum=1, maximum=100000
        ),
        ChoiceParameter(
            "width", "Network", "small", "Small trains on a processor, large needs a graphics card.",
            choices={"small": "Small", "medium": "Medium", "large": "Large"},
        ),
        FloatParameter(
            "dropout", "Modality dropout", 0.5, "Share of the examples shown without some of their modalities.",
            minimum=0.0, maximum=1.0, step=0.1, advanced=True,
        ),
        IntegerParameter(
            "patch", "Patch", 32, "Voxels along the edge of an example.", minimum=8, maximum=192, advanced=True
        ),
        IntegerParameter("batch", "Batch", 2, "Examples in each step.", minimum=1, maximum=64, advanced=True),
        FloatParameter(
            "learning_rate", "Learning rate", 0.01, "The highest; lower it if the loss does not fall.",
            minimum=1e-6, maximum=1.0, decimals=5, advanced=True,
        ),
    )  # fmt: skip
    outputs = (
        TablePort("ablation", "Ablation", "Dice with every combination of the modalities."),
        TablePort("cases", "Cases", "Dice of each patient with each combination."),
        SegmentationPort("segmentation", "Segments", "What the network finds in the first patient.", optional=True),
    )

    def example(self):
        from ..feature.examples import example_patient

        images, segmentation = example_patient()
        parameters = {"voxel_mm": 0.0, "steps": 3, "patch": 8, "evaluation": "training"}
        return {"images": images, "segmentations": [segmentation]}, parameters

    def validate(self, inputs, parameters):
        check_patients(inputs, parameters)
        if parameters.model:
            check_new(parameters.model)

    def run(self, inputs, parameters, context):
        with context.part(0.0, 0.1) as part:
            data = collect(inputs, parameters, part)
        settings = Settings(
            WIDTHS[parameters.width], parameters.steps, parameters.batch, parameters.patch, parameters.dropout,
            parameters.learning_rate,
        )  # fmt: skip
        names = [s.name for s in data.segments]
        folds = _folds(len(data.cases), parameters.evaluation, context)
        rows, seen = [], folds == [((), tuple(range(len(data.cases))))]
        network = None
        spans = np.linspace(0.1, 0.95, len(folds) + 2 if len(folds) > 1 else len(folds) + 1)
        for number, (left_out, shown) in enumerate(folds):
            with context.part(spans[number], spans[number + 1]) as part:
                network = _trained(
                    part, [data.cases[n] for n in shown], len(names) + 1, settings, number if len(folds) > 1 else None
                )
                judged = [data.cases[n] for n in left_out] or data.cases
                with part.part(0.9, 1.0) as judging:
                    rows += ablation.measure(network, judged, len(names), judging)
        if len(folds) > 1:
            with context.part(spans[-2], spans[-1]) as part:
                network = _trained(part, data.cases, len(names) + 1, settings, None)
        table = ablation.ablation_table(rows, data.modalities, names, seen)
        if parameters.model:
            score = float(table.columns["Dice mean"][0])
            metrics = {} if seen or not np.isfinite(score) else {"dice": round(score, 4)}
            told = f"{len(data.cases)} cases ({', '.join(c.name for c in data.cases[:20])})"
            card = new_card(data.modalities, data.units, data.segments, parameters.voxel_mm, settings, told, metrics)
            ModelPackage.create(Path(parameters.model), card, network.state_dict())
        first = data.cases[0]
        with context.part(0.95, 1.0) as part:
            shares = infer(network, first.array, part)
        segmentation, _ = on_source(shares, first.geometry, first.source, data.segments, "Joint network")
        return {"ablation": table, "cases": _case_table(rows, data.modalities, names), "segmentation": segmentation}


def _trained(part, cases, classes, settings, fold):
    with part.part(0.0, 0.9) as training:
        return train(cases, classes, settings, training, "Loss/training" if fold is None else f"Loss/fold {fold + 1}")


def _folds(count: int, evaluation: str, context) -> list[tuple[tuple, tuple]]:
    """(left out, shown) for each training whose network is judged."""
    everyone = tuple(range(count))
    if evaluation == "training" or count == 1:
        if evaluation != "training":
            context.warn("There is one patient only; the table tells how well the training is remembered.")
        return [((), everyone)]
    order = context.rng.permutation(count)
    parts = np.array_split(order, min(5, count))
    if evaluation == "leave_out":
        parts = parts[-1:]
    return [(tuple(int(n) for n in p), tuple(n for n in everyone if n not in p)) for p in parts]


def _case_table(rows, modalities, segments) -> Table:
    columns = {
        "case": [row["case"] for row in rows],
        "modalities": [", ".join(modalities[m] for m in row["subset"]) for row in rows],
    }
    scores = np.array([row["dice"] for row in rows], float)
    return Table(columns | {f"Dice {name}": scores[:, n] for n, name in enumerate(segments)}, "Cases")
