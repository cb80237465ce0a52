"""The card of a trained model: what it was made of, how good it was on cases it had not seen, what it is not for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core import Segment
from ..core.model_card import ModelCard, ModelOutput
from ..core.model_inference import Inference
from .planning import Plan

_INTENDED = (
    "Research on images like those it was trained on (see the training data); results must be checked by an expert and "
    "are not for diagnosis."
)


@dataclass(frozen=True)
class Summary:
    """What the card says of data and figures.

    Parameters
    ----------
    origin : str
    cases, patients : int
    digest : str
        Hash of the data set.
    details : str
        A further sentence or two: sizes, classes.
    figures : dict of str to (value, low, high)
        With the bounds of 95 % intervals, NaN where unknown.
    by_round : dict of str to list of float
        Each figure by fold.
    judged : str
        On what the figures were taken.
    limits : str
    """

    origin: str
    cases: int
    patients: int
    digest: str
    details: str
    figures: dict
    by_round: dict
    judged: str
    limits: str


def model_card(
    name: str,
    task: str,
    plan: Plan,
    patch,
    architecture: str,
    arguments: dict,
    segments,
    summary: Summary,
    mirrored=(),
) -> ModelCard:
    """The card; see :class:`Summary`.

    Parameters
    ----------
    task : "segmentation" or "classification"
    segments : sequence of Segment or str
        In the order of the network's channels (for segmentation without the background).
    mirrored : sequence of "i", "j", "k"
        Axes along which the image is mirrored too when the package is applied.
    """
    kind = "segmentation" if task == "segmentation" else "classes"
    window = tuple(int(n) for n in patch[::-1])
    mode = "sliding_window" if task == "segmentation" else "whole"
    inference = Inference(
        mode=mode, window=window if mode == "sliding_window" else None, dimensions=plan.dimensions,
        mirrored=tuple(mirrored),
    )  # fmt: skip
    return ModelCard(
        id=identifier(name),
        version="1.0.0",
        title=name,
        task=task,
        inputs=plan.inputs,
        outputs=(ModelOutput("segmentation" if task == "segmentation" else "class", kind, _numbered(segments)),),
        architecture=architecture,
        arguments=arguments,
        inference=inference,
        license="Not stated; the licence of the training data applies.",
        citation="Trained with MedImgAI.",
        training_data=(
            f"{summary.cases} cases of {summary.patients} patients from {summary.origin}. {summary.details} "
            f"Hash of the data: {summary.digest}."
        ),
        metrics=_metrics(summary),
        intended_use=_INTENDED,
        limits=summary.limits,
    )


def origin_name(collection) -> str:
    """Where the data came from, without the folders of the machine."""
    return f"'{Path(collection.origin).name}'" if Path(collection.origin).is_absolute() else collection.origin


def identifier(name: str) -> str:
    """An id of a card from a title, of 80 characters at most."""
    text = re.sub(r"[^a-z0-9_.-]+", "_", name.strip().lower()).strip("_.-")
    text = text if re.match("[a-z]", text) else f"model_{text}"
    return text[:80].rstrip("_.-")


def _numbered(segments) -> tuple[Segment, ...]:
    """With labels 1, 2, … in their order."""
    result = []
    for number, segment in enumerate(segments, start=1):
        if isinstance(segment, str):
            result.append(Segment(segment, number, _color(number)))
        else:
            result.append(Segment(segment.name, number, segment.color, segment.terminology))
    return tuple(result)


def _color(number: int) -> tuple[float, float, float]:
    """Colours that differ: hues by the golden angle."""
    import colorsys

    return colorsys.hsv_to_rgb((0.08 + number * 0.381966) % 1, 0.6, 0.95)


def _metrics(summary: Summary) -> dict[str, float]:
    """Numbers of the card: each figure, the bounds of its interval, and its values by fold."""
    metrics = {}
    for name, (value, low, high) in summary.figures.items():
        for part, number in ((name, value), (f"{name}, 95 % from", low), (f"{name}, 95 % to", high)):
            if np.isfinite(number):
                metrics[part] = round(float(number), 5)
    for name, values in summary.by_round.items():
        for number, value in enumerate(values, start=1):
            if np.isfinite(value) and len(values) > 1:
                metrics[f"{name}, fold {number}"] = round(float(value), 5)
    return metrics


def report(card: ModelCard, summary: Summary) -> str:
    """The card in words, Markdown."""
    lines = [f"# {card.title}", "", f"{card.training_data}", "", f"Figures on {summary.judged}:", ""]
    for name, (value, low, high) in summary.figures.items():
        bounds = f" (95 % interval {low:.3f} to {high:.3f})" if np.isfinite(low) else ""
        folds = summary.by_round.get(name, [])
        each = f"; by fold {', '.join(f'{v:.3f}' for v in folds)}" if len(folds) > 1 else ""
        lines.append(f"- {name}: {value:.3f}{bounds}{each}")
    if not summary.figures:
        lines.append("- none, because no case was held out")
    lines += ["", f"Intended use: {card.intended_use}", "", f"Limits: {card.limits}", ""]
    lines.append("For research, not for diagnosis.")
    return "\n".join(lines)
