"""Data sets that are a folder: images beside labels, or a folder for each class."""

from __future__ import annotations

import re
from pathlib import Path

from ..core import InputError
from ..core.errors import listed
from .cases import Case, split_name
from .reading import dicom_patient, is_dicom_folder, is_image, stem

_SINGLE = ("CR", "DX", "IO", "MG", "OP", "PX", "RG", "XC")
"""DICOM modalities of which each file is an image of its own, whatever lies beside it."""
_CHANNEL = re.compile(r"_\d{4}$")
_NO_DATA = ("__MACOSX",)


def paired_folder(root: Path, pattern) -> list[Case]:
    """Images and label images of equal names, in folders of their own or side by side.

    Raises
    ------
    InputError
        If there are none.
    """
    folders = {p.name.lower(): p for p in root.iterdir() if p.is_dir()}
    cases = []
    for end, split in (("", ""), ("tr", "train"), ("ts", "test"), ("val", "validation")):
        images = next((folders[n + end] for n in ("images", "image") if n + end in folders), None)
        labels = next(
            (folders[n + end] for n in ("labels", "label", "masks", "segmentations") if n + end in folders), None
        )
        if images is not None and labels is not None:
            cases += _pairs(images, labels, "" if split == "train" else split, pattern)
    if cases:
        return cases
    files = [p for p in _entries(root) if not p.is_dir()]
    by_name = {(p.parent, stem(p)): p for p in files}
    for (folder, name), path in by_name.items():
        for end in ("_seg", "_mask", "_label", "-seg", "-mask", "-label", ".seg"):
            if name.endswith(end) and (image := by_name.get((folder, name[: -len(end)]))) is not None:
                cases.append(Case(str(image.relative_to(root)), (image,), path, patient_of(image, pattern)))
    if not cases:
        raise InputError(
            f"{root} has no folders 'images' and 'labels' with equally named files and no pairs 'name' and 'name_seg'."
        )
    return cases


def class_folders(root: Path, pattern) -> list[Case]:
    """The images of one folder for each class, below folders for the parts of the data set or not.

    Raises
    ------
    InputError
        If there are none, or folders of parts lie among others.
    """
    cases = []
    for part, split in (_parts(root) or {root: ""}).items():
        for folder in _folders(part):
            for path in _entries(folder) if not is_dicom_folder(folder) else _dicom_images(folder):
                name = path.relative_to(root).as_posix()
                cases.append(Case(name, (path,), folder.name, patient_of(path, pattern), split))
    if not cases:
        raise InputError(f"{root} has no folders with images; classification wants one folder for each class.")
    return cases


def patient_of(path: Path, pattern) -> str:
    """Whose image it is: by the pattern in its path, else by the header of a DICOM file; "" if neither says it.

    Raises
    ------
    InputError
        If the pattern is not in the path, or the header cannot be read.
    """
    if pattern is not None:
        found = pattern.search(path.as_posix())
        if found is None:
            raise InputError(f"The patient pattern '{pattern.pattern[:60]}' is not found in {path}; correct it.")
        told = found[1] if pattern.groups else found[0]
        if told:
            return told
    is_dicom = path.is_dir() or path.suffix.lower() == ".dcm" or not is_image(path)
    return dicom_patient(path) if is_dicom else ""


def _folders(folder: Path) -> list[Path]:
    """The folders in a folder that may hold data, by name."""
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".") and p.name not in _NO_DATA)


def _entries(folder: Path) -> list[Path]:
    """Images and DICOM folders at any depth below a folder, by name."""
    found = []
    for path in sorted([*_folders(folder), *(p for p in folder.iterdir() if p.is_file())]):
        if path.is_dir():
            found += _dicom_images(path) if is_dicom_folder(path) else _entries(path)
        elif is_image(path):
            found.append(path)
    return found


def _dicom_images(folder: Path) -> list[Path]:
    """The folder, as its files are the slices of one image; of radiographs and photographs the files."""
    import pydicom
    from pydicom.errors import InvalidDicomError

    files = [p for p in sorted(folder.iterdir()) if p.is_file() and _is_dicom(p)]
    if len(files) < 2:
        return [folder]
    try:
        header = pydicom.dcmread(files[0], stop_before_pixels=True, specific_tags=["Modality"])
    except (InvalidDicomError, OSError):
        return [folder]  # what is wrong with it shows when it is read
    return files if header.get("Modality") in _SINGLE else [folder]


def _is_dicom(path: Path) -> bool:
    with open(path, "rb") as file:
        file.seek(128)
        return file.read(4) == b"DICM"


def _pairs(images: Path, labels: Path, split: str, pattern) -> list[Case]:
    given, wanted = _entries(images), _entries(labels)
    # Files of equal names in several folders, as one for each patient, are told apart by their folders.
    several = any(len({stem(p) for p in paths}) < len(paths) for paths in (given, wanted))

    def name_of(path, folder):
        return (path.parent / stem(path)).relative_to(folder).as_posix() if several else stem(path)

    targets = {name_of(p, labels): p for p in wanted}
    names = [name_of(p, images) for p in given]
    # Where images are called as their labels are, a number at the end of the others' names is none of a channel.
    numbered = not any(name in targets for name in names)
    channels: dict[str, list[Path]] = {}
    for name, path in zip(names, given):
        cut = _CHANNEL.sub("", name)
        is_channel = name not in targets and (numbered or cut in targets)
        channels.setdefault(cut if is_channel else name, []).append(path)
    return [
        Case(name, tuple(paths), targets.get(name), patient_of(paths[0], pattern), split)
        for name, paths in channels.items()
    ]


def _parts(root: Path) -> dict[Path, str]:
    """The folders that are parts of the data set; none where they are classes."""
    folders = _folders(root)
    parts = {}
    for folder in folders:
        try:
            parts[folder] = split_name(folder.name)
        except InputError:
            continue
    if not parts:
        return {}
    others = [f for f in folders if f not in parts and _entries(f)]
    if not others:
        return parts
    if "train" in parts.values():
        raise InputError(
            f"{root} has the folders {listed(sorted(f.name for f in parts))} beside {listed(f.name for f in others)}; "
            "move or rename those that are no part of the data set."
        )
    return {}
