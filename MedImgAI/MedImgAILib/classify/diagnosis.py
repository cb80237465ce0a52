"""What turns a network's output into a diagnosis: calibration, operating point, calibration cases, known cases.

In a model package it is ``diagnosis.safetensors``: arrays and a few texts, no code.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..core import ModelError, ParameterError
from ..core.model_package import DIAGNOSIS
from . import calibration, conformal

VERSION = 1
CALIBRATIONS = ("none", "temperature", "isotonic")


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """Everything is optional.

    Parameters
    ----------
    classes : tuple of str
        The last of two is the positive one.
    calibration : str
        One of :data:`CALIBRATIONS`.
    temperature : float
    curves : tuple of (places, values)
        Of isotonic calibration: one for each class, or one for the last of two.
    threshold : float
        For two classes, after calibration: called positive where at least this.
    sensitivity : float
        That the threshold had on the calibration cases; NaN where none was asked for.
    prior : (classes,) or None
        Shares of the classes that the probabilities assume.
    scores, truth : (n,)
        Non-conformity and class of the calibration cases, see :mod:`.conformal`.
    embeddings : (N, D)
        Of known cases, each of length 1.
    known : (N,) int
        Their classes.
    names : tuple of str
        Their names; may be empty.
    """

    classes: tuple[str, ...]
    calibration: str = "none"
    temperature: float = 1.0
    curves: tuple = ()
    threshold: float = 0.5
    sensitivity: float = float("nan")
    prior: np.ndarray | None = None
    scores: np.ndarray = field(default_factory=lambda: np.zeros(0))
    truth: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    embeddings: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    known: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    names: tuple[str, ...] = ()

    def calibrated(self, scores) -> np.ndarray:
        """(n, classes) probabilities from (n, classes) logits or logarithms of probabilities."""
        probabilities = calibration.softmax(np.asarray(scores, float) / self.temperature)
        if self.calibration == "isotonic":
            probabilities = calibration.apply_isotonic(probabilities, self.curves)
        return probabilities

    def at_prevalence(self, share: float, *probabilities) -> tuple:
        """For patients of whom this share has the last of two classes: the diagnosis, and each (n, 2) probabilities.

        The operating point and the calibration cases move with the probabilities, so that sensitivity and coverage
        stay what they are; 0.5 without a wanted sensitivity stays, as it calls what is likelier.

        Raises
        ------
        ParameterError
            If it is not known which shares the probabilities assume.
        """
        if self.prior is None:
            raise ParameterError(
                "Prevalence: the model does not say which one its probabilities assume; give it a calibration by "
                "'Calibrate a classifier', or leave this 0."
            )
        wanted = np.array([1 - share, share])

        def moved(p):
            return calibration.with_prior(p, self.prior, wanted)

        own = np.where(self.truth == 1, 1 - self.scores, self.scores)
        scores = conformal.nonconformity(moved(np.stack([1 - own, own], axis=1)), self.truth)
        threshold = self.threshold
        if threshold != 0.5 or np.isfinite(self.sensitivity):
            threshold = float(moved(np.array([[1 - threshold, threshold]]))[0, 1])
        return replace(self, prior=wanted, scores=scores, threshold=threshold), *map(moved, probabilities)

    def called(self, probabilities) -> np.ndarray:
        """(n,) int: the class that each case is called."""
        if len(self.classes) == 2:
            # Pooling changes last digits, and the steps of isotonic curves lie exactly on the threshold.
            return (probabilities[:, 1] >= self.threshold - 1e-12).astype(int)
        return np.argmax(probabilities, axis=1)

    def sets(self, probabilities, coverage: float, by_class: bool = True) -> np.ndarray | None:
        """(n, classes) bool, see :func:`.conformal.sets`; None without calibration cases."""
        if not len(self.scores):
            return None
        largest = conformal.limits(self.scores, self.truth, len(self.classes), coverage, by_class)
        return conformal.sets(probabilities, largest)

    def columns(self, probabilities, coverage: float) -> dict:
        """Columns of a table of cases: probability of each class, the class called, and the possible ones."""
        columns: dict = {f"probability {c}": probabilities[:, n] for n, c in enumerate(self.classes)}
        columns["called"] = tuple(self.classes[n] for n in self.called(probabilities))
        possible = self.sets(probabilities, coverage)
        if possible is not None:
            columns["possible"] = tuple(
                " or ".join(c for c, held in zip(self.classes, row) if held) or "none" for row in possible
            )
        return columns

    def nearest(self, embedding, count: int) -> list[tuple[int, float]]:
        """The known cases most like one, as (number, cosine likeness), the likest first."""
        if not len(self.embeddings) or self.embeddings.shape[1] != len(embedding):
            return []
        length = np.linalg.norm(embedding)
        likeness = self.embeddings.astype(np.float32) @ (np.asarray(embedding, np.float32) / max(length, 1e-12))
        order = np.argsort(-likeness, kind="stable")[:count]
        return [(int(n), float(likeness[n])) for n in order]

    @classmethod
    def fitted(cls, scores, truth, classes, kind: str = "temperature", sensitivity: float | None = None) -> Diagnosis:
        """From the outputs for cases that the model has not learnt from.

        Parameters
        ----------
        scores : (n, classes)
            Logits or logarithms of probabilities.
        truth : (n,) int
        classes : tuple of str
        kind : str
            One of :data:`CALIBRATIONS`.
        sensitivity : float, optional
            For two classes: the threshold is the highest one that reaches it; without, it is 0.5.
        """
        scores, truth = np.asarray(scores, float), np.asarray(truth, int)
        result = cls(tuple(classes), kind)
        if kind == "temperature":
            result = replace(result, temperature=calibration.fit_temperature(scores, truth))
        elif kind == "isotonic":
            raw = calibration.softmax(scores)
            shown = [1] if len(classes) == 2 else range(len(classes))
            result = replace(result, curves=tuple(calibration.fit_isotonic(raw[:, c], truth == c) for c in shown))
        probabilities = result.calibrated(scores)
        if sensitivity is not None and len(classes) == 2 and (truth == 1).any():
            threshold = calibration.threshold_for_sensitivity(truth == 1, probabilities[:, 1], sensitivity)
            result = replace(result, threshold=threshold, sensitivity=float(sensitivity))
        prior = np.bincount(truth, minlength=len(classes)) / len(truth)
        return replace(
            result, prior=prior if (prior > 0).all() else None, truth=truth,
            scores=conformal.nonconformity(probabilities, truth),
        )  # fmt: skip

    # Files and texts

    def arrays(self) -> tuple[dict[str, np.ndarray], dict[str, str]]:
        """What is stored: arrays, and texts."""
        arrays = {
            "numbers": np.array([self.temperature, self.threshold, self.sensitivity]),
            "scores": np.asarray(self.scores, np.float64), "truth": np.asarray(self.truth, np.int16),
            "embeddings": np.asarray(self.embeddings, np.float16), "known": np.asarray(self.known, np.int16),
        }  # fmt: skip
        if self.prior is not None:
            arrays["prior"] = np.asarray(self.prior, np.float64)
        for number, (places, values) in enumerate(self.curves):
            arrays[f"curve {number}"] = np.stack([places, values])
        texts = {"classes": list(self.classes), "names": list(self.names), "calibration": self.calibration}
        return arrays, {"diagnosis": json.dumps({"version": VERSION, **texts}, ensure_ascii=False)}

    @classmethod
    def from_arrays(cls, arrays: dict, texts: dict) -> Diagnosis:
        """Check and read what :meth:`arrays` gave.

        Raises
        ------
        ModelError
            If anything about it is wrong.
        """
        try:
            return _checked(arrays, json.loads(texts["diagnosis"]))
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise ModelError(f"The calibration is damaged ({error}); make it again.") from error

    def to_bytes(self) -> bytes:
        """As a safetensors file."""
        from safetensors.numpy import save

        arrays, texts = self.arrays()
        return save({name: np.ascontiguousarray(a) for name, a in arrays.items()}, texts)

    def to_text(self, known: bool = False) -> str:
        """As JSON, with or without the known cases."""
        shown = self if known else replace(self, embeddings=np.zeros((0, 0)), known=np.zeros(0), names=())
        arrays, texts = shown.arrays()
        plain: dict = {k: [_plain(v) for v in a.tolist()] for k, a in arrays.items() if a.size}
        if "embeddings" in plain:
            content = base64.b64encode(arrays["embeddings"].astype("<f2").tobytes()).decode()
            plain["embeddings"] = {"shape": list(arrays["embeddings"].shape), "float16": content}
        return json.dumps({"arrays": plain, **texts}, ensure_ascii=False)

    @classmethod
    def from_text(cls, text: str) -> Diagnosis:
        """Read what :meth:`to_text` gave.

        Raises
        ------
        ModelError
            If it is no calibration.
        """
        try:
            given = json.loads(text)
            arrays = {k: _half(v) if isinstance(v, dict) else np.array(v, float) for k, v in given["arrays"].items()}
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
            raise ModelError("The text is no calibration; choose one that 'Calibrate a classifier' gave.") from error
        return cls.from_arrays(arrays, given)


def _half(given: dict) -> np.ndarray:
    return np.frombuffer(base64.b64decode(given["float16"], validate=True), "<f2").reshape(given["shape"])


def _plain(value):
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return None if value != value else value


def load_diagnosis(folder: Path | str) -> Diagnosis | None:
    """The diagnosis of a model package, or None if it has none.

    Raises
    ------
    ModelError
        If it is damaged.
    """
    path = Path(folder) / DIAGNOSIS
    if not path.exists():
        return None
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            texts = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
    except (SafetensorError, OSError) as error:
        raise ModelError(f"The calibration {path} is damaged ({error}); get the package again.") from error
    return Diagnosis.from_arrays(arrays, texts)


def _checked(arrays: dict, texts: dict) -> Diagnosis:
    if texts["version"] > VERSION:
        raise ValueError(f"it has format version {texts['version']}; update MedImgAI")
    classes = tuple(texts["classes"])
    if len(classes) < 2 or not all(isinstance(c, str) and c for c in classes):
        raise ValueError("its classes are no names")
    if texts["calibration"] not in CALIBRATIONS:
        raise ValueError("its kind is unknown")
    temperature, threshold, sensitivity = (float(v) for v in arrays["numbers"])
    if not 0 < temperature < 1e3 or not np.isfinite(threshold):
        raise ValueError("its numbers make no sense")
    scores, truth = (np.asarray(arrays.get(n, [])) for n in ("scores", "truth"))
    known = np.asarray(arrays.get("known", []))
    embeddings = np.asarray(arrays.get("embeddings", np.zeros((0, 0))))
    for numbers, one in ((truth, scores), (known, embeddings)):
        if len(numbers) != len(one) or (len(numbers) and not 0 <= numbers.min() <= numbers.max() < len(classes)):
            raise ValueError("its cases do not fit their classes")
    curves = tuple(np.asarray(arrays[f"curve {n}"], float) for n in range(len(classes)) if f"curve {n}" in arrays)
    if texts["calibration"] == "isotonic" and len(curves) != (1 if len(classes) == 2 else len(classes)):
        raise ValueError("its curves are missing")
    prior = np.asarray(arrays["prior"], float) if "prior" in arrays else None
    if prior is not None and (prior.shape != (len(classes),) or not (prior > 0).all()):
        raise ValueError("its prevalence makes no sense")
    names = tuple(str(n) for n in texts["names"])
    if embeddings.ndim != 2 or len(names) not in (0, len(known)):
        raise ValueError("its known cases do not fit their names")
    return Diagnosis(
        classes, texts["calibration"], temperature, tuple((c[0], c[1]) for c in curves), threshold, sensitivity, prior,
        scores.astype(float), truth.astype(int), embeddings, known.astype(int), names,
    )  # fmt: skip
