"""From the blended outputs of a network to labels and their uncertainty, plane by plane."""

from __future__ import annotations

import math
import threading

import numpy as np

_CHUNK_BYTES = 2 << 20
"""Scores handled at a time; they should stay in the processor's cache."""


class PlaneReader:
    """Turns the sums of finished planes into labels, and where wanted entropy and probabilities.

    Where the network was asked several times (by variations of the image, with dropout, or as an ensemble), the mean
    of the probabilities decides, and the passes are compared with that decision.

    Parameters
    ----------
    shape : (K, J, I)
    heads : sequence of Head or None
        One for each pass: the layer to be applied to the sums first.
    activation : "softmax", "sigmoid" or "regions"
        Softmax: the most likely channel is the label, channel 0 being background. Sigmoid: channel ``c`` is label
        ``c + 1`` where its probability, the largest of all channels, exceeds ``threshold``. Regions: the last channel
        ``c`` whose probability exceeds ``threshold`` gives the label ``c + 1``.
    threshold : float
    entropy, confidence : bool
        Whether to keep the entropy of the class probabilities (0…1, relative to that of chance) and the probability
        of the label.
    probabilities : bool
        Whether to keep the probability of every channel, as float16.

    Attributes
    ----------
    labels : (K, J, I) uint8 or int16 ndarray
    votes : Votes or None
        With several passes, how they agree.
    """

    def __init__(self, shape, heads=(None,), activation="softmax", threshold=0.5, entropy=False, confidence=False,
                 probabilities=False):  # fmt: skip
        self.shape, self.heads = tuple(shape), tuple(heads)
        self.activation, self.threshold = activation, threshold
        self.labels = np.zeros(self.shape, np.uint8)
        self.entropy = np.zeros(self.shape, np.float32) if entropy else None
        self.confidence = np.zeros(self.shape, np.float32) if confidence else None
        self.probabilities = None
        self.votes: Votes | None = None
        self._wants_probabilities = probabilities
        self._channels = 0

    def prepare(self, channels: int):
        """Make room for the results of ``channels`` classes, before the first plane."""
        self._channels = channels
        labels = channels + (self.activation != "softmax")
        if labels > 256:
            self.labels = self.labels.astype(np.int16)
        if self._wants_probabilities:
            self.probabilities = np.zeros((channels, *self.shape), np.float16)
        if len(self.heads) > 1:
            self.votes = Votes(len(self.heads), labels)

    def read(self, k: int, sums: list, weights):
        """Finish plane ``k``; planes may be read by several threads at a time.

        Parameters
        ----------
        sums : list of (C, J, I) tensors
            One for each pass; with a head, (F, J, I).
        weights : (J, I) tensor
            0 where no window lay: such a voxel is background.
        """
        sums, weights = [s.reshape(s.shape[0], -1) for s in sums], weights.reshape(-1)
        step = max(1024, _CHUNK_BYTES // (4 * self._channels))
        for start in range(0, weights.shape[0], step):
            part = slice(start, start + step)
            weight = weights[part]
            scores = [h.apply(s[:, part], weight) if h else s[:, part] for h, s in zip(self.heads, sums)]
            self._read(k, part, scores, weight)

    def _read(self, k, part, scores, weight):
        labels = self.labels[k].reshape(-1)[part]
        reached = weight.cpu().numpy() > 0
        probability = None
        if self.votes is not None:
            each = [self._probability(s, weight, reached) for s in scores]
            probability = sum(each[1:], each[0].copy()) / np.float32(len(each))
            labels[:] = self._likely(probability)
            self.votes.count([self._likely(p) for p in each], labels)
        elif self.activation == "regions":
            limit = math.log(self.threshold / (1 - self.threshold))
            above = scores[0].cpu().numpy() > limit * weight.cpu().numpy()
            labels[:] = np.where(reached, _last(above), 0)
        elif self.activation == "sigmoid":
            # Where the probability exceeds the threshold, the score exceeds its logit.
            best, index = _largest(scores[0])
            limit = math.log(self.threshold / (1 - self.threshold))
            above = best > limit * weight.cpu().numpy()
            labels[:] = np.where(reached & above, index.astype(np.int16) + 1, 0)
        else:
            _, index = _largest(scores[0])
            labels[:] = index if reached.all() else np.where(reached, index, 0)
        if self.entropy is None and self.confidence is None and self.probabilities is None:
            return
        if probability is None:
            probability = self._probability(scores[0], weight, reached)
        if self.probabilities is not None:
            self.probabilities[:, k].reshape(len(probability), -1)[:, part] = probability
        if self.activation != "softmax":
            probability = np.stack([1 - probability.max(0), probability.max(0)])
        if self.confidence is not None:
            self.confidence[k].reshape(-1)[part] = probability.max(0)
        if self.entropy is not None:
            with np.errstate(divide="ignore", invalid="ignore"):
                terms = np.where(probability > 0, probability * np.log(probability), 0)
            self.entropy[k].reshape(-1)[part] = -terms.sum(0) / math.log(max(2, len(probability)))

    def _likely(self, probability) -> np.ndarray:
        """(N,) labels of (C, N) probabilities."""
        if self.activation == "regions":
            return _last(probability > self.threshold)
        index = probability.argmax(axis=0)
        if self.activation == "sigmoid":
            return np.where(probability.max(axis=0) > self.threshold, index + 1, 0)
        return index

    def _probability(self, scores, weight, reached) -> np.ndarray:
        """(C, N) probabilities; background where no window lay."""
        import torch

        mean = scores / weight.clamp(min=1e-12)
        values = torch.sigmoid(mean) if self.activation != "softmax" else torch.softmax(mean, dim=0)
        values = values.cpu().numpy()
        values[:, ~reached] = 0
        if self.activation == "softmax":
            values[0, ~reached] = 1
        return values


class Votes:
    """Voxels of each label in each pass, and how many of them the joint decision has too.

    Attributes
    ----------
    found, shared : (passes, labels) int64 ndarray
    decided : (labels,) int64 ndarray
    """

    def __init__(self, passes: int, labels: int):
        self.found = np.zeros((passes, labels), np.int64)
        self.shared = np.zeros((passes, labels), np.int64)
        self.decided = np.zeros(labels, np.int64)
        self._lock = threading.Lock()

    def count(self, each: list, decided: np.ndarray):
        """Add some voxels: (N,) labels of each pass and of the decision."""
        size = len(self.decided)
        found = [np.bincount(labels, minlength=size) for labels in each]
        shared = [np.bincount(labels[labels == decided], minlength=size) for labels in each]
        joint = np.bincount(decided, minlength=size)
        with self._lock:
            self.found += found
            self.shared += shared
            self.decided += joint

    def dice(self) -> np.ndarray:
        """(passes, labels) Dice overlap of each pass with the decision; 1 where both have nothing."""
        total = self.found + self.decided
        return np.where(total > 0, 2 * self.shared / np.maximum(total, 1), 1.0)


def _last(above: np.ndarray) -> np.ndarray:
    """(N,) one more than the last channel of (C, N) that is True; 0 where none is."""
    return np.where(above.any(axis=0), len(above) - above[::-1].argmax(axis=0), 0)


def _largest(scores) -> tuple[np.ndarray, np.ndarray]:
    """Largest score (N,) and its first channel (N,)."""
    if scores.device.type != "cpu":
        best, index = scores.max(dim=0)
        return best.cpu().numpy(), index.cpu().numpy()
    array = scores.numpy()
    best = array[0].copy()
    index = np.zeros(best.shape, np.uint8 if len(array) <= 256 else np.int16)
    for channel in range(1, len(array)):
        # Channels rise, so that a later winner has the larger number.
        is_better = (array[channel] > best).view(np.uint8)
        np.maximum(index, is_better * index.dtype.type(channel), out=index)
        np.maximum(best, array[channel], out=best)
    return best, index
