"""Training of a joint network with modality dropout, and its application."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from MedImgAILib.core import Context, InputError, ResourceError

from .cases import Case

_NEAR_SEGMENT = 0.67
"""Share of the patches that lie about a voxel of a segment, each segment as often."""
_HEAVIEST = 5.0
"""Times the background's weight that a rare class counts in the cross-entropy."""
_SHIFTS = (0.0, -1.0, 1.0, 2.0, 3.0, 4.0, 5.0)
"""Of the background's score after training; see :func:`_settle`."""
_WHOLE_VOXELS = 1 << 21
"""Images up to this size are taken at once, larger ones in windows."""
_WINDOW = 96


@dataclass(frozen=True)
class Settings:
    """How a network is built and trained.

    Parameters
    ----------
    channels : tuple of int
        Of each level.
    steps, batch, patch : int
        Updates, patches in each, and voxels along a patch's edge.
    dropout : float
        Share of the patches that are shown with a random part of their modalities only.
    learning_rate : float
        The highest; it rises at first and falls to 0 in the end (Smith & Topin 2019, one cycle).
    """

    channels: tuple[int, ...] = (8, 16, 32)
    steps: int = 150
    batch: int = 2
    patch: int = 32
    dropout: float = 0.5
    learning_rate: float = 5e-3


def train(cases: list[Case], classes: int, settings: Settings, context: Context, curve: str = "Loss/training"):
    """A :func:`MedImgAILib.networks.multimodal_unet.MultimodalUNet` trained on patches of ``cases``.

    Ends early, with what it has learnt, when the user asks for it.

    Parameters
    ----------
    cases : list of Case
        With labels below ``classes``.
    classes : int
        With the background.

    Raises
    ------
    InputError
        If no case has a voxel of a segment.
    ResourceError
        If the loss is no number any more.
    """
    import torch
    from MedImgAILib.networks.multimodal_unet import MultimodalUNet

    if not any(case.labels.any() for case in cases):
        raise InputError("Segments: none of the cases has a voxel of a segment; there is nothing to learn from.")
    sampler = Sampler(cases, settings, np.random.default_rng(context.seed))
    device = context.device
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(context.seed)
        network = MultimodalUNet(len(cases[0].array), classes, list(settings.channels)).to(device).train()
        optimizer = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, settings.learning_rate, settings.steps + 1, pct_start=0.15
        )  # fmt: skip
        weights = torch.from_numpy(sampler.class_weights(classes)).to(device)
        mean = None
        for step in range(settings.steps):
            context.progress(step / settings.steps, f"Step {step + 1} of {settings.steps}")
            images, labels = (torch.from_numpy(a).to(device) for a in sampler.batch())
            value = loss(network(images), labels, weights)
            optimizer.zero_grad()
            value.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            number = float(value.detach())
            if not np.isfinite(number):
                raise ResourceError("The training failed, as its loss is not finite; choose a lower learning rate.")
            mean = number if mean is None else 0.9 * mean + 0.1 * number
            context.curve(curve, step + 1, mean)
            if context.finish_early:
                context.log(f"Stopped after {step + 1} of {settings.steps} steps; the network is kept as it is.")
                break
        _settle(network.eval(), cases, classes, context)
    return network


def _settle(network, cases: list[Case], classes: int, context: Context):
    """Shift the background's score by what gives the best Dice on the training cases as a whole.

    The patches, two thirds of them about segments, make a network expect more of these than an image has.
    """
    import torch

    scores = np.zeros((len(_SHIFTS), 3, classes))
    for case in cases:
        logs = np.log(np.maximum(infer(network, case.array, Context(context.device)), 1e-6))
        for number, shift in enumerate(_SHIFTS):
            shifted = logs.copy()
            shifted[0] += shift
            found = shifted.argmax(axis=0)
            for label in range(1, classes):
                one, other = found == label, case.labels == label
                scores[number, :, label] += [(one & other).sum(), one.sum(), other.sum()]
        context.check()
    learnt = scores[0, 2] > 0
    dice = 2 * scores[:, 0, learnt] / np.maximum(scores[:, 1, learnt] + scores[:, 2, learnt], 1)
    with torch.no_grad():
        network.last.bias[0] += _SHIFTS[int(dice.mean(axis=1).argmax())]


def loss(scores, labels, weights):
    """Cross-entropy plus 1 − soft Dice of the classes that the batch has, each pooled over the batch.

    Pooled, so that a patch without a small structure does not teach the network to leave it out.

    Parameters
    ----------
    scores : (B, C, K, J, I) tensor
    labels : (B, K, J, I) tensor of int64
    weights : (C,) tensor
        Of the classes in the cross-entropy.
    """
    import torch
    from torch.nn import functional

    shares = torch.softmax(scores, dim=1)[:, 1:]
    truth = functional.one_hot(labels, scores.shape[1]).movedim(-1, 1)[:, 1:].to(shares.dtype)
    axes = (0, 2, 3, 4)
    sizes = truth.sum(axes)
    dice = 2 * (shares * truth).sum(axes) / (shares.sum(axes) + sizes + 1e-3)
    there = sizes > 0
    overlap = dice[there].mean() if bool(there.any()) else shares.sum() * 0
    return functional.cross_entropy(scores, labels, weights) + 1 - overlap


class Sampler:
    """Random patches of the cases, augmented, with some of their modalities left out."""

    def __init__(self, cases: list[Case], settings: Settings, rng):
        self.cases, self.settings, self.rng = cases, settings, rng
        largest = np.max([case.geometry.shape for case in cases], axis=0)
        self.patch = np.minimum(settings.patch, largest)
        self.places = [
            [np.flatnonzero(case.labels == label) for label in np.unique(case.labels) if label] for case in cases
        ]

    def class_weights(self, classes: int) -> np.ndarray:
        """(C,) float32: the inverse square root of each class's share of the voxels, mean 1."""
        counts = np.sum([np.bincount(case.labels.ravel(), minlength=classes) for case in self.cases], axis=0)
        weights = np.where(counts > 0, 1 / np.sqrt(np.maximum(counts, 1) / counts.sum()), 0)
        weights = np.minimum(weights / weights[0], _HEAVIEST)
        return (weights * (np.count_nonzero(weights) / weights.sum())).astype(np.float32)

    def batch(self) -> tuple[np.ndarray, np.ndarray]:
        """(B, M, K, J, I) float32 images with NaN where a modality is left out, and (B, K, J, I) int64 labels."""
        images, labels = zip(*(self._one() for _ in range(self.settings.batch)))
        return np.stack(images), np.stack(labels).astype(np.int64)

    def _one(self):
        rng = self.rng
        number = int(rng.integers(len(self.cases)))
        case, places = self.cases[number], self.places[number]
        shape = np.array(case.geometry.shape)
        if places and rng.random() < _NEAR_SEGMENT:
            chosen = places[rng.integers(len(places))]
            middle = np.array(np.unravel_index(chosen[rng.integers(len(chosen))], case.geometry.shape))
            middle = middle + rng.integers(-(self.patch // 4), self.patch // 4 + 1)
        else:
            middle = rng.integers(0, shape)
        start = np.clip(middle - self.patch // 2, 0, np.maximum(0, shape - self.patch))
        box = tuple(slice(int(s), int(s + p)) for s, p in zip(start, self.patch))
        image, labels = case.array[(slice(None), *box)], case.labels[box]
        beyond = [(0, int(p - n)) for p, n in zip(self.patch, labels.shape)]
        present = ~np.isnan(image[:, 0, 0, 0])
        image, labels = np.pad(image, [(0, 0), *beyond]), np.pad(labels, beyond)
        for axis in range(3):
            if rng.random() < 0.5:
                image, labels = np.flip(image, axis + 1), np.flip(labels, axis)
        scale, shift = (rng.uniform(-0.15, 0.15, (len(image), 1, 1, 1)).astype(np.float32) for _ in range(2))
        # The background stays 0, as in an image to which the network will be applied.
        image = np.ascontiguousarray(image * (1 + scale) + (image != 0) * shift)
        image[~self._shown(present)] = np.nan
        return image, np.ascontiguousarray(labels)

    def _shown(self, present):
        """Which modalities the network may see this time: any part of those present, at least one."""
        if self.rng.random() >= self.settings.dropout:
            return present
        shown = present & (self.rng.random(len(present)) < 0.5)
        if not shown.any():
            shown[self.rng.choice(np.flatnonzero(present))] = True
        return shown


def infer(network, array: np.ndarray, context: Context):
    """Class probabilities of a case.

    Parameters
    ----------
    network : torch.nn.Module
        On the context's device.
    array : (M, K, J, I) float32 ndarray
        NaN where a modality is missing.

    Returns
    -------
    (C, K, J, I) float32 ndarray
    """
    from MedImgAILib.networks.sliding_window import Plan, infer

    shape = array.shape[1:]
    window = None if np.prod(shape) <= _WHOLE_VOXELS else tuple(min(_WINDOW, n) for n in shape)
    plan = Plan(window, 0.25, probabilities=True, reduced_precision=False)
    return np.asarray(infer(network, array, plan, context, context.device).probabilities, np.float32)
