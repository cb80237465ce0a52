"""A classifier of feature tables: trained by scikit-learn, kept as names and numbers, applied by numpy alone."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from ..core import ModelError
from ..segment.pixel_model import PixelModel
from .attention import AttentionModel
from .calibration import log_probabilities
from .diagnosis import Diagnosis

FORMAT, VERSION = "medimgai-feature-classifier", 1


@dataclass(frozen=True, eq=False)
class FeatureModel:
    """What training gives.

    Parameters
    ----------
    features : tuple of str
        Columns that it takes.
    middles : (F,) ndarray
        Medians, in place of values that are missing.
    centers, scales : (F,) ndarray
        What is taken off and divided by, so that numbers of any size keep their digits in single precision.
    model : PixelModel or AttentionModel
    pooling : str
        How the rows of a case become one: "none", "mean", "max" or "attention".
    diagnosis : Diagnosis
        Classes, calibration and threshold, from cases that the model had not seen.
    """

    features: tuple[str, ...]
    middles: np.ndarray
    centers: np.ndarray
    scales: np.ndarray
    model: object
    pooling: str
    diagnosis: Diagnosis

    def probabilities(self, bags: list[np.ndarray]) -> np.ndarray:
        """(n, classes) calibrated probabilities of cases, each with (rows, F) values."""
        raw = uncalibrated(self.model, [self.prepared(bag) for bag in bags], self.pooling)
        return self.diagnosis.calibrated(log_probabilities(raw))

    def prepared(self, values: np.ndarray) -> np.ndarray:
        """Values without gaps, standardised."""
        return prepared(values, self.middles, self.centers, self.scales)

    def embeddings(self, bags: list[np.ndarray]) -> np.ndarray:
        """(n, F) standardised features of cases (mean or maximum over their rows), by which they are compared."""
        return pooled_rows([self.prepared(bag) for bag in bags], self.pooling)

    def to_text(self) -> str:
        """JSON."""
        return json.dumps(
            {
                "format": FORMAT, "version": VERSION, "features": list(self.features), "pooling": self.pooling,
                "middles": self.middles.tolist(), "centers": self.centers.tolist(), "scales": self.scales.tolist(),
                "model": self.model.to_json(), "diagnosis": json.loads(self.diagnosis.to_text(known=True)),
            }
        )  # fmt: skip

    @classmethod
    def from_text(cls, text: str) -> FeatureModel:
        """Check and read what :meth:`to_text` gave.

        Raises
        ------
        ModelError
            If it is none, or damaged.
        """
        try:
            given = json.loads(text)
            if given["format"] != FORMAT:
                raise KeyError("format")
        except (ValueError, RecursionError, KeyError, TypeError) as error:
            raise ModelError("The text is no trained classifier; choose one that 'Train on features' gave.") from error
        try:
            return _checked(given)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"The trained classifier is damaged ({error}); train it again.") from error


def prepared(values: np.ndarray, middles, centers, scales) -> np.ndarray:
    """(rows, F) float32 without gaps, standardised."""
    filled = np.where(np.isfinite(values), values, middles)
    return ((filled - centers) / scales).astype(np.float32)


def uncalibrated(model, bags: list[np.ndarray], pooling: str) -> np.ndarray:
    """(n, classes) probabilities that the model itself gives for prepared bags."""
    if pooling == "attention":
        return np.stack([model.probabilities(bag)[0] for bag in bags])
    return model.probabilities(pooled_rows(bags, pooling).T).T.astype(float)


def pooled_rows(bags: list[np.ndarray], pooling: str) -> np.ndarray:
    """(n, F): mean or maximum over the rows of each bag."""
    combine = np.max if pooling == "max" else np.mean
    return np.stack([combine(bag, axis=0) for bag in bags]).astype(np.float32)


def _checked(given: dict) -> FeatureModel:
    if given["version"] > VERSION:
        raise ValueError(f"it has format version {given['version']}; update MedImgAI")
    features = tuple(given["features"])
    numbers = [np.array(given[name], float) for name in ("middles", "centers", "scales")]
    if not features or not all(isinstance(f, str) for f in features) or len(set(features)) < len(features):
        raise ValueError("its features have no names")
    if any(n.shape != (len(features),) or not np.isfinite(n).all() for n in numbers) or not (numbers[2] > 0).all():
        raise ValueError("its numbers do not fit its features")
    if given["pooling"] not in ("none", "mean", "max", "attention"):
        raise ValueError("its pooling is unknown")
    diagnosis = Diagnosis.from_text(json.dumps(given["diagnosis"]))
    model = (AttentionModel if given["pooling"] == "attention" else PixelModel).from_json(given["model"])
    if model.features != len(features) or model.classes != len(diagnosis.classes):
        raise ValueError("its model does not fit its features and classes")
    return FeatureModel(features, *numbers, model, given["pooling"], diagnosis)
