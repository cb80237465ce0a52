"""A search of training settings in its folder: trials are trained, read back where they are done, and tidied away."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from ..core import Context, InputError, OutputError, ResourceError
from ..core.model_package import CARD, ModelPackage
from .checkpoints import NotFiniteError, TrainingError, write_atomically
from .experiment import MARK, Folder, identity_of, parts_of
from .search import Result, Round, successive_halving

FIGURES = {"segmentation": ("mean Dice", ""), "classification": ("AUC", "Brier score")}
"""The card's figure that decides, and the one that decides among equals (less is better)."""


class _Enough(Exception):
    """The user wants the best so far."""


def check_data(collection, share: float, context: Context) -> list[str]:
    """Look through the data; the hashes of the cases that are learnt from, before anything is written.

    Raises
    ------
    InputError
        If a case cannot be used, or the held-out patients cannot judge.
    """
    from . import classification, segmentation

    if collection.kind == "segmentation":
        cases, _, _ = segmentation.gather(collection, context, "stop")
        classes = np.zeros(len(cases), np.int64)
    else:
        collection, _ = classification.gather(collection, context, "stop")
        cases, classes = collection.cases, collection.class_numbers()
    kept, out = parts_of(cases, classes, 1, share, context.seed).rounds[0]
    if not len(out):
        raise InputError(
            f"All labelled cases of {collection.origin} are of one patient; a search needs two or more, to learn from "
            "some and be judged by others."
        )
    if collection.kind == "classification":
        classification.check_classes(classes[kept], collection.classes)
        if len(np.unique(classes[out])) < 2:
            raise InputError(
                f"The held-out patients of {collection.origin} have one class only; hold out a larger share, or give "
                "more patients of each class."
            )
    return [case.content_hash() for case in cases]


@dataclass(frozen=True)
class Found:
    """What a search gives: all results in their order, the best one and its model."""

    results: list[Result]
    best: Result
    package: ModelPackage
    complete: bool


class Search:
    """A search in its folder: ``trial_01/round_1`` for a training, ``trial_01/round_1.json`` for its result,
    ``cache`` for the prepared cases of all and, at the end, ``model``.

    Parameters
    ----------
    kind : "segmentation" or "classification"
    train : callable
        ``train(parameters, cache, context)`` runs a training and gives what :func:`.train_segmentation` gives.
    fixed : dict
        Parameters that are the same in all trials.
    settings : list of dict
        Parameters of each trial.
    length : "steps" or "epochs"
        The parameter that the rounds' amounts are meant for.
    rounds : list of Round
    folder : Path
    """

    def __init__(self, kind, train, fixed: dict, settings: list[dict], length: str, rounds: list[Round], folder: Path):
        self.figures, self.train, self.fixed, self.settings = FIGURES[kind], train, fixed, settings
        self.length, self.rounds, self.path = length, rounds, Path(folder)

    def run(self, hashes: list[str], replaces: bool, context: Context) -> Found:
        """Search, or go on with the same search.

        Parameters
        ----------
        hashes : list of str
            Of the cases, as :func:`check_data` gives them.
        replaces : bool
            Whether another search in the folder may be deleted.

        Raises
        ------
        TrainingError
            If all trials failed.
        OutputError
            If the folder holds something else or is in use, or a result in it is damaged.
        """
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise ResourceError("A search of settings runs in one process; start it without torchrun.")
        rounds = [asdict(each) for each in self.rounds]
        deciding = {k: v for k, v in self.fixed.items() if k not in ("data", "table", "name")}
        identity = identity_of("search", hashes, deciding, self.settings, self.length, rounds, context.seed)
        folder = Folder(self.path, identity, replaces)
        with folder.held(True):
            if replaces and (self.path / MARK).exists():
                self._empty()
            folder.open({"settings": self.settings, self.length: rounds, "seed": context.seed})
            return self._found(context)

    def _empty(self):
        try:
            for entry in self.path.glob("trial_*"):
                shutil.rmtree(entry)
        except OSError as error:
            raise OutputError(f"The search in {self.path} cannot be deleted ({error.strerror or error}).") from error

    def _found(self, context: Context) -> Found:
        results: list[Result] = []
        whole, past = sum(each.trials * each.amount for each in self.rounds), 0.0

        def judge(trial: int, number: int) -> Result:
            nonlocal past
            start, past = past, past + self.rounds[number - 1].amount / whole
            with context.part(start, past):
                result = self._judged(trial, number, any(r.score is not None for r in results), context)
                context.progress(1.0, f"Trial {trial} of round {number} is done")
            if result.score is not None:
                context.curve(f"{self.figures[0]}/round {number}", trial, result.score)
            return result

        complete = False
        try:
            for result in successive_halving(self.rounds, judge):
                results.append(result)
                self._tidy(results)
            complete = True
        except _Enough:
            context.log("The search ends with the best so far.")
        best = min(results, key=lambda r: r.rank)
        if best.failed:
            raise TrainingError(f"All {len(results)} trials failed; the first: {best.failed}")
        return Found(results, best, self._kept(best), complete)

    # One trial

    def _place(self, result: Result) -> Path:
        return self.path / f"trial_{result.trial:02d}" / f"round_{result.round}"

    def _judged(self, trial: int, number: int, may_end: bool, context: Context) -> Result:
        """The result of a trial from its file, or by training."""
        result = Result(trial, number, self.rounds[number - 1].amount)
        place = self._place(result)
        record = place.with_suffix(".json")
        if (known := _read(record)) is not None:
            return known
        own = _Trial(context, f"Trial {trial}, round {number}", may_end)
        own.check()
        values = self.fixed | self.settings[trial - 1] | {self.length: result.amount, "folder": str(place)}
        start = time.monotonic()
        try:
            # The weights are of the last step, so that validations in between would only take time.
            outcome = self.train(values | {"validate_every": 1_000_000}, self.path / "cache", own)
        except NotFiniteError as error:
            result = replace(result, failed=str(error).partition(";")[0].rstrip(".") + ".")
            context.warn(f"Trial {trial} is lost: {result.failed}")
        else:
            card = ModelPackage.load(outcome.package).card
            deciding, second = self.figures
            if deciding not in card.metrics:
                raise InputError(
                    f"The held-out patients give no {deciding}; hold out a larger share, or give more patients."
                )
            result = replace(
                result, score=card.metrics[deciding], second=card.metrics.get(second, 0.0),
                steps=outcome.histories[-1][-1][-1]["step"], weights=card.weights_sha256,
            )  # fmt: skip
        result = replace(result, seconds=round(time.monotonic() - start, 1))
        write_atomically(record, json.dumps(asdict(result), indent=2).encode())
        return result

    # What is kept

    def _tidy(self, results: list[Result]):
        """Delete all weights but those of the best model."""
        best = min(results, key=lambda r: r.rank)
        for result in results:
            place = self._place(result)
            # What cannot be deleted takes space and does no harm.
            shutil.rmtree(place / "fold_1" if result is best else place, ignore_errors=True)

    def _kept(self, best: Result) -> ModelPackage:
        """The best trial's model, moved to its place, with a word on how it was chosen."""
        place, model = self._place(best), self.path / "model"
        draft, before = self.path / ".model-draft", self.path / ".model-before"
        if (place / "model").is_dir():
            try:
                for leftover in (draft, before):
                    shutil.rmtree(leftover, ignore_errors=True)
                shutil.copytree(place / "model", draft)
                _say_chosen(draft, len(self.settings))
                if model.exists():
                    os.replace(model, before)
                os.replace(draft, model)
            except OSError as error:
                raise OutputError(f"The model cannot be kept in {model} ({error.strerror or error}).") from error
            for leftover in (before, place):
                shutil.rmtree(leftover, ignore_errors=True)
        record = place.with_suffix(".json")
        if not model.is_dir() or ModelPackage.load(model).card.weights_sha256 != best.weights:
            raise OutputError(f"The best trial's model is not in {model} any more; delete {record} to train it again.")
        return ModelPackage.load(model)


class _Trial(Context):
    """A trial's view of the search's context; it has no curves, and is ended where the best so far is wanted."""

    def __init__(self, search: Context, title: str, may_end: bool):
        super().__init__(search.device, search.seed)
        self.search, self.title, self.may_end = search, title, may_end
        self.in_worker = search.in_worker

    def is_cancelled(self) -> bool:
        if self.may_end and self.search.finish_early:
            raise _Enough
        return self.search.is_cancelled()

    def on_progress(self, fraction, message):
        self.search.progress(fraction, f"{self.title}: {message}" if message else self.title)

    def on_log(self, level, message):
        self.search.on_log(level, f"{self.title}: {message}")

    def on_curve(self, name, x, y):
        """Curves of many trainings over one another would say little."""


def _read(path: Path) -> Result | None:
    try:
        return Result(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise OutputError(f"The result {path} is damaged; delete it to train this trial again.") from error


def _say_chosen(model: Path, count: int):
    """Add to the card's limits that the patients that judged the model have also chosen it."""
    card = ModelPackage.load(model).card
    if count > 1:
        text = f"Its settings were chosen among {count} by the patients that judged it, so its figures are"
        card = replace(card, limits=f"{card.limits} {text} a little too good.")
        (model / CARD).write_text(json.dumps(card.to_json(), indent=2) + "\n", encoding="utf-8")
