"""Learning to tell diseased breasts: every picture measured, classifiers of features judged patient by patient."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

from ..classify.calibration import log_probabilities
from ..classify.feature_training import cross_validated, final_model
from ..core import Context, InputError, MedImgAIError, Table
from ..core.errors import listed
from ..evaluate.predictions import Predictions
from ..evaluate.summary import summarize
from .exams import Labelled
from .features import feature_names, feature_rows
from .sorting import recognised
from .view import VIEWS, ViewResult, examine

_SAMPLES = 1000
"""Of the bootstrap."""


class Listening(Context):
    """Keeps warnings of one picture, so that thousands of pictures do not fill the log."""

    def __init__(self, parent: Context):
        super().__init__(parent.device, parent.seed)
        self._parent, self.warnings = parent, []

    def on_log(self, level, message):
        self._parent.check()
        if level >= logging.WARNING:
            self.warnings.append(message)


@dataclass(frozen=True, eq=False)
class Measured:
    """A picture of the data set with what was measured in it."""

    entry: Labelled
    result: ViewResult

    @property
    def breast(self) -> tuple[str, str, str]:
        """Patient, exam and side."""
        return self.entry.patient, self.entry.exam, self.result.name.partition("_")[0]


def measured(entries: list[Labelled], pixel_mm: float, skip: bool, context) -> tuple[list[Measured], list[str]]:
    """Every picture examined, and sentences on what was left out or doubtful.

    Parameters
    ----------
    skip : bool
        Whether a picture that cannot be used is left out; else it ends the training.

    Raises
    ------
    InputError
        That names the picture.
    """
    found, left_out, doubtful = [], [], []
    for number, entry in enumerate(entries):
        context.progress(number / len(entries), f"Picture {number + 1} of {len(entries)}")
        quiet = Listening(context)
        try:
            volume = entry.read()
            name = f"{entry.side}_{entry.projection}"
            name = name if name in VIEWS else _seen(entry, volume, pixel_mm, quiet)
            found.append(Measured(entry, examine(name, volume, pixel_mm, 1.0, quiet)))
        except MedImgAIError as error:
            if not skip:
                raise InputError(f"{entry.path.name} cannot be used: {error}") from error
            left_out.append(entry.path.name)
            context.warn(f"{entry.path.name} was left out: {error}")
        if quiet.warnings:
            doubtful.append(f"{entry.path.name}: {quiet.warnings[0]}")
    notes = [f"{len(left_out)} pictures were left out ({listed(left_out, 3)})."] if left_out else []
    if doubtful:
        notes.append(f"{len(doubtful)} pictures are doubtful, the first: {doubtful[0]}")
    return found, notes


def _seen(entry: Labelled, volume, pixel_mm: float, context) -> str:
    """The view where neither table nor header nor name says all of it."""
    side, projection = recognised(volume, pixel_mm, context).split("_")
    return f"{entry.side or side}_{entry.projection or projection}"


@dataclass(frozen=True, eq=False)
class Breasts:
    """The breasts of a data set: what a classifier learns from.

    Parameters
    ----------
    names : tuple of str
    patients : (n,) int ndarray
    truth : (n,) int ndarray
        1 where diseased: if any of its views is said to be.
    bags : list of (views, F) ndarray
    features : list of str
    held_out : (n,) bool ndarray
        The part that the data set keeps for the test.
    members : list of list of int
        Places of each breast's pictures among the measured ones.
    """

    names: tuple[str, ...]
    patients: np.ndarray
    truth: np.ndarray
    bags: list[np.ndarray]
    features: list[str]
    held_out: np.ndarray
    members: list[list[int]]


def breasts_of(pictures: list[Measured], positive) -> Breasts:
    """Pictures joined to breasts, and measures compared within exams.

    Raises
    ------
    InputError
        If nothing could be measured.
    """
    if not pictures:
        raise InputError("No picture of the data could be used, so there is nothing to learn from.")
    rows: list = [None] * len(pictures)
    exams: dict[tuple, list[int]] = {}
    breasts: dict[tuple, list[int]] = {}
    for place, picture in enumerate(pictures):
        exams.setdefault(picture.breast[:2], []).append(place)
        breasts.setdefault(picture.breast, []).append(place)
    for places in exams.values():
        for place, row in zip(places, feature_rows([pictures[n].result for n in places])):
            rows[place] = row
    truth = [any(pictures[n].entry.label in positive for n in places) for places in breasts.values()]
    whose = np.unique([key[0] for key in breasts], return_inverse=True)[1]
    return Breasts(
        tuple(" ".join(part for part in key if part) for key in breasts), whose, np.array(truth, int),
        [np.array([rows[n] for n in places]) for places in breasts.values()], feature_names(pictures[0].result),
        np.array([pictures[places[0]].entry.held_out for places in breasts.values()]), list(breasts.values()),
    )  # fmt: skip


def learn_features(breasts: Breasts, classes, choices: SimpleNamespace, context):
    """The classifier of features, and (n, classes) probabilities and (n,) folds of breasts that it had not seen.

    Breasts that the data set holds out for the test get the final model's probabilities and fold 0.

    Parameters
    ----------
    choices : namespace
        ``classifier``, ``pooling``, ``folds``, ``inner_folds``, ``sensitivity``.

    Raises
    ------
    InputError
        If a class has fewer patients than folds.
    """
    used = np.flatnonzero(~breasts.held_out)
    bags, truth, patients = [breasts.bags[n] for n in used], breasts.truth[used], breasts.patients[used]
    if len(np.unique(truth)) < 2:
        raise InputError("The part of the data to learn from has one class only; two are needed.")
    how = (choices.classifier, choices.pooling)
    with context.part(0.0, 0.8) as part:
        judged, folds = cross_validated(
            bags, truth, patients, 2, *how, choices.folds, choices.inner_folds, context.seed, part
        )
    model = final_model(
        bags, truth, patients, classes, breasts.features, *how, choices.inner_folds, choices.sensitivity, judged,
        context.seed, context,
    )  # fmt: skip
    found, fold = np.zeros((len(breasts.bags), 2)), np.zeros(len(breasts.bags), int)
    found[used], fold[used] = model.diagnosis.calibrated(log_probabilities(judged)), folds
    if breasts.held_out.any():
        test = np.flatnonzero(breasts.held_out)
        found[test] = model.probabilities([breasts.bags[n] for n in test])
    return model, found, fold


def figures(breasts: Breasts, classes, found: np.ndarray, threshold: float, context) -> Table:
    """Figures with 95 % intervals over patients: of the cross-validation, and of the test part if there is one."""
    parts = [("cross-validation", ~breasts.held_out), ("test part", breasts.held_out)]
    rows: dict[str, list] = {}
    for name, inside in parts:
        truth = breasts.truth[inside]
        if len(np.unique(truth)) < 2:
            continue
        whose = np.unique(breasts.patients[inside], return_inverse=True)[1]
        grouped = whose if len(np.unique(whose)) < len(whose) else None
        given = Predictions(tuple(classes), truth, found[inside], {}, grouped)
        table = summarize(given, threshold, 0.95, _SAMPLES, 10, Listening(context))
        for key, values in {"judged on": (name,) * table.rows, **table.columns}.items():
            rows.setdefault(key, []).extend(values)
    texts = ("judged on", "figure", "interval")
    return Table({k: tuple(v) if k in texts else np.array(v, float) for k, v in rows.items()}, "Figures")
