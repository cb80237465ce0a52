"""Multi-instance learning with gated attention: which rows of a case count is learnt (Ilse 2018, ICML)."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

import numpy as np

from ..core import MissingPackageError
from .calibration import softmax

_HIDDEN = 16
_NAMES = ("seen", "gate", "attention", "weights", "offsets")


@dataclass(frozen=True, eq=False)
class AttentionModel:
    """The numbers of a trained model.

    Parameters
    ----------
    seen, gate : (H, F)
        Of tanh and sigmoid, whose product is the hidden layer.
    attention : (H,)
    weights : (classes, F)
    offsets : (classes,)
    """

    seen: np.ndarray
    gate: np.ndarray
    attention: np.ndarray
    weights: np.ndarray
    offsets: np.ndarray

    @property
    def features(self) -> int:
        return self.weights.shape[1]

    @property
    def classes(self) -> int:
        return self.weights.shape[0]

    def probabilities(self, bag: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(classes,) probabilities of a bag of (rows, F) values, and the (rows,) shares that each row had."""
        hidden = np.tanh(bag @ self.seen.T) / (1 + np.exp(-np.clip(bag @ self.gate.T, -60, 60)))
        shares = softmax((hidden @ self.attention)[None])[0]
        return softmax((self.weights @ (shares @ bag) + self.offsets)[None])[0], shares

    def to_json(self) -> dict:
        """Plain lists."""
        return {name: np.asarray(getattr(self, name), np.float32).tolist() for name in _NAMES}

    @classmethod
    def from_json(cls, given: dict) -> AttentionModel:
        """Check and read what :meth:`to_json` gave; raises ValueError, KeyError or TypeError."""
        parts = [np.array(given[name], float) for name in _NAMES]
        hidden, features = parts[0].shape
        classes = len(parts[4])
        shapes = [(hidden, features), (hidden, features), (hidden,), (classes, features), (classes,)]
        if [p.shape for p in parts] != shapes or classes < 2 or not all(np.isfinite(p).all() for p in parts):
            raise ValueError("its attention has impossible numbers")
        return cls(*parts)


def check_torch():
    """Refuse to learn which rows count where torch is not there.

    Raises
    ------
    MissingPackageError
    """
    if importlib.util.find_spec("torch") is None:
        raise MissingPackageError(
            "Pooling: attention needs the package torch, which is not installed; install it or choose another pooling.",
            ("torch>=2.2",),
        )


def fit_attention(bags, truth, classes: int, decay: float = 1e-2, steps: int = 150, seed: int = 0, check=None):
    """Train on prepared bags; every class counts alike.

    Parameters
    ----------
    bags : list of (rows, F) float32 ndarray
    truth : (n,) int ndarray
    decay : float
        AdamW's weight decay.
    check : callable, optional
        Called now and then; may raise to stop.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    count = bags[0].shape[1]
    lengths = torch.tensor([len(b) for b in bags])
    rows = torch.from_numpy(np.concatenate(bags)).float()
    owner = torch.repeat_interleave(torch.arange(len(bags)), lengths)
    shapes = ((_HIDDEN, count), (_HIDDEN, count), (_HIDDEN,), (classes, count), (classes,))
    parameters = [
        (torch.randn(shape, generator=generator) * (0.1 if number < 3 else 0.0)).requires_grad_()
        for number, shape in enumerate(shapes)
    ]
    seen, gate, attention, weights, offsets = parameters
    frequency = np.maximum(np.bincount(truth, minlength=classes), 1)
    weight = torch.from_numpy(len(truth) / (classes * frequency)).float()
    target = torch.from_numpy(np.asarray(truth, np.int64))
    optimizer = torch.optim.AdamW(parameters, lr=0.02, weight_decay=decay)
    for step in range(steps):
        if check is not None and step % 10 == 0:
            check()
        hidden = torch.tanh(rows @ seen.T) * torch.sigmoid(rows @ gate.T)
        raw = hidden @ attention
        raised = torch.exp(raw - raw.max())
        total = torch.zeros(len(bags)).index_add(0, owner, raised)
        shares = raised / total[owner].clamp_min(1e-30)
        pooled = torch.zeros(len(bags), count).index_add(0, owner, shares[:, None] * rows)
        loss = torch.nn.functional.cross_entropy(pooled @ weights.T + offsets, target, weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return AttentionModel(*(p.detach().double().numpy() for p in parameters))
