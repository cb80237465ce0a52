"""From the blended outputs of a network to labels and their uncertainty, plane by plane."""

from __future__ import annotations

import math

import numpy as np

_CHUNK_BYTES = 2 << 20
"""Scores handled at a time; they should stay in the processor's cache."""


class PlaneReader:
    """Turns the sums of finished planes into labels, and where wanted entropy and probabilities.

    Parameters
    ----------
    shape : (K, J, I)
    head : Head, optional
        Layer to be applied to the sums first.
    activation : "softmax" or "sigmoid"
        Softmax: the most likely channel is the label, channel 0 being background. Sigmoid: channel ``c`` is label
        ``c + 1`` where its probability, the largest of all channels, exceeds ``threshold``.
    threshold : float
    entropy, confidence : bool
        Whether to keep the entropy of the class probabilities (0…1, relative to that of chance) and the probability
        of the label.
    probabilities : bool
        Whether to keep the probability of every channel, as float16.
    """

    def __init__(self, shape, head=None, activation="softmax", threshold=0.5, entropy=False, confidence=False,
                 probabilities=False):  # fmt: skip
        self.shape, self.head = tuple(shape), head
        self.activation, self.threshold = activation, threshold
        self.labels = np.zeros(self.shape, np.uint8)
        self.entropy = np.zeros(self.shape, np.float32) if entropy else None
        self.confidence = np.zeros(self.shape, np.float32) if confidence else None
        self.probabilities = None
        self._wants_probabilities = probabilities

    def read(self, k: int, sums, weights):
        """Finish plane ``k``.

        Parameters
        ----------
        sums : (C, J, I) tensor
            Or, with a head, (F, J, I).
        weights : (J, I) tensor
            0 where no window lay: such a voxel is background.
        """
        channels = self.head.classes if self.head else sums.shape[0]
        if channels + (self.activation == "sigmoid") > 256 and self.labels.dtype == np.uint8:
            self.labels = self.labels.astype(np.int16)
        if self._wants_probabilities and self.probabilities is None:
            self.probabilities = np.zeros((channels, *self.shape), np.float16)
        sums, weights = sums.reshape(sums.shape[0], -1), weights.reshape(-1)
        step = max(1024, _CHUNK_BYTES // (4 * channels))
        for start in range(0, weights.shape[0], step):
            part = slice(start, start + step)
            weight = weights[part]
            scores = self.head.apply(sums[:, part], weight) if self.head else sums[:, part]
            self._read(k, part, scores, weight)

    def _read(self, k, part, scores, weight):
        labels = self.labels[k].reshape(-1)[part]
        reached = weight.cpu().numpy() > 0
        if self.activation == "sigmoid":
            # Where the probability exceeds the threshold, the score exceeds its logit.
            best, index = _largest(scores)
            limit = math.log(self.threshold / (1 - self.threshold))
            above = best > limit * weight.cpu().numpy()
            labels[:] = np.where(reached & above, index.astype(np.int16) + 1, 0)
        else:
            _, index = _largest(scores)
            labels[:] = index if reached.all() else np.where(reached, index, 0)
        if self.entropy is None and self.confidence is None and self.probabilities is None:
            return
        probability = self._probability(scores, weight, reached)
        if self.probabilities is not None:
            self.probabilities[:, k].reshape(len(probability), -1)[:, part] = probability
        if self.activation == "sigmoid":
            probability = np.stack([1 - probability.max(0), probability.max(0)])
        if self.confidence is not None:
            self.confidence[k].reshape(-1)[part] = probability.max(0)
        if self.entropy is not None:
            with np.errstate(divide="ignore", invalid="ignore"):
                terms = np.where(probability > 0, probability * np.log(probability), 0)
            self.entropy[k].reshape(-1)[part] = -terms.sum(0) / math.log(max(2, len(probability)))

    def _probability(self, scores, weight, reached) -> np.ndarray:
        """(C, N) probabilities; background where no window lay."""
        import torch

        mean = scores / weight.clamp(min=1e-12)
        values = torch.sigmoid(mean) if self.activation == "sigmoid" else torch.softmax(mean, dim=0)
        values = values.cpu().numpy()
        values[:, ~reached] = 0
        if self.activation == "softmax":
            values[0, ~reached] = 1
        return values


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
