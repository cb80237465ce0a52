"""Training and judging of networks that tell classes apart."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..core import Context, InputError, MedImgAIError
from ..core.errors import listed
from .augmentation import Augmentation
from .batches import ImageBatches
from .cases import Collection, known_classes
from .facts import image_facts
from .planning import Plan
from .reading import read_image
from .sampling import Sampler

AT_ONCE = 64
_MOST_LOOKED_AT = 500
FIGURES = ("accuracy", "balanced accuracy", "AUC", "Brier score", "calibration error")


@dataclass(frozen=True, eq=False)
class Judged:
    """Scores of cases that a network has not seen: (cases, classes) logits and (cases,) true classes."""

    cases: tuple
    logits: np.ndarray
    truth: np.ndarray


def gather(collection: Collection, context: Context, on_error: str):
    """``(collection, facts)`` of the labelled cases; facts are of at most some hundred, evenly picked.

    Raises
    ------
    InputError
        If there are not at least two classes, or an image that was looked at cannot be used and shall not be left out.
    """
    cases = collection.labelled
    classes = known_classes(cases)
    if len(classes) < 2:
        only = f"only the class '{classes[0]}'" if classes else "no labels"
        raise InputError(f"{collection.origin} has {only}; at least two classes are needed to tell them apart.")
    left = len(collection.cases) - len(cases)
    if left:
        context.warn(f"{left} cases have no label and are left out.")
    facts, bad = [], set()
    step = max(1, len(cases) // _MOST_LOOKED_AT)
    for number, case in enumerate(cases[::step]):
        context.progress(number * step / len(cases), "Looking at the images")
        try:
            volumes = [read_image(s, f"The image of case '{case.id}'") for s in case.images]
        except MedImgAIError as error:
            if on_error != "skip":
                raise
            context.warn(f"Case '{case.id}' is left out: {error}")
            bad.add(case.id)
            continue
        facts.append([image_facts(v) for v in volumes])
    if not facts:
        raise InputError("None of the cases can be used; see the warnings.")
    if len({len(f) for f in facts}) > 1:
        raise InputError(f"The cases of {collection.origin} have different numbers of images; each needs the same.")
    cases = tuple(c for c in cases if c.id not in bad)
    return replace(collection, cases=cases, classes=classes), facts


def check_classes(numbers, classes) -> None:
    """Refuse a part to learn from that lacks a class.

    Raises
    ------
    InputError
    """
    missing = [name for n, name in enumerate(classes) if not (np.asarray(numbers) == n).any()]
    if missing:
        raise InputError(
            f"The part to learn from has no case of {listed(missing, 4)}; more patients of each class are needed."
        )


def batches(cases, numbers, classes: int, plan: Plan, parameters, context, load, seed: int) -> ImageBatches:
    """The samples of a training part."""
    flips = [parameters.mirror and axis == plan.dimensions - 1 for axis in range(plan.dimensions)]
    bias = plan.inputs[0].modality == "MR"
    augmentation = Augmentation(plan.dimensions, parameters.augmentation, flips, bias)
    sampler = Sampler(numbers, parameters.balance, seed)
    divisor = (4,) * plan.dimensions
    return ImageBatches(
        cases, numbers, classes, sampler, augmentation, parameters.mixup, seed, context, parameters.on_error,
        parameters.multi_scale, divisor, load,
    )  # fmt: skip


def logits_of(network, cases, load, dimensions: int, device: str, context: Context | None = None) -> np.ndarray:
    """(cases, classes) scores without any augmentation."""
    import torch

    with torch.inference_mode():
        rows = [
            network(batch).float().cpu().numpy() for batch in image_batches(cases, load, dimensions, device, context)
        ]
    return np.concatenate(rows).astype(np.float64)


def image_batches(cases, load, dimensions: int, device: str, context: Context | None = None):
    """Tensors of up to :data:`AT_ONCE` cases, as a network takes them."""
    import torch

    for start in range(0, len(cases), AT_ONCE):
        if context is not None:
            context.progress(start / len(cases), "Judging")
        images = [
            np.asarray(c.image[:, 0] if dimensions == 2 else c.image) for c in map(load, cases[start : start + AT_ONCE])
        ]
        yield torch.from_numpy(np.stack(images)).to(device)


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax over the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def figures(p: np.ndarray, truth: np.ndarray, weights=None, names=FIGURES) -> dict[str, float]:
    """What tells how good probabilities are.

    Parameters
    ----------
    p : (n, classes) ndarray
    truth : (n,) int ndarray
    weights : (n,) ndarray, optional
        How often each case counts.
    names : sequence of str
        Which of :data:`FIGURES`.
    """
    from ..evaluate import metrics

    w = np.ones(len(truth)) if weights is None else weights
    right = p.argmax(axis=1) == truth
    found = {}
    if "accuracy" in names:
        found["accuracy"] = float((w * right).sum() / w.sum())
    if "balanced accuracy" in names:
        shares = [(w * right)[truth == c].sum() / w[truth == c].sum() for c in np.unique(truth) if w[truth == c].sum()]
        found["balanced accuracy"] = float(np.mean(shares))
    if "AUC" in names:
        which = [1] if p.shape[1] == 2 else range(p.shape[1])
        areas = [metrics.Ranking(truth == c, p[:, c]).auc(weights) for c in which]
        found["AUC"] = float(np.nanmean(areas)) if np.isfinite(areas).any() else float("nan")
    if "Brier score" in names:
        error = ((p - np.eye(p.shape[1])[truth]) ** 2).sum(axis=1)
        found["Brier score"] = float((w * error).sum() / w.sum() / (2 if p.shape[1] == 2 else 1))
    if "calibration error" in names:
        found["calibration error"] = metrics.calibration_error(truth, p, weights=weights)
    return found


def validation(cases, numbers, load, dimensions: int, device: str):
    """A function that judges a network during training; the score is the mean of AUC and balanced accuracy."""

    def validate(network) -> dict:
        p = probabilities(logits_of(network, cases, load, dimensions, device))
        found = figures(p, numbers, names=("accuracy", "balanced accuracy", "AUC"))
        found = {k: v for k, v in found.items() if np.isfinite(v)}
        return {"score": float(np.mean([v for k, v in found.items() if k != "accuracy"])), **found}

    return validate
