"""A network that looks at each view; the views of a breast are one bag, pooled by the mean of their scores."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from ..classify.calibration import log_probabilities, softmax
from ..classify.diagnosis import Diagnosis
from ..classify.pooling import pooled
from ..core import Geometry, ModelError, Volume
from ..core.model_package import DIAGNOSIS, ModelPackage
from .view import ViewResult

ROWS_MM, COLUMNS_MM = 224, 128
"""Field that the network sees: columns from the chest wall on, rows about the middle of the breast."""
_INPUT = "breast at {:g} mm"


def prepared(result: ViewResult, pixel_mm: float) -> np.ndarray:
    """(rows, columns) float32: the breast alone, 0…1 between its 2nd and 99.5th percentile, chest wall on the left."""
    from scipy.ndimage import affine_transform, gaussian_filter

    image, breast, factor = result.picture.array, result.breast, pixel_mm / result.picture.pixel_mm
    low, high = np.percentile(image[breast], [2, 99.5])
    scaled = np.where(breast, np.clip((image - low) / max(high - low, 1e-6), 0, 1), 0).astype(np.float32)
    if factor > 1.5:
        scaled = gaussian_filter(scaled, 0.4 * factor)
    shape = (round(ROWS_MM / pixel_mm), round(COLUMNS_MM / pixel_mm))
    return affine_transform(scaled, [factor, factor], (_first_row(result, pixel_mm), 0.0), shape, order=1)


def _first_row(result: ViewResult, pixel_mm: float) -> float:
    """Row of the picture where the network's field begins."""
    rows = np.flatnonzero(result.breast.any(1))
    return (rows[0] + rows[-1]) / 2 - ROWS_MM / 2 / result.picture.pixel_mm


def on_picture(values: np.ndarray, result: ViewResult, pixel_mm: float) -> np.ndarray:
    """A map on the network's field as one on the picture, 0 outside the breast."""
    from scipy.ndimage import affine_transform

    factor = pixel_mm / result.picture.pixel_mm
    offset = (-_first_row(result, pixel_mm) / factor, 0.0)
    back = affine_transform(values, [1 / factor, 1 / factor], offset, result.breast.shape, order=1)
    return np.where(result.breast, back, 0).astype(np.float32)


def volume_for(result: ViewResult, pixel_mm: float) -> Volume:
    """What the network's package takes."""
    array = prepared(result, pixel_mm)[None]
    directions = np.diag([-1.0, -1.0, 1.0])
    return Volume(array, Geometry.from_spacing(array.shape, (pixel_mm, pixel_mm, 1.0), directions=directions), "breast")


def learn_network(pictures, breasts, classes, choices: SimpleNamespace, context):
    """Networks of a cross-validation by patients; ``(package, diagnosis, probabilities, folds)``.

    Parameters
    ----------
    pictures : list of Measured
    breasts : Breasts
    classes : (negative, positive)
    choices : namespace
        ``folder`` for checkpoints, ``resolution_mm``, ``epochs``, ``folds``, ``sensitivity``.

    Returns
    -------
    ModelPackage
        Of single views, as the training left it in the folder.
    Diagnosis
        Of breasts, by the networks that had not seen them.
    (n, 2) ndarray, (n,) int ndarray
        As :func:`.training.learn_features` gives them.
    """
    from ..training.cases import Case, Collection
    from ..training.classification_run import train_classification
    from ..training.classification_task import TrainClassification

    truth = np.zeros(len(pictures), int)
    for places, label in zip(breasts.members, breasts.truth):
        truth[places] = label
    cases = tuple(
        # Classes in the order of numbers, whatever the names.
        Case(str(n), (volume_for(p.result, choices.resolution_mm),), str(truth[n]), p.entry.patient,
             "test" if p.entry.held_out else "")
        for n, p in enumerate(pictures)
    )  # fmt: skip
    wanted = {
        "folder": choices.folder, "folds": choices.folds, "epochs": choices.epochs, "balance": "weighted",
        "modality": "OT", "size_voxels": "{1} {0}".format(*cases[0].images[0].array.shape[1:]),
    }  # fmt: skip
    values = SimpleNamespace(**TrainClassification().checked_parameters(wanted))
    trained = train_classification(Collection("classification", cases, ("0", "1")), values, context)
    package = ModelPackage.load(trained.package)
    logits, fold = np.zeros((len(pictures), 2)), np.zeros(len(pictures), int)
    for number, judged in enumerate(trained.judged, start=1):
        places = [int(case.id) for case in judged.cases]
        logits[places], fold[places] = judged.logits, number
    if breasts.held_out.any():
        from ..classify.classifier import Classifier

        places = [n for n, p in enumerate(pictures) if p.entry.held_out]
        classifier = Classifier(package, context.device)
        samples = [classifier.instances("", classifier.prepared(cases[n].images, context))[0].sample for n in places]
        logits[places] = classifier.scores(samples)[0]
    scores = np.array([_bag(logits[places]) for places in breasts.members])
    used = ~breasts.held_out
    diagnosis = Diagnosis.fitted(
        scores[used], breasts.truth[used], tuple(classes), "temperature", choices.sensitivity or None
    )
    folds = np.array([fold[places[0]] for places in breasts.members])
    return package, diagnosis, diagnosis.calibrated(scores), folds


def _bag(logits: np.ndarray) -> np.ndarray:
    """(2,) scores of a breast from the (views, 2) logits of its views."""
    return log_probabilities(pooled(log_probabilities(softmax(logits)), "mean"))


def store_network(folder: Path, card, trained: ModelPackage, diagnosis: Diagnosis, pixel_mm: float) -> ModelPackage:
    """Write the package of breasts: the networks of ``trained``, with the breasts' card and diagnosis.

    Raises
    ------
    OutputError
        If the folder exists already or cannot be written.
    """
    own = trained.card
    inputs = (replace(own.inputs[0], name=_INPUT.format(pixel_mm)),)
    final = replace(
        card, inputs=inputs, architecture=own.architecture, arguments=own.arguments, inference=own.inference
    )
    states = [network.state_dict() for network in trained.networks()]
    return ModelPackage.create(folder, final, states, {DIAGNOSIS: diagnosis.to_bytes()})


def network_answer(package: ModelPackage, results: dict[str, ViewResult], coverage: float, context):
    """What a network says of the views of an exam; Grad-CAM of the positive class as saliency.

    Raises
    ------
    ModelError
        If the network was not made for this.
    """
    import torch

    from ..classify.attribution import class_activation
    from ..classify.classifier import Classifier
    from .model import Answer, members_of, possible_sets

    said = re.fullmatch(r"breast at ([0-9.]+) mm", package.card.inputs[0].name)
    if not said:
        raise ModelError(
            f"The model '{package.card.title}' was not made for breasts; choose one that 'Train breast-cancer "
            "screening' made."
        )
    pixel_mm = float(said[1])
    classifier = Classifier(package, context.device)
    samples = {}
    for view, result in results.items():
        instance = classifier.instances(view, classifier.prepared([volume_for(result, pixel_mm)], context))[0]
        samples[view] = instance.sample
    logits = dict(zip(samples, classifier.scores(list(samples.values()))[0]))
    diagnosis = classifier.diagnosis
    views = {view: float(diagnosis.calibrated(one[None])[0, 1]) for view, one in logits.items()}
    bags = {side: _bag(np.array([logits[v] for v in members])) for side, members in members_of(results).items()}
    breasts = {side: float(diagnosis.calibrated(bag[None])[0, 1]) for side, bag in bags.items()}
    saliency = {}
    for number, (view, sample) in enumerate(samples.items()):
        context.progress(number / len(samples), "Explaining")
        tensor = torch.from_numpy(np.ascontiguousarray(sample))[None].to(classifier.device)
        maps = [class_activation(network, tensor, 1) for network in classifier.networks]
        saliency[view] = on_picture(np.mean(maps, axis=0), results[view], pixel_mm)
    top = max(float(m.max()) for m in saliency.values())
    if top <= 0:
        context.warn(f"The network's map is empty: nothing in the pictures speaks for {diagnosis.classes[1]}.")
    else:
        # One scale for the exam, so that views can be compared.
        saliency = {view: m / top for view, m in saliency.items()}
    return Answer(
        package.card, diagnosis, views, breasts, possible_sets(diagnosis, breasts, coverage), None, saliency
    )  # fmt: skip
