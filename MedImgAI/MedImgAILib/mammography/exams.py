"""Labelled exams from a folder or a table: which picture shows which breast of which patient."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path

from ..core import InputError, Volume
from ..core.errors import listed
from ..training.cases import Case
from ..training.reading import read_image
from ..training.sources import read_collection
from ..training.splits import given_parts
from .sorting import PROJECTIONS, SIDES, header_facts, of_name

_SIDE = ("side", "laterality", "breast", "image_laterality")
_VIEW = ("view", "projection", "view_position", "viewposition")
_EXAM = ("exam", "study", "exam_id", "study_id", "accession", "date")
POSITIVE_WORDS = ("cancer", "malignant", "positive", "abnormal", "suspicious", "diseased", "tumour", "tumor", "mass",
                  "sick", "yes", "true", "1")  # fmt: skip


@dataclass(frozen=True)
class Labelled:
    """One picture of a data set; ``side`` and ``projection`` are "" until the picture itself is asked."""

    case: Case
    path: Path
    label: str
    exam: str
    side: str
    projection: str
    held_out: bool

    @property
    def patient(self) -> str:
        return self.case.patient

    @property
    def breast(self) -> tuple[str, str, str]:
        """Patient, exam and side: pictures that agree in them are views of the same breast."""
        return self.patient, self.exam, self.side

    def read(self) -> Volume:
        """The picture, with what the header of a DICOM file says of it.

        Raises
        ------
        InputError
            If it cannot be read.
        """
        volume = read_image(self.path)
        header = _header(self.path)
        return replace(volume, name=self.path.name, provenance={"dicom": {"mammography": header}} if header else {})


def read_exams(path: str, patient_pattern: str = "", label_column: str = "", skip: bool = False):
    """``(pictures, notes)``: the labelled pictures of a data set, and sentences on what was left out or is not known.

    Parameters
    ----------
    path : str
        A table (.csv, .tsv) with a row for each picture: image (or image1, image2, … of one breast), label and, as far
        as known, patient, exam, side, view, split; or a folder with one folder for each class.
    patient_pattern, label_column : str
        See :func:`..training.sources.read_collection`.
    skip : bool
        Whether pictures of other views than CC and MLO are left out; else they are refused.

    Returns
    -------
    list of Labelled, list of str

    Raises
    ------
    InputError
        If nothing is found, a row is wrong, or a patient stands in two parts of the data.
    """
    collection = read_collection(path, "classification", label_column, patient_pattern)
    given_parts(collection.cases)  # refuses a patient on both sides
    rows = _rows(Path(path)) if Path(path).is_file() else [{} for _ in collection.cases]
    if len(rows) != len(collection.cases):
        raise InputError(f"{path} is no table of exams; give a .csv with a row for each picture.")
    notes = []
    if unlabelled := [case.id for case in collection.cases if case.target is None]:
        notes.append(f"{len(unlabelled)} pictures without a label were left out ({listed(unlabelled, 3)}).")
    found, others = [], []
    for case, row in zip(collection.cases, rows):
        if case.target is None:
            continue
        for image in case.images:
            header = _header(image)
            told = {"side": header.get("laterality", ""), "view": header.get("view", "")}
            try:
                said = [_word(row, names, words, case) for names, words in ((_SIDE, SIDES), (_VIEW, PROJECTIONS))]
                known = [_word(told, (key,), words, case) for key, words in (("side", SIDES), ("view", PROJECTIONS))]
            except InputError as error:
                if not skip:
                    raise
                others.append(str(error))
                continue
            side, projection = (a or b or c for a, b, c in zip(said, known, of_name(image.name)))
            exam = next((row[name] for name in _EXAM if row.get(name)), "")
            found.append(Labelled(case, image, str(case.target), exam, side, projection, case.split == "test"))
    if others:
        notes.append(f"{len(others)} pictures were left out, the first: {others[0]}")
    if not found:
        raise InputError(f"There is no picture with a label in {path} that can be used.")
    if all(entry.patient == entry.case.id for entry in found):
        notes.append(
            "No patient is named, so every picture counts as a patient of its own: views of one breast are not joined, "
            "and figures flatter if a patient has several pictures. Add a column 'patient' or a pattern."
        )
    return found, notes


def positive_classes(labels, wanted: str) -> tuple[str, ...]:
    """Which labels count as diseased.

    Parameters
    ----------
    labels : iterable of str
    wanted : str
        Names with commas; empty finds it in common words.

    Raises
    ------
    InputError
        If that leaves nothing or everything positive.
    """
    known = sorted(set(labels))
    if len(known) < 2:
        raise InputError(f"All pictures have the label {listed(known)}; two classes are needed to learn from.")
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    if unknown := [name for name in names if name not in known]:
        raise InputError(f"Positive: {listed(unknown)} is no label of the data (it has: {listed(known)}).")
    found = names or [name for name in known if name.lower() in POSITIVE_WORDS]
    if not found or len(found) == len(known):
        raise InputError(f"Positive: say which of the labels {listed(known)} count as diseased.")
    return tuple(found)


def check_folds(entries: list[Labelled], positive, folds: int):
    """Refuse more folds than a class has patients, before all pictures are read.

    Raises
    ------
    InputError
    """
    learnt = [e for e in entries if not e.held_out]
    fewest = min(len({e.patient for e in learnt if (e.label in positive) == wanted}) for wanted in (True, False))
    if fewest < folds:
        raise InputError(
            f"Folds: a class has {fewest} patients to learn from only; choose at most that many folds, or add patients."
        )


def _rows(path: Path) -> list[dict[str, str]]:
    """Rows with something in them, by the lower-case names of their columns."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        first = file.readline()
        file.seek(0)
        table = list(csv.reader(file, delimiter=max("\t;,", key=first.count)))
    heading = [name.strip().lower() for name in table[0]]
    return [dict(zip(heading, (c.strip() for c in row))) for row in table[1:] if any(c.strip() for c in row)]


def _word(row: dict, names, words, case: Case) -> str:
    """One of ``words`` from the first of the columns that is filled in; views beside CC and MLO are refused."""
    text = next((row[name] for name in names if row.get(name)), "").lower()
    word = {"l": "left", "r": "right"}.get(text, text)
    if not word or word in words:
        return word
    from_name = of_name(word)[words != SIDES]
    if from_name:
        return from_name
    raise InputError(f"{case.id} has '{text[:20]}' where one of {listed(words)} is needed; leave such pictures out.")


def _header(path: Path) -> dict:
    """What the DICOM header says of a mammogram; empty for other files."""
    import pydicom
    from pydicom.errors import InvalidDicomError

    if path.is_dir():
        path = next((p for p in sorted(path.iterdir()) if p.is_file() and not p.name.startswith(".")), path)
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True)
    except (InvalidDicomError, OSError):
        return {}  # a picture; what is wrong with it shows when it is read
    return header_facts(header)
