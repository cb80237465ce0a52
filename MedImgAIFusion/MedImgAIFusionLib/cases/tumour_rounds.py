"""Training that leaves one patient out after the other, round by round, so that one that was ended goes on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from MedImgAILib.core import Volume
from MedImgAILib.training.checkpoints import write_atomically

from ..model.cases import Case
from ..model.training import Settings, infer, train
from .tumour_regions import PARTS, TISSUES, RegionClassifier, dice, majority, regions_of
from .tumour_report import slice_html

VERSION = 3
"""Raised when what a round does changes, so that rounds kept before are not used."""


@dataclass(frozen=True)
class Round:
    """One patient, judged by what was learnt from the others.

    Parameters
    ----------
    row : dict
        The patient's figures.
    pictures : list of (caption, html)
        Of the largest section, by hand and by the network.
    """

    row: dict
    pictures: list


class Rounds:
    """The rounds that are done, each a small file in a folder.

    Parameters
    ----------
    folder : Path or None
        None keeps nothing.
    identity : str
        Of data and settings, see :func:`identity_of`; a round of another identity is done anew.
    """

    def __init__(self, folder: Path | None, identity: str):
        self.folder, self.identity = folder, identity

    def read(self, number: int) -> Round | None:
        """The round of this patient, or None where it is yet to be done."""
        path = self._path(number)
        if path is None or not path.is_file():
            return None
        try:
            content = json.loads(path.read_text("utf-8"))
            if content["identity"] != self.identity:
                return None
            return Round(dict(content["row"]), [tuple(entry) for entry in content["pictures"]])
        except (ValueError, KeyError, TypeError):
            # A damaged file costs a round, not the training.
            return None

    def keep(self, number: int, done: Round):
        """Write a round down; OutputError where that cannot be."""
        path = self._path(number)
        if path is not None:
            content = {"identity": self.identity, "row": done.row, "pictures": done.pictures}
            write_atomically(path, json.dumps(content).encode("utf-8"))

    def remove(self):
        """Delete what :meth:`keep` wrote, and the folder if nothing else is in it."""
        if self.folder is None or not self.folder.is_dir():
            return
        for path in self.folder.glob("round_*.json"):
            path.unlink()
        if not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _path(self, number: int) -> Path | None:
        return None if self.folder is None else self.folder / f"round_{number + 1}.json"


def identity_of(cases: list[Case], names, settings: Settings, seed: int) -> str:
    """SHA-256 of all that decides the result of a round."""
    digest = hashlib.sha256(repr((VERSION, list(names), settings, seed)).encode())
    for case in cases:
        digest.update(case.name.encode())
        digest.update(np.ascontiguousarray(case.array).tobytes())
        digest.update(np.ascontiguousarray(case.labels).tobytes())
    return digest.hexdigest()


def learn(cases: list[Case], names, settings: Settings, context, curve: str):
    """The network and the region classifier of some patients."""
    features, tissues = [], []
    for case in cases:
        regions = regions_of(case.array, case.labels > 0, case.geometry.spacing_kji)
        features.append(regions.features)
        tissues.append(majority(regions, case.labels))
    classifier = RegionClassifier.train(names, np.concatenate(features), np.concatenate(tissues), context.seed)
    with context.part(0.0, 0.85) as part:
        network = train(cases, len(TISSUES) + 1, settings, part, curve)
    return network, classifier


def judge(network, classifier: RegionClassifier, case: Case, names, context) -> Round:
    """Dice of the parts and of the whole by each modality alone, accuracy of the regions' tissue, and pictures.

    The regions are those of the true tumour.
    """
    with context.part(0.0, 0.7) as part:
        found = infer(network, case.array, part).argmax(0).astype(np.uint8)
    row: dict = {"case": case.name}
    for part_name, values in PARTS.items():
        row[f"Dice {part_name.lower()}"] = dice(np.isin(found, values), np.isin(case.labels, values))
    for number, name in enumerate(names if len(names) > 1 else ()):
        with context.part(0.7 + 0.3 * number / len(names), 0.7 + 0.3 * (number + 1) / len(names)) as part:
            row[alone_figure(name)] = _alone(network, case, number, part)
    regions = regions_of(case.array, case.labels > 0, case.geometry.spacing_kji)
    truth = majority(regions, case.labels)
    right = classifier.probabilities(regions.features).argmax(1) + 1 == truth
    row["regions"] = len(truth)
    row["region accuracy"] = float(right.mean()) if len(truth) else float("nan")
    shares = [right[truth == t].mean() for t in np.unique(truth)]
    row["region balanced accuracy"] = float(np.mean(shares)) if shares else float("nan")
    return Round(row, pictures_of(case, names, found))


def alone_figure(name: str) -> str:
    """What the Dice of the whole tumour is called where this modality is the only one shown."""
    return f"Dice whole tumour {name} alone"


def _alone(network, case: Case, number: int, context) -> float:
    """Dice of the whole tumour by one modality; NaN where that is missing."""
    array = np.full_like(case.array, np.nan)
    array[number] = case.array[number]
    if np.isnan(array[number]).any():
        return float("nan")
    return dice(infer(network, array, context).argmax(0) > 0, case.labels > 0)


def pictures_of(case: Case, names, found: np.ndarray) -> list:
    """``(caption, html)`` of the section with most tumour, in each modality, outlined by hand and by the network."""
    place = int((case.labels > 0).sum((1, 2)).argmax())
    pictures = []
    for name, array in zip(names, case.array):
        if not np.isnan(array[0, 0, 0]):
            volume = Volume(array, case.geometry, name)
            for how, labels in (("by hand", case.labels), ("by the network", found)):
                pictures.append((f"{case.name}, {name}, {how}", slice_html(volume, labels, place)))
    return pictures
