"""Training and judging of networks that find segments."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass

import numpy as np

from ..core import Context, InputError
from ..networks.sliding_window import Plan as WindowPlan
from ..networks.sliding_window import infer
from ..networks.variations import mirrored as mirrored_variations
from .augmentation import Augmentation
from .batches import PatchBatches
from .cache import Preparation, PreparedCase
from .cases import Collection
from .facts import image_facts
from .networks import divisor_for
from .planning import ImageFacts, Plan
from .reading import read_image, read_segmentation, renamed
from .sampling import Sampler

OVERLAP = 0.5
_SIDE = re.compile(r"(?<![a-z])(left|right|links|rechts|gauche|droite?|l|r|lh|rh)(?![a-z])")


@dataclass(frozen=True, eq=False)
class Judged:
    """Dice of the cases that a network has not seen: (cases, segments), NaN where neither side has a segment."""

    cases: tuple
    dice: np.ndarray


def gather(collection: Collection, context: Context, on_error: str, grey: bool = False):
    """Facts of all labelled cases, the names of the segments, and the cases that can be used.

    Raises
    ------
    InputError
        If a case cannot be used and shall not be left out, no case is labelled, or the cases differ in their channels.
    """
    from ..core import MedImgAIError

    used, facts, segments = [], [], {s.name: s for s in collection.segments}
    cases = collection.labelled
    if not cases:
        raise InputError(f"No case of {collection.origin} has a label image, so there is nothing to learn.")
    for number, case in enumerate(cases, start=1):
        context.progress(number / len(cases), f"Looking at case {number} of {len(cases)}")
        try:
            found, own = _facts(case, collection)
        except MedImgAIError as error:
            if on_error != "skip":
                raise
            context.warn(f"Case '{case.id}' is left out: {error}")
            continue
        for segment in found:
            segments.setdefault(segment.name, segment)
        used.append(case)
        facts.append(own)
    if not used:
        raise InputError("None of the cases can be used; see the warnings.")
    if len({len(f) for f in facts}) > 1:
        raise InputError(f"The cases of {collection.origin} have different numbers of images; each needs the same.")
    if not segments:
        raise InputError(f"All label images of {collection.origin} are empty, so there is nothing to learn.")
    return tuple(used), facts, tuple(segments.values())


def _facts(case, collection) -> tuple[tuple, list[ImageFacts]]:
    truth = read_segmentation(case.target).canonical()
    named = renamed(truth, collection.segments)
    mask = np.zeros(truth.geometry.shape, bool)
    for layer in truth.layers:
        mask |= layer > 0
    facts = []
    for source in case.images:
        volume = read_image(source, f"The image of case '{case.id}'").canonical()
        same = volume.geometry.same_grid(truth.geometry)
        facts.append(image_facts(volume, mask if same else None))
    return named.segments, facts


def flips_allowed(segments, dimensions: int, mirror: str) -> tuple[bool, ...]:
    """For each axis (left and right is the last one) whether samples may be mirrored.

    Parameters
    ----------
    segments : sequence of Segment
        If a name says its side, left and right are never exchanged.
    mirror : "none", "sides" or "all"
    """
    flips = [mirror == "all"] * dimensions
    sided = any(_SIDE.search(s.name.lower()) for s in segments)
    flips[-1] = mirror != "none" and not sided
    return tuple(flips)


def batches(cases, network: str, plan: Plan, patch, parameters, context, flips, load, seed: int) -> PatchBatches:
    """The samples of a training part."""
    modality = plan.inputs[0].modality
    augmentation = Augmentation(plan.dimensions, parameters.augmentation, flips, modality == "MR", plan.isotropic)
    kinds = np.zeros(len(cases), np.int64)
    if parameters.balance != "none":
        # The rarest segment of a case is what the case is drawn for.
        totals = np.sum([[label in c.places for label in range(1, 256)] for c in cases], axis=0)
        for n, case in enumerate(cases):
            own = sorted(case.places, key=lambda label: (totals[label - 1], label))
            kinds[n] = own[0] if own else 0
    sampler = Sampler(kinds, parameters.balance, seed)
    return PatchBatches(
        cases, patch, sampler, augmentation, parameters.foreground_percent / 100, seed,
        context, parameters.on_error, parameters.multi_scale, divisor_for(network, plan), load,
    )  # fmt: skip


def found(network, case: PreparedCase, plan: Plan, patch, device: str, mirrored=(), **options):
    """A :class:`.planes.PlaneReader` with (K, J, I) ``labels`` on the prepared grid, as the package will find them.

    Parameters
    ----------
    options
        Further fields of the window plan, as ``cpu_bfloat16`` or ``probabilities``.
    """
    passes = mirrored_variations(mirrored)
    window = WindowPlan(tuple(patch), OVERLAP, dimensions=plan.dimensions, variations=passes, **options)
    return infer(network, np.ascontiguousarray(case.image), window, Context(device), device)


def dice_of(found: np.ndarray, truth: np.ndarray, segments: int) -> np.ndarray:
    """Dice of labels 1 … ``segments``; NaN where neither has one."""
    result = np.full(segments, np.nan)
    for label in range(1, segments + 1):
        a, b = found == label, truth == label
        total = int(a.sum()) + int(b.sum())
        if total:
            result[label - 1] = 2 * int((a & b).sum()) / total
    return result


def validation(
    cases, preparation: Preparation, plan: Plan, patch, names, device: str, mirrored=(), most: int = 8,
    reduced: bool = False,
):  # fmt: skip
    """A function that judges a network during training, on at most ``most`` cases and on the prepared grid.

    With ``reduced`` it computes in bfloat16 where the processor can, as the training does; by a copy, because that
    arranges the weights anew, after which the training would round otherwise.
    """
    chosen = cases[:: max(1, -(-len(cases) // most))]

    def validate(network) -> dict:
        network = copy.deepcopy(network) if reduced and device == "cpu" else network
        dice = np.stack([
            dice_of(
                found(network, case, plan, patch, device, mirrored, cpu_bfloat16=reduced).labels, case.labels,
                len(names),
            )
            for case in map(preparation.loaded, chosen)
        ])  # fmt: skip
        means = _mean(dice)
        scores = {name: value for name, value in zip(names, means) if np.isfinite(value)}
        return {"score": float(np.mean(list(scores.values()) or [0.0])), **scores}

    return validate


def judge(
    network, cases, preparation: Preparation, plan: Plan, patch, device: str, context: Context, mirrored=()
) -> Judged:
    """Dice of each case against its own label image, on that image's own grid."""
    import torch

    rows, segments = [], len(preparation.segments)
    with torch.inference_mode():
        for number, case in enumerate(cases, start=1):
            context.progress(number / len(cases), f"Judging case {number} of {len(cases)}")
            labels = found(network, preparation.loaded(case), plan, patch, device, mirrored).labels
            back = case.prepared.back(labels)
            rows.append(dice_of(back, preparation.truth(case.case, case.prepared.source), segments))
    return Judged(tuple(c.case for c in cases), np.array(rows).reshape(-1, segments))


def shift_overlaps(network, cases, preparation: Preparation, plan: Plan, patch, device: str, context, mirrored=()):
    """(cases, shifts, segments) Dice on the prepared grid for each shift of :mod:`.decision`."""
    import torch

    from .decision import SHIFTS, overlaps_by_shift

    rows = []
    with torch.inference_mode():
        for number, case in enumerate(map(preparation.loaded, cases), start=1):
            context.progress(number / len(cases), f"Judging case {number} of {len(cases)}")
            result = found(network, case, plan, patch, device, mirrored, probabilities=True)
            rows.append(overlaps_by_shift(result.probabilities, case.labels))
    return np.array(rows).reshape(-1, len(SHIFTS), len(preparation.segments))


def _mean(dice: np.ndarray, weights=None) -> np.ndarray:
    """(segments,) mean over the cases that have a segment."""
    there = np.isfinite(dice)
    weights = np.ones(len(dice)) if weights is None else weights
    total = (weights[:, None] * there).sum(axis=0)
    sums = (weights[:, None] * np.where(there, dice, 0)).sum(axis=0)
    return np.divide(sums, total, out=np.full(dice.shape[1], np.nan), where=total > 0)


def mean_dice(dice: np.ndarray, weights=None) -> float:
    """Mean over the segments of the means over the cases."""
    means = _mean(dice, weights)
    return float(np.nanmean(means)) if np.isfinite(means).any() else float("nan")
