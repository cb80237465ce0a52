"""Data sets from a folder, a table of paths, arrays in an .npz file, or the open scene."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from ..core import InputError, Segment, Segmentation, Table, Volume
from .arrays import cases_of_arrays
from .cases import Case, Collection, known_classes, split_name
from .folders import class_folders, paired_folder, patient_of

_IMAGE = ("image", "images", "file", "filename", "path", "image_path")
_MASK = ("segmentation", "mask", "label_image", "seg", "labels", "label", "label_path")
_CLASS = ("label", "class", "diagnosis", "finding", "target")
_PATIENT = ("patient", "patient_id", "patientid", "subject", "subject_id")
_SPLIT = ("split", "fold", "part", "set")


def read_collection(
    path: Path | str, kind: str, label_column: str = "", patient_pattern: str = "", segments: tuple[str, ...] = ()
) -> Collection:
    """The data set at a path.

    ==============  ================================================================================================
    folder          segmentation: ``images/`` and ``labels/`` (or ``imagesTr``/``labelsTr``, …) with equal names, a
                    channel number at the end of an image's name (``case_0001.nii.gz``) as nnU-Net writes it, or
                    files ``name`` and ``name_seg`` side by side; classification: one folder for each class, below
                    ``train``/``val``/``test`` or not. A folder of DICOM slices is one image; of radiographs and
                    photographs (DX, CR, MG, …) each file is.
    .csv, .tsv      a row for each case: ``image`` (several columns ``image1``, ``image2``, … for several channels),
                    ``segmentation`` or ``label``, ``patient``, ``split``; paths relative to the table
    .npz            ``train_images``, ``train_labels``, ``val_images``, … as MedMNIST has them, or ``images``,
                    ``labels`` and, if known, ``patients``
    ==============  ================================================================================================

    Parameters
    ----------
    path : Path
    kind : "segmentation" or "classification"
    label_column : str
        Column of the table that holds the class or the label image, where its name is none of the usual ones.
    patient_pattern : str
        Regular expression searched in each path; its first group (or whole match) is the patient.
    segments : tuple of str
        Names of labels 1, 2, … where the label images do not tell them.

    Raises
    ------
    InputError
        If nothing is found, or what is found is not as described.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"There is no data set at {path}; give a folder, a .csv or an .npz file.")
    pattern = _pattern(patient_pattern)
    suffix = path.suffix.lower()
    if path.is_dir():
        cases = paired_folder(path, pattern) if kind == "segmentation" else class_folders(path, pattern)
    elif suffix in (".csv", ".tsv", ".txt"):
        cases = _table_file(path, kind, label_column, pattern)
    elif suffix == ".npz":
        if kind == "segmentation":
            raise InputError(f"{path} holds arrays with one label for each image; it can train classification only.")
        cases = cases_of_arrays(path)
    else:
        raise InputError(f"{path} is no data set; give a folder, a .csv or an .npz file.")
    if not cases:
        raise InputError(f"There is no case in {path}; see the documentation of training for how it is laid out.")
    named = tuple(Segment(name, n) for n, name in enumerate(segments, start=1))
    classes = known_classes(cases) if kind == "classification" else tuple(segments)
    return Collection(kind, tuple(cases), classes, str(path), named)


def scene_segmentation(images: list[Volume], segmentations: list[Segmentation]) -> Collection:
    """The open scene's volumes and segmentations, in order; several images for each segmentation are its channels.

    Raises
    ------
    InputError
        If the images cannot be shared out evenly.
    """
    if not segmentations or len(images) % len(segmentations):
        raise InputError(
            f"Images: {len(images)} images cannot be shared out over {len(segmentations)} segmentations; give the same "
            "number of images for each, in the same order."
        )
    channels = len(images) // len(segmentations)
    names = {s.name for s in segmentations[0].segments}
    cases = []
    for number, segmentation in enumerate(segmentations):
        if {s.name for s in segmentation.segments} != names:
            raise InputError(
                f"{segmentation.label} does not have the same segments as {segmentations[0].in_sentence}; name them "
                "alike."
            )
        own = images[number * channels : (number + 1) * channels]
        cases.append(Case(f"{number + 1} {segmentation.name}".strip(), tuple(own), segmentation))
    classes = tuple(s.name for s in segmentations[0].segments)
    return Collection("segmentation", tuple(cases), classes, "the open scene", segmentations[0].segments)


def scene_classification(images: list[Volume], labels: Table) -> Collection:
    """The open scene's volumes with their classes from a table with the columns image, label and, if known, patient.

    Raises
    ------
    InputError
        If an image has no row.
    """
    columns = {name.lower(): values for name, values in labels.columns.items()}
    named = _column(columns, _IMAGE)
    told = _column(columns, _CLASS)
    if named is None or told is None:
        raise InputError(f"{labels.label} has no columns 'image' and 'label'; they say which class each image has.")
    patients = _column(columns, _PATIENT)
    rows = {str(name): n for n, name in enumerate(columns[named])}
    cases = []
    for number, image in enumerate(images):
        if image.name not in rows:
            raise InputError(f"{image.label} is not in {labels.in_sentence}; add a row with its name and label.")
        row = rows[image.name]
        patient = _cell(columns[patients][row]) if patients else ""
        cases.append(Case(f"{number + 1} {image.name}", (image,), _cell(columns[told][row]) or None, patient))
    return Collection("classification", tuple(cases), known_classes(cases), "the open scene")


def _pattern(text: str):
    try:
        return re.compile(text) if text else None
    except re.error as error:
        raise InputError(f"The patient pattern '{text[:60]}' is no regular expression ({error}).") from error


def _table_file(path: Path, kind: str, label_column: str, pattern) -> list[Case]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            sample = file.read(4096)
            file.seek(0)
            delimiter = max("\t;,", key=sample.partition("\n")[0].count)
            rows = list(csv.reader(file, delimiter=delimiter))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"The table {path} cannot be read ({error}).") from error
    if len(rows) < 2:
        raise InputError(f"The table {path} has no rows below its heading.")
    heading = [name.strip().lower() for name in rows[0]]
    columns = {name: n for n, name in enumerate(heading)}
    if label_column and label_column.lower() not in columns:
        raise InputError(f"The table {path} has no column '{label_column}' (it has: {', '.join(heading)[:150]}).")
    told = label_column.lower() or _column(columns, _MASK if kind == "segmentation" else _CLASS)
    several = sorted((n for n in columns if re.fullmatch(r"image_?\d+", n)), key=lambda n: int(re.sub(r"\D", "", n)))
    images = several or [name for name in [_column(columns, _IMAGE)] if name]
    if not images or told is None:
        raise InputError(
            f"The table {path} needs a column 'image' and a column "
            f"'{'segmentation' if kind == 'segmentation' else 'label'}' (it has: {', '.join(heading)[:150]})."
        )
    patients, splits = _column(columns, _PATIENT), _column(columns, _SPLIT)
    cases, used = [], set()
    for number, row in enumerate(rows[1:], start=2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) < len(heading):
            raise InputError(f"Row {number} of {path} has {len(row)} cells where {len(heading)} are needed.")
        files = tuple(_beside(path, row[columns[name]], number) for name in images)
        label = row[columns[told]].strip()
        target = None if not label else label if kind == "classification" else _beside(path, label, number)
        name = row[columns[images[0]]].strip()
        name = f"{name} (row {number})" if name in used else name
        used.add(name)
        patient = row[columns[patients]].strip() if patients else ""
        patient = patient or patient_of(files[0], pattern)
        cases.append(Case(name, files, target, patient, split_name(row[columns[splits]]) if splits else ""))
    return cases


def _beside(table: Path, text: str, row: int) -> Path:
    if not text.strip():
        raise InputError(f"Row {row} of {table} names no image.")
    path = table.parent / text.strip()
    if not path.exists():
        raise InputError(f"Row {row} of {table} names {path}, which does not exist.")
    return path


def _column(columns, names) -> str | None:
    return next((name for name in names if name in columns), None)


def _cell(value) -> str:
    """A cell as text: whole numbers without a point, "" where it is empty or no number."""
    if isinstance(value, float):
        return "" if value != value else str(int(value)) if value.is_integer() else str(value)
    return str(value).strip()
