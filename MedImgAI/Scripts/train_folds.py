"""What trainings of several networks share, each of which is kept from a part of the cases, so that it can be judged.

With ``--fold`` a script trains that network only; without, those that are missing, and it writes the package.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import train_tools as tools


@dataclass(frozen=True)
class Ensemble:
    """Networks of one kind, and what they are trained on.

    Parameters
    ----------
    name : str
        Of the package.
    steps, batch : int
        Steps of each training, and images in a step.
    load : callable
        ``load(data)`` gives ``{name: case}``.
    folds : callable
        ``folds(names)`` gives, for each network, the names of the cases that it does not see.
    sample : callable
        ``sample(case, rng)`` draws an (image (C, …), labels (…)) from a case.
    network : callable
        ``network()`` gives an untrained network.
    card : callable
        ``card()`` gives the package's card.
    keep_cases : bool
        Whether the cases are kept in the work folder for the next run.
    """

    name: str
    steps: int
    batch: int
    load: Callable
    folds: Callable
    sample: Callable
    network: Callable
    card: Callable
    keep_cases: bool = False

    def main(self, description: str, data: str, count: int):
        """Run the script: train what the command line asks for, of ``count`` networks, and write the package."""
        parser = tools.arguments(description, data)
        parser.add_argument("--fold", type=int, choices=range(count), help="train this network only")
        options = parser.parse_args()
        options.deadline = time.monotonic() + 60 * options.minutes
        if self.keep_cases:
            cases = tools.kept(options.work / f"{self.name}_cases.pt", lambda: self.load(options.data))
        else:
            cases = self.load(options.data)
        try:
            wanted = range(count) if options.fold is None else [options.fold]
            states = [self.train(cases, fold, options) for fold in wanted]
        except tools.OutOfTime:
            print("Out of time; the same command resumes.")
            return
        if options.fold is None:
            unseen = dict(zip(tools.weight_names(count), self.folds(list(cases))))
            tools.write_package(options.output / self.name, self.card(), states, unseen)

    def train(self, cases: dict, fold: int, options) -> dict:
        """The weights of network ``fold``."""
        import torch

        unseen = self.folds(list(cases))[fold]
        seen = [cases[name] for name in sorted(cases) if name not in unseen]

        def sample(rng):
            drawn = [
                self.sample(seen[int(torch.randint(len(seen), (), generator=rng))], rng) for _ in range(self.batch)
            ]
            return tuple(torch.stack(parts) for parts in zip(*drawn))

        torch.manual_seed(options.seed + fold)
        return tools.fit(self.network(), sample, self.steps, options.work / f"{self.name}_{fold}.pt", options)
