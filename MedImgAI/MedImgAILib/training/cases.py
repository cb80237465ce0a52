"""A case to learn from: its images, what is known of it, and whose it is."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..core import InputError, Segment, Segmentation, Volume

SPLITS = ("train", "validation", "test")
_SPLIT_NAMES = {
    "train": "train", "training": "train", "tr": "train", "imagestr": "train",
    "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation",
    "test": "test", "testing": "test", "ts": "test", "": "",
}  # fmt: skip


def split_name(text: str) -> str:
    """One of :data:`SPLITS`, or "" where nothing is said.

    Raises
    ------
    InputError
        If the word is none that means a part of a data set.
    """
    try:
        return _SPLIT_NAMES[text.strip().lower()]
    except KeyError as error:
        raise InputError(f"'{text[:40]}' is no part of a data set; write train, validation or test.") from error


@dataclass(frozen=True, eq=False)
class Case:
    """One case.

    Parameters
    ----------
    id : str
        Unique in the data set; what messages call it.
    images : tuple of Path or Volume
        One for each channel (modality), a file or a folder with a DICOM series, or the image itself.
    target : Path, Segmentation, str or None
        Its segments (a file or the data), or the name of its class; None where it is not labelled.
    patient : str
        Cases of one patient never stand on both sides of a split.
    split : str
        One of :data:`SPLITS` if the data set says so, else "".
    """

    id: str
    images: tuple
    target: Path | Segmentation | str | None = None
    patient: str = ""
    split: str = ""
    _hashes: dict = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self):
        object.__setattr__(self, "images", tuple(self.images))
        object.__setattr__(self, "patient", self.patient or self.id)

    def content_hash(self, place: bool = True) -> str:
        """SHA-256 over the images' and the target's content; the names of the files do not count.

        Parameters
        ----------
        place : bool
            Whether images of the scene that differ only in where they lie in the patient are different.

        Raises
        ------
        InputError
            If a file cannot be read.
        """
        if place not in self._hashes:
            digest = hashlib.sha256()
            for part in (*self.images, self.target):
                digest.update(_content(part, place))
            self._hashes[place] = digest.hexdigest()
        return self._hashes[place]


@dataclass(frozen=True, eq=False)
class Collection:
    """A data set.

    Parameters
    ----------
    kind : "segmentation" or "classification"
    cases : tuple of Case
    classes : tuple of str
        Names of the classes; for segmentation of the segments. Empty if not known yet.
    origin : str
        Where it came from, for messages and the model card.
    segments : tuple of Segment
        With colour, terminology and the label in the label images, where known.
    """

    kind: str
    cases: tuple[Case, ...]
    classes: tuple[str, ...] = ()
    origin: str = ""
    segments: tuple[Segment, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "cases", tuple(self.cases))
        ids = [case.id for case in self.cases]
        if len(set(ids)) < len(ids):
            twice = next(i for i in ids if ids.count(i) > 1)
            raise InputError(f"Two cases of {self.origin or 'the data'} are called '{twice}'; give them other names.")

    def __len__(self):
        return len(self.cases)

    @property
    def labelled(self) -> tuple[Case, ...]:
        return tuple(case for case in self.cases if case.target is not None)

    def class_numbers(self, cases=None) -> np.ndarray:
        """(N,) int: position in :attr:`classes` of each case's class, −1 where it has none."""
        place = {name: n for n, name in enumerate(self.classes)}
        cases = self.cases if cases is None else cases
        return np.array([place.get(c.target, -1) if isinstance(c.target, str) else -1 for c in cases], dtype=np.int64)

    def with_cases(self, cases) -> Collection:
        return replace(self, cases=tuple(cases))


def known_classes(cases) -> tuple[str, ...]:
    """The classes' names in order: numbers by value, names by alphabet."""
    names = {case.target for case in cases if isinstance(case.target, str)}
    return tuple(sorted(names, key=lambda n: (0, int(n), "") if n.lstrip("-").isdigit() else (1, 0, n)))


def _content(part, place: bool) -> bytes:
    """What distinguishes one part of a case from another, 32 bytes."""
    digest = hashlib.sha256()
    if isinstance(part, Path):
        files = sorted(p for p in part.rglob("*") if p.is_file()) if part.is_dir() else [part]
        for path in files:
            try:
                with open(path, "rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
            except OSError as error:
                raise InputError(f"The file {path} cannot be read ({error.strerror or error}).") from error
    elif isinstance(part, Volume):
        ordered = part.canonical()
        digest.update(_array(ordered.array) + _place(part.geometry if place else None, ordered.geometry))
    elif isinstance(part, Segmentation):
        ordered = part.canonical()
        for layer in ordered.layers:
            digest.update(_array(layer))
        digest.update(_place(part.geometry if place else None, ordered.geometry))
        digest.update(json.dumps([(s.name, s.label, s.layer) for s in part.segments]).encode())
    else:
        digest.update(repr(part).encode())
    return digest.digest()


def _array(array: np.ndarray) -> bytes:
    array = np.ascontiguousarray(array)
    return hashlib.sha256(f"{array.dtype} {array.shape}".encode() + array.tobytes()).digest()


def _place(stored, ordered) -> bytes:
    """How the voxels lie: their order and place, or their size alone."""
    return np.round(stored.ijk_to_ras if stored is not None else ordered.spacing, 4).tobytes()
