"""Parts of a brain tumour, and what small regions of it are made of, told from their features."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
from MedImgAILib.core import InputError, ModelError, ParameterError, Segment, Segmentation, Table
from MedImgAILib.core.terminology import LESION_CATEGORY, Code, Terminology

TISSUES = ("Oedema", "Non-enhancing core", "Enhancing tumour")
"""Labels 1, 2, 3 of the network: what the tumour is made of."""
PARTS = {"Whole tumour": (1, 2, 3), "Tumour core": (2, 3), "Enhancing tumour": (3,)}
"""The nested parts that are reported, as in the BraTS challenge, by the labels they hold."""
_COLORS = {"Whole tumour": (0.44, 0.7, 0.85), "Tumour core": (0.95, 0.75, 0.3), "Enhancing tumour": (0.85, 0.3, 0.3)}
NEOPLASM = Terminology(LESION_CATEGORY, Code("SCT", "108369006", "Neoplasm"))
REGION_MM = 8.0
"""Side of the regions that are classified."""
MOST_REGIONS = 4000


def segments() -> tuple[Segment, ...]:
    """The network's segments."""
    return tuple(Segment(name, n, terminology=NEOPLASM) for n, name in enumerate(TISSUES, 1))


def tissue_labels(segmentation: Segmentation, whole: str, core: str, enhancing: str) -> Segmentation:
    """A reader's segmentation as one of :data:`TISSUES`.

    Parameters
    ----------
    segmentation : Segmentation
    whole, core, enhancing : str
        Label values or segment names that make up the three parts, separated by commas.

    Raises
    ------
    ParameterError
        If none of them is in the segmentation.
    """
    masks = {}
    for title, text in (("Whole tumour", whole), ("Tumour core", core), ("Enhancing tumour", enhancing)):
        wanted = [entry.strip() for entry in text.split(",") if entry.strip()]
        found = [s for s in segmentation.segments if s.name in wanted or str(s.label) in wanted]
        masks[title] = np.zeros(segmentation.geometry.shape, bool)
        for segment in found:
            masks[title] |= segmentation.mask(segment)
    if not masks["Whole tumour"].any():
        raise ParameterError(f"{segmentation.label} has no voxel labelled {whole}; set the labels of the whole tumour.")
    labels = masks["Whole tumour"].astype(np.uint8)
    labels[masks["Tumour core"]], labels[masks["Enhancing tumour"]] = 2, 3
    return Segmentation.from_labels(labels, segmentation.geometry, segments(), segmentation.name)


def nested(labels: np.ndarray, geometry, name: str) -> Segmentation:
    """Whole tumour, core and enhancing tumour, each in a layer of its own."""
    layers = tuple(np.isin(labels, values).astype(np.uint8) for values in PARTS.values())
    entries = tuple(
        Segment(part, 1, _COLORS[part], NEOPLASM, layer=n) for n, part in enumerate(PARTS)
    )  # fmt: skip
    return Segmentation(layers, geometry, entries, name)


def dice(found: np.ndarray, truth: np.ndarray) -> float:
    """Dice of two masks; NaN where both are empty."""
    total = int(found.sum()) + int(truth.sum())
    return 2 * int((found & truth).sum()) / total if total else float("nan")


@dataclass(frozen=True)
class Regions:
    """Small regions of a tumour.

    Parameters
    ----------
    features : (N, F) ndarray
        NaN where the modality is missing.
    numbers : (K, J, I) int32 ndarray
        Region of each voxel, from 1; 0 outside the tumour.
    """

    features: np.ndarray
    numbers: np.ndarray


def feature_names(modalities) -> list[str]:
    """Of the columns of :attr:`Regions.features`."""
    kinds = ("mean", "deviation", "percentile 10", "percentile 90")
    return [f"{m} {kind}" for m in modalities for kind in kinds] + ["depth mm"]


def regions_of(array: np.ndarray, tumour: np.ndarray, spacing_kji) -> Regions:
    """Blocks of :data:`REGION_MM` of the tumour with their features.

    Parameters
    ----------
    array : (M, K, J, I) ndarray
        Normalised images, NaN where missing.
    tumour : (K, J, I) bool ndarray
    spacing_kji : (3,) array in mm
    """
    from scipy.ndimage import distance_transform_edt

    numbers = np.zeros(tumour.shape, np.int32)
    places = np.argwhere(tumour)
    if not len(places):
        return Regions(np.zeros((0, 4 * len(array) + 1)), numbers)
    spacing = np.asarray(spacing_kji, float)
    side = max(REGION_MM, (len(places) * spacing.prod() / MOST_REGIONS) ** (1 / 3))
    blocks = (places - places.min(0)) * spacing // side
    _, member = np.unique(blocks, axis=0, return_inverse=True)
    member = member.ravel()
    numbers[tuple(places.T)] = member + 1
    order = np.argsort(member, kind="stable")
    starts = np.searchsorted(member[order], np.arange(member.max() + 2))
    depth = distance_transform_edt(tumour, spacing)[tuple(places.T)]
    rows = []
    for start, stop in zip(starts, starts[1:]):
        inside = places[order[start:stop]]
        row: list[float] = []
        for image in array:
            values = image[tuple(inside.T)]
            row += [values.mean(), values.std(), *np.percentile(values, [10, 90])]
        rows.append([*row, depth[order[start:stop]].mean()])
    return Regions(np.array(rows, float), numbers)


def majority(regions: Regions, labels: np.ndarray) -> np.ndarray:
    """(N,) the most frequent label, 1 … 3, of each region's voxels; 0 where none has one."""
    count = len(regions.features)
    votes = np.stack([
        np.bincount(regions.numbers[labels == label], minlength=count + 1)[1:] for label in (1, 2, 3)
    ])  # fmt: skip
    return np.where(votes.any(0), votes.argmax(0) + 1, 0)


class RegionClassifier:
    """Multinomial logistic regression of tissue on region features; a plain JSON file, nothing that can run.

    A missing modality counts as average.
    """

    def __init__(self, modalities, mean, scale, weights, bias, classes):
        self.modalities, self.classes = tuple(modalities), tuple(int(c) for c in classes)
        self.mean, self.scale, self.weights, self.bias = (np.asarray(a, float) for a in (mean, scale, weights, bias))
        width = len(feature_names(self.modalities))
        sound = self.mean.shape == self.scale.shape == (width,)
        if not (sound and self.weights.shape == (len(self.classes), width) and self.bias.shape == (len(self.classes),)):
            raise ModelError("The region classifier of the model is damaged: its arrays do not fit together.")

    @classmethod
    def train(cls, modalities, features: np.ndarray, tissues: np.ndarray, seed: int) -> RegionClassifier:
        """Fitted with classes weighted evenly.

        Raises
        ------
        InputError
            If there are fewer than two tissues.
        """
        from sklearn.linear_model import LogisticRegression

        if len(np.unique(tissues)) < 2:
            raise InputError("The tumours show one tissue only; region classification needs two or more.")
        mean, scale = np.nanmean(features, 0), np.nanstd(features, 0)
        scale = np.where(scale > 0, scale, 1.0)
        ready = np.nan_to_num((features - mean) / scale)
        model = LogisticRegression(C=0.5, class_weight="balanced", max_iter=2000, random_state=seed)
        model.fit(ready, tissues)
        weights, bias = model.coef_, model.intercept_
        if len(model.classes_) == 2:
            # Two classes have one row of weights; as two rows the softmax is the same.
            weights, bias = np.concatenate([-weights, weights]) / 2, np.concatenate([-bias, bias]) / 2
        return cls(modalities, mean, scale, weights, bias, model.classes_)

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """(N, 3) of the tissues, in the order of :data:`TISSUES`."""
        score = np.nan_to_num((features - self.mean) / self.scale) @ self.weights.T + self.bias
        score = np.exp(score - score.max(1, keepdims=True, initial=-np.inf))
        result = np.zeros((len(features), len(TISSUES)))
        result[:, [c - 1 for c in self.classes]] = score / score.sum(1, keepdims=True)
        return result

    def to_json(self) -> str:
        """As the text of a file."""
        arrays = {name: getattr(self, name).tolist() for name in ("mean", "scale", "weights", "bias")}
        return json.dumps({"modalities": self.modalities, "classes": self.classes} | arrays, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> RegionClassifier:
        """Read what :meth:`to_json` wrote.

        Raises
        ------
        ModelError
            If it is damaged.
        """
        try:
            content = json.loads(text)
            return cls(*(content[n] for n in ("modalities", "mean", "scale", "weights", "bias", "classes")))
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError("The region classifier of the model is damaged.") from error


def tissue_table(probabilities: np.ndarray) -> Table:
    """How many regions are called each tissue, and how sure that is on average."""
    calls = probabilities.argmax(1) if len(probabilities) else np.zeros(0, int)
    counts = np.array([(calls == n).sum() for n in range(len(TISSUES))])
    sure = [float(probabilities[calls == n].max(1).mean()) if counts[n] else float("nan") for n in range(len(TISSUES))]
    return Table({"tissue": TISSUES, "regions": counts, "mean probability": np.array(sure)}, "Tissue of regions")
