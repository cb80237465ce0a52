"""Which case stands where in which batch: a pure function of the seed and the number of the step.

Nothing is remembered from step to step, so that a training that is resumed, or shared by several processes, sees what
an uninterrupted one sees.
"""

from __future__ import annotations

import numpy as np

BALANCING = ("none", "weighted", "under", "over")


class Sampler:
    """Positions of the cases for every sample of a training.

    Parameters
    ----------
    classes : (N,) int array_like
        Class of each case; all the same where there is nothing to balance.
    balance : str
        none      each case once an epoch, in an order of its own
        weighted  drawn with replacement, each class equally often
        under     each epoch as many of each class as the smallest has, drawn anew for every epoch
        over      each epoch as many of each class as the largest has; all of a class before one of it comes again
    seed : int
    """

    def __init__(self, classes, balance: str = "none", seed: int = 0):
        self.classes = np.asarray(classes, np.int64)
        if not len(self.classes):
            raise ValueError("there is nothing to draw from")
        if balance not in BALANCING:
            raise ValueError(f"balance is one of {', '.join(BALANCING)}")
        self.balance, self.seed = balance, int(seed)
        self._members = [np.flatnonzero(self.classes == c) for c in np.unique(self.classes)]
        self._kept: tuple[int, np.ndarray] | None = None

    @property
    def epoch_length(self) -> int:
        """Samples of one epoch."""
        sizes = [len(m) for m in self._members]
        if self.balance == "under":
            return min(sizes) * len(sizes)
        return max(sizes) * len(sizes) if self.balance == "over" else len(self.classes)

    def case(self, sample: int) -> int:
        """The position of the case that is sample ``sample`` (0, 1, …) of the training."""
        epoch, place = divmod(sample, self.epoch_length)
        kept = self._kept
        if kept is None or kept[0] != epoch:
            kept = self._kept = (epoch, self._order(epoch))
        return int(kept[1][place])

    def _order(self, epoch: int) -> np.ndarray:
        rng = np.random.default_rng([self.seed, 1, epoch])
        if self.balance == "none":
            return rng.permutation(len(self.classes))
        if self.balance == "weighted":
            kinds = rng.integers(len(self._members), size=len(self.classes))
            return np.array([rng.choice(self._members[kind]) for kind in kinds])
        each = self.epoch_length // len(self._members)
        drawn = []
        for members in self._members:
            rounds = -(-each // len(members))
            drawn.append(np.concatenate([rng.permutation(members) for _ in range(rounds)])[:each])
        return rng.permutation(np.concatenate(drawn))


def sample_rng(seed: int, sample: int, purpose: int = 0) -> np.random.Generator:
    """The random numbers of one sample of a training, the same whenever and wherever it is made."""
    return np.random.default_rng([int(seed), 2, int(purpose), int(sample)])
