"""Search of training settings: many drawn at random, the best third of them trained three times as long, and so on.

Random search after Bergstra & Bengio (2012, JMLR 13:281), successive halving after Jamieson & Talwalkar (2016, AISTATS
51:240) with the numbers of a bracket of Hyperband (Li et al. 2018, JMLR 18:185).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

ETA = 3
"""One of so many is kept after a round, and is trained so many times as long in the next."""


@dataclass(frozen=True)
class Between:
    """Numbers between two bounds, to three digits; evenly spread themselves or, with ``log``, their logarithms."""

    low: float
    high: float
    log: bool = False

    def draw(self, rng) -> float:
        ends = np.log((self.low, self.high)) if self.log else (self.low, self.high)
        value = rng.uniform(*ends)
        return float(f"{math.exp(value) if self.log else value:.3g}")


@dataclass(frozen=True)
class OneOf:
    """Each of some values alike."""

    values: tuple

    def draw(self, rng):
        return self.values[int(rng.integers(len(self.values)))]


@dataclass(frozen=True)
class Round:
    """So many trials, each trained for so many steps or epochs."""

    trials: int
    amount: float


@dataclass(frozen=True)
class Result:
    """A trial in a round.

    Parameters
    ----------
    trial, round : int
        From 1.
    amount : float
        Steps or epochs that were wanted; ``steps`` were made.
    score : float or None
        The deciding figure on the held-out patients; None if the training failed.
    second : float
        The figure that decides among equals; less is better.
    seconds : float
        Of the run that ended it.
    failed : str
        Why it failed.
    weights : str
        SHA-256 of the model's weights.
    """

    trial: int
    round: int
    amount: float
    score: float | None = None
    second: float = 0.0
    steps: int = 0
    seconds: float = 0.0
    failed: str = ""
    weights: str = ""

    @property
    def rank(self) -> tuple:
        """The better, the less; among equals the longer training, then the earlier trial."""
        worth = -math.inf if self.score is None else self.score
        return -worth, self.second, -self.round, self.trial


def space(kind: str, processor: bool) -> dict:
    """What is drawn for each setting: ``{parameter: Between or OneOf}``.

    Parameters
    ----------
    kind : "segmentation" or "classification"
    processor : bool
        Whether there is no graphics card, so that large networks are left out.
    """
    if kind == "segmentation":
        return {
            "rate": Between(3e-4, 3e-2, log=True),
            "size": OneOf(("small", "medium") if processor else ("small", "medium", "large")),
            "augmentation": OneOf(("full", "strong")),
            "loss": OneOf(("dice_ce", "dice_focal")),
            "foreground_percent": Between(20.0, 80.0),
        }
    return {
        "rate": Between(3e-4, 3e-2, log=True),
        "network": OneOf(("compact", "resnet10") if processor else ("compact", "resnet10", "resnet18", "densenet121")),
        "augmentation": OneOf(("light", "full", "strong")),
        "mixup": OneOf((0.0, 0.2, 0.4)),
        "smoothing": OneOf((0.0, 0.05, 0.1)),
    }


def drawn(choices: dict, defaults: dict, count: int, seed: int) -> list[dict]:
    """``count`` settings of :func:`space`, the first one the defaults; a longer list begins like a shorter one."""
    rng = np.random.default_rng(seed)
    others = [{name: choice.draw(rng) for name, choice in choices.items()} for _ in range(count - 1)]
    return [{name: defaults[name] for name in choices}, *others]


def schedule(count: int, total: float, least: float = 1, digits: int | None = None) -> list[Round]:
    """The rounds of a search: of ``count`` trials a third each time, until less than three are left.

    Parameters
    ----------
    count : int
    total : float
        Steps or epochs of the last round; each round before has a third of the next one's.
    least : float
        Least amount of a round.
    digits : int, optional
        To which amounts are rounded; by default to whole numbers.
    """
    rounds = [count]
    while rounds[-1] >= ETA:
        rounds.append(rounds[-1] // ETA)
    last = len(rounds) - 1
    return [Round(n, max(least, round(total / ETA ** (last - r), digits))) for r, n in enumerate(rounds)]


def successive_halving(rounds: list[Round], judge: Callable[[int, int], Result]) -> Iterator[Result]:
    """Results as they come; ``judge(trial, round)`` trains one, both from 1. Failed trials are not trained again."""
    left = list(range(1, rounds[0].trials + 1))
    for number, each in enumerate(rounds, start=1):
        done = []
        for trial in left[: each.trials]:
            done.append(judge(trial, number))
            yield done[-1]
        left = [r.trial for r in sorted(done, key=lambda r: r.rank) if not r.failed]
