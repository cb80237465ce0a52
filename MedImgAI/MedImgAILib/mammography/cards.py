"""The card of a trained screening model, and the training's report in words."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from ..core import Segment, Table
from ..core.model_card import ModelCard, ModelInput, ModelOutput
from ..core.model_files import FEATURES
from ..training.cards import identifier
from .training import Breasts, Measured

FEW_PATIENTS = 200
_SHOWN = ("AUC", "accuracy", "sensitivity", "specificity", "Brier score", "expected calibration error")
_INTENDED = (
    "Research on mammograms like those it was trained on, in the task 'Breast-cancer screening' "
    "(cases.breast_screening); not for diagnosis."
)


def card_of(parameters, pictures: list[Measured], breasts: Breasts, classes, figures: Table, diagnosis) -> ModelCard:
    """The card: data with their hash, figures on patients that were not learnt from, limits."""
    return ModelCard(
        id=identifier(parameters.name),
        version="1.0.0",
        title=parameters.name,
        task="classification",
        inputs=(ModelInput("mammograms", "MG"),),
        outputs=(ModelOutput("breast", "classes", tuple(Segment(name, n) for n, name in enumerate(classes, 1))),),
        architecture=FEATURES,
        license="Not stated; the licence of the training data applies.",
        citation="Trained with MedImgAI.",
        training_data=_data(parameters, pictures, breasts, classes),
        metrics=metrics_of(figures),
        intended_use=_INTENDED,
        limits=_limits(breasts, diagnosis),
    )


def metrics_of(figures: Table) -> dict[str, float]:
    """``{"AUC": …, "AUC from": …, "AUC to": …}``, those of a test part with its name."""
    found = {}
    for row in zip(*figures.columns.values()):
        entry = dict(zip(figures.columns, row))
        if entry["figure"] not in _SHOWN or not np.isfinite(entry["value"]):
            continue
        name = entry["figure"] + ("" if entry["judged on"] == "cross-validation" else f", {entry['judged on']}")
        found[name] = round(float(entry["value"]), 4)
        for bound in ("lower", "upper"):
            if np.isfinite(entry[bound]):
                found[f"{name} {bound}"] = round(float(entry[bound]), 4)
    return found


def validated_on(card: ModelCard) -> str:
    """One or two sentences: on what a model was validated, and with what result."""
    if "AUC" not in card.metrics:
        return f"The model '{card.title}' was not validated on patients that it had not seen."
    value, low, high = (card.metrics.get(f"AUC{end}", float("nan")) for end in ("", " lower", " upper"))
    bounds = f" (95 % interval {low:.2f} to {high:.2f})" if np.isfinite([low, high]).all() else ""
    return (
        f"The model '{card.title}' {card.version} was validated by cross-validation on patients that it had not learnt "
        f"from: AUC {value:.2f}{bounds}. It learnt from: {card.training_data}"
    )


def report_of(card: ModelCard, figures: Table, notes) -> str:
    """The training in words (Markdown)."""
    lines = [f"# {card.title}", "", "For research only, not for diagnosis.", "", card.training_data, ""]
    lines += [validated_on(card).split(" It learnt from:")[0], ""]
    for row in zip(*(figures.columns[n] for n in ("judged on", "figure", "value", "lower", "upper", "interval"))):
        lines.append("- {}: {} {:.3f} ({:.3f} to {:.3f}, {})".format(*row))
    lines += ["", *(f"Note: {note}" for note in notes), "", f"Limits: {card.limits}", ""]
    return "\n".join(lines)


def _data(parameters, pictures, breasts: Breasts, classes) -> str:
    digest = hashlib.sha256()
    for text in sorted(p.entry.case.content_hash(False) for p in pictures):
        digest.update(text.encode())
    counts = np.bincount(breasts.truth, minlength=2)
    test = f" {int(breasts.held_out.sum())} breasts were kept for the test." if breasts.held_out.any() else ""
    return (
        f"{len(pictures)} pictures of {len(breasts.names)} breasts of {len(np.unique(breasts.patients))} patients "
        f"from '{Path(parameters.data or parameters.table).name}': {counts[0]} {classes[0]}, {counts[1]} {classes[1]}."
        f"{test} Hash of the data: {digest.hexdigest()[:16]}."
    )


def _limits(breasts: Breasts, diagnosis) -> str:
    patients = len(np.unique(breasts.patients))
    sentences = [
        "It knows only pictures of the kind it was trained on: other machines, processing, ages and diseases were not "
        "seen."
    ]
    if patients < FEW_PATIENTS:
        sentences.append(f"{patients} patients are few; the intervals say how uncertain the figures are.")
    if np.isfinite(diagnosis.sensitivity):
        sentences.append(
            f"The operating point ({diagnosis.threshold:.2f}) was set on the same held-out breasts for a sensitivity "
            f"of {diagnosis.sensitivity:.2f}, so the sensitivity there is no estimate for others."
        )
    return " ".join(sentences)
