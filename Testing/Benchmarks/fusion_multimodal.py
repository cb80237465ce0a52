"""Feature, decision and model level beside the best single modality: leave-one-out on tumours and on lesions.

One protocol for all: the same patients left out, the same voxel size, network width, steps and seed; nothing is chosen
by a patient that is judged. The voxels are coarser and the trainings shorter than anyone would want in earnest, so that
the benchmark ends in a few minutes.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace

import numpy as np
from MedImgAIFusionLib.feature.classifier import Recipe, classify
from MedImgAIFusionLib.feature.classifier import train as train_classifier
from MedImgAIFusionLib.model.ablation import subsets, with_only
from MedImgAIFusionLib.model.cases import Case, prepare
from MedImgAIFusionLib.model.folder import read_patients
from MedImgAIFusionLib.model.package import on_source
from MedImgAIFusionLib.model.training import Settings, infer, train
from MedImgAILib.core import Context, Segment, Segmentation

from .measuring import row

SETTINGS = Settings(batch=4, patch=24, learning_rate=1e-2)
RECIPE = Recipe()
SEED = 0


@dataclass(frozen=True)
class Set:
    """Patients, and which labels make up the structures that are judged.

    ``segments`` are what is learnt (name: labels in the file), ``regions`` what is judged (name: numbers of segments).
    """

    name: str
    folder: str
    modalities: tuple
    labels: str
    segments: dict
    regions: dict
    spacing_mm: float
    steps: int


SETS = (
    Set("glioma", "glioma_NC", ("Flair", "T1c"), "OTMultiClass", {"Tumour": (1, 2, 3), "Enhancing": (4,)},
        {"whole tumour": (1, 2), "enhancing tumour": (2,)}, 3.0, 120),
    Set("lesions", "ms_multimodal", ("FLAIR", "T1", "T1POST", "T2"), "lesion_gt", {"Lesion": (1,)}, {"lesions": (1,)},
        2.0, 80),
)  # fmt: skip


def rows() -> list[dict]:
    """The four levels in order, and what is lost without each modality."""
    result = []
    for data in SETS:
        patients = load(data)
        result += summary(data, [fold(data, patients, n) for n in range(len(patients))])
    return result


def load(data: Set) -> list[tuple[Case, Segmentation]]:
    """The prepared cases, and the truth at full resolution."""
    from testing_data import data_path

    modalities, patients = read_patients(data_path(data.folder), data.modalities, data.labels)
    loaded = []
    for patient in patients:
        given = patient.segmentation.layers[0]
        labels = np.zeros(given.shape, np.uint8)
        for number, values in enumerate(data.segments.values(), start=1):
            labels[np.isin(given, values)] = number
        truth = Segmentation.from_labels(labels, patient.segmentation.geometry, _segments(data), "truth")
        case = prepare(replace(patient, segmentation=truth), modalities, data.spacing_mm, list(data.segments))
        loaded.append((case, truth))
    return loaded


def fold(data: Set, patients, left_out: int) -> dict[str, float]:
    """Mean Dice of the judged structures in one patient, by method, from trainings on all the others."""
    shown = [case for n, (case, _) in enumerate(patients) if n != left_out]
    case, truth = patients[left_out]
    classes = len(data.segments) + 1
    settings = replace(SETTINGS, steps=data.steps)
    found, single, networks = {}, [], []
    for number, modality in enumerate(data.modalities):
        network = train([_only(c, number) for c in shown], classes, settings, Context("cpu", SEED))
        networks.append((modality, network, (number,)))
        single.append(infer(network, case.array[[number]], Context("cpu")))
        found[f"only {modality}"] = judge(data, single[-1], case, truth)
    found["decision"] = judge(data, np.mean(single, axis=0), case, truth)
    classifier = train_classifier(
        shown, data.modalities, _segments(data), networks, RECIPE, data.spacing_mm, Context("cpu", SEED)
    )
    pairs = [(network, inputs) for _, network, inputs in networks]
    found["feature"] = judge(data, classify(classifier, case, pairs, Context("cpu")), case, truth)
    network = train(shown, classes, settings, Context("cpu", SEED))
    for subset in subsets(len(data.modalities)):
        shares = infer(network, with_only(case, subset), Context("cpu"))
        found["model " + "+".join(data.modalities[m] for m in subset)] = judge(data, shares, case, truth)
    found["model"] = found["model " + "+".join(data.modalities)]
    return found


def judge(data: Set, shares: np.ndarray, case: Case, truth: Segmentation) -> float:
    """Mean Dice of the judged structures on the image's own grid."""
    segmentation, _ = on_source(shares, case.geometry, case.source, _segments(data), "found")
    labels, wanted = segmentation.layers[0], truth.layers[0]
    scores = []
    for numbers in data.regions.values():
        one, other = np.isin(labels, numbers), np.isin(wanted, numbers)
        scores.append(2 * np.count_nonzero(one & other) / max(1, np.count_nonzero(one) + np.count_nonzero(other)))
    return statistics.mean(scores)


def summary(data: Set, folds: list[dict]) -> list[dict]:
    """The rows of one set."""
    mean = {name: statistics.mean(f[name] for f in folds) for name in folds[0]}
    single, best = max((mean[f"only {m}"], m) for m in data.modalities)
    what = f"{data.name}, leave-one-out over {len(folds)}"
    levels = (("model", "feature"), ("feature", "decision"))
    result = [
        row(f"{what}: Dice of {one} level less {other} level's", mean[one] - mean[other], "≥ 0", "Dice", mean[one],
            mean[other]) for one, other in levels
    ]  # fmt: skip
    result.append(
        row(f"{what}: Dice of decision level less the best single modality's ({best})", mean["decision"] - single,
            "≥ 0", "Dice", mean["decision"], single)
    )  # fmt: skip
    result.append(
        row(f"{what}: Dice of model level less the best single modality's ({best})", mean["model"] - single, "≥ 0",
            "Dice", mean["model"], single)
    )  # fmt: skip
    for subset in subsets(len(data.modalities))[1:]:
        given = [data.modalities[m] for m in subset]
        missing = [m for m in data.modalities if m not in given]
        alone = max(mean[f"only {m}"] for m in given)
        kept = mean["model " + "+".join(given)]
        figure = f"{what}: Dice of model level without {', '.join(missing)} less the best network's of one of the rest"
        result.append(row(figure, kept - alone, "≥ 0", "Dice", kept, alone))
    return result


def _only(case: Case, modality: int) -> Case:
    return replace(case, array=case.array[[modality]])


def _segments(data: Set) -> tuple[Segment, ...]:
    return tuple(Segment(name, n) for n, name in enumerate(data.segments, start=1))
