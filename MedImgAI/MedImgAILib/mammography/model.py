"""A trained classifier of breasts as a model package, and its answer for an exam."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..classify.calibration import log_probabilities
from ..classify.classifier import class_names
from ..classify.diagnosis import Diagnosis
from ..classify.feature_model import FeatureModel
from ..core import ModelError, Table
from ..core.model_card import ModelCard
from ..core.model_files import FEATURES, FILES
from ..core.model_package import ModelPackage
from ..networks.installed import find_package
from .features import feature_names, feature_rows
from .view import ViewResult

MOST_REASONS = 5
FARTHEST = 4.0
"""Deviations from the training's mean beyond which a measure is unlike all that the model has seen."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What a model says of an exam.

    Parameters
    ----------
    card : ModelCard
    diagnosis : Diagnosis
        Of the breasts' probabilities: classes, threshold, calibration cases.
    views : {view: float}
        Probability of the last class, from this view alone.
    breasts : {side: float}
    possible : {side: (classes,) bool ndarray}
        Conformal sets; empty where the model has no calibration cases.
    reasons : Table or None
        Contribution of each feature to the breasts' probabilities.
    saliency : {view: (rows, columns) ndarray}
        0…1 on the pictures; empty where the model is no network.
    unlike : {side: list of str}
        Measures of a breast that are unlike all that the model has seen.
    """

    card: ModelCard
    diagnosis: Diagnosis
    views: dict[str, float]
    breasts: dict[str, float]
    possible: dict[str, np.ndarray]
    reasons: Table | None
    saliency: dict[str, np.ndarray]
    unlike: dict[str, list[str]] = field(default_factory=dict)

    def called(self, side: str) -> str:
        """The class of a breast at the model's operating point."""
        return self.diagnosis.classes[int(self.breasts[side] >= self.diagnosis.threshold)]

    def set_text(self, side: str) -> str:
        """The possible classes in words."""
        if self.unlike.get(side):
            return "does not know (unlike its cases)"
        if side not in self.possible:
            return "not known"
        held = [name for name, is_held in zip(self.diagnosis.classes, self.possible[side]) if is_held]
        return held[0] if len(held) == 1 else f"does not know ({' or '.join(held) or 'like none of its cases'})"


def breast_package(text: str) -> ModelPackage:
    """The package in a folder or of an installed name, checked to tell two classes apart.

    Raises
    ------
    ModelError
        If it is another kind of model.
    """
    package = find_package(text.strip())
    card = package.card
    fits = card.task == "classification" and card.outputs and card.outputs[0].kind == "classes"
    if not fits or len(class_names(card)) != 2:
        raise ModelError(
            f"The model '{card.title}' does not tell two classes of breasts apart; choose one that 'Train "
            "breast-cancer screening' made."
        )
    if card.architecture != FEATURES and len(card.inputs) != 1:
        raise ModelError(f"The model '{card.title}' takes {len(card.inputs)} images at once; one view is needed.")
    return package


def load_features(package: ModelPackage) -> FeatureModel:
    """The classifier of features in a package.

    Raises
    ------
    ModelError
        If it is damaged.
    """
    text = (package.folder / FILES[FEATURES]).read_text(encoding="utf-8")
    model = FeatureModel.from_text(text)
    if model.diagnosis.classes != class_names(package.card):
        raise ModelError(f"The classifier of '{package.card.title}' is for other classes than its card names.")
    return model


def store_features(folder: Path, card: ModelCard, model: FeatureModel) -> ModelPackage:
    """Write a package of a classifier of features.

    Raises
    ------
    OutputError
        If the folder exists already or cannot be written.
    """
    import tempfile

    with tempfile.TemporaryDirectory(prefix="medimgai-") as temporary:
        path = Path(temporary) / FILES[FEATURES]
        path.write_text(model.to_text(), encoding="utf-8")
        return ModelPackage.create(folder, card, path)


def answer(package: ModelPackage, results: dict[str, ViewResult], coverage: float, context) -> Answer:
    """What the model says of the views of an exam.

    Parameters
    ----------
    package : ModelPackage
        From :func:`breast_package`.
    results : {view: ViewResult}
    coverage : float
        How often the set of possible classes shall hold the true one.

    Raises
    ------
    ModelError
        If the model wants features that are not measured.
    """
    context.used_model(f"{package.card.id} {package.card.version}", package.card.weights_sha256)
    if package.card.architecture != FEATURES:
        from .network import network_answer

        return network_answer(package, results, coverage, context)
    model = load_features(package)
    names, rows = columns_of(model, list(results.values()), package.card.title)
    place = {view: n for n, view in enumerate(results)}
    members = members_of(results)
    reach = FARTHEST * model.scales
    # What lies beyond the training is not extrapolated: it counts as the farthest that could be, and is told.
    given, rows = rows, np.clip(rows, model.centers - reach, model.centers + reach)
    bags = {side: rows[[place[v] for v in views]] for side, views in members.items()}
    unlike = {}
    for side, own in members.items():
        middle = np.mean(given[[place[v] for v in own]], axis=0)
        far = np.abs(middle - model.centers) > np.maximum(reach, 1e-6)
        unlike[side] = [name for name, is_far in zip(names, far) if is_far]
    views = {view: float(model.probabilities([rows[n : n + 1]])[0, 1]) for view, n in place.items()}
    breasts = {side: float(model.probabilities([bag])[0, 1]) for side, bag in bags.items()}
    possible = possible_sets(model.diagnosis, breasts, coverage)
    return Answer(package.card, model.diagnosis, views, breasts, possible, _reasons(model, bags, names), {}, unlike)


def members_of(results: dict[str, ViewResult]) -> dict[str, list[str]]:
    """The views of each side."""
    sides = {side: [v for v in results if v.startswith(side)] for side in ("left", "right")}
    return {side: views for side, views in sides.items() if views}


def possible_sets(diagnosis: Diagnosis, breasts: dict[str, float], coverage: float) -> dict[str, np.ndarray]:
    """Conformal sets of the breasts' classes."""
    probabilities = np.array([[1 - p, p] for p in breasts.values()])
    sets = diagnosis.sets(probabilities, coverage)
    return {} if sets is None else dict(zip(breasts, sets))


def columns_of(model: FeatureModel, results: list[ViewResult], title: str) -> tuple[list[str], np.ndarray]:
    """The features that a model takes, in its order.

    Raises
    ------
    ModelError
        If one of them is not measured here.
    """
    known = feature_names(results[0])
    if unknown := [name for name in model.features if name not in known]:
        raise ModelError(f"The model '{title}' wants the feature '{unknown[0][:60]}', which is not measured here.")
    rows = feature_rows(results)
    return list(model.features), rows[:, [known.index(name) for name in model.features]]


def _reasons(model: FeatureModel, bags: dict[str, np.ndarray], names: list[str]) -> Table:
    """What each feature adds to the logarithm of a breast's odds, compared with the median breast; the strongest."""
    columns: dict[str, list] = {"breast": [], "feature": [], "value": [], "median": [], "contribution": []}
    for side, bag in bags.items():
        own = _log_odds(model.probabilities([bag]))[0]
        changed = [np.where(np.arange(len(names)) == n, model.middles, bag) for n in range(len(names))]
        effect = own - _log_odds(model.probabilities(changed))
        for n in np.argsort(-np.abs(effect), kind="stable")[:MOST_REASONS]:
            finite = bag[np.isfinite(bag[:, n]), n]
            value = float(finite.mean()) if finite.size else float("nan")
            row = (side.capitalize(), names[n], value, float(model.middles[n]), float(effect[n]))
            for key, cell in zip(columns, row):
                columns[key].append(cell)
    texts = ("breast", "feature")
    return Table({k: tuple(v) if k in texts else np.array(v, float) for k, v in columns.items()}, "Contributions")


def _log_odds(probabilities: np.ndarray) -> np.ndarray:
    logarithms = log_probabilities(probabilities)
    return logarithms[:, 1] - logarithms[:, 0]
