"""Patients from a folder or a table of paths.

===========  ===========================================================================================================
folder       one folder for each patient; in it one file for each modality whose name is, begins with or contains the
             modality's ("FLAIR.nii.gz", "patient7_T1c.nrrd"), and one for the segments; a modality may be missing
.csv, .tsv   a row for each patient: the columns ``patient`` (or ``case``), ``segmentation`` and one for each modality,
             with paths relative to the table; an empty cell is a missing image
===========  ===========================================================================================================
"""

from __future__ import annotations

import csv
from pathlib import Path

from MedImgAILib.core import InputError
from MedImgAILib.training.reading import is_image, read_image, read_segmentation, stem

from .cases import Patient

_PATIENT = ("patient", "case", "patient_id", "subject", "id")
_SEGMENTATION = ("segmentation", "segments", "labels", "label", "mask", "seg")


def read_patients(path: Path | str, modalities=(), segmentation: str = "") -> tuple[list[str], list[Patient]]:
    """The modalities and the patients with their images.

    Parameters
    ----------
    path : Path
        Folder or table, see above.
    modalities : sequence of str
        Needed for a folder; for a table all columns but patient and segmentation if empty.
    segmentation : str
        What the segments' file or column is called, if not "segmentation", "labels", "mask" or "seg".

    Raises
    ------
    InputError
        If something is missing or ambiguous.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"There is no data set at {path}; give a folder or a .csv file.")
    if path.is_dir():
        if not modalities:
            raise InputError("Modalities: a folder needs their names, such as 'FLAIR, T1c', to know its files by.")
        found = [(f.name, *_files(f, modalities, segmentation)) for f in _folders(path)]
    else:
        modalities, found = _table(path, modalities, segmentation)
    found = [(name, images, labels) for name, images, labels in found if images]
    if not found:
        raise InputError(f"There is no case with images in {path}; see the documentation for how it is laid out.")
    return list(modalities), [_read(*entry) for entry in found]


def _read(name, images, labels) -> Patient:
    if labels is None:
        raise InputError(f"Case '{name}' has no segments; add them or leave the case out.")
    read = {modality: read_image(path, f"{name} {modality}") for modality, path in images.items()}
    for modality, volume in read.items():
        if volume.is_vector:
            raise InputError(f"Case '{name}': {modality} has {volume.components} components per voxel; 1 is needed.")
    return Patient(name, read, read_segmentation(labels))


def _folders(path: Path) -> list[Path]:
    return sorted(f for f in path.iterdir() if f.is_dir() and not f.name.startswith("."))


def _files(folder: Path, modalities, segmentation):
    paths = sorted(p for p in folder.iterdir() if p.is_file() and is_image(p))
    wanted = [segmentation] if segmentation else list(_SEGMENTATION)
    labels = next((p for name in wanted if (p := _one(paths, name, folder, exact=not segmentation))), None)
    rest = [p for p in paths if p != labels]
    taken: dict[str, Path] = {}
    # Longer names first, so that "T1" does not take the file of "T1c".
    for modality in sorted(modalities, key=len, reverse=True):
        found = _one([p for p in rest if p not in taken.values()], modality, folder)
        if found is not None:
            taken[modality] = found
    return {m: taken[m] for m in modalities if m in taken}, labels


def _one(paths, name, folder, exact=False):
    """The file of this name: the whole stem, else its beginning, else anywhere in it."""
    name = name.casefold()
    tests = (
        lambda s: s == name,
        lambda s: s.startswith(name) or s.endswith(name),
        lambda s: name in s,
    )
    for fits in tests[:2] if exact else tests:
        found = [p for p in paths if fits(stem(p).casefold())]
        if len(found) > 1:
            listed = " and ".join(p.name for p in found[:3])
            raise InputError(f"In {folder} the files {listed} all fit '{name}'; name them so that only one does.")
        if found:
            return found[0]
    return None


def _table(path: Path, modalities, segmentation):
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ","))
    if not rows:
        raise InputError(f"The table {path} has no rows.")
    columns = {c.strip().casefold(): c for c in rows[0] if c}
    patient = next((columns[n] for n in _PATIENT if n in columns), None)
    labels = next(
        (columns[n] for n in ([segmentation.casefold()] if segmentation else _SEGMENTATION) if n in columns), None
    )
    if labels is None:
        raise InputError(f"The table {path} has no column '{segmentation or 'segmentation'}'.")
    modalities = list(modalities) or [c for c in columns.values() if c not in (patient, labels)]
    for modality in modalities:
        if modality.casefold() not in columns:
            raise InputError(f"The table {path} has no column '{modality}'.")
    found = []
    for number, row in enumerate(rows, start=1):
        images = {m: path.parent / text for m in modalities if (text := (row[columns[m.casefold()]] or "").strip())}
        text = (row[labels] or "").strip()
        name = (row[patient] or "").strip() if patient else ""
        found.append((name or f"row {number}", images, path.parent / text if text else None))
    return modalities, found
