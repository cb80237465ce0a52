"""Classification of images by a model package."""

from __future__ import annotations

import numpy as np

from ..core import (
    ChoiceParameter,
    IntegerParameter,
    Table,
    TablePort,
    Text,
    TextPort,
    VolumePort,
)
from ..core.errors import listed
from .calibration import log_probabilities
from .known import COUNT_HELP, similar_cases
from .model_task import CALIBRATION, DECISION, GUO, MODEL, ModelTask
from .pooling import POOLINGS, pooled

NOTE = "For research only, not for diagnosis."


class Classify(ModelTask):
    """Prepares the images as the card says, applies the network and says how sure the answer is."""

    id = "classify.apply"
    title = "Classify"
    summary = "Gives the probability of each class for an image, a volume or several views, by a model package."
    references = (
        "Ilse M, Tomczak J, Welling M. Attention-based deep multiple instance learning. ICML 2018: 2127-2136.",
        GUO,
        "Sadinle M, Lei J, Wasserman L. Least ambiguous set-valued classifiers with bounded error levels. J Am Stat "
        "Assoc 2019; 114:223-234.",
    )
    keywords = (
        "diagnosis",
        "deep learning",
        "network",
        "conformal",
        "calibration",
        "mammography",
        "views",
        "pneumonia",
    )

    inputs = (
        VolumePort(
            "images", "Images",
            "What the model's card names; for a model of one image, several are views of the same patient.",
            components=(), multiple=True,
        ),
        CALIBRATION,
    )  # fmt: skip
    parameters = (
        MODEL,
        ChoiceParameter(
            "pooling", "Pooling", "mean",
            "How the answers for several views or slices become one: their mean, or the one most sure of the last "
            "class (a finding in one slice counts).", choices=POOLINGS,
        ),
        *DECISION,
        IntegerParameter(
            "neighbours", "Similar cases", 5, COUNT_HELP,
            minimum=0, maximum=100, advanced=True,
        ),
    )  # fmt: skip
    outputs = (
        TablePort("probabilities", "Probabilities", "Of each class, whether it is called, and whether it is possible."),
        TextPort("summary", "Summary", "The answer in words, with its limits."),
        TablePort("parts", "Views and slices", "Probabilities of each view and slice.", optional=True),
        TablePort("similar", "Similar cases", "Known cases most like this one, and their class.", optional=True),
    )

    def run(self, inputs, parameters, context):
        import torch

        torch.manual_seed(context.seed)
        classifier, diagnosis = self.opened(inputs, parameters, context)
        with context.part(0.0, 0.4) as part:
            instances, _ = classifier.seen(inputs.images, part)
        with context.part(0.4, 0.95) as part:
            part.progress(0.0, "Asking the network")
            scores, embeddings = classifier.scores([i.sample for i in instances], part.progress)
        each = diagnosis.calibrated(scores)
        whole = pooled(log_probabilities(each), parameters.pooling)[None]
        if parameters.prevalence:
            diagnosis, each, whole = diagnosis.at_prevalence(parameters.prevalence, each, whole)
        embedding = embeddings.mean(axis=0)
        possible = diagnosis.sets(whole, parameters.coverage)
        called, whole = int(diagnosis.called(whole)[0]), whole[0]
        similar = similar_cases(diagnosis, embedding[None], parameters.neighbours)
        parts = None
        if len(instances) > 1:
            columns = {"part": tuple(i.name for i in instances)}
            columns |= {f"probability {name}": each[:, n] for n, name in enumerate(classifier.classes)}
            parts = Table(columns, "Views and slices")
        summary = _summary(classifier, diagnosis, whole, called, possible, similar, instances, parameters)
        return {
            "probabilities": _table(classifier.classes, whole, called, possible),
            "summary": Text(summary, f"{classifier.card.title} summary"),
            "parts": parts,
            "similar": similar,
        }


def _table(classes, probabilities, called, possible) -> Table:
    columns = {
        "class": tuple(classes),
        "probability": probabilities,
        "called": tuple("yes" if n == called else "no" for n in range(len(classes))),
    }
    if possible is not None:
        columns["possible"] = tuple("yes" if p else "no" for p in possible[0])
    return Table(columns, "Probabilities")


def _summary(classifier, diagnosis, whole, called, possible, similar, instances, parameters) -> str:
    card, classes = classifier.card, classifier.classes
    lines = [f"# {card.title}", "", NOTE, ""]
    lines += [f"- {name}: {100 * p:.1f} %" for name, p in zip(classes, whole)]
    lines.append("")
    if possible is not None:
        held = [name for name, p in zip(classes, possible[0]) if p]
        wanted = f"with a coverage of {100 * parameters.coverage:g} %"
        if len(held) == 1:
            lines.append(f"The only possible class {wanted} is {held[0]}.")
        elif held:
            lines.append(f"The model does not know: {listed(held)} are possible {wanted}.")
        else:
            lines.append(f"The model does not know: the image is like none of its classes {wanted}.")
    if len(classes) == 2:
        reached = diagnosis.sensitivity
        why = f", the operating point for a sensitivity of {100 * reached:g} %" if np.isfinite(reached) else ""
        lines.append(f"Called: {classes[called]} (threshold {100 * diagnosis.threshold:.3g} %{why}).")
    else:
        lines.append(f"Called: {classes[called]}.")
    if diagnosis.calibration == "none":
        lines.append("The probabilities are the network's own; they were not calibrated.")
    if len(instances) > 1:
        lines.append(f"Pooled from {len(instances)} views or slices ({POOLINGS[parameters.pooling].lower()}).")
    if similar is not None:
        counts = {c: similar.columns["class"].count(c) for c in classes}
        lines.append(
            "The most similar known cases are " + ", ".join(f"{v} of {k}" for k, v in counts.items() if v) + "."
        )
    lines += ["", f"Intended use: {card.intended_use}", f"Limits: {card.limits}", f"Model: {card.id} {card.version}."]
    return "\n".join(lines) + "\n"
